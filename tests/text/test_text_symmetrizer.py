"""Generators made fair: the exact law, the boundary, seeds, several samples, chat messages, async, and log Q."""

import asyncio
import math
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equilm import DemographicAxis, EquiLMError, TextSymmetrizer
from equilm.text.chat import map_texts

GENDER = DemographicAxis("gender", [("man", "woman"), ("he", "she"), ("steward", "stewardess")])
RACE = DemographicAxis("race", [("Black", "White", "Asian")])
AXES = {"two": (GENDER,), "three": (RACE,), "product": (GENDER, RACE)}

# X: whole words, no words, words that the continuation goes on with, no text at all.
PROMPTS = ["The man", "The wo", "a Black", "A Black woman said", "It was a", "The steward", "she ", ""]
ENDINGS = [
    " saw a man",
    "man left",
    "hood",
    "ess was White",
    "es",
    "",
    "he asked: Asian?",
    " Black man, she",
    "\ud800",
]


def _law(prompt: str) -> dict[str, float]:
    """A biased law on all endings and their swaps, which depends on every letter of the prompt; sums to 1."""
    action = TextSymmetrizer((GENDER, RACE)).action
    texts = sorted({image for ending in ENDINGS for before in ("", "x") for image in _images(action, before, ending)})
    noise = random.Random(prompt)
    weights = [noise.random() ** 3 for _ in texts]
    return {text: weight / sum(weights) for text, weight in zip(texts, weights, strict=True)}


def _images(action: Any, before: str, ending: str) -> list[str]:
    return [action.act_on_continuation(before, ending, g) for g in action.group.elements]


def _score(prompts: Sequence[str], continuations: Sequence[str]) -> list[float]:
    return [math.log(_law(prompt)[text]) for prompt, text in zip(prompts, continuations, strict=True)]


def _echo(prompts: Sequence[Any], **_: Any) -> list[str]:
    """Continues a prompt by itself, so that what was sent is seen; ends with a word of each axis."""
    return [f" [{prompt}] she, Black" for prompt in prompts]


class _Recorder:
    """A generator that always says the same, and keeps what it was sent."""

    def __init__(self, answer: str = ""):
        self.answer = answer
        self.sent: list[Any] = []

    def __call__(self, prompts: Sequence[Any]) -> list[str]:
        self.sent += prompts
        return [self.answer] * len(prompts)


def _wrapped_law(symmetrizer: TextSymmetrizer, prompt: str) -> dict[str, float]:
    """Q(·|X) as `wrap` samples it: for every draw of g, P's whole law is sent through."""
    law: dict[str, float] = defaultdict(float)
    order = symmetrizer.action.group.order
    drawn = set()
    for seed in range(200):  # until each element has come once
        engine = _Recorder()
        probe = symmetrizer.wrap(engine)
        _, (element,) = probe([prompt], return_elements=True, draw_seed=seed)
        if element in drawn:
            continue
        drawn.add(element)
        for text, probability in _law(engine.sent[0]).items():
            (back,) = symmetrizer.wrap(_Recorder(text))([prompt], draw_seed=seed)
            law[back] += probability / order
    assert len(drawn) == order
    return law


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_law_of_what_is_returned_is_fair_and_is_what_log_prob_says(axes: str, prompt: str) -> None:
    symmetrizer = TextSymmetrizer(AXES[axes])
    action = symmetrizer.action
    law = _wrapped_law(symmetrizer, prompt)
    assert sum(law.values()) == pytest.approx(1)
    assert symmetrizer.log_prob(_score, [prompt] * len(law), list(law)) == pytest.approx(
        [math.log(probability) for probability in law.values()]
    )
    for h in action.group.elements:
        swapped = _wrapped_law(symmetrizer, action.act(prompt, h))
        expected = {action.act_on_continuation(prompt, text, h): probability for text, probability in law.items()}
        assert len(expected) == len(law)
        assert swapped == pytest.approx(expected)


@pytest.mark.parametrize(
    ("prompt", "answers", "expected"),
    [
        ("The man", {"The woman": " and she"}, " and he"),
        ("The wo", {"The wo": "man and she"}, "man and he"),  # the prompt began this word
        ("The man", {"The woman": "hood of a woman"}, "hood of a man"),
        ("The woman: ", {"The man: ": "man"}, "woman"),
        ("The woman", {"The man": ""}, ""),
        ("", {"": "Man and woman"}, "Woman and man"),
        ("The steward", {"The stewardess": "es"}, "es"),
    ],
)
def test_where_prompt_and_continuation_meet(prompt: str, answers: dict[str, str], expected: str) -> None:
    fair = TextSymmetrizer(GENDER).wrap(lambda prompts: [answers.get(prompt, "-") for prompt in prompts])
    for seed in range(50):
        texts, (element,) = fair([prompt], return_elements=True, draw_seed=seed)
        if element:
            assert texts == [expected]
            return
    pytest.fail("the swap was never drawn")


