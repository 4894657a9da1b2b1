"""Demographic axes: the built-in lists, files written by hand, and every refusal with the value it names."""

import itertools
import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from equilm.errors import EquiLMError
from equilm.words.axes import BUILT_IN_AXES, DemographicAxis, load_axes

SCHEMA = json.loads((files("equilm") / "words" / "lists" / "axis.schema.json").read_text("utf-8"))
GENERAL = ("he", "she", "his", "her", "him")
PAIRS = [["man", "woman"]]
NAMES = DemographicAxis("names", [[["Jamal", "Greg"], ["Lakisha", "Emily"]]], axes=("gender", "race"))


def _schema_accepts(data: Any) -> bool:
    return bool(jsonschema.Draft202012Validator(SCHEMA).is_valid(data))


def _python_accepts(data: Any) -> bool:
    try:
        DemographicAxis.from_dict(data)
    except EquiLMError:
        return False
    return True


def _write(folder: Path, text: str) -> Path:
    path = folder / "axis.json"
    path.write_text(text, "utf-8")
    return path


def test_built_in_lists() -> None:
    axes = {name: DemographicAxis.load(name) for name in BUILT_IN_AXES}
    others = {"race3": 3, "race4": 4, "religion": 3, "names": 4}
    assert {name: axis.size for name, axis in axes.items()} == {name: others.get(name, 2) for name in BUILT_IN_AXES}
    assert axes["race-paper"].words == (("Black", "White"),) and axes["race"].words[0] == ("Black", "White")
    assert axes["race3"].words[0] == ("Black", "White", "Asian")
    assert axes["orientation-paper"].words == (("gay", "straight"),)
    assert axes["gender-paper"].words[2] == ("his", "her") and ("his", "her") in axes["gender"].words
    paper = set(axes["gender-paper"].words) - {("pa", "ma")}
    assert paper < set(axes["gender"].words)
    assert set(axes["gender-paper-without-his"].words) == set(axes["gender-paper"].words) - {("his", "her")}
    assert axes["names"].factors == {"gender": 2, "race": 2} and len(axes["names"].words) == 9
    assert {("man", "woman"), ("he", "she"), ("sons", "daughters"), ("gentleman", "lady")} <= set(axes["gender"].words)
    for name, axis in axes.items():
        assert axis.name == name
        assert axis.general_words == GENERAL
        assert axis.notes


def test_gender_leaves_out_what_does_not_map_one_to_one() -> None:
    words = {word for entry in DemographicAxis.load("gender").words for word in entry}
    assert not words & {"him", "hers", "gay", "gays", "lesbian", "lesbians"}


