"""The SCAN language: its words, its 20,910 commands, and the actions that each command means.

Lake and Baroni (2018), "Generalization without systematicity", supplementary section 1:

    command  →  phrase and phrase | phrase after phrase | phrase
    phrase   →  unit twice | unit thrice | unit
    unit     →  verb direction | verb opposite direction | verb around direction | primitive
    verb     →  primitive | turn
    primitive → walk | look | run | jump                direction → left | right
"""

from collections.abc import Iterator
from itertools import product

from ..errors import EquiLMError

PRIMITIVES = {"jump": "I_JUMP", "run": "I_RUN", "walk": "I_WALK", "look": "I_LOOK"}
DIRECTIONS = {"right": "I_TURN_RIGHT", "left": "I_TURN_LEFT"}

COMMAND_WORDS = (*PRIMITIVES, *DIRECTIONS, *"turn opposite around twice thrice and after".split())
ACTION_WORDS = (*PRIMITIVES.values(), *DIRECTIONS.values())


def _units() -> Iterator[tuple[str, list[str]]]:
    for primitive, action in PRIMITIVES.items():
        yield primitive, [action]
    verbs = [("turn", []), *((primitive, [action]) for primitive, action in PRIMITIVES.items())]
    for (verb, done), (direction, turn) in product(verbs, DIRECTIONS.items()):
        yield f"{verb} {direction}", [turn, *done]
        yield f"{verb} opposite {direction}", [turn, turn, *done]
        yield f"{verb} around {direction}", [turn, *done] * 4


def _phrases() -> Iterator[tuple[str, str]]:
    for unit, actions in _units():
        yield unit, " ".join(actions)
        yield f"{unit} twice", " ".join(actions * 2)
        yield f"{unit} thrice", " ".join(actions * 3)


_PHRASES = dict(_phrases())


def all_commands() -> list[str]:
    """The 20,910 commands, always in the same order."""
    joined = (f"{a} {word} {b}" for word in ("and", "after") for a, b in product(_PHRASES, repeat=2))
    return [*_PHRASES, *joined]


def interpret(command: str) -> str:
    """The actions that a command means.

    Args:
        command: words separated by single spaces.

    Returns:
        The actions in the order in which they are done, separated by spaces.

    Raises:
        EquiLMError: names the word or the phrase that is not in the language.

    Example:
        >>> interpret("jump twice after walk around left")
        'I_TURN_LEFT I_WALK I_TURN_LEFT I_WALK I_TURN_LEFT I_WALK I_TURN_LEFT I_WALK I_JUMP I_JUMP'
    """
    check_words(command)
    first, conjunction, second = next(
        (parts for word in ("and", "after") if (parts := command.partition(f" {word} "))[1]), (command, "", "")
    )
    phrases = [second, first] if conjunction == " after " else [first, second] if conjunction else [first]
    for phrase in phrases:
        if phrase not in _PHRASES:
            raise EquiLMError(
                f"{phrase!r} in the command {command!r} is not a phrase of SCAN. A phrase is a verb, a direction with "
                "or without 'opposite' or 'around', and 'twice' or 'thrice', as in 'walk around left twice'; two "
                "phrases are joined by 'and' or 'after'."
            )
    return " ".join(_PHRASES[phrase] for phrase in phrases)


def check_words(command: str) -> None:
    """Raise an `EquiLMError` that names the first word that is not in the language."""
    for word in command.split(" "):
        if word not in COMMAND_WORDS:
            raise EquiLMError(
                f"The word {word!r} in the command {command!r} is not of the SCAN language, whose words are "
                f"{', '.join(COMMAND_WORDS)}, separated by single spaces."
            )
