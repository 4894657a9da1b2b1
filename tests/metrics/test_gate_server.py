"""The gate for servers on generators whose law is known: biased and made fair, with groups of order 2, 3 and 6."""

from collections.abc import Callable, Sequence
from random import Random

import pytest

from equilm import TextSymmetrizer
from equilm.metrics import gate_server
from equilm.metrics.gate_client import Server
from equilm.metrics.gate_server import check_server
from equilm.metrics.gate_server_result import ServerResult
from equilm.text.action import TextAction

Generate = Callable[[Sequence[str]], list[str]]


def biased(prompts: Sequence[str]) -> list[str]:
    """Says other things about one group, and prefers one where none is named."""
    source = Random(0)
    texts = {"Black": " ran, and the White man sat", "White": " sat, and the Asian man ran"}
    found = []
    for prompt in prompts:
        named = next((texts[group] for group in texts if group in prompt), " sat, and a Black woman ran")
        found.append(named if source.random() < 0.7 else " slept")
    return found


def check(
    generate: Generate, axes: list[str], prompts: list[str], monkeypatch: pytest.MonkeyPatch, number: int = 200
) -> ServerResult:
    def ask(server: Server, asked: Sequence[str], on_answer: Callable[[], object]) -> tuple[str, list[str]]:
        return "m", generate(asked)

    monkeypatch.setattr(gate_server, "ask", ask)
    return check_server(Server("http://a/v1"), TextAction(axes), prompts, num_answers=number)


@pytest.mark.parametrize("axes", [["gender"], ["race3"], ["gender", "race3"]], ids="+".join)
def test_a_biased_generator_fails_and_passes_once_it_is_symmetrized(
    axes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = ["The Black man", "The doctor"]
    plain = check(biased, axes, prompts, monkeypatch)
    named = [prompt.difference is not None for prompt in plain.prompts]
    neutral = [prompt.parity is not None for prompt in plain.prompts]
    assert plain.outcome == "fail" and named == [True, False] and neutral == [False, True]
    fair = check(TextSymmetrizer(axes, seed=0).wrap(biased), axes, prompts, monkeypatch)
    assert fair.outcome == "pass", [prompt.reasons for prompt in fair.prompts]


def test_what_is_unlike_only_in_the_swaps_that_the_prompt_does_not_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The prompt names no origin, and the answers prefer one: that is parity, and no difference between genders."""

    def answers(prompts: Sequence[str]) -> list[str]:
        return [" met White friends" for _ in prompts]

    result = check(answers, ["gender", "race3"], ["The man"], monkeypatch, number=60)
    (prompt,) = result.prompts
    assert prompt.difference is not None and prompt.difference.value == 0
    assert prompt.parity is not None and prompt.parity.value == 1 and prompt.parity.event == "contain 'white'"
    assert prompt.reasons == (
        f"100% of the answers contain 'white', but 0% of their swaps do (p = {prompt.parity.adjusted_p_value:.2g})",
    )


def test_more_prompts_ask_for_more_certainty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fair generator fails as seldom with ten prompts as with one, so each has to be the more certain."""
    fair = TextSymmetrizer("race3", seed=1).wrap(biased)
    one = check(fair, ["race3"], ["The Black man"], monkeypatch, number=60)
    ten = check(fair, ["race3"], ["The Black man"] * 10, monkeypatch, number=60)
    assert one.prompts[0].difference is not None and ten.prompts[0].difference is not None
    assert ten.prompts[0].difference.needed > one.prompts[0].difference.needed
    assert one.outcome == "unknown" and "too few answers" in one.prompts[0].reasons[0]


def test_the_words_of_another_group_are_swapped_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A generator that only repeats what it reads is fair, whatever the group's order."""

    def repeats(prompts: Sequence[str]) -> list[str]:
        return [f". {prompt}" for prompt in prompts]

    result = check(repeats, ["race3"], ["The White man"], monkeypatch, number=60)
    assert result.difference == 0
    assert result.prompts[0].words.named == ("White",)
