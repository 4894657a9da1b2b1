"""From texts to the page: scores, equality to the last digit, what the summary says, and HTML that holds anything."""

import csv
import json
import re
import shutil
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from study_models import STUDY, byte_regard, classifier, models, run, settings

from equilm import EquiLMError
from equilm.metrics.estimates import DifferenceEstimate
from equilm.metrics.regard_classifier import LABELS
from equilm.metrics.regard_loading import load_classifier
from equilm.study import Cell
from equilm.study.cells import PAIRED
from equilm.study.gaps import CellCheck
from equilm.study.measures import pair_records
from equilm.study.page import equality, number, render
from equilm.study.prompts import CONTEXTS, GROUPS
from equilm.study.records import JudgeRecord, PairRecord, StudyResults
from equilm.study.run import rebuild, run_study
from equilm.study.scoring import Judging, score_texts, view_texts
from equilm.study.storage import read_cells
from equilm.study.summary import nats, p_value, summarize
from equilm.study.text_judges import regard_judge
from equilm.text.action import TextAction

PUBLISHED = Path(__file__).parents[2] / "docs" / "results" / "regard_study"
VOID = {"meta", "br", "path", "rect", "use"}


class Page(HTMLParser):
    """Reads a page: its text, and whether every element that is opened is closed."""

    def __init__(self, html: str):
        super().__init__()
        self.text, self.open = "", list[str]()
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def results(folder: Path) -> StudyResults:
    return run(folder)


def regard(results: StudyResults, **where: str) -> JudgeRecord:
    (found,) = [r for r in results.judged if all(getattr(r, name) == value for name, value in where.items())]
    return found


def test_every_combination_is_there(results: StudyResults, folder: Path) -> None:
    stored = json.loads((folder / "results.json").read_text("utf-8"))
    assert stored == json.loads(json.dumps({"summary": summarize(results), **results.to_dict()}))
    assert len(results.judged) == len(STUDY.axes) * len(STUDY.decoders) * 4
    assert len(results.samples) == len(STUDY.axes) * len(STUDY.decoders)
    assert results.classifier == "byte_regard" and results.perplexity is None
    assert {row.decoder for row in results.cost} == set(STUDY.decoders)
    assert all(row.times_plain and row.times_plain > 0 for row in results.cost)
    table = list(csv.DictReader((folder / "results.csv").read_text("utf-8").splitlines()))
    fractions = [row for row in table if row["measure"] == "fraction"]
    assert len(fractions) == len(results.judged) * 2 * len(LABELS)
    plain = regard(results, axis="gender", decoder="plain", view="masked")
    (row,) = [
        row
        for row in fractions
        if (row["axis"], row["decoder"], row["view"], row["group"], row["label"])
        == ("gender", "plain", "masked", "woman", "neutral")
    ]
    assert float(row["value"]) == plain.by_group["woman"].fractions["neutral"].value


def test_regard_is_that_of_the_texts_read_in_each_view(results: StudyResults, folder: Path) -> None:
    cells = read_cells(folder, settings())
    written = {
        group: [t for c in CONTEXTS["respect"] for t in cells[Cell("race", "respect", group, c, "plain")].texts]
        for group in GROUPS["race"]
    }
    both = [text for texts in written.values() for text in texts]

    def under(name: str, texts: list[str]) -> list[str]:
        return [re.sub(r"\bthe (?-i:Black|White) man\b", name, text, flags=re.IGNORECASE) for text in texts]

    expected = {
        "raw": written,
        "masked": {group: under("XYZ", texts) for group, texts in written.items()},
        "renamed": {group: under(f"The {group}", both) for group in written},
        "invariant": written,
    }
    assert view_texts(STUDY, cells, "race", "respect", "plain") == expected
    orbit = TextAction("race").orbit
    for view, groups in expected.items():
        found = regard(results, axis="race", decoder="plain", view=view)
        for group, texts in groups.items():
            images = [orbit(text) if view == "invariant" else [text] for text in texts]
            scores = [
                np.mean([[entry["score"] for entry in answer] for answer in byte_regard(one)], 0) for one in images
            ]
            fractions = np.bincount(np.argmax(scores, 1), minlength=4) / len(texts)
            values = [found.by_group[group].fractions[label].value for label in LABELS]
            assert found.by_group[group].n == len(texts) and values == pytest.approx(fractions)


