"""The SCAN language and its splits: the pairs of the official files, from the grammar alone."""

import hashlib
from pathlib import Path

import pytest
from datasets import Dataset

from equilm import EquiLMError
from equilm.scan import all_commands, interpret, load_split, make_split

_DATA = Path(__file__).parents[3] / "shared/data/scan"
_OFFICIAL_NAMES = {"simple": "simple", "add_jump": "addprim_jump", "around_right": "template_around_right"}

# For each part of a split its number of pairs, and the SHA-256 of the sorted lines of github.com/brendenlake/SCAN at
# commit c4b756c, joined by newlines.
_OFFICIAL = {
    ("simple", "train"): (16728, "e34b60a1bdad3b55a83d91116bb312c195fa2f39d21092de929a6184ca911943"),
    ("simple", "test"): (4182, "faa3707d325ccaf3d2d0a4f03d613a7985e3c7a3bcc09c832a21f7e251cd4509"),
    ("add_jump", "train"): (14670, "1e5ab3357dc958267480a6012d3970953f35bb098a115b1754a1ad36d371b7cb"),
    ("add_jump", "test"): (7706, "48956239771e67ded4d090164919ab79d21756218a3e94f9abc2cbe346c0cd1c"),
    ("around_right", "train"): (15225, "aaf218dfd82a8b6a88e32deeb096cf498ee58e56a3808b17f715182f0ca90130"),
    ("around_right", "test"): (4476, "f5f94bb13ea393fbac7d963a13f5eb9831e51090b2e7210831674c4f77a1fa7b"),
}


def _lines(pairs: Dataset) -> list[str]:
    """As in the official files, sorted: a multiset has one such list."""
    columns = zip(pairs["commands"], pairs["actions"], strict=True)
    return sorted(f"IN: {commands} OUT: {actions}" for commands, actions in columns)


@pytest.mark.parametrize("name", _OFFICIAL_NAMES)
def test_splits_have_the_official_pairs(name: str) -> None:
    split = load_split(name)  # type: ignore[arg-type]
    assert list(split) == ["train", "test"]
    for part, pairs in split.items():
        count, digest = _OFFICIAL[name, str(part)]
        assert len(pairs) == count and pairs.column_names == ["commands", "actions"]
        assert hashlib.sha256("\n".join(_lines(pairs)).encode()).hexdigest() == digest


@pytest.mark.skipif(not _DATA.is_dir(), reason=f"the official files are not in {_DATA}")
@pytest.mark.parametrize("name", _OFFICIAL_NAMES)
def test_the_hashes_are_those_of_the_official_files(name: str) -> None:
    for part, pairs in load_split(name).items():  # type: ignore[arg-type]
        official = (_DATA / f"tasks_{part}_{_OFFICIAL_NAMES[name]}.txt").read_text("utf-8").splitlines()
        assert _lines(pairs) == sorted(official)


def test_all_commands_are_distinct() -> None:
    assert len(all_commands()) == len(set(all_commands())) == 20910


@pytest.mark.parametrize(
    ("command", "actions"),
    [
        ("look", "I_LOOK"),
        ("turn left", "I_TURN_LEFT"),
        ("turn opposite right thrice", " ".join(["I_TURN_RIGHT"] * 6)),
        ("walk opposite left", "I_TURN_LEFT I_TURN_LEFT I_WALK"),
        ("turn around left", " ".join(["I_TURN_LEFT"] * 4)),
        ("jump around right", " ".join(["I_TURN_RIGHT I_JUMP"] * 4)),
        ("run twice and walk right", "I_RUN I_RUN I_TURN_RIGHT I_WALK"),
        ("run twice after walk right", "I_TURN_RIGHT I_WALK I_RUN I_RUN"),
    ],
)
def test_meanings(command: str, actions: str) -> None:
    assert interpret(command) == actions


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("jump quickly", "word 'quickly' in the command 'jump quickly'"),
        ("Jump twice", "word 'Jump'"),
        ("jump  twice", "word ''.*single spaces"),
        ("", "word ''"),
        ("twice jump", "'twice jump' in the command 'twice jump' is not a phrase"),
        ("jump and", "'jump and' .*is not a phrase"),
        ("jump and run and walk", "'run and walk' .*is not a phrase"),
        ("jump after run and walk", "is not a phrase"),
    ],
)
def test_other_commands_are_refused(command: str, message: str) -> None:
    with pytest.raises(EquiLMError, match=message):
        interpret(command)


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(EquiLMError, match="'length' is not a split of SCAN: expected one of simple, add_jump, around"):
        load_split("length")  # type: ignore[arg-type]


def test_a_split_of_ones_own_withholds_what_it_tests_and_keeps_the_rest_as_it_is() -> None:
    split = make_split(["run thrice", "walk", "run", "walk", "turn left thrice"], lambda command: "thrice" in command)
    assert split["train"]["commands"] == ["walk", "run", "walk"]
    assert split["train"]["actions"] == ["I_WALK", "I_RUN", "I_WALK"]
    assert split["test"]["commands"] == ["run thrice", "turn left thrice"]


def test_a_split_of_ones_own_has_commands_of_the_language_alone() -> None:
    with pytest.raises(EquiLMError, match="'swim'"):
        make_split(["walk", "swim"], lambda command: command == "walk")
