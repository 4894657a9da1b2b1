"""Ready-made invariant judges: real pipelines, encoders, reward functions and an embedding client."""

import asyncio
import json
from typing import Any, cast

import httpx
import numpy as np
import openai
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, pipeline
from word_models import word_tokenizer

from equilm import EquiLMError, TextSymmetrizer
from equilm.text.invariant_scorers import invariant_embeddings, invariant_encoder, invariant_pipeline, invariant_reward

AXES = ["gender", "race3"]
PAIRS = [("the man was late", "the woman was late"), ("he met a king", "she met a queen")]


@pytest.fixture(scope="module")
def classifier() -> Any:
    tokenizer = word_tokenizer()
    torch.manual_seed(0)
    settings: dict[str, Any] = {"num_labels": 3}
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        initializer_range=0.4,
        **settings,
        pad_token_id=tokenizer.pad_token_id or 0,
    )
    model: Any = BertForSequenceClassification(config).eval()
    tokens: Any = tokenizer
    return pipeline("text-classification", model=model, tokenizer=tokens)


def test_a_pipeline_gives_swaps_the_same_labels(classifier: Any) -> None:
    fair = invariant_pipeline(TextSymmetrizer(AXES), classifier)
    for one, other in PAIRS:
        plain = [{entry["label"]: entry["score"] for entry in classifier(text, top_k=None)} for text in (one, other)]
        assert max(abs(plain[0][label] - plain[1][label]) for label in plain[0]) > 1e-3
        assert fair([one], top_k=None) == fair([other], top_k=None)
        labels = {entry["label"]: entry["score"] for entry in fair(one, top_k=None)}
        assert labels == pytest.approx({label: (plain[0][label] + plain[1][label]) / 2 for label in labels}, abs=1e-6)
    text = PAIRS[0][0]
    best = fair(text, top_k=None)[0]
    assert fair(text) == [best] and fair([text, text]) == [best, best] and fair([text], top_k=2)[0][0] == best
    assert fair({"text": "the man", "text_pair": "he"}) == fair({"text": "the woman", "text_pair": "she"})


def test_an_encoder_gives_swaps_the_same_embedding() -> None:
    def encode(texts: list[str], scale: float = 1.0) -> Any:
        rows = [np.random.default_rng(list(text.encode())).normal(size=8) for text in texts]
        return (scale * np.stack(rows)).astype(np.float32)

    fair = invariant_encoder(TextSymmetrizer(AXES), encode)
    one, other = (fair([pair[place] for pair in PAIRS], scale=2.0) for place in (0, 1))
    assert one.shape == (2, 8) and np.array_equal(one, other)
    np.testing.assert_allclose(one[0], (encode([PAIRS[0][0]], 2.0) + encode([PAIRS[0][1]], 2.0))[0] / 2, atol=1e-6)


def reward(prompts: list[Any], completions: list[Any], answer: list[str], weight: float = 1.0, **_: Any) -> list[Any]:
    texts = [repr((p, c, a)) for p, c, a in zip(prompts, completions, answer, strict=True)]
    return [None if "skip" in t else weight * float(np.random.default_rng(list(t.encode())).normal()) for t in texts]


def test_a_reward_function_rewards_a_completion_and_its_swap_alike() -> None:
    fair = invariant_reward(TextSymmetrizer(AXES), reward)
    assert fair.__name__ == "invariant_reward"
    rows = {"answer": ["yes", "no", "yes"], "weight": 2.0, "trainer_state": None}
    one = fair(prompts=["The man"] * 3, completions=[" sang", " sang", " met a king"], **rows)
    other = fair(prompts=["The woman"] * 3, completions=[" sang", " sang", " met a queen"], **rows)
    assert one == other and one[0] != one[1], "rows with equal texts and other columns are told apart"
    plain = [reward([p], [" sang"], ["yes"], 2.0)[0] for p in ("The man", "The woman")]
    assert plain[0] != plain[1] and one[0] == pytest.approx(sum(plain) / 2)

    chat = [{"role": "assistant", "content": "She sang"}]
    swapped = [{"role": "assistant", "content": "He sang"}]
    prompt = [{"role": "user", "content": "And?"}]
    scores = [fair(prompts=[prompt], completions=[c], answer=["yes"]) for c in (chat, swapped)]
    assert scores[0] == scores[1]
    assert fair(prompts=["x"], completions=["skip"], answer=["yes"]) == [None]


def test_a_reward_function_is_not_given_the_ids_of_the_unswapped_text() -> None:
    def by_ids(completions: list[str], completion_ids: list[list[int]], **_: Any) -> list[float]:
        return [float(len(ids)) for ids in completion_ids]

    with pytest.raises(TypeError, match="completion_ids"):
        invariant_reward(TextSymmetrizer("gender"), by_ids)(
            prompts=["The man"], completions=[" sang"], completion_ids=[[1, 2]]
        )


def _embed(request: httpx.Request) -> httpx.Response:
    texts = json.loads(request.content)["input"]
    data = [
        {
            "object": "embedding",
            "index": i,
            "embedding": np.random.default_rng(list(t.encode())).normal(size=3).tolist(),
        }
        for i, t in enumerate(texts)
    ]
    usage = {"prompt_tokens": 1, "total_tokens": 1}
    return httpx.Response(200, json={"object": "list", "data": data[::-1], "model": "toy", "usage": usage})


def test_embeddings_of_a_server() -> None:
    transport = httpx.MockTransport(_embed)
    client = openai.OpenAI(
        base_url="http://toy/v1", api_key="x", http_client=cast(Any, httpx.Client(transport=transport))
    )
    fair = invariant_embeddings(TextSymmetrizer(AXES), client, "toy")
    assert fair([PAIRS[0][0]]) == fair([PAIRS[0][1]]) and len(fair([PAIRS[0][0], "a dog"])) == 2
    later = openai.AsyncOpenAI(
        base_url="http://toy/v1", api_key="x", http_client=cast(Any, httpx.AsyncClient(transport=transport))
    )
    assert asyncio.run(invariant_embeddings(TextSymmetrizer(AXES), later, "toy")([PAIRS[0][1]])) == fair([PAIRS[0][0]])


def test_a_server_that_returns_fewer_embeddings_is_refused() -> None:
    def short(request: httpx.Request) -> httpx.Response:
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        return httpx.Response(200, json={"object": "list", "data": [], "model": "toy", "usage": usage})

    http = cast(Any, httpx.Client(transport=httpx.MockTransport(short)))
    client = openai.OpenAI(base_url="http://toy/v1", api_key="x", http_client=http)
    with pytest.raises((EquiLMError, ValueError)):
        invariant_embeddings(TextSymmetrizer("gender"), client, "toy")(["a man"])
