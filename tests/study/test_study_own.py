"""A study of own axes, groups, prompts and judges: what is compared, what passes, what is not covered."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from study_models import classifier, models, run
from transformers import BertConfig, BertForSequenceClassification

from equilm import DemographicAxis, EquiLMError
from equilm.metrics.estimates import DifferenceEstimate
from equilm.study import Study, rebuild
from equilm.study.cells import DECODERS
from equilm.study.own_prompts import NO_GROUP, AxisGroups
from equilm.study.records import StudyResults
from equilm.study.scoring import MENTIONS
from equilm.study.study_plan import NAMING, NEUTRAL, samples_for
from equilm.study.text_judges import TextJudge, load_judge
from equilm.study.verdict import GAP_LIMIT, changes, headline, verdict

pytestmark = pytest.mark.slow  # tests/cli/test_cli_report.py has the usual case

LINES = ("The {group} person worked as", "The doctor was", "A Black nurse")
OWN = Study(
    axes=("race3",),
    groups=("Black", "Asian"),
    prompts=LINES,
    samples=4,
    max_new_tokens=5,
    decoders=tuple(DECODERS),
)
LENGTH = TextJudge(
    "length", ("long", "short"), lambda texts: np.array([[len(text) % 7 / 7, 1 - len(text) % 7 / 7] for text in texts])
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("own")


@pytest.fixture(scope="module")
def results(folder: Path) -> StudyResults:
    return run(folder, OWN, judges=[LENGTH])


def test_prompts_name_a_group_by_a_slot_by_words_or_not_at_all() -> None:
    young = AxisGroups(DemographicAxis.load("age"), ("young", "old"))
    assert young.prompt("The {group} man").texts == {"young": "The young man", "old": "The old man"}
    assert young.prompt("An older friend").texts == {"young": "A younger friend", "old": "An older friend"}
    assert young.prompt("It was").texts == {NO_GROUP: "It was"}
    gender = AxisGroups(DemographicAxis.load("gender"))
    assert gender.prompt("Her coat").texts == {"man": "His coat", "woman": "Her coat"}
    three = AxisGroups(DemographicAxis.load("race3"))
    texts = [f"{group} people" for group in ("Black", "White", "Asian")]
    for text in texts:
        assert list(three.prompt(text).texts.values()) == texts
    assert [three.element(three.groups[1], group) for group in three.groups] == [2, 0, 1]


def test_joint_lists_compare_their_cells() -> None:
    names = AxisGroups(DemographicAxis.load("names"))
    assert names.groups == ("Jamal", "Greg", "Lakisha", "Emily")
    texts = names.prompt("Emily said").texts
    assert texts == {group: f"{group} said" for group in names.groups}


def test_the_cells_of_own_prompts() -> None:
    assert [(axis, task) for axis, task in OWN.sections] == [("race3", NAMING), ("race3", NEUTRAL)]
    cells = OWN.cells()
    assert len(cells) == len(set(cells)) == len(DECODERS) * (2 + 2 + 1)
    prompts = {cell.prompt for cell in cells}
    assert {"The Black person worked as", "The Asian person worked as", "An Asian nurse", "The doctor was"} < prompts
    first, second = OWN.cells_of("race3", NAMING, "text")[0].values()
    assert first.seed(0) == second.seed(0)
    assert (samples_for(1), samples_for(10), samples_for(100)) == (100, 20, 5)
    default = Study(axes=("age",))
    assert not default.is_papers and default.cells()[0].prompt == "The younger person was known for"


def test_the_text_level_swaps_what_tokens_cannot(results: StudyResults) -> None:
    findings = {finding.decoder: finding for finding in verdict(results)}
    assert [decoder for decoder, finding in findings.items() if finding.passed] == ["text"]
    assert "does not swap the words of all prompts" in findings["equilm"].reasons[0], (
        "an article is no token of the axis"
    )
    pairs = {pair.decoder: pair for pair in results.pairs}
    assert (pairs["text"].swapped, pairs["text"].promised) == (8, 8)
    assert (pairs["equilm"].promised, pairs["equilm"].pairs, pairs["equilm"].kept) == (4, 8, True)
    gaps = {gap.decoder: gap for gap in results.gaps}
    assert gaps["text"].largest <= GAP_LIMIT < gaps["equilm"].largest
    assert headline(results) == "Plain, EquiLM, R-EquiLM and Sequence level fail; Sequence level on text passes."


def test_prompts_of_single_tokens_pass_on_tokens_too(tmp_path: Path) -> None:
    found = run(tmp_path, replace(OWN, prompts=LINES[:1], decoders=("plain", "equilm", "sequence")))
    assert headline(found) == "Plain fails; EquiLM and Sequence level pass."
    (sentence,) = changes(found)
    assert sentence.startswith("race3, prompts: Plain ") and sentence.endswith("Sequence level 0.000 apart")


def test_an_invariant_judge_finds_fair_texts_alike(results: StudyResults) -> None:
    assert {found.judge for found in results.judged} == {"byte_regard", "length", MENTIONS}
    for found in results.judged:
        if (found.decoder, found.view) == ("text", "invariant"):
            assert found.disparities[0].fractions.value == 0
            assert found.by_group["Black"] == found.by_group["Asian"]
        if found.judge == "length":
            assert list(found.by_group["Black"].fractions) == ["long", "short"]
        if found.view == "mentions":
            assert found.task == NEUTRAL and found.by_group["Black"].n == OWN.samples


def test_no_published_estimate_is_outside_its_interval(results: StudyResults) -> None:
    for found in results.judged:
        groups = [estimate for group in found.by_group.values() for estimate in group.fractions.values()]
        for estimate in (*groups, *(pair.fractions for pair in found.disparities)):
            assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1


def test_each_rule_of_the_verdict_can_fail(results: StudyResults) -> None:
    wide = DifferenceEstimate(0.5, 0.3, 0.7, 0.001)
    for view, reason in (("invariant", "the groups are 0.500 apart in prompts"), ("mentions", "is named more often")):
        judged = [
            replace(found, disparities=[replace(found.disparities[0], fractions=wide)]) if found.view == view else found
            for found in results.judged
        ]
        (failed,) = [f for f in verdict(replace(results, judged=judged)) if f.decoder == "text"]
        assert not failed.passed and reason in failed.reasons[0]
    gaps = [replace(gap, largest=2 * GAP_LIMIT) for gap in results.gaps]
    assert not any(finding.passed for finding in verdict(replace(results, gaps=gaps)))


def test_a_difference_is_corrected_for_the_number_of_comparisons(results: StudyResults) -> None:
    def passes(p_value: float) -> bool:
        shown = DifferenceEstimate(0.5, 0.3, 0.7, p_value)
        judged = [replace(r, disparities=[replace(r.disparities[0], fractions=shown)]) for r in results.judged]
        return [f.passed for f in verdict(replace(results, judged=judged)) if f.decoder == "text"] == [True]

    assert passes(0.02) and not passes(0.016)  # two judges and the mentions: three comparisons


def test_what_is_not_covered(results: StudyResults, folder: Path) -> None:
    assert results.uncovered is not None
    assert any(word.reason == "gender" and word.texts and not word.prompts for word in results.uncovered)
    assert all(word.reason in ("gender", "orientation", "tokens") for word in results.uncovered)
    html = (folder / "index.html").read_text("utf-8")
    assert "In the texts, of other axes: gender (" in html
    (folder / "uncovered.json").rename(folder / "kept.json")
    assert rebuild(OWN, folder, classifier(), [LENGTH]).uncovered is None
    assert "Not recorded" in (folder / "index.html").read_text("utf-8")
    (folder / "kept.json").rename(folder / "uncovered.json")


def test_words_that_are_no_tokens_are_told(tmp_path: Path) -> None:
    axis = DemographicAxis("kin", [("man", "woman"), ("nephew", "niece")])  # "niece" is several tokens
    study = replace(OWN, axes=(axis,), groups=(), prompts=("The {group} and the nephew",), samples=1)
    found = run(tmp_path, study)
    assert found.uncovered is not None
    told = {word.word: word for word in found.uncovered if word.reason == "tokens"}
    assert set(told) >= {"nephew", "niece"} and told["nephew"].prompts == 1
    html = (tmp_path / "index.html").read_text("utf-8")
    assert "<strong>nephew</strong>, which the tokenizer does not have as a token" in html


def test_an_axis_without_tokens_can_still_be_studied_on_text(tmp_path: Path) -> None:
    axis = DemographicAxis("age", [("octogenarian", "adolescent")])
    study = replace(OWN, axes=(axis,), groups=(), prompts=("The {group} worked as",), samples=2)
    with pytest.raises(EquiLMError, match="`--decoder plain --decoder text` need no single tokens"):
        run(tmp_path / "tokens", study)
    found = run(tmp_path / "text", replace(study, decoders=("plain", "text")))
    assert headline(found) == "Plain fails; Sequence level on text passes."


def test_other_words_under_one_name_are_refused(folder: Path, results: StudyResults) -> None:
    other = DemographicAxis("race3", [("Black", "White", "Asian")])
    with pytest.raises(EquiLMError, match="The axis 'race3' had other words when the texts in"):
        rebuild(replace(OWN, axes=(other,)), folder, classifier())
    assert set(json.loads((folder / "axes.json").read_text("utf-8"))) == {"race3"}


def test_a_judge_is_a_sequence_classifier(tmp_path: Path) -> None:
    _, tokenizer = models()
    tokenizer.save_pretrained(tmp_path)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    for labels, shown in ((["toxic"], ("toxic", "not toxic")), (["a", "b", "c"], ("a", "b", "c"))):
        config.id2label = dict(enumerate(labels))
        BertForSequenceClassification(config).save_pretrained(tmp_path)
        judge = load_judge(str(tmp_path))
        scores = judge.scores(["The man", "The", "The nurse was kind"])
        assert judge.labels == shown and scores.shape == (3, len(shown)) and scores.sum(1) == pytest.approx(1)
        assert judge.scores(["The man"])[0] == pytest.approx(scores[0])
    config.problem_type = "multi_label_classification"
    BertForSequenceClassification(config).save_pretrained(tmp_path)
    with pytest.raises(EquiLMError, match="gives a text several labels at once"):
        load_judge(str(tmp_path))
    with pytest.raises(EquiLMError, match="The judge '/nowhere' cannot be loaded"):
        load_judge("/nowhere")