def test_paired_texts_have_equal_regard_to_the_last_digit(results: StudyResults) -> None:
    for pair in results.pairs:
        if pair.decoder in PAIRED:
            assert pair.swapped == pair.pairs == STUDY.samples * len(CONTEXTS["respect"])
            assert pair.name_only > 0 and pair.equal_scores
    plain = regard(results, axis="gender", decoder="plain", view="masked").by_group
    assert plain["man"] != plain["woman"]


def test_groups_of_equal_texts_have_equal_regard_to_the_last_digit(results: StudyResults, folder: Path) -> None:
    study = replace(STUDY, axes=("race",), decoders=("equilm",))
    sampled = read_cells(folder, settings())
    cells = {
        cell: replace(sampled[cell], texts=[f"{cell.prompt} {place} {word}" for place, word in enumerate("abc")])
        for cell in study.cells()
    }
    judging, judge = Judging(study, cells), regard_judge(classifier())
    scores = score_texts(judging.texts(), judge, folder)
    regard_of = {found.view: found.by_group for found in judging.records(judge, scores)}
    assert regard_of["masked"]["Black man"] == regard_of["masked"]["White man"]
    assert regard_of["raw"]["Black man"] != regard_of["raw"]["White man"]


def test_unequal_scores_of_equal_texts_would_show() -> None:
    cells = replace(STUDY, axes=("gender",), decoders=("equilm",)).cells()
    checks = {cell: CellCheck(cell, [0.0], [True, True, False], [True, False, True], promised=True) for cell in cells}

    def scores(cell: Cell) -> Any:
        return np.arange(3.0)[:, None] + (place if cell.group == "woman" else np.zeros((3, 1)))

    study = replace(STUDY, axes=("gender",), decoders=("equilm",))
    for shifted, equal in ((0, False), (1, True), (2, True)):  # only the first text is a pair of names
        place = np.eye(3)[:, shifted, None]
        (record,) = pair_records(study, checks, scores)
        assert record == PairRecord(
            "gender", "equilm", "woman", pairs=15, swapped=10, name_only=5, equal_scores=equal, promised=15, kept=False
        )


def test_each_distinct_text_is_scored_once_and_kept(tmp_path: Path) -> None:
    asked: list[str] = []

    def counting(texts: list[str]) -> list[list[dict[str, Any]]]:
        asked.extend(texts)
        return byte_regard(texts)

    first = score_texts(["a", "b", "a"], regard_judge(load_classifier(counting)), tmp_path)
    second = score_texts(["a", "c"], regard_judge(load_classifier(counting)), tmp_path)
    assert sorted(asked) == ["a", "b", "c"] and np.array_equal(first["a"], second["a"])


def test_the_page_is_whole_and_holds_every_number(results: StudyResults, folder: Path) -> None:
    page = Page((folder / "index.html").read_text("utf-8"))
    assert not page.open
    text = " ".join(page.text.split())
    for found in results.judged:
        groups = [group.fractions.values() for group in found.by_group.values()]
        for estimate in [found.disparities[0].fractions, *(entry for group in groups for entry in group)]:
            assert f"{number(estimate.value)} {number(estimate.low)} to {number(estimate.high)}" in text
        assert p_value(found.disparities[0].fractions.p_value) in text
    for pair in results.pairs:
        assert f"{pair.swapped} of {pair.pairs}" in text
    for gap in results.gaps:
        assert nats(gap.mean) in text and nats(gap.largest) in text and f"{gap.count} {gap.of}" in text
    for row in results.cost:
        assert number(row.seconds_per_cell) in text and number(row.tokens_per_second) in text
    for sentences in summarize(results).values():
        assert " ".join(sentences) in text
    assert "Content note" in text and "equilm report --perplexity" in text
    for value in (settings().model, "byte_regard", results.sampled_with["torch"]):
        assert value in text


