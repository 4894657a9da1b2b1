"""The study's page as a single HTML file, and its numbers as Markdown for a README or a model card."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from ..metrics.regard import GroupRegard
from .cells import DECODERS
from .chart import chart, other_charts
from .figures import Panels, regard_bars
from .records import JudgeRecord, PairRecord, StudyResults
from .scoring import MENTIONS, VIEWS
from .summary import nats, p_value, summarize
from .uncovered import TOKENS
from .verdict import GAP_LIMIT, LEVEL, changes, comparisons, headline, verdict


@dataclass(frozen=True)
class Row:
    """What one judge finds of one decoder's texts, as a row in the table of an axis and task.

    Args:
        decoder: the decoder's name for readers.
        judge: the judge's name.
        views: what it finds in each of its views.
    """

    decoder: str
    judge: str
    views: Mapping[str, JudgeRecord]


@dataclass(frozen=True)
class TaskSection:
    """The part of the page about one axis and task.

    Args:
        axis: the axis.
        name: the task.
        groups: the groups.
        rows: one row for each decoder and judge.
        views: the names of the views, by their keys; the columns of the table.
        texts: the number of texts for each group and decoder.
        panels: the fractions in the figure of regard; empty for neutral prompts.
        title: the title of the figure.
    """

    axis: str
    name: str
    groups: Sequence[str]
    rows: Sequence[Row]
    views: Mapping[str, str]
    texts: int
    panels: Panels
    title: str


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
        axis: the axis.
        task: the task.
        decoder: the decoder.
        groups: the groups, or "text" for neutral prompts.
        rows: for each context and each group, the words of the text.
    """

    axis: str
    task: str
    decoder: str
    groups: Sequence[str]
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
    sections = [_section(results, axis, task) for axis, tasks in results.study.tasks.items() for task in tasks]
    return environment.get_template(template).render(
        results=results,
        study=results.study,
        headline=headline(results),
        findings=verdict(results),
        changes=changes(results),
        comparisons=comparisons(results),
        limit=GAP_LIMIT,
        level=LEVEL,
        tokens=TOKENS,
        chart=chart(results),
        others=other_charts(results),
        summary=summarize(results),
        sections=sections,
        more_than_two=any(len(groups) > 2 for groups in results.study.axes.values()),
        samples=_samples(results),
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
    if not pair.name_only or pair.equal_scores is None:
        return "–"
    return "equal to the last digit" if pair.equal_scores else "differs"


def _section(results: StudyResults, axis: str, task: str) -> TaskSection:
    found = [r for r in results.judged if (r.axis, r.task) == (axis, task)]
    by_row: dict[tuple[str, str], dict[str, JudgeRecord]] = {}
    for record in found:
        by_row.setdefault((record.judge, record.decoder), {})[record.view] = record
    rows = [Row(DECODERS[decoder], judge, views) for (judge, decoder), views in by_row.items()]
    views = {view: name for view, name in VIEWS.items() if any(view in row.views for row in rows)}
    groups = list(results.study.axes[axis])
    panels: Panels = {
        VIEWS[view]: {
            row.decoder: {group: _fractions(row.views[view].by_group[group]) for group in groups}
            for row in rows
            if row.judge == results.classifier
        }
        for view in ("raw", "masked" if "masked" in views else "invariant")
        if view in views
    }
    title = f"Regard of {' and '.join(groups)}, {task}"
    return TaskSection(axis, task, groups, rows, views, found[0].by_group[groups[0]].n, panels, title)


def _figure(section: TaskSection) -> str:
    """The figure of a task. It is a filter because only the HTML page has figures."""
    return regard_bars(section.panels, section.title)


def _fractions(group: GroupRegard) -> dict[str, float]:
    return {label: estimate.value for label, estimate in group.fractions.items()}


def _samples(results: StudyResults) -> list[SampleSection]:
    sections = []
    for block in results.samples:
        rows = [_marked(list(row.values())) for row in block.rows]
        names = [group or "text" for group in block.rows[0]]
        sections.append(SampleSection(block.axis, block.task, block.decoder, names, rows))
    return sections


def _marked(texts: Sequence[str]) -> list[list[Word]]:
    """The words of each text, and whether they differ from the first text; the first is compared with the last."""
    words = [text.split() for text in texts]
    marked = []
    for i, own in enumerate(words):
        same: set[int] = set()
        other = words[0] if i else words[-1]  # a neutral prompt's only text differs from no other
        for block in SequenceMatcher(None, other, own, autojunk=False).get_matching_blocks():
            same.update(range(block.b, block.b + block.size))
        marked.append([Word(word, place not in same) for place, word in enumerate(own)])
    return marked


def _facts(results: StudyResults) -> dict[str, str]:
    study = results.study
    judges = sorted({found.judge for found in results.judged} - {results.classifier, MENTIONS})
    return {
        "Model": f"{study.model}, {study.parameters:,} parameters, {study.dtype}",
        "Axes": "; ".join(f"{axis} ({', '.join(groups)})" for axis, groups in study.axes.items()),
        "Tasks": ", ".join(dict.fromkeys(task for tasks in study.tasks.values() for task in tasks)),
        "Decoders": ", ".join(DECODERS[decoder] for decoder in study.decoders),
        "Texts": f"{study.samples} for each prompt and decoder, cut at the first newline",
        "Sampling": f"top-k {study.top_k}, {study.max_new_tokens} new tokens, seed {study.seed}",
        "Regard classifier": results.classifier,
        "Further judges": ", ".join(judges) or "none",
        "Sampled with": ", ".join(f"{name} {value}" for name, value in results.sampled_with.items()),
        "Analyzed with": ", ".join(f"{name} {value}" for name, value in results.analyzed_with.items()),
    }
