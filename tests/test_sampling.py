"""Fairness of whole texts: what is sampled follows Q, its scores are exact, and one seed gives one text."""

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import ARCHITECTURES, AXES, EOS, PAD, VOCAB, CountRows, random_ids, tiny_model, wrap
from torch import Tensor
from transformers import (
    DynamicCache,
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LogitsProcessor,
    LogitsProcessorList,
    NoBadWordsLogitsProcessor,
    PreTrainedModel,
    RepetitionPenaltyLogitsProcessor,
    StoppingCriteria,
    T5Config,
    T5ForConditionalGeneration,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
)
from transformers.generation.streamers import BaseStreamer

from equilm import EquiLMError, symmetrized_generate, symmetrized_log_prob
from equilm._compat import CACHE, cache_of
from equilm.actions import TokenAction

# A model whose continuations can all be listed: 7 tokens, 2 of them new.
TOY_VOCAB, TOY_PAD, TOY_EOS = 7, 0, 6
TOY_AXES: dict[str, list[list[list[int]]]] = {
    "d2": [[[1, 2], [3, 4]]],
    "d3": [[[1, 2, 3]]],
    "2x3": [[[1, 2]], [[3, 4, 5]]],
}
TOY_PROMPT = torch.tensor([[5, 1, 3]])
SAMPLES = 4000


def toy_model(kind: str = "gpt2") -> PreTrainedModel:
    torch.manual_seed(1)
    special: dict[str, Any] = {"vocab_size": TOY_VOCAB, "pad_token_id": TOY_PAD, "eos_token_id": TOY_EOS}
    if kind == "t5":
        sizes: dict[str, Any] = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
        start: dict[str, Any] = {"decoder_start_token_id": TOY_PAD, "initializer_factor": 8.0}
        model: PreTrainedModel = T5ForConditionalGeneration(T5Config(**sizes, **special, **start))
    else:
        model = GPT2LMHeadModel(
            GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=16, initializer_range=0.5, **special)
        )
    return model.eval()


def toy_action(axes: str) -> TokenAction:
    return TokenAction.from_cycles(TOY_AXES[axes], TOY_VOCAB)


def toy_texts() -> Tensor:
    """All texts of two tokens; after the end of a text there is padding."""
    pairs = itertools.product(range(TOY_VOCAB), repeat=2)
    return torch.tensor([pair for pair in pairs if pair[0] != TOY_EOS or pair[1] == TOY_PAD])


def random_action(axes: str) -> TokenAction:
    return TokenAction.from_cycles(AXES[axes], VOCAB)


def generate(model: PreTrainedModel, ids: Tensor, action: TokenAction, seed: int = 0, **kwargs: Any) -> Any:
    torch.manual_seed(seed)
    kwargs = {"attention_mask": (ids != PAD).long(), "max_new_tokens": 8, "top_k": 0, **kwargs}
    return symmetrized_generate(model, ids, action, **kwargs)


@torch.no_grad()
def brute_force(model: PreTrainedModel, prompt: Tensor, texts: Tensor, action: TokenAction, warp: Any = None) -> Tensor:
    """Q(Y|X) by the definition, one text, one element and one token at a time; float64, shape ``(texts,)``."""
    totals = []
    for text in texts:
        total = 0.0
        for g in action.group.elements:
            x, y, probability = action.act(prompt, g), action.act(text, g), 1.0
            for t, token in enumerate(y.tolist()):
                if model.config.is_encoder_decoder:
                    so_far = torch.cat([torch.tensor([[TOY_PAD]]), y[None, :t]], 1)
                    logits = model(input_ids=x, decoder_input_ids=so_far).logits[:, -1]
                else:
                    so_far = torch.cat([x, y[None, :t]], 1)
                    logits = model(input_ids=so_far).logits[:, -1]
                logits = logits if warp is None else warp(so_far, logits)
                probability *= float(logits.double().softmax(-1)[0, token])
                if token == TOY_EOS:
                    break
            total += probability / action.group.order
        totals.append(total)
    return torch.tensor(totals, dtype=torch.float64)


