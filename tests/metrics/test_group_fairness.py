"""The metric is 0 for what is fair at each level, and gives the known gap of what is not."""

import json
import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from models import tiny_model, wrap
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from word_models import word_model, word_tokenizer

from equilm import DemographicAxis, EquiLMError, EquiLMForCausalLM, EquiLMWarning, TextSymmetrizer, VocabularyAction
from equilm.metrics import fairness_levels
from equilm.metrics.fairness_result import GroupFairnessResult
from equilm.metrics.group_fairness import NEUTRAL_PROMPTS, SequenceLevel, group_fairness

PROMPTS = ["The man worked as", "The woman was late", "A Black person had a job", "The doctor"]
QUICK: dict[str, Any] = {
    "num_continuations": 3,
    "max_new_tokens": 6,
    "bootstrap": 20,
    "progress": False,
    "neutral_prompts": NEUTRAL_PROMPTS[:3],
}
ROUNDING = 1e-4


def largest(result: GroupFairnessResult) -> float:
    """The largest gap of all."""
    gaps = (result.token_gap, result.continuation_gap, result.continuation_gap_per_token)
    return max(gap.largest for gap in gaps if gap is not None)


@pytest.mark.parametrize("axes", [["gender"], ["race3"], ["gender", "race3"]])
def test_is_zero_for_equilm_and_not_for_its_base(
    axes: list[str], base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    fair = EquiLMForCausalLM.from_base(base, tokenizer, axes=axes)
    result = group_fairness(fair, tokenizer, PROMPTS, **QUICK)
    assert (result.level, result.axes, result.order) == ("token", tuple(axes), fair.group.order)
    assert largest(result) <= ROUNDING
    with fair.plain():
        inside = group_fairness(fair, tokenizer, PROMPTS, **QUICK)
    plain = group_fairness(base, tokenizer, PROMPTS, axes, **QUICK)
    assert plain == inside
    assert plain.token_gap is not None and plain.token_gap.gap.value > 0.1 and plain.token_gap.largest > 0.1
    assert len(plain.token_gap.by_element) == fair.group.order - 1
    for fair_parity, parity, axis in zip(result.parity, plain.parity, axes, strict=True):
        assert fair_parity.axis == axis and fair_parity.largest_log_ratio <= ROUNDING
        assert all(member.share.value == pytest.approx(1 / len(parity.members)) for member in fair_parity.members)
        assert parity.largest_log_ratio > 0.1 and parity.mean_log_ratio.low > 0.01


def test_the_token_gap_is_that_of_the_sampled_texts(
    base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = list(range(0, len(tokenizer), 3))
    monkeypatch.setattr(base.generation_config, "eos_token_id", ends)  # so that most texts end early
    settings = {**QUICK, "num_continuations": 6, "max_new_tokens": 5, "neutral_prompts": []}
    result = group_fairness(base, tokenizer, ["The man"], "gender", seed=3, **settings)
    torch.manual_seed(3)
    prompts = torch.tensor([tokenizer.encode("The man")] * 6)
    model: Any = base
    texts = model.generate(prompts, do_sample=True, top_k=0, max_new_tokens=5).tolist()
    size = base.config.get_text_config().vocab_size
    table = VocabularyAction.from_axes("gender", tokenizer, vocab_size=size, unmappable="skip").permutation[1].tolist()

    @torch.no_grad()
    def log_probs(text: list[int]) -> list[float]:
        """Token by token, each from a forward pass of its own."""
        places = range(prompts.shape[1], len(text))
        return [float(base(input_ids=torch.tensor([text[:i]])).logits[0, -1].log_softmax(-1)[text[i]]) for i in places]

    gaps, lengths = [], set()
    for text in texts:
        end = next((i + 1 for i in range(prompts.shape[1], len(text)) if text[i] in ends), len(text))
        lengths.add(end)
        image = [table[token] for token in text[:end]]
        gaps += [abs(a - b) for a, b in zip(log_probs(image), log_probs(text[:end]), strict=True)]
    assert len(lengths) > 2 and result.token_gap is not None
    assert result.token_gap.gap.value == pytest.approx(math.fsum(gaps) / len(gaps), rel=1e-4)
    assert result.token_gap.largest == pytest.approx(max(gaps), rel=1e-4)


def test_parity_is_that_of_the_next_word(base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    result = group_fairness(base, tokenizer, ["A Black person"], "race3", **QUICK)
    words = [tokenizer.encode(f" {word}")[0] for word in ("Black", "White", "Asian")]
    with torch.no_grad():
        logits = [base(**tokenizer(prompt, return_tensors="pt")).logits[0, -1] for prompt in QUICK["neutral_prompts"]]
    probs = torch.stack(logits).double().softmax(-1)[:, words]
    (parity,) = result.parity
    entry = next(entry for entry in parity.lists if entry.words == (" Black", " White", " Asian"))
    assert entry.probability.value == pytest.approx(float(probs.sum(-1).mean()))
    shares = (probs / probs.sum(-1, keepdim=True)).mean(0)
    assert [share.value for share in entry.shares] == pytest.approx(shares.tolist())
    logs = probs.log()
    assert entry.largest_log_ratio == pytest.approx(float((logs.amax(-1) - logs.amin(-1)).max()))


def test_r_equilm_has_parity_for_all_but_the_general_words(
    base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    axis = DemographicAxis("gender", [("man", "woman"), ("he", "she")], general_words=["he", "she"])
    relaxed = EquiLMForCausalLM.from_base(base, tokenizer, axes=[axis], relaxed=True)
    result = group_fairness(relaxed, tokenizer, PROMPTS, **QUICK)
    ratios = {entry.words: entry.largest_log_ratio for entry in result.parity[0].lists}
    assert ratios[" man", " woman"] <= ROUNDING
    assert largest(result) > ROUNDING  # whole texts: nothing is promised


@pytest.mark.parametrize("axes", [["gender"], ["race3"], ["gender", "race3"]])
def test_is_zero_at_the_sequence_level(
    axes: list[str], base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    size = base.config.get_text_config().vocab_size
    action = VocabularyAction.from_axes(axes, tokenizer, vocab_size=size, unmappable="skip")
    result = group_fairness(SequenceLevel(base, action), tokenizer, PROMPTS, **QUICK)
    assert result.level == "sequence" and result.token_gap is None
    assert largest(result) <= ROUNDING
    assert all(parity.largest_log_ratio <= ROUNDING for parity in result.parity)
    assert result.continuation_gap is not None
    assert any(entry.moved > 0 for entry in result.continuation_gap.by_element)


def favor_women(prompts: Sequence[str], continuations: Sequence[str]) -> list[float]:
    """log P falls by 1 for each word, and by 0.25 for each *man* in the prompt and 0.5 for each in the answer."""
    return [
        -len(y.split()) - 0.25 * x.split().count("man") - 0.5 * y.split().count("man")
        for x, y in zip(prompts, continuations, strict=True)
    ]


def test_gives_the_known_gap_of_a_scorer() -> None:
    axis = DemographicAxis("gender", [("man", "woman")])
    texts = [[" saw a man", " saw a dog"], [" saw a woman", " saw a man and a man"]]
    settings = {**QUICK, "continuations": texts, "neutral_prompts": ["It was a"]}
    result = group_fairness(favor_women, None, ["The man", "The dog"], axis, **settings)
    gap = result.continuation_gap
    assert result.level == "text" and gap is not None and result.continuation_gap_per_token is None
    assert (result.moved_prompts, result.num_continuations) == (1, 2)
    assert gap.gap.value == pytest.approx((0.75 + 0.25 + 0.5 + 1.0) / 4)
    assert gap.largest == pytest.approx(1.0)
    assert gap.by_element[0].swaps == "man→woman" and gap.by_element[0].moved == 1.0
    (parity,) = result.parity
    assert parity.largest_log_ratio == pytest.approx(0.5)
    share = 1 / (1 + math.exp(0.5))
    assert [member.share.value for member in parity.members] == pytest.approx([share, 1 - share])
    assert [member.probability.value for member in parity.members] == pytest.approx([math.exp(-1.5), math.exp(-1)])


def test_divides_by_the_tokens_where_a_tokenizer_says_what_they_are(tokenizer: PreTrainedTokenizerBase) -> None:
    axis = DemographicAxis("gender", [("man", "woman")])
    settings = {**QUICK, "continuations": [[" man was late"]], "neutral_prompts": []}
    result = group_fairness(favor_women, tokenizer, ["The man"], axis, **settings)
    assert result.continuation_gap_per_token is not None and result.parity == ()
    assert result.continuation_gap_per_token.largest == pytest.approx(0.75 / 3)


def test_tells_the_elements_of_three_groups_apart() -> None:
    height = {"Black": 0.0, "White": 1.0, "Asian": 3.0}
    result = group_fairness(
        lambda prompts, answers: [height[prompt] for prompt in prompts],
        None,
        ["Black"],
        DemographicAxis("race", [tuple(height)]),
        **{**QUICK, "continuations": [[" is"]], "neutral_prompts": []},
    )
    assert result.continuation_gap is not None
    found = {entry.swaps: entry.largest for entry in result.continuation_gap.by_element}
    assert found == {"Black→White": 1.0, "Black→Asian": 3.0}


def test_parity_compares_every_pair_of_four_groups() -> None:
    height = {"a": 0.0, "b": 1.0, "c": 3.0, "d": 1.0}
    result = group_fairness(
        lambda prompts, answers: [-height.get(answer.strip(), 5.0) for answer in answers],
        None,
        ["a"],
        DemographicAxis("four", [tuple(height)]),
        **{**QUICK, "continuations": [[" is"]], "neutral_prompts": ["It is"]},
    )
    assert result.parity[0].largest_log_ratio == 3.0  # of a and c, which are no neighbors
    assert result.parity[0].mean_log_ratio.value == pytest.approx(1.5)


def test_a_word_that_the_prompt_has_begun_stays() -> None:
    settings = {**QUICK, "continuations": [["man left", "hood"]], "neutral_prompts": []}
    with pytest.warns(EquiLMWarning, match="None of the 1 prompts"):
        result = group_fairness(lambda x, y: [float("woman" in y[0])] * len(y), None, ["The wo"], "gender", **settings)
    assert result.continuation_gap is not None and result.continuation_gap.by_element[0].moved == 0


def test_the_sequence_gap_compares_each_image_with_the_text(
    base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = base.config.get_text_config().vocab_size
    action = VocabularyAction.from_axes("gender", tokenizer, vocab_size=size, unmappable="skip")
    (man,) = tokenizer.encode(" man")

    def men(model: Any, input_ids: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        """An unfair score: the number of men in the prompt."""
        return (input_ids == man).sum(1).double()

    monkeypatch.setattr(fairness_levels, "symmetrized_log_prob", men)
    result = group_fairness(SequenceLevel(base, action), tokenizer, ["The man", "The doctor"], **QUICK)
    assert result.continuation_gap is not None
    assert (result.continuation_gap.gap.value, result.continuation_gap.largest) == (0.5, 1.0)


def test_a_symmetrized_scorer_is_fair_and_impossible_texts_do_not_differ() -> None:
    symmetrizer = TextSymmetrizer("gender")
    settings = {**QUICK, "continuations": [[" saw a man", " saw her"]]}
    result = group_fairness(
        lambda prompts, answers: symmetrizer.log_prob(favor_women, prompts, answers),
        None,
        ["The man"],
        "gender",
        **settings,
    )
    assert largest(result) <= 1e-12 and result.parity[0].largest_log_ratio <= 1e-12
    never = group_fairness(
        lambda x, y: [-math.inf] * len(x), None, ["he"], "gender", **{**settings, "neutral_prompts": []}
    )
    assert largest(never) == 0.0


def test_follows_the_seed_and_leaves_the_global_one(base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    state = torch.random.get_rng_state()
    first, again, other = (group_fairness(base, tokenizer, PROMPTS, "gender", seed=seed, **QUICK) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert first == again and first.token_gap != other.token_gap


def test_batches_change_nothing_but_the_texts(base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    fair = EquiLMForCausalLM.from_base(base, tokenizer, axes=["gender"])
    result = group_fairness(fair, tokenizer, PROMPTS, **QUICK, batch_size=2)
    assert largest(result) <= ROUNDING
    assert result.token_gap is not None and result.token_gap.by_element[0].moved >= 0.5  # two of four prompts


def test_says_it_in_json_and_in_words(base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    result = group_fairness(base, tokenizer, PROMPTS, "gender", **QUICK)
    assert json.loads(json.dumps(result.to_dict()))["token_gap"]["largest"] == largest(result)
    shown = str(result)
    assert "|G| = 2" in shown and "4 prompts, 2 of them with a word of the axes" in shown and "male→female" in shown
    assert "no single tokens for them: gender: " in shown and "nephew/niece" in shown  # which this tokenizer splits


def test_warns_if_no_prompt_is_tested(base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.warns(EquiLMWarning, match="None of the 1 prompts contains a word of gender that is swapped"):
        group_fairness(base, tokenizer, ["The doctor"], "gender", **QUICK)


def test_an_equilm_may_be_tested_on_some_of_its_axes(base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    fair = EquiLMForCausalLM.from_base(base, tokenizer, axes=["gender", "race3"])
    result = group_fairness(fair, tokenizer, PROMPTS, "race3", **QUICK)
    assert result.order == 3 and largest(result) <= ROUNDING


def test_refuses_what_cannot_be_measured(base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    fair = EquiLMForCausalLM.from_base(base, tokenizer, axes=["gender"])

    def measure(model: Any = fair, *arguments: Any, tokenizer: Any = tokenizer, **settings: Any) -> None:
        prompts, *rest = arguments or (PROMPTS,)
        group_fairness(model, tokenizer, prompts, *rest, **{**QUICK, **settings})

    with pytest.raises(EquiLMError, match=r"prompts must be a list of at least one text, got \[\]"):
        measure(fair, [])
    with pytest.raises(EquiLMError, match="prompts must be a list of at least one text, got 'The man'"):
        measure(fair, "The man")
    with pytest.raises(EquiLMError, match="The prompt '' has no tokens"):
        measure(fair, [""])
    with pytest.raises(EquiLMError, match="neutral prompt 'The man' contains a word of gender"):
        measure(neutral_prompts=["The man"])
    with pytest.raises(EquiLMError, match="built with gender, so it promises nothing about race3"):
        measure(fair, PROMPTS, "race3")
    with pytest.raises(EquiLMError, match="No axis 'sex'"):
        measure(base, PROMPTS, "sex")
    with pytest.raises(EquiLMError, match="LlamaForCausalLM was not built with axes: name them"):
        measure(base)
    with pytest.raises(EquiLMError, match="names no axes"):
        measure(wrap(tiny_model()))
    with pytest.raises(EquiLMError, match="A model needs its tokenizer"):
        measure(tokenizer=None)
    with pytest.raises(EquiLMError, match="num_continuations=0"):
        measure(num_continuations=0)
    with pytest.raises(EquiLMError, match="continuations are only for a scorer"):
        measure(continuations=[["a"]] * 4)
    with pytest.raises(EquiLMError, match=r"A scorer needs axes=..., and continuations=..."):
        measure(favor_women)
    with pytest.raises(EquiLMError, match=r"continuations must be 4 lists, .* got 4 lists of \[0, 1\] texts"):
        measure(favor_women, PROMPTS, "gender", continuations=[["a"], [], ["a"], ["a"]])
    with pytest.raises(EquiLMError, match="continuations must be 4 lists"):
        measure(favor_women, PROMPTS, "gender", continuations=["a", "b", "c", "d"])
    with pytest.raises(EquiLMError, match="given 8 pairs of texts, but returned 1 scores"):
        measure(lambda x, y: [0.0], PROMPTS, "gender", continuations=[["a"]] * 4)
    with pytest.raises(EquiLMError, match="A log-probability is not a number"):
        measure(lambda x, y: [math.nan] * len(x), PROMPTS, "gender", continuations=[["a"]] * 4)
    action = VocabularyAction.from_axes("gender", tokenizer, unmappable="skip")
    with pytest.raises(EquiLMError, match="leave axes out"):
        measure(SequenceLevel(base, action), PROMPTS, "gender")
    other: Any = word_tokenizer()
    other.add_tokens([" niece"])
    model = word_model(tokenizer)
    model.resize_token_embeddings(len(other))
    with pytest.raises(EquiLMError, match="does not give the token ids that"):
        measure(EquiLMForCausalLM.from_base(model, tokenizer, axes=["gender"]), tokenizer=other)