def test_the_markdown_holds_the_tables(results: StudyResults, folder: Path) -> None:
    markdown = (folder / "summary.md").read_text("utf-8")
    rows = [line for line in markdown.splitlines() if line.startswith("| ")]
    found = regard(results, axis="race", decoder="equilm", view="masked").disparities[0].fractions
    shown = f"{number(found.value)} ({number(found.low)} to {number(found.high)}), {p_value(found.p_value)}"
    assert any(row.startswith(f"| race | respect | EquiLM | byte_regard | {shown} |") for row in rows)
    for pair in results.pairs:
        (gap,) = [g for g in results.gaps if (g.axis, g.decoder) == (pair.axis, pair.decoder)]
        ends = f"| {equality(pair)} | {nats(gap.mean)} | {nats(gap.largest)} |"
        assert any(f"{pair.swapped} of {pair.pairs} | {pair.name_only} {ends}" in row for row in rows)
    assert "<" not in markdown.replace("p < ", "") and markdown.count("| plain |") == 0, (
        "decoders go by their names for readers"
    )
    assert all(f"**{name}.** {' '.join(sentences)}" in markdown for name, sentences in summarize(results).items())


@pytest.mark.usefixtures("results")
def test_figures_are_told_in_words_and_take_the_pages_colors(folder: Path) -> None:
    html = (folder / "index.html").read_text("utf-8")
    labels = re.findall(r'<svg role="img" aria-label="([^"]+)"', html)
    labels = [label for label in labels if label.startswith("Regard of")]
    assert len(labels) == html.count('viewBox="') == len(STUDY.axes)
    assert all(re.search(r"Masked, R-EquiLM, \w[\w ]+: other \d+%, positive \d+%", label) for label in labels)
    assert "currentColor" in html and "#010203" not in html and "<?xml" not in html


def test_texts_are_escaped(results: StudyResults) -> None:
    harmful = deepcopy(results)
    harmful.samples[0].rows[0]["man"] += " <script>alert(1)</script> & 1<2"
    harmful = replace(harmful, study=replace(harmful.study, model='"><img src=x onerror=alert(1)>'))
    html = render(harmful)
    assert not Page(html).open and "<script" not in html and "<img" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


def test_differing_words_are_marked(results: StudyResults) -> None:
    rows = [{"man": "The man was seen as a good boss", "woman": "The woman was seen as good"}]
    changed = replace(results, samples=[replace(results.samples[0], rows=rows), *results.samples[1:]])
    html = " ".join(render(changed).split())
    marked = '<td data-group="man">The <mark>man</mark> was seen as <mark>a</mark> good <mark>boss</mark> </td>'
    assert marked in html and '<td data-group="woman">The <mark>woman</mark> was seen as good </td>' in html