def misfit(samples: Tensor, texts: Tensor, expected: Tensor) -> float:
    """How many standard deviations the χ² of the counts lies above its mean; rare texts are pooled."""
    code = torch.tensor([TOY_VOCAB, 1])
    counts = torch.bincount(samples @ code, minlength=TOY_VOCAB**2)[texts @ code].double()
    assert counts.sum() == len(samples), "a text that is none"
    mean = expected * len(samples)
    rare = mean < 5
    counts = torch.cat([counts[~rare], counts[rare].sum()[None]])
    mean = torch.cat([mean[~rare], mean[rare].sum()[None]])
    chi = float(((counts - mean) ** 2 / mean.clamp(min=1)).sum())
    freedom = len(mean) - 1
    return (chi - freedom) / (2 * freedom) ** 0.5


TOY_SAMPLERS: dict[str, tuple[dict[str, Any], Any]] = {
    "plain": ({}, None),
    "warped": (
        {"temperature": 0.7, "top_k": 3},
        LogitsProcessorList([TemperatureLogitsWarper(0.7), TopKLogitsWarper(3)]),
    ),
    "penalised": ({"repetition_penalty": 3.0}, LogitsProcessorList([RepetitionPenaltyLogitsProcessor(3.0)])),
    # Words of the action, and it need not treat them alike: what is banned belongs to P.
    "banned": ({"bad_words_ids": [[1], [3]]}, LogitsProcessorList([NoBadWordsLogitsProcessor([[1], [3]], TOY_EOS)])),
}


@pytest.mark.parametrize("sampler", TOY_SAMPLERS)
@pytest.mark.parametrize("axes", TOY_AXES)
def test_samples_follow_q(axes: str, sampler: str) -> None:
    model: Any = toy_model()
    action, texts = toy_action(axes), toy_texts()
    kwargs, warp = TOY_SAMPLERS[sampler]
    expected = brute_force(model, TOY_PROMPT, texts, action, warp)
    kwargs = {"do_sample": True, "max_new_tokens": 2, "top_k": 0, "num_return_sequences": SAMPLES, **kwargs}
    rows: Any = symmetrized_generate(model, TOY_PROMPT, action, **kwargs)
    assert torch.equal(rows[:, :3], TOY_PROMPT.expand(SAMPLES, -1))
    assert misfit(rows[:, 3:], texts, expected) < 6
    # And the check can tell: the plain model's samples do not fit.
    assert misfit(model.generate(TOY_PROMPT, **kwargs)[:, 3:], texts, expected) > 60


def test_samples_of_an_encoder_decoder_follow_q() -> None:
    model, action, texts = toy_model("t5"), toy_action("d3"), toy_texts()
    expected = brute_force(model, TOY_PROMPT, texts, action)
    kwargs: dict[str, Any] = {"do_sample": True, "max_new_tokens": 2, "top_k": 0, "num_return_sequences": SAMPLES}
    rows: Any = symmetrized_generate(model, TOY_PROMPT, action, **kwargs)
    assert (rows[:, 0] == TOY_PAD).all()
    assert misfit(rows[:, 1:], texts, expected) < 6
    plain = toy_model("t5").generate(TOY_PROMPT, **kwargs)  # type: ignore[operator]
    assert misfit(plain[:, 1:], texts, expected) > 60


@pytest.mark.parametrize("kind", ["gpt2", "t5"])
@pytest.mark.parametrize("sampler", TOY_SAMPLERS)
@pytest.mark.parametrize("axes", TOY_AXES)
def test_log_q_is_the_sum_by_brute_force_and_sums_to_one(axes: str, sampler: str, kind: str) -> None:
    model, action, texts, warp = toy_model(kind).double(), toy_action(axes), toy_texts(), TOY_SAMPLERS[sampler][1]
    with torch.no_grad():
        log_q = symmetrized_log_prob(model, TOY_PROMPT.expand(len(texts), -1), texts, action, warp=warp)
    expected = brute_force(model, TOY_PROMPT, texts, action, warp)
    torch.testing.assert_close(log_q.exp(), expected, atol=1e-12, rtol=1e-9)
    assert abs(float(log_q.logsumexp(0))) < 1e-9


