"""The `evaluate` modules of perplexity and group fairness: their cases, cards, pages and refusals."""

import re
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import evaluate
import pytest
from huggingface_hub import metadata_load
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from word_models import word_model, word_tokenizer

from equilm import EquiLMError
from equilm.metrics.group_fairness import group_fairness
from equilm.metrics.perplexity import perplexity

ROOT = Path(__file__).parents[2]
FOLDERS = {name: ROOT / "evaluation" / name for name in ("perplexity", "group_fairness")}
SECTIONS = (
    "## Metric Description",
    "## How to Use",
    "### Inputs",
    "### Output Values",
    "#### Values from Popular Papers",
    "### Examples",
    "## Limitations and Bias",
    "## Citation",
    "## Further References",
)
TEXTS = ["The man was late because he had a job.", "The nurse is a woman."] * 2


def load(name: str) -> Any:
    return evaluate.load(str(FOLDERS[name]))


def card(name: str) -> str:
    return (FOLDERS[name] / "README.md").read_text("utf-8")


def examples() -> list[Any]:
    """The Python blocks of the cards that need no Hub."""
    blocks = [(name, code) for name in FOLDERS for code in re.findall(r"```python\n(.*?)```", card(name), re.DOTALL)]
    return [pytest.param(code, id=name) for name, code in blocks if not code.startswith("# needs the Hub")]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return word_tokenizer()


