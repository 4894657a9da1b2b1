"""Reads CrowS-Pairs, StereoSet, WinoBias, Winogender and BBQ, from the Hub or from files as their authors publish them.

Each reader takes a folder (a clone of the authors' repository, or the folder of its data), a file, or None for the Hub.
"""

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bias_items import Item, Text
from datasets import load_dataset

from equilm import EquiLMError

HUB_IDS = {
    "crows_pairs": "jannalu/crows_pairs_multilingual",  # what lm-evaluation-harness reads
    "stereoset": "McGill-NLP/stereoset",
    "winobias": "uclanlp/wino_bias",
    "winogender": "oskarvanderwal/winogender",
    "bbq": "oskarvanderwal/bbq",
}
# The 40 occupations of WinoBias (Zhao et al., 2018; MIT), half of them held by men more often, half by women.
OCCUPATIONS = """
    accountant, analyst, assistant, attendant, auditor, baker, carpenter, cashier, CEO, chief, cleaner, clerk,
    construction worker, cook, counselor, designer, developer, driver, editor, farmer, guard, hairdresser, housekeeper,
    janitor, laborer, lawyer, librarian, manager, mechanic, mover, nurse, physician, receptionist, salesperson,
    secretary, sheriff, supervisor, tailor, teacher, writer
""".replace("\n", " ").split(",")
_OCCUPATION = re.compile(rf"\b(?:the|a|an) ({'|'.join(name.strip() for name in OCCUPATIONS)})\b", re.IGNORECASE)
_PRONOUN = re.compile(r"\b(he|she|they|him|her|them|his|hers|their|theirs)\b", re.IGNORECASE)
_GOLD = ("anti-stereotype", "stereotype", "unrelated")  # as the Hub's data set numbers them
_UNKNOWN = "unknown"


def read(benchmark: str, source: Path | None = None) -> list[Item]:
    """All items of a benchmark.

    Args:
        benchmark: one of `bias_items.BENCHMARKS`.
        source: a folder or a file; None reads the benchmark from the Hub.

    Raises:
        EquiLMError: for a folder without the benchmark's files, files of another form, and a Hub out of reach.
    """
    if source is not None and not source.exists():
        raise EquiLMError(f"{source} does not exist. Name a folder or a file with {benchmark}, or leave it out.")
    try:
        items = list(_READERS[benchmark](source))
    except EquiLMError:
        raise  # it is a ValueError, too
    except OSError as error:
        raise EquiLMError(
            f"{source or HUB_IDS[benchmark]} cannot be read: {error}. For a copy of your own, use --data "
            f"{benchmark}=PATH."
        ) from error
    except (KeyError, ValueError, StopIteration, RuntimeError) as error:
        raise EquiLMError(
            f"{source or HUB_IDS[benchmark]} does not have the form of {benchmark} ({error!r}). Name the data as its "
            "authors publish it."
        ) from error
    if not items:
        raise EquiLMError(f"{source or HUB_IDS[benchmark]} holds no items of {benchmark}.")
    return items


def _crows_pairs(source: Path | None) -> Iterator[Item]:
    """Texts: the stereotyping sentence, the other one."""
    rows: Iterable[Mapping[str, Any]]
    if source is None:
        rows = load_dataset(HUB_IDS["crows_pairs"], "english", split="test")
    else:
        rows = _csv(_find(source, "crows_pairs_anonymized.csv")[0])
    for number, row in enumerate(rows):
        texts = Text("", row["sent_more"].strip()), Text("", row["sent_less"].strip())
        direction = row["stereo_antistereo"]
        yield Item("crows_pairs", str(number), row["bias_type"], texts, (texts,), {"direction": direction})


