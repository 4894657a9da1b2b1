"""Judges: what tells the place of a determiner from others, by rules, by spaCy, or by a language model."""

from typing import Literal

from ..errors import EquiLMError
from .pronoun_rules import is_determiner
from .pronouns import PronounJudge

Pronouns = Literal["rules", "spacy", False] | PronounJudge | None


def as_judge(pronouns: Pronouns) -> PronounJudge | None:
    """The judge that a value of `TextAction`'s ``pronouns`` asks for; None if pronouns are not to be judged.

    Raises:
        EquiLMError: for another value, and for spaCy where it is not installed.
    """
    if pronouns is None or pronouns is False:
        return None
    if pronouns == "rules":
        return is_determiner
    raise EquiLMError(f"{pronouns!r}")