def test_an_answer_may_begin_a_new_text() -> None:
    symmetrizer = TextSymmetrizer(GENDER)
    for continues, expected in ((True, {"he"}), (None, {"he"}), (False, {"he", "she"})):
        fair = symmetrizer.wrap(_Recorder("he"), continues=continues)
        assert set(fair(["Who"] * 40)) == expected


@given(
    prompts=st.lists(st.sampled_from(PROMPTS) | st.text(max_size=5), max_size=4),
    ending=st.sampled_from(ENDINGS) | st.text(st.characters()),
    seed=st.integers(),
)
def test_no_continuation_is_too_odd(prompts: list[str], ending: str, seed: int) -> None:
    fair = TextSymmetrizer((GENDER, RACE)).wrap(_Recorder(ending))
    assert len(fair(prompts, draw_seed=seed)) == len(prompts)


@given(seed=st.integers(0, 2**32), axes=st.sampled_from(sorted(AXES)), prompt=st.sampled_from(PROMPTS), data=st.data())
def test_same_seed_same_text(seed: int, axes: str, prompt: str, data: st.DataObject) -> None:
    symmetrizer = TextSymmetrizer(AXES[axes])
    action = symmetrizer.action
    h = data.draw(st.sampled_from(action.group.elements))
    fair = symmetrizer.wrap(_echo)
    (plain,), (swapped,) = fair([prompt], draw_seed=seed), fair([action.act(prompt, h)], draw_seed=seed)
    up_to = [action.group.compose(h, s) for s in action.stabilizer(prompt)]
    assert swapped in [action.act_on_continuation(prompt, plain, element) for element in up_to]


def test_same_seed_same_text_by_exactly_the_swap_if_the_prompt_names_every_axis() -> None:
    symmetrizer = TextSymmetrizer((GENDER, RACE))
    fair = symmetrizer.wrap(_echo)
    prompt = "A Black woman said"
    texts = {}
    for h in symmetrizer.action.group.elements:
        texts[h] = fair([symmetrizer.action.act(prompt, h)] * 3, n=2, draw_seed=5)
    assert len({str(text) for text in texts.values()}) == 6
    for h, rows in texts.items():
        assert rows == [[symmetrizer.action.act(text, h) for text in row] for row in texts[0]]


@pytest.mark.parametrize("prompt", ["A Black woman", "A Asian man", "neutral"])
def test_elements_are_uniform_and_independent(prompt: str) -> None:
    symmetrizer = TextSymmetrizer((GENDER, RACE), seed=0)
    engine = _Recorder()
    fair = symmetrizer.wrap(engine)
    _, elements = fair([prompt] * 1800, n=2, return_elements=True)
    assert engine.sent == [symmetrizer.action.act(prompt, g) for row in elements for g in row]
    pairs = Counter(map(tuple, elements))
    assert len(pairs) == 36
    assert sum((count - 50) ** 2 / 50 for count in pairs.values()) < 67  # χ², 35 degrees of freedom, p = 0.001


def test_seeds() -> None:
    prompts = ["The man"] * 20

    def draws(symmetrizer: TextSymmetrizer, **kwargs: Any) -> Any:
        return symmetrizer.wrap(_echo)(prompts, return_elements=True, **kwargs)

    one, other = TextSymmetrizer("gender", seed=3), TextSymmetrizer("gender", seed=3)
    random.seed(0)
    state = random.getstate()
    first = draws(one)
    assert random.getstate() == state
    assert first == draws(other)
    second = draws(one)  # the draws go on
    assert second != first
    assert draws(one, draw_seed=7) == draws(other, draw_seed=7) != first
    assert draws(other, draw_seed=None) == second  # a seed for one call leaves the object's own draws as they are
    assert draws(TextSymmetrizer("gender")) != draws(TextSymmetrizer("gender"))


def test_one_call_and_arguments_pass_through() -> None:
    calls: list[Any] = []

    def generate(prompts: list[str], *args: Any, **kwargs: Any) -> list[str]:
        calls.append((len(prompts), args, kwargs))
        return [f"{prompt}{i}" for i, prompt in enumerate(prompts)]

    fair = TextSymmetrizer(["gender", "race3"]).wrap(generate)
    assert fair(["a", "b"], 0.5, n=3, temperature=2, seed=1) == [["a0", "a1", "a2"], ["b3", "b4", "b5"]]
    assert fair(["a", "b"]) == ["a0", "b1"]
    assert fair(["a"], n=1) == [["a0"]]
    assert fair([]) == []
    assert calls == [(6, (0.5,), {"temperature": 2, "seed": 1}), (2, (), {}), (1, (), {}), (0, (), {})]


CHAT: list[dict[str, Any]] = [
    {"role": "system", "content": "You are a man."},
    {"role": "user", "name": "man", "content": [{"type": "text", "text": "He?"}, {"type": "image", "url": "man"}]},
    {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "man"}}]},
    {"role": "tool", "content": "The Steward"},
]