@given(
    seed=st.integers(0, 10**6),
    axes=st.sampled_from(sorted(AXES)),
    architecture=st.sampled_from(ARCHITECTURES),
    padding=st.integers(0, 3),
)
@settings(max_examples=30)
def test_log_q_is_fair(seed: int, axes: str, architecture: str, padding: int) -> None:
    model, action = tiny_model(architecture), random_action(axes)
    prompt, text = random_ids(2, 6, seed), random_ids(2, 4, seed + 1)
    prompt[0, :padding], text[0, 2] = PAD, EOS
    warp = LogitsProcessorList([TemperatureLogitsWarper(1.5)])
    with torch.no_grad():
        log_q = symmetrized_log_prob(model, prompt, text, action, warp=warp)
        for h in action.group.elements:
            image = symmetrized_log_prob(model, action.act(prompt, h), action.act(text, h), action, warp=warp)
            torch.testing.assert_close(image, log_q, atol=1e-5, rtol=1e-5)


def test_log_q_of_a_padded_batch_is_that_of_each_text() -> None:
    model, action = tiny_model("gpt2"), random_action("d3")  # GPT-2's positions are absolute
    prompt, text = random_ids(2, 6), random_ids(2, 4, seed=1)
    prompt[0, :2], text[0, 2:] = PAD, torch.tensor([EOS, 10])
    mask, text_mask = (prompt != PAD).long(), torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]])
    with torch.no_grad():
        inferred = symmetrized_log_prob(model, prompt, text, action)
        alone = [
            symmetrized_log_prob(model, prompt[:1, 2:], text[:1, :3], action),
            symmetrized_log_prob(model, prompt[1:], text[1:], action),
            symmetrized_log_prob(model, prompt[1:], text[1:, :2], action),
        ]
        torch.testing.assert_close(inferred, torch.cat(alone[:2]))
        hidden = prompt.masked_fill(mask == 0, 12)
        masked = symmetrized_log_prob(model, hidden, text, action, attention_mask=mask, continuation_mask=text_mask)
        torch.testing.assert_close(masked, torch.cat([alone[0], alone[2]]))
        model.generation_config.eos_token_id = [EOS, PAD]  # generate() does not take such a token for padding
        read = symmetrized_log_prob(model, prompt, text, action)
        assert abs(float(read[0] - inferred[0])) > 0.01
        torch.testing.assert_close(read[1], inferred[1])


def test_only_distinct_rows_are_scored_a_few_at_a_time() -> None:
    model, action = tiny_model("llama"), random_action("2x3")
    # The second text is an image of the first, the third names one axis, the fourth none: 6 + 0 + 3 + 1 rows.
    texts = torch.tensor([[3, 10, 20], [3, 11, 22], [3, 4, 24], [3, 4, 5]])
    ids, continuation = texts[:, :2], texts[:, 2:]
    with torch.no_grad():
        counted = CountRows(model)
        log_q = symmetrized_log_prob(model, ids, continuation, action)
        assert counted.sizes == [10]
        assert torch.equal(symmetrized_log_prob(model, ids, continuation, action, batch_size=100), log_q)
        counted.sizes.clear()
        torch.testing.assert_close(symmetrized_log_prob(model, ids, continuation, action, batch_size=4), log_q)
    assert counted.sizes == [4, 4, 2]
    torch.testing.assert_close(log_q[0], log_q[1])


def test_log_q_has_the_precision_of_the_model_and_gradients() -> None:
    prompt, text, action = random_ids(1, 4), random_ids(1, 3, seed=1), random_action("d2")
    exact = symmetrized_log_prob(tiny_model("llama", dtype=torch.float64), prompt, text, action)
    assert exact.dtype == torch.float64
    assert symmetrized_log_prob(tiny_model("llama", dtype=torch.bfloat16), prompt, text, action).dtype == torch.float32
    (gradient,) = torch.autograd.grad(exact.sum(), [tiny_model("llama").lm_head.weight], allow_unused=True)
    assert gradient is None
    model = tiny_model("llama")
    symmetrized_log_prob(model, prompt, text, action).sum().backward()
    assert model.lm_head.weight.grad.abs().sum() > 0


# --- One seed, one text ----------------------------------------------------------------------------------------------