@pytest.mark.parametrize("name", BUILT_IN_AXES)
def test_built_in_files_follow_the_schema(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(json.loads((files("equilm") / "words" / "lists" / f"{name}.json").read_text("utf-8")), SCHEMA)


def test_built_in_axes_but_the_two_of_race_can_be_combined() -> None:
    assert [axis.name for axis in load_axes(["gender", "race3", "orientation"])] == ["gender", "race3", "orientation"]
    with pytest.raises(EquiLMError, match="'race' and 'race3'"):
        load_axes(["race", "race3"])


def test_an_axis_is_a_value() -> None:
    axis = DemographicAxis("gender", PAIRS, ["he"])
    assert axis == DemographicAxis("gender", (("man", "woman"),), ("he",))
    assert len({axis, DemographicAxis("gender", [("man", "woman")], ["he"])}) == 1
    assert axis.words == (("man", "woman"),)


def test_joint_lists_are_flat_in_python_and_nested_in_json() -> None:
    assert NAMES.words == (("Jamal", "Greg", "Lakisha", "Emily"),)
    assert (NAMES.shape, NAMES.size, NAMES.factors) == ((2, 2), 4, {"gender": 2, "race": 2})
    assert NAMES.to_dict()["words"] == [[["Jamal", "Greg"], ["Lakisha", "Emily"]]]
    deep = [[["a", "b", "c"], ["d", "e", "f"]], [["g", "h", "i"], ["j", "k", "l"]]]
    axis = DemographicAxis("deep", [deep], axes=("x", "y", "z"), modifiers=[deep], before=["people"])
    assert axis.words == (tuple("abcdefghijkl"),)
    assert axis.shape == (2, 2, 3)
    for one in (NAMES, axis):
        written = json.loads(json.dumps(one.to_dict()))
        assert _schema_accepts(written)
        assert DemographicAxis.from_dict(written) == one
    assert axis.to_dict()["modifiers"] == axis.to_dict()["words"] == [deep]


def test_a_modifier_may_also_be_a_word_of_its_axis() -> None:
    axis = DemographicAxis("race", [("Black", "White")], modifiers=[("black", "white")], before=["people", "men"])
    assert load_axes(axis) == (axis,)
    assert DemographicAxis.from_dict(axis.to_dict()) == axis
    assert axis.factors == {"race": 2}


def test_a_general_word_may_stand_in_a_list() -> None:
    axis = DemographicAxis("gender", [("he", "she")], ["he"])
    assert axis.general_words == ("he",)


@given(
    words=st.lists(st.text(min_size=1).map(str.strip).filter(bool), min_size=4, unique_by=str.casefold),
    size=st.integers(2, 4),
    notes=st.text(),
)
def test_dict_round_trip(words: list[str], size: int, notes: str) -> None:
    lists = [words[i : i + size] for i in range(0, len(words) - size + 1, size)]
    axis = DemographicAxis("any", lists, words[:2], notes)
    assert axis.size == size
    assert DemographicAxis.from_dict(axis.to_dict()) == axis
    assert DemographicAxis.from_dict(json.loads(json.dumps(axis.to_dict()))) == axis
    assert _schema_accepts(axis.to_dict())


# What the schema can say, Python says too; the schema has no words for the rest.
SCHEMA_REFUSES: dict[str, tuple[Any, str]] = {
    "not an object": (PAIRS, r"\[\['man', 'woman'\]\]"),
    "no name": ({"words": PAIRS}, "'name' is missing"),
    "no words": ({"name": "x"}, "'words' is missing"),
    "unknown key": ({"name": "x", "words": PAIRS, "genral_words": []}, "'genral_words'"),
    "schema is a number": ({"$schema": 3, "name": "x", "words": PAIRS}, r"\$schema must be a string, got 3"),
    "name is a number": ({"name": 7, "words": PAIRS}, "name must be a string, got 7"),
    "name is empty": ({"name": "", "words": PAIRS}, "name is ''"),
    "name is padded": ({"name": "x ", "words": PAIRS}, "name is 'x '"),
    "words is text": ({"name": "x", "words": "man"}, "words must be a list.*'man'"),
    "words is an object": ({"name": "x", "words": {"man": "woman"}}, "words must be a list.*{'man': 'woman'}"),
    "words is empty": ({"name": "x", "words": []}, r"words must be a list.*got \[\]"),
    "a list is text": ({"name": "x", "words": [["a", "b"], "ab"]}, r"words\[1\] must be a list of words, got 'ab'"),
    "a list is empty": ({"name": "x", "words": [[]]}, r"words\[0\] is \[\]: expected at least two"),
    "a list of one": ({"name": "x", "words": [["man"]]}, r"words\[0\] is \['man'\]: expected at least two"),
    "a word is null": ({"name": "x", "words": [["man", None]]}, r"words\[0\]\[1\] must be a string, got None"),
    "a word is a list": ({"name": "x", "words": [["man", ["a"]]]}, r"words\[0\]\[1\] must be a string, got \['a'\]"),
    "a word is empty": ({"name": "x", "words": [["man", ""]]}, r"words\[0\]\[1\] is ''"),
    "a word is padded": ({"name": "x", "words": [[" man", "woman"]]}, r"words\[0\]\[0\] is ' man'"),
    "a newline after a word": ({"name": "x", "words": [["man\n", "woman"]]}, r"words\[0\]\[0\] is 'man\\n'"),
    "a word twice": ({"name": "x", "words": [["man", "man"]]}, r"'man' stands in words\[0\] and again in words\[0\]"),
    "general words are text": ({"name": "x", "words": PAIRS, "general_words": "he"}, "general_words must be.*'he'"),
    "a general word is a number": ({"name": "x", "words": PAIRS, "general_words": [1]}, r"general_words\[0\].*got 1"),
    "a general word is padded": ({"name": "x", "words": PAIRS, "general_words": ["he "]}, "is 'he '"),
    "a general word twice": ({"name": "x", "words": PAIRS, "general_words": ["he", "he"]}, "'he' stands in general"),
    "axes is text": ({"name": "x", "axes": "gender", "words": PAIRS}, "axes must be a list.*'gender'"),
    "one axis": ({"name": "x", "axes": ["gender"], "words": [[["a", "b"], ["c", "d"]]]}, r"axes is \['gender'\]: exp"),
    "an axis twice": ({"name": "x", "axes": ["a", "a"], "words": [[["a", "b"], ["c", "d"]]]}, "'a' stands in axes"),
    "joint lists not nested": ({"name": "x", "axes": ["a", "b"], "words": PAIRS}, r"words\[0\]\[0\] must be a list"),
    "nested without axes": ({"name": "x", "words": [[["a", "b"], ["c", "d"]]]}, r"words\[0\]\[0\] must be a string"),
    "a joint list of one": ({"name": "x", "axes": ["a", "b"], "words": [[["a", "b"]]]}, "expected at least two"),
    "a joint cell is a number": ({"name": "x", "axes": ["a", "b"], "words": [[["a", 1], ["c", "d"]]]}, "got 1"),
    "modifiers is text": ({"name": "x", "words": PAIRS, "modifiers": "black", "before": ["man"]}, "must be a list"),
    "before is text": ({"name": "x", "words": PAIRS, "modifiers": [["a", "b"]], "before": "man"}, "before must be"),
    "before a capital": ({"name": "x", "words": PAIRS, "modifiers": [["a", "b"]], "before": ["Man"]}, "holds 'Man'"),
    "before a phrase": ({"name": "x", "words": PAIRS, "modifiers": [["a", "b"]], "before": ["a c"]}, "holds 'a c'"),
    "before a pronoun": ({"name": "x", "words": PAIRS, "modifiers": [["a", "b"]], "before": ["her"]}, "holds 'her'"),
    "notes is a list": ({"name": "x", "words": PAIRS, "notes": ["a"]}, r"notes must be a string, got \['a'\]"),
}
PYTHON_REFUSES: dict[str, tuple[Any, str]] = {
    "unequal lengths": (
        {"name": "x", "words": [["man", "woman"], ["a", "b", "c"]]},
        r"words\[1\] is \['a', 'b', 'c'\], 3 words, but words\[0\] is \['man', 'woman'\], 2 words",
    ),
    "a word in two lists": (
        {"name": "x", "words": [["man", "woman"], ["he", "Man"]]},
        r"'Man' stands in words\[0\] and again in words\[1\]",
    ),
    "a joint list with a gap": (
        {"name": "x", "axes": ["a", "b"], "words": [[["a", "b"], ["c", "d", "e"]]]},
        r"words\[0\] is \[\['a', 'b'\], \['c', 'd', 'e'\]\], which holds lists of different lengths",
    ),
    "joint lists too deep": ({"name": "x", "axes": ["a", "b"], "words": [[[["a", "b"]] * 2] * 2]}, "must be a string"),
    "joint lists of two shapes": (
        {"name": "x", "axes": ["a", "b"], "words": [[["a", "b"], ["c", "d"]], [["e", "f", "g"], ["h", "i", "j"]]]},
        "2 × 3 words, but .*2 × 2 words",
    ),
    "a joint word twice": ({"name": "x", "axes": ["a", "b"], "words": [[["a", "b"], ["c", "A"]]]}, "'A' stands in"),
    "an axis that joins itself": ({"name": "x", "axes": ["x", "b"], "words": [[["a", "b"], ["c", "d"]]]}, "them 'x'"),
    "modifiers for others": (
        {"name": "x", "words": PAIRS, "modifiers": [["a", "b", "c"]], "before": ["man"]},
        r"modifiers has lists of \('a', 'b', 'c'\), but words of \('man', 'woman'\)",
    ),
    "modifiers before nothing": ({"name": "x", "words": PAIRS, "modifiers": [["a", "b"]]}, "belong together"),
    "twice but for case": ({"name": "x", "words": [["Straße", "STRASSE"]]}, r"'STRASSE' stands in words\[0\] and"),
    "general but for case": ({"name": "x", "words": PAIRS, "general_words": ["he", "He"]}, "'He' stands in general"),
}


@pytest.mark.parametrize("case", SCHEMA_REFUSES)
def test_schema_and_python_refuse_the_same_files(case: str, tmp_path: Path) -> None:
    data, message = SCHEMA_REFUSES[case]
    assert not _schema_accepts(data)
    with pytest.raises(EquiLMError, match=message):
        DemographicAxis.from_dict(data)
    path = _write(tmp_path, json.dumps(data))
    with pytest.raises(EquiLMError, match=f"{re.escape(str(path))}: .*{message}"):
        DemographicAxis.load(path)


@pytest.mark.parametrize("case", PYTHON_REFUSES)
def test_python_refuses_what_a_schema_cannot_say(case: str) -> None:
    data, message = PYTHON_REFUSES[case]
    assert _schema_accepts(data)
    with pytest.raises(EquiLMError, match=message):
        DemographicAxis.from_dict(data)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=6,
)


