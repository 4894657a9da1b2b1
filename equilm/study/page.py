"""The study's page as a single HTML file, and its numbers as Markdown for a README or a model card."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from ..metrics.regard import GroupRegard
from ..metrics.regard_classifier import LABELS
from .cells import DECODERS
from .figures import Panels, regard_bars
from .records import PairRecord, RegardRecord, StudyResults
from .scoring import VIEWS
from .summary import nats, p_value, summarize


@dataclass(frozen=True)
class Row:
    """One decoder's row in the tables of an axis and task.

    Args:
        decoder: its name for readers.
        views: the regard in each of `VIEWS`.
    """

    decoder: str
    views: Mapping[str, RegardRecord]


@dataclass(frozen=True)
class TaskSection:
    """The part of the page about one task.

    Args:
        name: the task.
        rows: one row for each decoder.
        texts: the number of texts in each bar of the figure.
        panels: the fractions in the figure.
        title: the title of the figure.
    """

    name: str
    rows: Sequence[Row]
    texts: int
    panels: Panels
    title: str


@dataclass(frozen=True)
class AxisSection:
    """The part of the page about one axis.

    Args:
        name: the axis.
        groups: its groups.
        tasks: one part for each task.
    """

    name: str
    groups: Sequence[str]
    tasks: Sequence[TaskSection]


@dataclass(frozen=True)
class Word:
    """A word of a sample.

    Args:
        word: the word.
        differs: whether it differs from the first group's text.
    """

    word: str
    differs: bool


@dataclass(frozen=True)
class SampleSection:
    """Samples of one axis, task and decoder.

    Args:
        task: the task.
        decoder: the decoder.
        rows: for each context and each group, the words of the text.
    """

    task: str
    decoder: str
    rows: Sequence[Sequence[Sequence[Word]]]


def render(results: StudyResults) -> str:
    """The page."""
    return _fill("page.html.jinja", results)


def render_summary(results: StudyResults) -> str:
    """The page's sentences and tables as Markdown, without its texts."""
    return _fill("summary.md.jinja", results)


def _fill(template: str, results: StudyResults) -> str:
    environment = Environment(
        loader=PackageLoader("equilm", "study"),
        autoescape=select_autoescape(["html.jinja"]),  # texts of models may hold anything
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "signed": signed, "nats": nats, "equality": equality, "figure": _figure}
    environment.filters |= {"decoder": DECODERS.__getitem__, "p_value": p_value}
    axes = [_axis(results, axis) for axis in results.study.axes]
    return environment.get_template(template).render(
        results=results,
        study=results.study,
        summary=summarize(results),
        axes=axes,
        labels=LABELS,
        views=VIEWS,
        more_than_two=any(len(axis.groups) > 2 for axis in axes),
        samples={axis.name: _samples(results, axis) for axis in axes},
        facts=_facts(results),
    )


def number(value: float) -> str:
    """Three decimals below 10, fewer beyond."""
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def signed(value: float) -> str:
    """As `number`, with its sign."""
    return f"{value:+.3f}"


def equality(pair: PairRecord) -> str:
    """Whether the masked scores are equal in pairs in which only the name differs, for readers."""
    if not pair.name_only:
        return "–"
    return "equal to the last digit" if pair.equal_scores else "differs"


def _axis(results: StudyResults, axis: str) -> AxisSection:
    found = {(r.task, r.decoder, r.view): r for r in results.regard if r.axis == axis}
    groups = list(next(iter(found.values())).by_group)
    tasks = []
    for task in results.study.tasks:
        rows = [
            Row(name, {view: found[task, decoder, view] for view in VIEWS})
            for decoder, name in DECODERS.items()
            if decoder in results.study.decoders
        ]
        panels = {
            VIEWS[view]: {
                row.decoder: {group: _fractions(row.views[view].by_group[group]) for group in groups} for row in rows
            }
            for view in ("raw", "masked")
        }
        title = f"Regard of {' and '.join(groups)}, {task} prompts"
        tasks.append(TaskSection(task, rows, rows[0].views["raw"].by_group[groups[0]].n, panels, title))
    return AxisSection(axis, groups, tasks)


def _figure(task: TaskSection) -> str:
    """The figure of a task. It is a filter because only the HTML page has figures."""
    return regard_bars(task.panels, task.title)


def _fractions(group: GroupRegard) -> dict[str, float]:
    return {label: estimate.value for label, estimate in group.fractions.items()}


def _samples(results: StudyResults, axis: AxisSection) -> list[SampleSection]:
    return [
        SampleSection(block.task, block.decoder, [_marked([row[group] for group in axis.groups]) for row in block.rows])
        for block in results.samples
        if block.axis == axis.name
    ]


def _marked(texts: Sequence[str]) -> list[list[Word]]:
    """The words of each text, and whether they differ from the first text; the first is compared with the second."""
    words = [text.split() for text in texts]
    marked = []
    for i, own in enumerate(words):
        same: set[int] = set()
        for block in SequenceMatcher(None, words[0] if i else words[1], own, autojunk=False).get_matching_blocks():
            same.update(range(block.b, block.b + block.size))
        marked.append([Word(word, place not in same) for place, word in enumerate(own)])
    return marked


def _facts(results: StudyResults) -> dict[str, str]:
    study = results.study
    return {
        "Model": f"{study.model}, {study.parameters:,} parameters, {study.dtype}",
        "Axes": ", ".join(study.axes),
        "Tasks": ", ".join(study.tasks),
        "Decoders": ", ".join(DECODERS[decoder] for decoder in study.decoders),
        "Texts": f"{study.samples} for each prompt and decoder, cut at the first newline",
        "Sampling": f"top-k {study.top_k}, {study.max_new_tokens} new tokens, seed {study.seed}",
        "Regard classifier": results.classifier,
        "Sampled with": ", ".join(f"{name} {value}" for name, value in results.sampled_with.items()),
        "Analyzed with": ", ".join(f"{name} {value}" for name, value in results.analyzed_with.items()),
    }
