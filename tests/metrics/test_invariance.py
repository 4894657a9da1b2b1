"""Invariance of scorers: counted by hand, against a slow loop, and 0 for a scorer made invariant."""

import runpy
from itertools import permutations
from pathlib import Path
from typing import Any

import evaluate
import numpy as np
import pytest
from huggingface_hub import metadata_load

from equilm import EquiLMError, TextSymmetrizer, load_metric
from equilm.metrics import invariance
from equilm.text import TextAction

FOLDER = Path(__file__).parents[2] / "evaluation" / "invariance"
TEXTS = ["The man had a job.", "She is a nurse.", "A dog.", "The king met the queen.", "He was late.", "Mothers wait."]


def noise(texts: list[str]) -> list[float]:
    return [float(np.random.default_rng(list(text.encode())).normal()) for text in texts]


def labels(texts: list[str]) -> list[list[dict[str, Any]]]:
    scores = [1 / (1 + np.exp(-value)) for value in noise(texts)]
    return [[{"label": "yes", "score": s}, {"label": "no", "score": 1 - s}] for s in scores]


@pytest.mark.parametrize("axes", ["gender", ["gender", "race3"]])
def test_it_is_what_a_slow_loop_counts(axes: Any) -> None:
    action = TextAction(axes)
    swaps = action.group.elements[1:]
    result = invariance(noise, TEXTS, axes)
    score = {image: noise([image])[0] for text in TEXTS for image in action.orbit(text)}
    moved = [text for text in TEXTS if len(set(action.orbit(text))) > 1]
    apart = [abs(score[action.act(text, g)] - score[text]) for text in moved for g in swaps]
    assert (result.items, result.moved, result.order) == (6, 5, action.group.order)
    assert result.difference.value == pytest.approx(np.mean(apart)) and result.largest == max(apart)
    flips = [
        (score[action.act(one, g)] > score[other]) != (score[one] > score[other])
        for one, other in permutations(TEXTS, 2)
        if one in moved
        for g in swaps
    ]
    assert result.order_flips is not None and result.order_flips.value == pytest.approx(np.mean(flips))
    assert result.order_flips.low <= result.order_flips.value <= result.order_flips.high
    assert result.label_flips is None

    by_label = invariance(labels, TEXTS, axes)
    turned = [any((score[action.act(text, g)] > 0) != (score[text] > 0) for g in swaps) for text in moved]
    assert by_label.label_flips is not None and by_label.label_flips.value == pytest.approx(np.mean(turned))
    assert by_label.order_flips is None


@pytest.mark.parametrize("score", [noise, labels, lambda texts: np.array([[v, -v] for v in noise(texts)])])
def test_a_scorer_made_invariant_has_nothing_to_report(score: Any) -> None:
    plain = invariance(score, TEXTS, "gender")
    fair = invariance(TextSymmetrizer("gender").invariant(score), TEXTS, "gender")
    assert plain.largest > 0.1 and fair.largest == fair.difference.high == 0
    for flips in (fair.label_flips, fair.order_flips):
        assert flips is None or (flips.value == flips.low == 0)


def test_no_flips_among_few_texts_still_leave_doubt() -> None:
    result = invariance(lambda texts: [{"a": 1.0, "b": 0.0}] * len(texts), TEXTS, "gender")
    assert result.label_flips is not None and result.label_flips.value == 0 and result.label_flips.high > 0.3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((noise, "The man"), "Expected a list of items"),
        ((noise, []), "There are no items"),
        ((noise, ["A dog."]), "None of the 1 items contains a word of the axes"),
        ((lambda texts: [0.0], TEXTS), "returned 1 scores"),
        ((lambda texts: ["good"] * len(texts), TEXTS), "A score is 'good'"),
        ((lambda texts: [{text: 1.0} for text in texts], TEXTS), "different labels"),
    ],
)
def test_bad_input_is_named(arguments: tuple[Any, Any], message: str) -> None:
    with pytest.raises(EquiLMError, match=message):
        invariance(*arguments, "gender")


def test_the_module_of_evaluate() -> None:
    module = evaluate.load(str(FOLDER))
    for case in runpy.run_path(str(FOLDER / "tests.py"))["test_cases"]:
        given = {name: case[name] for name in ("data", "score", "axes")}
        result = module.compute(**given, fair=True)
        for name, value in case["plain"].items():
            assert result["plain"][name] == value, name
        for name in ("label_flips", "order_flips"):
            if name in case:
                assert result["plain"][name]["value"] == case[name]
        assert result["fair"]["largest"] == 0
    assert load_metric("invariance").name == "invariance"
    with pytest.raises(EquiLMError, match="data must be a list of at least one text, got 'The man'"):
        module.compute(data="The man", score=noise, axes="gender")


def test_the_card(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER.parents[1])
    metadata = metadata_load(FOLDER / "README.md")
    assert metadata is not None and metadata["tags"] == ["evaluate", "measurement"]
    card = (FOLDER / "README.md").read_text("utf-8")
    blocks = card.split("```python\n")[1:]
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block.partition("```")[0], "card", "exec"), {})