def test_chat_messages() -> None:
    engine = _Recorder("she and I")
    copy = map_texts(CHAT, str)
    texts, elements = TextSymmetrizer(GENDER, seed=0).wrap(engine)([CHAT] * 20, return_elements=True)
    assert copy == CHAT  # what was given is not changed
    swapped = [
        {"role": "system", "content": "You are a woman."},
        {**CHAT[1], "content": [{"type": "text", "text": "She?"}, CHAT[1]["content"][1]]},
        CHAT[2],
        {"role": "tool", "content": "The Stewardess"},
    ]
    assert engine.sent == [swapped if g else CHAT for g in elements]
    assert texts == ["he and I" if g else "she and I" for g in elements]
    assert set(elements) == {0, 1}


def test_a_chat_without_any_text() -> None:
    engine = _Recorder()
    fair = TextSymmetrizer(GENDER).wrap(engine)
    assert fair([[CHAT[2]], []]) == ["", ""]
    assert engine.sent == [[CHAT[2]], []]


def test_a_reply_that_continues_the_last_message() -> None:
    chat = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "The wo"}]
    symmetrizer = TextSymmetrizer(GENDER, seed=0)
    texts = [set(symmetrizer.wrap(_Recorder("man"), continues=continues)([chat] * 20)) for continues in (True, None)]
    assert texts == [{"man"}, {"man", "woman"}]


def test_async() -> None:
    async def generate(prompts: list[str], end: str) -> list[str]:
        await asyncio.sleep(0)
        return [text + end for text in _echo(prompts)]

    async def score(prompts: list[str], continuations: list[str]) -> list[float]:
        await asyncio.sleep(0)
        return _score(prompts, continuations)

    symmetrizer = TextSymmetrizer((GENDER, RACE))
    awaited = asyncio.run(symmetrizer.wrap(generate)(["The man"], n=2, draw_seed=1, return_elements=True, end=""))
    assert awaited == symmetrizer.wrap(_echo)(["The man"], n=2, draw_seed=1, return_elements=True)
    arguments = ["The man"], [" saw a man"]
    assert asyncio.run(symmetrizer.log_prob(score, *arguments)) == symmetrizer.log_prob(_score, *arguments)


def test_log_prob_asks_once_and_only_for_what_differs() -> None:
    calls: list[Any] = []

    def score(prompts: list[Any], continuations: list[str]) -> list[float]:
        calls.append(list(zip(prompts, continuations, strict=True)))
        return [-math.inf if "woman" in prompt else -2.0 * i for i, prompt in enumerate(prompts)]

    symmetrizer = TextSymmetrizer((GENDER, RACE))
    scores = symmetrizer.log_prob(score, ["man", "nurse", "woman of"], [" he", " and", " men"])
    assert calls == [[("man", " he"), ("woman", " she"), ("nurse", " and"), ("woman of", " men"), ("man of", " men")]]
    assert scores == pytest.approx([math.log(0.5), -4.0, -8.0 + math.log(0.5)])
    assert symmetrizer.log_prob(lambda prompts, _: [-math.inf] * len(prompts), ["man"], ["x"]) == [-math.inf]
    assert symmetrizer.log_prob(lambda prompts, _: [-5000.0] * len(prompts), ["man"], ["x"]) == [-5000.0]
    assert symmetrizer.log_prob(score, [], []) == []


def test_log_prob_of_a_chat() -> None:
    asked: list[Any] = []

    def score(prompts: list[Any], continuations: list[str]) -> list[float]:
        asked.extend(zip(prompts, continuations, strict=True))
        return [-1.0] * len(prompts)

    chat = [{"role": "user", "content": "The wo"}]
    assert TextSymmetrizer(GENDER).log_prob(score, [chat], ["man"]) == [-1.0]
    assert asked == [(chat, "man"), (chat, "woman")]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda fair: fair("The man"), "got 'The man'. Put a single prompt into a list"),
        (lambda fair: fair(CHAT), "Put a single prompt into a list"),
        (lambda fair: fair(["The man"], n=0), "got 0: expected at least 1"),
        (lambda fair: fair(["The man", "The woman"]), "Expected 2 results.*got 1"),
    ],
)
def test_refusals(call: Any, message: str) -> None:
    with pytest.raises(EquiLMError, match=message):
        call(TextSymmetrizer(GENDER).wrap(lambda prompts: ["x"]))


def test_log_prob_refusals() -> None:
    symmetrizer = TextSymmetrizer(GENDER)
    with pytest.raises(EquiLMError, match=r"Expected 1 results.*got 2"):
        symmetrizer.log_prob(_score, ["The man"], ["a", "b"])
    with pytest.raises(EquiLMError, match=r"Expected 2 results.*got 1"):
        symmetrizer.log_prob(lambda prompts, continuations: [0.0], ["The man"], ["a"])
