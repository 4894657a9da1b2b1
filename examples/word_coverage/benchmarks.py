"""Of the pairs of the field's bias benchmarks, how many are pure swaps of a built-in axis?

    python examples/word_coverage/benchmarks.py                  # reads the sets from their repositories
    python examples/word_coverage/benchmarks.py --folder clones  # from a folder with clones of them

A pair is a pure swap if one element of an axis's group, or of gender and race with first names, turns its first
sentence into its second, character by character. The last column counts pairs that differ only by words of one axis,
also where only some of its words differ, as in "She wrestled the man" and "He wrestled the man". BBQ has templates in
place of pairs: there a group's word counts if some axis swaps it in "The … person". The sets are CrowS-Pairs (Nangia
et al., 2020), WinoBias (Zhao et al., 2018), Winogender (Rudinger et al., 2018) and BBQ (Parrish et al., 2022). None
of them is part of this package.
"""

import argparse
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from datasets import load_dataset

from equilm.text import TextAction
from equilm.words import DemographicAxis

REPOSITORIES = {  # the folder of a clone, and where its files are read without one
    "crows-pairs": "https://raw.githubusercontent.com/nyu-mll/crows-pairs/master",
    "corefBias": "https://raw.githubusercontent.com/uclanlp/corefBias/master",
    "winogender-schemas": "https://raw.githubusercontent.com/rudinger/winogender-schemas/master",
    "BBQ": "https://raw.githubusercontent.com/nyu-mll/BBQ/main",
}
CROWS_AXES = {  # the axes that each of its kinds of bias is tried with
    "gender": [["gender"], ["gender", "names"]],
    "race-color": [["race"], ["race3"], ["race4"], ["race", "names"], ["nationality"]],
    "religion": [["religion"]],
    "age": [["age"]],
    "nationality": [["nationality"]],
    "sexual-orientation": [["orientation"], ["gender"]],
    "disability": [["disability"]],
    "physical-appearance": [["body"]],
    "socioeconomic": [["status"], ["nationality"]],
}
BBQ_KINDS = ("Religion", "Race_ethnicity", "Gender_identity", "Sexual_orientation", "Nationality")

Pair = tuple[str, str]


def main() -> None:
    """Read, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help=f"a folder with clones of {', '.join(REPOSITORIES)}")
    parser.add_argument("--show", type=int, default=0, help="so many of the pairs of each set that are no pure swaps")
    arguments = parser.parse_args()
    print("| set | pairs or words | pure swaps | differ by words of an axis only |\n|---|---|---|---|")
    for name, result in results(arguments.folder):
        total = result.pure + len(result.missing)
        alike = "" if result.alike is None else f"{result.alike} ({result.alike / total:.0%})"
        print(f"| {name} | {total} | {result.pure} ({result.pure / total:.0%}) | {alike} |")
        for each in result.missing[: arguments.show]:
            print("", *each, sep="\n    ")


class Result(NamedTuple):
    """What is covered of one set: how many pure swaps, what is none, and how many pairs differ by an axis's words."""

    pure: int
    missing: list[Sequence[str]]
    alike: int | None = None


def results(folder: Path | None) -> Iterator[tuple[str, Result]]:
    """Each set's name and result."""
    rows = list(_table(folder, "crows-pairs", "data/crows_pairs_anonymized.csv"))
    for kind, axes in CROWS_AXES.items():
        pairs = [(row["sent_more"], row["sent_less"]) for row in rows if row["bias_type"] == kind]
        yield f"CrowS-Pairs, {kind}", _compared(pairs, axes)
    yield "WinoBias", _compared(_winobias(folder), [["gender"]])
    yield "Winogender, male and female", _compared(_winogender(folder), [["gender"]])
    vocabulary = _table(folder, "BBQ", "templates/vocabulary.csv")
    words = sorted({row["Name"].strip() for row in vocabulary if row["Category"] in BBQ_KINDS})
    missing: list[Sequence[str]] = [(word,) for word in words if not _is_swapped(word)]
    yield "BBQ, words for groups", Result(len(words) - len(missing), missing)


def is_swap(first: str, second: str, axes: Iterable[Sequence[str]]) -> bool:
    """Whether some element of the group of some of these axes turns the first text into the second."""
    return any(second in _action(tuple(names)).orbit(first) for names in axes)


@cache
def _action(axes: tuple[str, ...]) -> TextAction:
    return TextAction(axes)


def _compared(pairs: Sequence[Pair], axes: Sequence[Sequence[str]]) -> Result:
    missing: list[Sequence[str]] = [pair for pair in pairs if not is_swap(*pair, axes)]
    alike = sum(any(_skeleton(first, names) == _skeleton(second, names) for names in axes) for first, second in pairs)
    return Result(len(pairs) - len(missing), missing, alike)


def _skeleton(text: str, names: Sequence[str]) -> list[str]:
    """The words of a text, with one word in place of all words of a list, and of all pronouns."""
    return [_representatives(tuple(names)).get(word, word) for word in re.findall(r"\w+|[^\w\s]", text.casefold())]


@cache
def _representatives(names: tuple[str, ...]) -> dict[str, str]:
    axes = [DemographicAxis.load(name) for name in names]
    lists = [entry for axis in axes for entry in (*axis.words, *axis.modifiers)]
    if "gender" in names:
        lists.append(("his", "him", "her", "hers"))
    return {word.casefold(): entry[0].casefold() for entry in lists for word in entry}


def _is_swapped(word: str) -> bool:
    # As in the templates: with an article, before a word for people, or alone.
    axes = ("gender", "race", "race4", "religion", "orientation", "nationality")
    texts = (f"The {word} person", f"The {word}")
    return any(len(set(_action((axis,)).orbit(text))) > 1 for axis in axes for text in texts)


def _winobias(folder: Path | None) -> list[Pair]:
    pairs = []
    for kind in ("type1", "type2"):
        for part in ("dev", "test"):
            pro, anti = (
                _lines(folder, "corefBias", f"WinoBias/wino/data/{side}_stereotyped_{kind}.txt.{part}")
                for side in ("pro", "anti")
            )
            pairs += zip(map(_without_marks, pro), map(_without_marks, anti), strict=True)
    return pairs


def _without_marks(line: str) -> str:
    """A WinoBias line without its number and the brackets around the words to resolve."""
    return re.sub(r"[\[\]]", "", line.split(" ", 1)[1]).strip()


def _winogender(folder: Path | None) -> list[Pair]:
    rows = _table(folder, "winogender-schemas", "data/all_sentences.tsv", delimiter="\t")
    sentences = {row["sentid"]: row["sentence"] for row in rows}
    males = [name for name in sentences if name.endswith(".male.txt")]
    return [(sentences[name], sentences[name.replace(".male.", ".female.")]) for name in males]


def _table(folder: Path | None, repository: str, file: str, **settings: Any) -> Any:
    return load_dataset("csv", data_files=_place(folder, repository, file), split="train", **settings)


def _lines(folder: Path | None, repository: str, file: str) -> list[str]:
    rows = load_dataset("text", data_files=_place(folder, repository, file), split="train")
    return [text for text in rows["text"] if text.strip()]


def _place(folder: Path | None, repository: str, file: str) -> str:
    return f"{REPOSITORIES[repository]}/{file}" if folder is None else str(folder / repository / file)


if __name__ == "__main__":
    main()