@pytest.fixture(scope="module")
def model(tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    return word_model(tokenizer)


def test_cases_of_perplexity() -> None:
    cases = runpy.run_path(str(FOLDERS["perplexity"] / "tests.py"))
    for case in cases["test_cases"]:
        inputs = {name: value for name, value in case.items() if name != "result"}
        found = load("perplexity").compute(**inputs, model=cases["model"], tokenizer=cases["tokenizer"])
        assert {name: found[name] for name in case["result"]} == pytest.approx(case["result"])


def test_cases_of_group_fairness() -> None:
    cases = runpy.run_path(str(FOLDERS["group_fairness"] / "tests.py"))
    for case in cases["test_cases"]:
        inputs = {name: value for name, value in case.items() if name not in ("result", "gap")}
        found = load("group_fairness").compute(**inputs, model=cases["score"], bootstrap=5)
        assert {name: found[name] for name in case["result"]} == case["result"]
        gap = found["continuation_gap"]
        assert (gap["gap"]["value"], gap["largest"]) == pytest.approx(case["gap"])


def test_perplexity_is_that_of_the_library(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    expected = perplexity(model, tokenizer, TEXTS, block_size=12, stride=4, progress=False).to_dict()
    settings: dict[str, Any] = {"block_size": 12, "stride": 4}
    loaded: dict[str, Any] = {"model": model, "tokenizer": tokenizer}
    module = load("perplexity")
    assert module.compute(predictions=TEXTS, **loaded, **settings) == expected
    for text in TEXTS:
        module.add(predictions=text)
    assert module.compute(**loaded, **settings) == expected
    (tmp_path / "text.txt").write_text("\n\n".join(TEXTS), "utf-8")
    assert module.compute(dataset=str(tmp_path / "text.txt"), **loaded, **settings) == expected
    tokenizer.save_pretrained(tmp_path / "saved")
    model.save_pretrained(tmp_path / "saved")
    assert module.compute(data=TEXTS, model_id=str(tmp_path / "saved"), **settings) == expected


def test_group_fairness_is_that_of_the_library(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    settings: dict[str, Any] = {"num_continuations": 2, "max_new_tokens": 4, "bootstrap": 5}
    expected = group_fairness(model, tokenizer, TEXTS[:2], "gender", **settings, progress=False).to_dict()
    module = load("group_fairness")
    loaded: dict[str, Any] = {"model": model, "tokenizer": tokenizer, "axes": "gender"}
    assert module.compute(prompts=TEXTS[:2], **loaded, **settings) == expected
    assert module.compute(data=TEXTS[:2], **loaded, **settings) == expected


def test_refuses_what_it_cannot_measure(model: PreTrainedModel) -> None:
    with pytest.raises(EquiLMError, match="predictions and dataset are names of the same input"):
        load("perplexity").compute(predictions=TEXTS, dataset="wikitext-2", model=model)
    with pytest.raises(EquiLMError, match="prompts and data are names of the same input"):
        load("group_fairness").compute(prompts=TEXTS, data=TEXTS, model=model)
    for name, inputs in (("perplexity", "predictions"), ("group_fairness", "prompts")):
        for models in ({}, {"model": model, "model_id": "gpt2"}):
            with pytest.raises(EquiLMError, match=r"either model_id=..., a Hub id or a folder, or model=..."):
                load(name).compute(**{inputs: TEXTS}, **models)


@pytest.mark.parametrize(
    ("name", "config", "inputs"),
    [
        ("perplexity", None, "predictions"),
        ("perplexity", None, "data"),
        ("group_fairness", None, "prompts"),
        ("group_fairness", None, "data"),
        ("regard", None, "data"),
        ("regard", "compare", "references"),
        ("regard", "groups", "groups"),
    ],
)
def test_a_text_is_not_taken_for_a_list_of_letters(name: str, config: str | None, inputs: str) -> None:
    others = {"references": {"data": TEXTS}, "groups": {"data": TEXTS}}.get(inputs, {})
    for given, message in (
        ("The man", "got 'The man'. Put a single text into a list"),
        ([], r"got \[\]"),
        (["The man", 3], r"item 1 is 3 \(int\), not a text"),
    ):
        module = evaluate.load(str(ROOT / "evaluation" / name), config)
        with pytest.raises(EquiLMError, match=f"{inputs} must be a list of at least one text, .*{message}"):
            module.compute(**others, **{inputs: given})
    if inputs in module.features:
        with pytest.raises(EquiLMError, match=f"{inputs} must be a list of at least one text, got 'The man'"):
            module.add_batch(**others, **{inputs: "The man"})


@pytest.mark.parametrize("code", examples())
def test_the_cards_examples_run(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    exec(compile(code, "README.md", "exec"), {})


@pytest.mark.parametrize("name", FOLDERS)
def test_the_card_is_one_of_a_space(name: str) -> None:
    metadata: dict[str, Any] = metadata_load(FOLDERS[name] / "README.md") or {}
    assert metadata["tags"] == ["evaluate", "metric"]
    assert (metadata["sdk"], metadata["app_file"]) == ("gradio", "app.py")
    lines = card(name).splitlines()
    places = [lines.index(section) for section in SECTIONS]
    assert places == sorted(places)


@pytest.mark.parametrize("name", FOLDERS)
def test_the_card_names_every_argument(name: str) -> None:
    described = re.findall(r"^    ([\w, ]+?) ?(?:\(.*?\))?:", load(name).inputs_description, re.MULTILINE)
    arguments = {argument for row in described for argument in row.split(", ")}
    assert len(arguments) >= 9
    assert {argument for argument in arguments if f"**{argument}**" not in card(name)} == set()


class Page:
    """Stands for gradio: keeps the function that a page calls."""

    class Error(Exception):
        """What a page shows."""

    def __init__(self) -> None:
        self.Textbox = self.Number = self.Dropdown = self.JSON = lambda *_, **__: None

    def Interface(self, fn: Any, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(fn=fn)


@pytest.mark.parametrize(
    ("name", "inputs", "key"),
    [
        ("perplexity", ("The man was late.", 8), "word_perplexity"),
        ("group_fairness", ("The man", "gender"), "token_gap"),
    ],
)
def test_the_page_measures(
    name: str,
    inputs: tuple[str, Any],
    key: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    gradio = Page()
    monkeypatch.setitem(sys.modules, "gradio", gradio)
    page = runpy.run_path(str(FOLDERS[name] / "app.py"))["page"]
    text, other = inputs
    assert key in page.fn(text, str(tmp_path), other)
    with pytest.raises(Page.Error, match=r"no tokens|at least one text"):
        page.fn("", str(tmp_path), other)