def _stereoset(source: Path | None) -> Iterator[Item]:
    """Texts: stereotype, anti-stereotype, unrelated. The categories are the domain and the kind of test."""
    rows: dict[str, Iterable[Mapping[str, Any]]]
    kinds = ("intrasentence", "intersentence")
    if source is None:
        rows = {kind: load_dataset(HUB_IDS["stereoset"], kind, split="validation") for kind in kinds}
    else:
        rows = json.loads(_find(source, "dev.json", "stereoset.json")[0].read_text("utf-8"))["data"]
    for kind in kinds:
        for row in rows[kind]:
            sentences = row["sentences"]
            if isinstance(sentences, Mapping):  # the Hub's: a list for each field, the labels as numbers
                numbered = zip(sentences["gold_label"], sentences["sentence"], strict=True)
                labeled = {_GOLD[label]: sentence for label, sentence in numbered}
            else:
                labeled = {each["gold_label"]: each["sentence"] for each in sentences}
            context = "" if kind == "intrasentence" else _sentence(row["context"])
            gap = " " if context else ""
            stereotype, anti, unrelated = (
                Text(context, gap + labeled[label].strip()) for label in ("stereotype", "anti-stereotype", "unrelated")
            )
            info = {"target": row["target"].lower(), "kind": kind}
            texts = stereotype, anti, unrelated
            yield Item("stereoset", row["id"], f"{row['bias_type']}, {kind}", texts, ((stereotype, anti),), info)


def _winobias(source: Path | None) -> Iterator[Item]:
    """Texts: pro-stereotyped with the right and the other occupation, anti-stereotyped with the same two."""
    for kind in ("type1", "type2"):
        for part in ("dev", "test"):
            sides = [_winobias_sentences(source, side, kind, part) for side in ("pro", "anti")]
            for number, (pro, anti) in enumerate(zip(*sides, strict=True)):
                texts = tuple(
                    Text(_question(sentence, pronoun), f" {name}")
                    for sentence, mention, pronoun in (pro, anti)
                    for name in _occupations(sentence, mention)
                )
                pairs = (texts[0], texts[2]), (texts[1], texts[3])
                yield Item("winobias", f"{kind}.{part}.{number + 1}", kind, texts, pairs)


def _occupations(sentence: str, mention: str) -> tuple[str, str]:
    """The occupation that is meant, and the other one."""
    names = list(dict.fromkeys(name.lower() for name in _OCCUPATION.findall(sentence)))
    right = next(name for name in names if name in mention.lower())
    return right, next(name for name in names if name != right)


def _winobias_sentences(source: Path | None, side: str, kind: str, part: str) -> list[tuple[str, str, str]]:
    """Sentences with the mention of a person and the pronoun that refers to it."""
    if source is None:
        split = {"dev": "validation", "test": "test"}[part]
        return [_from_tokens(row) for row in load_dataset(HUB_IDS["winobias"], f"{kind}_{side}", split=split)]
    (file,) = _find(source, f"{side}_stereotyped_{kind}.txt.{part}")
    found = []
    for line in file.read_text("utf-8").splitlines():
        if line.strip():
            marked = re.findall(r"\[(.+?)\]", line)  # the person, and one or more pronouns
            mention = next(words for words in marked if not _PRONOUN.fullmatch(words))
            pronoun = next(words for words in marked if _PRONOUN.fullmatch(words))
            found.append((" ".join(re.sub(r"[\[\]]", "", line).split()[1:]), mention, pronoun))
    return found