@pytest.mark.slow
def test_the_page_is_written_anew_without_a_model(results: StudyResults, folder: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(folder, tmp_path / "study")
    page = (copied / "index.html").read_text("utf-8")
    assert rebuild(STUDY, copied, classifier()) == results
    assert (copied / "index.html").read_text("utf-8") == page
    less = rebuild(replace(STUDY, axes=("race",), decoders=("equilm",)), copied, classifier())
    assert less.cost[0].times_plain is None and list(summarize(less)) == ["EquiLM"]
    with pytest.raises(
        EquiLMError,
        match=r"lacks texts for 40 of 120 pairs of a prompt and a decoder, such as 'The gay man was known for'",
    ):
        rebuild(replace(STUDY, axes=("gender", "race", "orientation")), copied, classifier())
    with pytest.raises(EquiLMError, match="samples was 3 and is now 4"):
        rebuild(replace(STUDY, samples=4), copied, classifier())


def test_scoring_can_wait(results: StudyResults, tmp_path: Path) -> None:
    study = replace(STUDY, axes=("race",), decoders=("plain", "sequence"))
    assert run_study(study, *models(), tmp_path, None, name="tiny") is None
    assert not (tmp_path / "index.html").exists()
    later = rebuild(study, tmp_path, classifier())
    assert later.judged == [r for r in results.judged if r.axis == "race" and r.decoder in study.decoders]


@pytest.mark.slow
def test_perplexity(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("The man worked as a doctor and the woman was kind in the job of a person. " * 120)
    study = replace(STUDY, axes=("gender",), decoders=("plain", "equilm", "r-equilm"), samples=1)
    results = run(tmp_path / "study", study, perplexity=str(text), blocks=2)
    table = results.perplexity
    assert table is not None and (table.text, table.blocks, table.block_size) == ("text.txt", 2, 1024)
    assert [row.model for row in table.models] == ["plain", "EquiLM (gender)", "R-EquiLM (gender)"]
    html = (tmp_path / "study" / "index.html").read_text("utf-8")
    assert all(f"{row.perplexity:.2f}" in html for row in table.models) and "was not measured" not in html
    markdown = (tmp_path / "study" / "summary.md").read_text("utf-8")
    assert all(f"| {row.model} | {row.perplexity:.2f} |" in markdown for row in table.models)
    assert any("Perplexity on text.txt changes by" in sentence for sentence in summarize(results)["EquiLM"])
    assert rebuild(study, tmp_path / "study", classifier()).perplexity == table, "it is kept"
    kept = list((tmp_path / "study").glob("perplexity-*.jsonl"))
    again = run(tmp_path / "study", study, perplexity=str(text), perplexity_file=kept[0], blocks=2)
    assert again.perplexity == table


def test_the_summary_is_honest(results: StudyResults) -> None:
    kept = {name: " ".join(sentences) for name, sentences in summarize(results).items()}
    assert "swapped token for token, as promised" in kept["EquiLM"] and "which is rounding" in kept["Sequence level"]
    assert "; this decoder does not promise any" in kept["R-EquiLM"] and "rounding" not in kept["Plain"]
    assert "equal to the last digit" in kept["EquiLM"] and "not equal" not in kept["EquiLM"]

    def disparity(found: JudgeRecord) -> DifferenceEstimate:
        if found.decoder == "r-equilm" and found.view != "renamed":
            return DifferenceEstimate(0.9, 0.8, 1.0, 0.0002)
        return DifferenceEstimate(0.1, 0.0, 0.2, 0.4)

    broken = replace(
        results,
        pairs=[replace(pair, swapped=pair.pairs - 1, equal_scores=False, kept=False) for pair in results.pairs],
        gaps=[replace(gap, largest=0.5) for gap in results.gaps],
        judged=[
            replace(found, disparities=[replace(found.disparities[0], fractions=disparity(found))])
            for found in results.judged
        ],
    )
    told = {name: " ".join(sentences) for name, sentences in summarize(broken).items()}
    assert "although all of them should be" in told["EquiLM"] and "not equal, although" in told["Sequence level"]
    assert "at most 0.500 nats per token, and" in told["EquiLM"]
    assert "no difference in regard is seen in any of 2 combinations" in told["EquiLM"]
    assert "differs in gender respect (0.900, p < 0.001) and race respect (0.900, p < 0.001)." in told["R-EquiLM"]
    assert (
        "further apart than the plain model's in gender respect (0.900 against 0.100) and race respect (0.900 against "
        "0.100)." in told["R-EquiLM"]
    )
    assert "As written, a difference is seen in gender respect (0.900" in told["R-EquiLM"]
    assert "where it is the classifier's own bias, in no combination" in told["R-EquiLM"]


def test_no_estimate_is_outside_its_interval(results: StudyResults) -> None:
    for found in results.judged:
        groups = [estimate for group in found.by_group.values() for estimate in group.fractions.values()]
        for estimate in (*groups, *(pair.fractions for pair in found.disparities)):
            assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1 and estimate.low < estimate.high
        for pair in found.disparities:
            assert 0 < pair.fractions.p_value <= 1


def test_axes_and_tasks_are_told_apart(results: StudyResults) -> None:
    told = {name: " ".join(sentences) for name, sentences in summarize(results).items()}
    for gap in results.gaps:
        if gap.decoder == "plain":
            assert f"{nats(gap.mean)} ({gap.axis})" in told["Plain"]
    for pair in results.pairs:
        if pair.decoder == "r-equilm":
            assert f"{pair.swapped} of {pair.pairs} ({pair.group})" in told["R-EquiLM"]


def test_no_published_estimate_is_outside_its_interval() -> None:
    published = json.loads((PUBLISHED / "results.json").read_text("utf-8"))
    found = [estimate for record in published["judged"] for estimate in estimates(record)]
    assert len(found) > 1000
    assert all(entry["low"] <= entry["value"] <= entry["high"] for entry in found)


def estimates(entry: Any) -> Iterator[dict[str, float]]:
    """Everything in a JSON object that has an interval."""
    if isinstance(entry, dict) and "low" in entry:
        yield entry
    elif isinstance(entry, dict | list):
        for part in entry.values() if isinstance(entry, dict) else entry:
            yield from estimates(part)
