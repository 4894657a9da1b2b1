"""Scores a benchmark's items into a file of records, one line for each item, that an interrupted run continues."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from bias_items import Item
from bias_scoring import Scorer
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from equilm.metrics.record_file import RecordFile
from equilm.words import load_axes

# The axes for each kind of bias, by its name in the benchmarks, in lower case. StereoSet's race is mostly countries.
AXES: dict[str, tuple[str, ...]] = {
    "gender": ("gender",),
    "profession": ("gender",),
    "type1": ("gender",),
    "type2": ("gender",),
    "gender_identity": ("gender",),
    "race-color": ("race",),
    "race_ethnicity": ("race",),
    "race": ("nationality",),
    "nationality": ("nationality",),
    "religion": ("religion",),
    "sexual-orientation": ("orientation",),
    "sexual_orientation": ("orientation",),
    "age": ("age",),
    "disability": ("disability",),
    "disability_status": ("disability",),
    "physical-appearance": ("body",),
    "physical_appearance": ("body",),
    "socioeconomic": ("status",),
    "ses": ("status",),
    "race_x_gender": ("race", "gender"),
    "race_x_ses": ("race", "status"),
}
DIGITS = 6  # of a log-probability in a record


def axes_of(category: str, chosen: Mapping[str, Sequence[str]]) -> tuple[str, ...] | None:
    """The axes of a category: those that the user chose, else the built-in ones; None if there are none."""
    name = category.partition(",")[0].lower()
    return tuple(chosen[name]) if name in chosen else AXES.get(name)


def subset(items: Sequence[Item], limit: int | None, seed: int) -> list[Item]:
    """At most so many items of each category, drawn with a seed. A larger limit adds to those of a smaller one."""
    by_category: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        by_category[item.category].append(item)
    chosen: set[str] = set()
    for category, alike in by_category.items():
        # A generator for each category: one category more or less changes nothing for the others.
        drawn = Random(f"{seed} {category}").sample(alike, len(alike))
        chosen.update(item.id for item in drawn[:limit])
    return [item for item in items if item.id in chosen]


def record_items(
    items: Sequence[Item],
    every: Sequence[Item],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    file: Path,
    *,
    name: str,
    axes: Mapping[str, Sequence[str]],
    batch_size: int,
    made_with: Mapping[str, str],
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Score the items that the file does not have yet, and return the records of all of them.

    Args:
        items: the items to score, of one benchmark and of categories with axes.
        every: all such items of the benchmark. The file is for these: a later call may score others of them.
        model: the plain model.
        tokenizer: its tokenizer.
        file: the file of records.
        name: the model's name, for the file.
        axes: the user's axes by category, in lower case.
        batch_size: the number of rows that the model runs at once.
        made_with: versions, for the file's readers.
        progress: whether to show a progress bar.

    Raises:
        EquiLMError: for a file of another measurement.
    """
    texts = "\n".join(f"{item.id} {item.texts}" for item in every)
    used = {axes_of(item.category, axes) or () for item in every}
    settings = {
        "benchmark": items[0].benchmark,
        "model": name,
        "dtype": str(model.dtype).removeprefix("torch."),
        "axes": [
            [axis.name, hashlib.sha256(repr(axis).encode()).hexdigest()[:16]]
            for names in sorted(used)
            for axis in load_axes(list(names))
        ],
        "items": hashlib.sha256(texts.encode()).hexdigest(),
    }
    records = RecordFile(file, settings, made_with)
    wanted = {item.id for item in items}
    known = {record["id"]: record for record in records.read() if record["id"] in wanted}
    by_axes: dict[tuple[str, ...], list[Item]] = defaultdict(list)
    for item in items:
        if item.id not in known:
            by_axes[axes_of(item.category, axes) or ()].append(item)
    size = max(1, batch_size // 2)
    with tqdm(total=len(items), initial=len(known), desc=items[0].benchmark, unit="item", disable=not progress) as bar:
        for names, alike in by_axes.items():
            scorer = Scorer(model, tokenizer, names, batch_size)
            ordered = sorted(alike, key=_length)  # texts of like length need little padding
            for start in range(0, len(ordered), size):
                batch = ordered[start : start + size]
                found = [
                    {
                        "id": item.id,
                        "category": item.category,
                        "axes": list(names),
                        "info": dict(item.info),
                        **_rounded(scores.to_dict()),
                    }
                    for item, scores in zip(batch, scorer.scores(batch), strict=True)
                ]
                records.append(found)
                known.update((record["id"], record) for record in found)
                bar.update(len(batch))
    return [known[item.id] for item in items]


def _length(item: Item) -> int:
    return max(len(text.context) + len(text.continuation) for text in item.texts)


def _rounded(scores: dict[str, Any]) -> dict[str, Any]:
    for part in ("log_probs", "lengths"):
        scores[part] = {level: [round(value, DIGITS) for value in values] for level, values in scores[part].items()}
    return scores
