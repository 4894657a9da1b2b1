"""Equation 4 over HTTP, with an upstream whose distribution is known: by samples, against the formula, and by seeds."""

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from scipy.stats import chi2_contingency, chisquare
from toy_upstream import ANSWERS, ToyUpstream, weights

from equilm.text.action import TextAction

GENDER = TextAction("gender")
PRODUCT = TextAction(["gender", "race"])
KINDS = sorted({GENDER.act(answer, g) for answer in ANSWERS for g in (0, 1)})
Make = Callable[..., str]


def law(prompt: str) -> list[float]:
    """Q(Y|X) = 1/|G| Σ_g P(gY|gX) of each kind of answer, by the formula."""
    probability = dict.fromkeys(KINDS, 0.0)
    for g in (0, 1):
        weight = weights(GENDER.act(prompt, g))
        for answer, share in zip(ANSWERS, weight, strict=True):
            probability[GENDER.act(answer, g)] += share / sum(weight) / 2  # g is its own inverse
    return [probability[kind] for kind in KINDS]


def draws(url: str, prompt: str, count: int) -> "Counter[str]":
    answers: Counter[str] = Counter()
    body = {"model": "toy", "messages": [{"role": "user", "content": prompt}], "n": 20}
    with httpx.Client(timeout=120) as client:
        for _ in range(count // 20):
            response = client.post(f"{url}/v1/chat/completions", json=body)
            assert response.status_code == 200, response.text
            for choice in response.json()["choices"]:
                answers[choice["message"]["content"]] += 1
    return answers


def check_law(url: str, count: int) -> None:
    of_man, of_woman = draws(url, "The man", count // 2), draws(url, "The woman", count // 2)
    assert set(of_man) | set(of_woman) <= set(KINDS)
    table = [[of_man[kind] for kind in KINDS], [of_woman[GENDER.act(kind, 1)] for kind in KINDS]]
    assert chi2_contingency(table).pvalue > 1e-4
    for observed in table:
        assert chisquare(observed, [count // 2 * share for share in law("The man")]).pvalue > 1e-4
    # The test would tell: the upstream's own answers are far from it.
    plain = [weights(prompt) for prompt in ("The man", "The woman")]
    assert chi2_contingency([[share * count for share in one] for one in plain]).pvalue < 1e-10


@pytest.mark.slow
def test_answers_have_the_law_of_equation_4(gateways: Make, toy: ToyUpstream) -> None:
    check_law(gateways(connect_timeout=120), 1_000)


@pytest.mark.exhaustive
def test_answers_have_the_law_of_equation_4_at_many_draws(gateways: Make, toy: ToyUpstream) -> None:
    check_law(gateways(connect_timeout=120), 100_000)


def answer(client: httpx.Client, url: str, path: str, body: dict[str, Any], **headers: str) -> str:
    response = client.post(f"{url}/v1/{path}", json={"model": "toy", **body}, headers=headers)
    assert response.status_code == 200
    if not body.get("stream"):
        choice = response.json()["choices"][0]
        return str(choice["message"]["content"] if "message" in choice else choice["text"])
    events = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: {")]
    choices = [event["choices"][0] for event in events]
    return "".join(one["delta"].get("content", "") if "delta" in one else one["text"] for one in choices)


@pytest.mark.parametrize(
    ("path", "stream", "seeds"),
    [
        ("chat/completions", True, 30),
        pytest.param("chat/completions", True, 200, marks=pytest.mark.slow),
        pytest.param("chat/completions", False, 200, marks=pytest.mark.slow),
        pytest.param("completions", True, 200, marks=pytest.mark.slow),
        pytest.param("completions", False, 200, marks=pytest.mark.slow),
    ],
)
def test_with_one_seed_answers_to_all_swaps_are_swaps(
    gateways: Make, toy: ToyUpstream, path: str, stream: bool, seeds: int
) -> None:
    url = gateways(axes=["gender", "race"])
    prompt, related = "The Black man said", 0
    with httpx.Client(timeout=30) as client:
        for seed in range(seeds):
            answers = []
            for image in PRODUCT.orbit(prompt):
                body: dict[str, Any] = {"prompt": image, "stream": stream}
                if path.startswith("chat"):
                    body = {"messages": [{"role": "user", "content": image}], "stream": stream}
                if seed % 2:
                    answers.append(answer(client, url, path, {**body, "seed": seed}))
                else:
                    answers.append(answer(client, url, path, body, **{"X-Equilm-Seed": str(seed)}))
            # What a completion begins with may end a word of the prompt, which then stays.
            before = "" if path.startswith("chat") else prompt
            wanted = [PRODUCT.act_on_continuation(before, answers[0], g) for g in PRODUCT.group.elements]
            related += answers == wanted
    assert related == seeds
    assert len({request["seed"] for request in toy.requests}) == seeds