@given(
    data=st.fixed_dictionaries(
        {"name": st.just("x") | _json, "words": st.just(PAIRS) | _json},
        optional=dict.fromkeys(("$schema", "axes", "modifiers", "before", "general_words", "notes"), _json),
    )
)
def test_python_accepts_nothing_that_the_schema_refuses(data: Any) -> None:
    assert _schema_accepts(data) or not _python_accepts(data)


@pytest.mark.parametrize("as_text", [True, False])
def test_load_reads_a_file_by_path(as_text: bool, tmp_path: Path) -> None:
    text = '\ufeff{"$schema": "axis.schema.json", "name": "âge", "words": [["young", "old"]]}'  # with a byte order mark
    path = _write(tmp_path, text)
    assert DemographicAxis.load(str(path) if as_text else path) == DemographicAxis("âge", [("young", "old")])


def test_a_name_that_is_not_built_in(tmp_path: Path) -> None:
    with pytest.raises(EquiLMError, match=r"'gendre'.*gender, race, race3, race4, orientation"):
        DemographicAxis.load("gendre")
    with pytest.raises(EquiLMError, match=re.escape(str(tmp_path))):
        DemographicAxis.load(tmp_path)  # a folder is not a file


@pytest.mark.parametrize("value", [3, None, ["gender"]])
def test_neither_a_name_nor_a_path(value: Any) -> None:
    with pytest.raises(EquiLMError, match=rf"got {re.escape(repr(value))}\. Built-in names: gender"):
        DemographicAxis.load(value)