def _from_tokens(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """A row of the Hub's WinoBias: tokens, and the first and last token of each mention of one person."""
    ends = [int(place) for place in row["coreference_clusters"]]
    spans = [" ".join(row["tokens"][start : end + 1]) for start, end in zip(ends[::2], ends[1::2], strict=True)]
    pronoun = next(span for span in spans if _PRONOUN.fullmatch(span))
    mention = next(span for span in spans if not _PRONOUN.fullmatch(span))
    return re.sub(r" (?=[.,;:?!]|n?['’])", "", " ".join(row["tokens"])), mention, pronoun


def _winogender(source: Path | None) -> Iterator[Item]:
    """Texts: with his and with her pronoun, each with the occupation and the participant."""
    rows: Iterable[Mapping[str, Any]]
    if source is None:
        rows = load_dataset(HUB_IDS["winogender"], "all", split="test")
        keyed = {(row["occupation"], row["participant"], int(row["label"]), row["gender"]): row for row in rows}
    else:
        rows = _csv(_find(source, "all_sentences.tsv")[0], delimiter="\t")
        keyed = {}
        for row in rows:
            parts = row["sentid"].split(".")
            keyed[parts[0], parts[1], int(parts[2]), parts[3]] = row
    for occupation, participant, answer, gender in keyed:
        if gender != "male":
            continue
        texts = tuple(
            Text(_question(sentence, _PRONOUN.findall(sentence)[0]), f" {name}")
            for sentence in (keyed[occupation, participant, answer, each]["sentence"] for each in ("male", "female"))
            for name in (occupation, participant)
        )
        pairs = (texts[0], texts[2]), (texts[1], texts[3])
        info = {"answer": answer, "occupation": occupation}
        yield Item("winogender", f"{occupation}.{participant}.{answer}", "gender", texts, pairs, info)


def _bbq(source: Path | None) -> Iterator[Item]:
    """Texts: the three answers."""
    rows: Iterable[Mapping[str, Any]]
    if source is None:
        rows = load_dataset(HUB_IDS["bbq"], "All", split="test")
    else:
        files = [source] if source.is_file() else sorted(_find(source, "*.jsonl"))
        rows = (json.loads(line) for file in files for line in file.read_text("utf-8").splitlines())
    for row in rows:
        answers = [row[f"ans{number}"].strip() for number in range(3)]
        labels = [row["answer_info"][f"ans{number}"] for number in range(3)]
        unknown = next(number for number, label in enumerate(labels) if label[-1].lower() == _UNKNOWN)
        context = f"{row['context'].strip()}\n\nQ: {row['question'].strip()}\nA:"
        people = [number for number in range(3) if number != unknown]
        one, other = (Text("", f" {answers[number]}") for number in people)
        groups = [group.lower() for group in row["additional_metadata"]["stereotyped_groups"]]
        targets = [number for number in people if _is_of(groups, labels[number])]
        info = {
            "condition": row["context_condition"],
            "polarity": row["question_polarity"],
            "template": row["question_index"],
            "label": int(row["label"]),
            "unknown": unknown,
            # The answer about the stereotyped group; None where both are, or neither: no answer is biased then.
            "target": targets[0] if len(targets) == 1 else None,
            "people": people,
        }
        texts = tuple(Text(context, f" {answer}") for answer in answers)
        yield Item("bbq", f"{row['category']}.{row['example_id']}", row["category"], texts, ((one, other),), info)


def _is_of(groups: Sequence[str], labels: Sequence[str]) -> bool:
    """Whether an answer, by its words and its group, is about one of the stereotyped groups.

    Groups are compared whole: *old* is not in *nonOld*. Intersections such as ``F-Black`` are all of their parts.
    """
    names = {label.lower() for label in labels}
    names |= set(re.split(r"[-_]", labels[-1].lower()))  # of the words, parts would be wrong: *22-year-old*
    # Trans women and trans men are both "trans" to the benchmark.
    return any(
        group in names or (group == "trans" and any(name.startswith("trans") for name in names)) for group in groups
    )


def _question(sentence: str, pronoun: str) -> str:
    """The question of lm-evaluation-harness (and of Brown et al., 2020): whom does the pronoun refer to?"""
    return f"{sentence} ‘{pronoun.capitalize()}’ refers to the"


def _sentence(text: str) -> str:
    """A context as its own sentence, as StereoSet's code makes it."""
    text = text.strip()
    return text if text[-1] in ".!?" else f"{text}."


def _csv(file: Path, delimiter: str = ",") -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines, delimiter=delimiter))


def _find(source: Path, *patterns: str) -> list[Path]:
    """The files of these names in a folder, at any depth; a file is itself."""
    if source.is_file():
        return [source]
    found = [file for pattern in patterns for file in sorted(source.rglob(pattern))]
    if not found:
        raise EquiLMError(f"{source} holds no file {' or '.join(patterns)}.")
    if "*" not in patterns[0] and len(found) > 1:
        raise EquiLMError(f"{source} holds several files {' or '.join(patterns)}: name one of {list(map(str, found))}.")
    return found


_READERS: dict[str, Callable[[Path | None], Iterator[Item]]] = {
    "crows_pairs": _crows_pairs,
    "stereoset": _stereoset,
    "winobias": _winobias,
    "winogender": _winogender,
    "bbq": _bbq,
}