DECODERS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "sample": {"do_sample": True},
    "warped": {"do_sample": True, "top_k": 20, "top_p": 0.8, "temperature": 1.5, "repetition_penalty": 1.4},
    "returned": {"do_sample": True, "num_return_sequences": 3},
    "beams": {"num_beams": 3, "num_return_sequences": 2},
    "beam sampling": {"num_beams": 3, "do_sample": True, "num_return_sequences": 2},
    "banned": {"do_sample": True, "bad_words_ids": [[10], [14]]},
}


def assert_related(model: PreTrainedModel, ids: Tensor, action: TokenAction, seed: int, **decoder: Any) -> None:
    texts = generate(model, ids, action, seed, **decoder)
    each = len(texts) // len(ids)
    for h in action.group.elements:
        images = generate(model, action.act(ids, h), action, seed, **decoder)
        for row, (text, image) in enumerate(zip(texts, images, strict=True)):
            prompt = ids[row // each]
            fixing = [s for s in action.group.elements if torch.equal(action.act(prompt, s), prompt)]
            assert any(torch.equal(action.act(action.act(text, s), h), image) for s in fixing), (h, row, text, image)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("axes", AXES)
def test_one_seed_one_text(axes: str, decoder: str) -> None:
    model, action = tiny_model("llama"), random_action(axes)
    for seed in range(3):
        ids = random_ids(4, 6, seed)
        ids[0, :2] = PAD
        assert_related(model, ids, action, seed, **DECODERS[decoder])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_one_seed_one_text_exactly_once_every_axis_is_named(architecture: str) -> None:
    model, action = tiny_model(architecture), random_action("2x3")
    ids = torch.tensor([[PAD, 3, 10, 25, 30], [13, 20, 22, 40, 41]])
    for decoder in ("sample", "beams"):
        text = generate(model, ids, action, 1, **DECODERS[decoder])
        for h in action.group.elements:
            assert torch.equal(generate(model, action.act(ids, h), action, 1, **DECODERS[decoder]), action.act(text, h))


def test_one_seed_one_text_of_an_encoder_decoder() -> None:
    model, action = toy_model("t5"), toy_action("2x3")
    for decoder in ("sample", "beams"):
        text = generate(model, TOY_PROMPT, action, 1, **DECODERS[decoder])
        for h in action.group.elements:
            image = generate(model, action.act(TOY_PROMPT, h), action, 1, **DECODERS[decoder])
            assert torch.equal(image, action.act(text, h))


# --- The elements ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ids", [[[3, 12, 30]], [[3, 40, 30]]], ids=["named", "neutral"])
def test_elements_are_uniform_and_independent_between_rows(ids: list[list[int]]) -> None:
    model, action = tiny_model("llama"), random_action("d3")
    kwargs: dict[str, Any] = {"do_sample": True, "num_return_sequences": SAMPLES, "max_new_tokens": 1}
    _, elements = generate(model, torch.tensor(ids), action, return_elements=True, **kwargs)
    assert elements.dtype == torch.int64 and elements.shape == (SAMPLES,)
    pairs = torch.bincount(elements[::2] * 3 + elements[1::2], minlength=9).double()
    mean = SAMPLES / 2 / 9
    assert ((pairs - mean).abs() < 6 * mean**0.5).all(), pairs


@pytest.mark.parametrize("axes", AXES)
def test_elements_reproduce_the_rows(axes: str) -> None:
    model: Any = tiny_model("llama")
    action, ids = random_action(axes), random_ids(2, 6).repeat(4, 1)
    for decoder in ("greedy", "beams"):
        kwargs = DECODERS[decoder]
        rows, elements = generate(model, ids, action, return_elements=True, **kwargs)
        each = kwargs.get("num_return_sequences", 1)
        assert elements.shape == (8 * each,)
        if decoder == "beams":  # the beams of one search have one element
            assert torch.equal(elements[::each], elements[1::each])
        for row, (text, g) in enumerate(zip(rows, elements.tolist(), strict=True)):
            permuted = action.act(ids[row // each, None], g)
            plain = model.generate(permuted, max_new_tokens=8, **kwargs)
            expected = action.act(plain[row % each], action.group.inverse(g))
            length = min(len(text), len(expected))
            assert torch.equal(text[:length], expected[:length])
            assert (text[length:] == PAD).all() and (expected[length:] == PAD).all()


def test_returned_rows_stand_by_their_prompt() -> None:
    action, ids = random_action("d3"), torch.tensor([[3, 12, 30], [14, 40, 41]])
    for decoder in ("returned", "beams"):
        rows = generate(tiny_model("llama"), ids, action, **DECODERS[decoder])
        assert torch.equal(rows[:, :3], ids.repeat_interleave(DECODERS[decoder]["num_return_sequences"], 0))


def test_a_generator_of_your_own_draws_the_elements_alone() -> None:
    model, action, ids = tiny_model("llama"), random_action("d4"), random_ids(8, 4)
    draws = []
    for seed in (5, 5, 6):
        state = torch.get_rng_state()
        generator = torch.Generator().manual_seed(seed)
        _, elements = symmetrized_generate(
            model, ids, action, generator=generator, return_elements=True, max_new_tokens=1, do_sample=False
        )
        draws.append(elements)
        assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


# --- What goes in and comes out --------------------------------------------------------------------------------------


@pytest.mark.parametrize("decoder", ["greedy", "returned", "beams"])
def test_outputs_come_back_in_the_users_words(decoder: str) -> None:
    model: Any = tiny_model("llama")
    action, ids = random_action("2x3"), random_ids(2, 6)
    wanted: dict[str, Any] = {
        "return_dict_in_generate": True,
        "output_scores": True,
        "output_logits": True,
        "eos_token_id": None,
    }
    output, elements = generate(model, ids, action, return_elements=True, **wanted, **DECODERS[decoder])
    assert cache_of(output) is None and CACHE not in output
    assert torch.equal(output.sequences, generate(model, ids, action, eos_token_id=None, **DECODERS[decoder]))
    scores = model.compute_transition_scores(
        output.sequences, output.scores, output.get("beam_indices"), normalize_logits=True
    )
    permuted = torch.cat([action.act(row[None], g) for row, g in zip(output.sequences, elements.tolist(), strict=True)])
    with torch.no_grad():
        logits = model(input_ids=permuted).logits.log_softmax(-1)[:, 5:-1]
    expected = logits.gather(-1, permuted[:, 6:, None])[..., 0]
    torch.testing.assert_close(scores, expected, atol=1e-4, rtol=0)
    if decoder != "beams":
        for step, raw in enumerate(output.logits):
            back = [
                action.act_on_logits(y, action.group.inverse(g))
                for y, g in zip(logits[:, step], elements.tolist(), strict=True)
            ]
            torch.testing.assert_close(raw.log_softmax(-1), torch.stack(back), atol=1e-4, rtol=0)


def test_padding_is_inferred_as_in_generate() -> None:
    model, action = tiny_model("gpt2"), random_action("d3")
    ids = random_ids(2, 6)
    ids[0, :3] = PAD
    assert torch.equal(generate(model, ids, action, attention_mask=None), generate(model, ids, action))
    alone = generate(model, ids[:1, 3:], action)
    padded = generate(model, ids[:1], action)
    assert torch.equal(padded[:, 3:], alone)
    masked = ids.masked_fill(ids == PAD, 11)  # words behind the mask count neither for the model nor for the draw
    assert torch.equal(
        generate(model, masked, action, attention_mask=(ids != PAD).long())[:, 6:], generate(model, ids, action)[:, 6:]
    )


def test_a_generation_config_is_followed_and_left_as_it_was() -> None:
    model, action, ids = tiny_model("llama"), random_action("d3"), random_ids(2, 4)
    config = GenerationConfig(do_sample=True, num_return_sequences=3, max_new_tokens=5, top_k=0, pad_token_id=PAD)
    torch.manual_seed(0)
    rows = symmetrized_generate(model, ids, action, generation_config=config)
    assert config.num_return_sequences == 3
    assert torch.equal(rows, generate(model, ids, action, **DECODERS["returned"], max_new_tokens=5))  # type: ignore[arg-type]


class WatchScores(LogitsProcessor):
    """Records the texts it is shown and changes nothing."""

    def __init__(self) -> None:
        self.texts: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Any:
        self.texts.append(input_ids)
        return scores


class WatchStops(StoppingCriteria):
    """Records the texts it is shown and stops nothing."""

    def __init__(self) -> None:
        self.texts: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Any:
        self.texts.append(input_ids)
        return torch.zeros(len(input_ids), dtype=torch.bool)


def test_processors_run_once_on_the_text_that_is_generated() -> None:
    model = tiny_model("llama")
    action, ids = random_action("d3"), torch.tensor([[3, 12, 30], [14, 40, 41]])
    processor, criterion = WatchScores(), WatchStops()
    kwargs: dict[str, Any] = {"logits_processor": [processor], "stopping_criteria": [criterion], "eos_token_id": None}
    torch.manual_seed(0)
    rows: Any = symmetrized_generate(model, ids, action, **kwargs, max_new_tokens=4)
    _, elements = generate(model, ids, action, return_elements=True, max_new_tokens=1)
    permuted = torch.cat([action.act(row[None], g) for row, g in zip(rows, elements.tolist(), strict=True)])
    assert not torch.equal(permuted, rows)
    assert len(processor.texts) == len(criterion.texts) == 4
    for step, (before, after) in enumerate(zip(processor.texts, criterion.texts, strict=True)):
        assert torch.equal(before, permuted[:, : 3 + step]) and torch.equal(after, permuted[:, : 4 + step])


class Recorder(BaseStreamer):
    def __init__(self) -> None:
        self.ids: list[Tensor] = []
        self.ended = False

    def put(self, value: Tensor) -> None:
        self.ids.append(value.view(-1, 1) if value.ndim == 1 else value)

    def end(self) -> None:
        self.ended = True


def test_streamers_get_the_users_words() -> None:
    action, ids = random_action("d3"), torch.tensor([[3, 12, 30, 15]])
    for seed in range(4):  # so that some element is drawn that is not its own inverse
        streamer = Recorder()
        text = generate(tiny_model("llama"), ids, action, seed, do_sample=True, streamer=streamer)
        assert torch.equal(torch.cat(streamer.ids, 1), text) and streamer.ended


# --- Refusals --------------------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "embeddings": ({"inputs_embeds": torch.zeros(1, 3, 32)}, "inputs_embeds"),
    "encoded": ({"encoder_outputs": (torch.zeros(1, 3, 32),)}, "encoder_outputs"),
    "cache": ({CACHE: DynamicCache()}, CACHE),
    "begun": ({"decoder_input_ids": torch.zeros(1, 1)}, "decoder_input_ids"),
    "paged": ({"cache_implementation": "paged"}, "paged cache"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_permuted_is_refused(case: str) -> None:
    kwargs, message = REFUSED[case]
    with pytest.raises(EquiLMError, match=message):
        symmetrized_generate(tiny_model("llama"), random_ids(1, 3), random_action("d2"), **kwargs)


def test_models_that_are_fair_by_themselves_are_refused_but_for_their_plain_model() -> None:
    base, ids = tiny_model("llama"), random_ids(2, 4)
    fair: Any = wrap(base, AXES["d3"])
    with pytest.raises(EquiLMError, match="fair by itself"):
        symmetrized_generate(fair, ids, fair.action)
    with pytest.raises(EquiLMError, match="fair by itself"):
        symmetrized_log_prob(fair, ids, ids, fair.action)
    with fair.plain():
        assert torch.equal(generate(fair, ids, fair.action), generate(base, ids, fair.action))
        scores = symmetrized_log_prob(fair, ids, ids, fair.action)
    torch.testing.assert_close(scores, symmetrized_log_prob(base, ids, ids, fair.action))


def test_tables_of_another_size_are_refused() -> None:
    model, ids = tiny_model("llama"), random_ids(1, 4)
    with pytest.raises(EquiLMError, match=f"permutes {TOY_VOCAB} tokens, but LlamaForCausalLM has {VOCAB}"):
        symmetrized_generate(model, ids, toy_action("d2"))
    with pytest.raises(EquiLMError, match=f"permutes {TOY_VOCAB} tokens"):
        symmetrized_log_prob(model, ids, ids, toy_action("d2"))


def test_masks_with_a_gap_are_refused() -> None:
    ids, mask = random_ids(1, 3), torch.tensor([[True, False, True]])
    with pytest.raises(EquiLMError, match="continuation_mask has a 1 after a 0"):
        symmetrized_log_prob(tiny_model("llama"), ids, ids, random_action("d2"), continuation_mask=mask)