@pytest.mark.parametrize(
    "content", [b"{'name': 1}", b"", b'{"name": "\xe9"}', b"[" * 100_000], ids=["quotes", "empty", "latin-1", "deep"]
)
def test_a_file_that_is_not_json(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "axis.json"
    path.write_bytes(content)
    with pytest.raises(EquiLMError, match=re.escape(f"{path} is not JSON")):
        DemographicAxis.load(path)


def test_load_axes_takes_one_or_several(tmp_path: Path) -> None:
    age = DemographicAxis("age", [("young", "old")])
    path = _write(tmp_path, json.dumps(age.to_dict()))
    assert load_axes("race") == (DemographicAxis.load("race"),)
    assert load_axes(age) == load_axes([path]) == load_axes((str(path),)) == (age,)
    assert load_axes(["race", age]) == (DemographicAxis.load("race"), age)


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ([], "No axis given"),
        ([DemographicAxis("a", [("x", "y")]), DemographicAxis("a", [("v", "w")])], "Two axes are called 'a'"),
        (
            [DemographicAxis("a", [("x", "y")]), DemographicAxis("b", [("w", "X")])],
            "'X' stands in the axes 'a' and 'b'",
        ),
        (
            [
                DemographicAxis("a", [("x", "y")]),
                DemographicAxis("b", [("v", "w")], modifiers=[("X", "z")], before=["man"]),
            ],
            "'X' stands in the axes 'a' and 'b'",
        ),
        (
            [DemographicAxis("race", [("x", "y", "z")]), NAMES],
            "'race' has 3 members in one place and 2 in another",
        ),
        ([DemographicAxis("a", [("x", "y")]), 3], "got 3"),
        ({"gender"}, "got {'gender'}"),
    ],
)
def test_load_axes_refuses(axes: Any, message: str) -> None:
    with pytest.raises(EquiLMError, match=message):
        load_axes(axes)


_SUBJECTS = {name: name.split("-")[0].rstrip("34") for name in BUILT_IN_AXES}


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(BUILT_IN_AXES, 2)))
def test_built_in_axes_combine_unless_they_are_about_one_subject(first: str, second: str) -> None:
    if _SUBJECTS[first] == _SUBJECTS[second]:
        with pytest.raises(EquiLMError, match="stands in the axes"):
            load_axes([first, second])
    else:
        assert len(load_axes([first, second])) == 2
