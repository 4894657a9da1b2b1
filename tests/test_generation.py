"""generate(): one seed, one text; fair ties; every way in and out maps back to the user's words; refusals."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import ARCHITECTURES, AXES, BOS, EOS, PAD, VOCAB, random_ids, related, stabilizer, tiny_model, wrap
from small_tokenizers import byte_level
from transformers import DynamicCache, LogitsProcessor, PreTrainedModel, PreTrainedTokenizerBase, StoppingCriteria
from transformers.generation.streamers import BaseStreamer

from equilm import EquiLMError, EquiLMForCausalLM, EquiLMWarning
from equilm._compat import cache_of
from equilm._coverage import Coverage

NEUTRAL = torch.tensor([[3, 30, 40, 50]])

# The sampler settings under which one seed must give one text.
DECODERS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "sample": {"do_sample": True},
    "warped": {"do_sample": True, "top_k": 20, "top_p": 0.8, "temperature": 1.5, "typical_p": 0.9},
    "penalised": {"do_sample": True, "repetition_penalty": 1.4, "no_repeat_ngram_size": 2, "min_new_tokens": 4},
    "returned": {"do_sample": True, "num_return_sequences": 3},
    "beams": {"num_beams": 3, "num_return_sequences": 2},
    "beam sampling": {"num_beams": 3, "do_sample": True, "num_return_sequences": 2, "renormalize_logits": True},
    "no cache": {"do_sample": True, "use_cache": False},
    "static cache": {"do_sample": True, "cache_implementation": "static"},
    "lookup": {"prompt_lookup_num_tokens": 3},
}


def generate(model: EquiLMForCausalLM, ids: torch.Tensor, seed: int = 0, **kwargs: Any) -> Any:
    torch.manual_seed(seed)
    kwargs = {"attention_mask": (ids != PAD).long(), "max_new_tokens": 8, "top_k": 0, **kwargs}
    return model.generate(ids, **kwargs)


def assert_related(model: EquiLMForCausalLM, ids: torch.Tensor, seed: int = 0, **decoder: Any) -> None:
    texts = generate(model, ids, seed, **decoder)
    each = len(texts) // len(ids)
    for g in model.group.elements:
        images = generate(model, model.action.act(ids, g), seed, **decoder)
        assert images.shape == texts.shape
        for row, (text, image) in enumerate(zip(texts, images, strict=True)):
            prompt = ids[row // each, None]
            assert related(model, prompt, text[None], image[None], g), (g, row, text, image)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("axes", AXES)
def test_one_seed_one_text(axes: str, decoder: str) -> None:
    model = wrap(tiny_model("llama"), AXES[axes])
    rows = 1 if decoder == "lookup" else 4
    for seed in range(3):
        assert_related(model, random_ids(rows, 6, seed), seed, **DECODERS[decoder])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_one_seed_one_text_on_every_architecture(architecture: str) -> None:
    model = wrap(tiny_model(architecture), AXES["2x3"])
    for decoder in ("sample", "beams"):
        assert_related(model, random_ids(3, 6), 1, **DECODERS[decoder])


@given(seed=st.integers(0, 10**6), axes=st.sampled_from(sorted(AXES)), decoder=st.sampled_from(["warped", "beams"]))
@settings(max_examples=15)
def test_one_seed_one_text_with_left_padding(seed: int, axes: str, decoder: str) -> None:
    model = wrap(tiny_model("mistral"), AXES[axes])
    ids = random_ids(4, 7, seed)
    ids[0, :3], ids[1, :1] = PAD, PAD
    assert_related(model, ids, seed % 1000, **DECODERS[decoder])


def test_generation_is_the_base_models_loop_on_the_fair_logits() -> None:
    model = wrap(tiny_model("llama"))
    ids = torch.tensor([[3, 10, 30], [12, 40, 41]])
    text = ids
    for _ in range(6):
        with torch.no_grad():
            text = torch.cat([text, model(input_ids=text).logits[:, -1].argmax(-1, keepdim=True)], 1)
    assert torch.equal(generate(model, ids, max_new_tokens=6, eos_token_id=None), text)


def test_generation_config_and_input_ids_keyword() -> None:
    model = wrap(tiny_model("llama"))
    ids = random_ids(2, 5)
    mask = torch.ones_like(ids)
    expected = generate(model, ids, do_sample=False)
    config = model.generation_config.from_dict({**model.generation_config.to_dict(), "max_new_tokens": 8})
    text: Any = model.generate(input_ids=ids, attention_mask=mask, generation_config=config)
    assert torch.equal(text, expected)


def test_without_a_prompt_text_starts_at_bos() -> None:
    model = wrap(tiny_model("llama"))
    assert model.generate(max_new_tokens=3)[0, 0] == BOS
    model.generation_config.bos_token_id = None
    with pytest.raises(EquiLMError, match="no bos_token_id"):
        model.generate(max_new_tokens=3)


# --- Fair ties -------------------------------------------------------------------------------------------------------


def _flips(model: EquiLMForCausalLM, seeds: int, **decoder: Any) -> dict[tuple[int, ...], int]:
    counts: dict[tuple[int, ...], int] = {}
    for seed in range(seeds):
        text = tuple(generate(model, NEUTRAL, seed, **decoder)[0].tolist())
        counts[text] = counts.get(text, 0) + 1
    return counts


def _speaking_model(cycles: Sequence[Sequence[Sequence[int]]]) -> EquiLMForCausalLM:
    """A model that says an equality word after the neutral prompt: the first list's columns get a large weight."""
    base = tiny_model("llama")
    hidden = base.model(input_ids=NEUTRAL).last_hidden_state[0, -1].detach()
    with torch.no_grad():
        for token in cycles[0][0]:
            base.lm_head.weight[token] = hidden / hidden.norm() * 3
    return wrap(base, cycles)


@pytest.mark.parametrize("decoder", ["greedy", "beams"])
@pytest.mark.parametrize("axes", ["d2", "d3", pytest.param("d4", marks=pytest.mark.slow)])
def test_ties_after_a_neutral_prompt_are_broken_evenly(axes: str, decoder: str) -> None:
    model, seeds = _speaking_model(AXES[axes]), 200
    counts = _flips(model, seeds, **{**DECODERS[decoder], "num_return_sequences": 1, "max_new_tokens": 3})
    order = model.group.order
    assert len(counts) == order, "one text for each member"
    # Six standard deviations of the binomial: a fair draw fails once in 10⁸ runs, a fixed choice always.
    deviation = (seeds / order * (1 - 1 / order)) ** 0.5
    assert all(abs(count - seeds / order) < 6 * deviation for count in counts.values()), counts
    words = {text[len(NEUTRAL[0])] for text in counts}
    assert words == set(AXES[axes][0][0])


def test_fair_ties_can_be_switched_off_and_draw_nothing_then() -> None:
    model = _speaking_model(AXES["d2"])
    assert len(_flips(model, 10, fair_ties=False)) == 1
    torch.manual_seed(3)
    state = torch.get_rng_state()
    model.generate(NEUTRAL, attention_mask=torch.ones_like(NEUTRAL), max_new_tokens=2, fair_ties=False)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_beams_of_a_tied_prompt_stay_distinct() -> None:
    model = _speaking_model(AXES["d2"])
    for seed in range(10):
        texts = generate(model, NEUTRAL, seed, num_beams=4, num_return_sequences=4, max_new_tokens=2)
        assert len({tuple(text) for text in texts.tolist()}) == 4


def test_return_sequences_are_independent() -> None:
    model = _speaking_model(AXES["d2"])
    texts = generate(model, NEUTRAL, do_sample=True, num_return_sequences=64, max_new_tokens=1, top_k=2)
    drawn = texts[:, -1].tolist()
    assert {10, 11} == set(drawn) and 12 < drawn.count(10) < 52


# --- What goes in and comes out --------------------------------------------------------------------------------------


@pytest.mark.parametrize("decoder", ["greedy", "returned", "beams"])
def test_scores_and_logits_come_back_in_the_users_words(decoder: str) -> None:
    # Any, because transformers types the self of compute_transition_scores as a class of its own.
    model: Any = wrap(tiny_model("llama"), AXES["2x3"])
    ids = random_ids(2, 6)
    output = generate(
        model,
        ids,
        **DECODERS[decoder],
        return_dict_in_generate=True,
        output_scores=True,
        output_logits=True,
        eos_token_id=None,
    )
    scores = model.compute_transition_scores(
        output.sequences, output.scores, output.get("beam_indices"), normalize_logits=True
    )
    with torch.no_grad():
        logits = model(input_ids=output.sequences).logits.log_softmax(-1)[:, 5:-1]
    expected = logits.gather(-1, output.sequences[:, 6:, None])[..., 0]
    torch.testing.assert_close(scores, expected, atol=1e-4, rtol=0)
    assert output.logits[0].shape[-1] == VOCAB
    if decoder != "beams":
        for step, (raw, score) in enumerate(zip(output.logits, output.scores, strict=True)):
            torch.testing.assert_close(raw.log_softmax(-1), logits[:, step], atol=1e-4, rtol=0)
            torch.testing.assert_close(score, raw)


@pytest.mark.parametrize("architecture", ["llama", "mistral"])
def test_a_returned_cache_continues_the_text(architecture: str) -> None:
    model = wrap(tiny_model(architecture), AXES["2x3"])
    ids = random_ids(3, 6)
    first = generate(model, ids, max_new_tokens=4, return_dict_in_generate=True, eos_token_id=None)
    longer = torch.cat([first.sequences, random_ids(3, 2, seed=9)], 1)
    expected = generate(model, longer, eos_token_id=None)
    continued = generate(model, longer, past_key_values=cache_of(first), eos_token_id=None)
    for row, prompt in enumerate(longer):
        assert related(model, prompt[None], expected[row, None], continued[row, None], 0)


def test_a_cache_of_the_model_itself_continues_in_generate() -> None:
    model = wrap(tiny_model("llama"), AXES["d3"])
    ids = torch.tensor([[12, 3, 30, 40, 15], [3, 11, 14, 30, 5]])
    cache = DynamicCache(config=model.config.get_text_config())
    with torch.no_grad():
        model(input_ids=ids[:, :4], past_key_values=cache, use_cache=True)
    assert torch.equal(generate(model, ids, past_key_values=cache), generate(model, ids))


def test_only_the_new_tokens_of_a_cached_text_are_refused() -> None:
    model = wrap(tiny_model("llama"))
    with pytest.raises(EquiLMError, match=r"shape \(1, 9\) and input_ids \(1, 2\)"):
        model.generate(random_ids(1, 2), attention_mask=torch.ones(1, 9))


class Recorder(BaseStreamer):
    def __init__(self) -> None:
        self.ids: list[int] = []
        self.ended = False

    def put(self, value: torch.Tensor) -> None:
        self.ids += value.flatten().tolist()

    def end(self) -> None:
        self.ended = True


@pytest.mark.parametrize("decoder", ["greedy", "sample", "lookup"])
def test_streamer_gets_the_users_words(decoder: str) -> None:
    model = wrap(tiny_model("llama"), AXES["d3"])
    for prompt in ([[3, 12, 30, 3, 12]], NEUTRAL.tolist()):
        streamer = Recorder()
        text = generate(model, torch.tensor(prompt), **DECODERS[decoder], streamer=streamer)
        assert streamer.ids == text[0].tolist() and streamer.ended


@pytest.mark.parametrize("decoder", ["greedy", "sample", "beams", "lookup"])
def test_what_generate_itself_takes_is_not_given_to_the_model(
    decoder: str, base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    model = EquiLMForCausalLM.from_base(base, tokenizer)
    ids = torch.tensor([tokenizer.encode("The man worked as")])
    text = generate(model, ids, **DECODERS[decoder])
    assert torch.equal(generate(model, ids, **DECODERS[decoder], tokenizer=tokenizer, synced_gpus=False), text)
    stopped = generate(model, ids, **DECODERS[decoder], tokenizer=tokenizer, stop_strings=["~~"])
    assert torch.equal(stopped, text)


@pytest.mark.allow_deprecated  # transformers' own assisted generation calls what it deprecates
def test_an_assistant_may_have_another_tokenizer(base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    model, assistant = EquiLMForCausalLM.from_base(base, tokenizer), tiny_model("llama")
    ids = torch.tensor([tokenizer.encode("The man worked as")])
    tokenizers: dict[str, Any] = {
        "tokenizer": tokenizer,
        "assistant_tokenizer": byte_level([], eos_token="<end>", pad_token="<pad>"),
    }
    assistant.resize_token_embeddings(len(tokenizers["assistant_tokenizer"]))
    assert torch.equal(generate(model, ids, assistant_model=assistant, **tokenizers), generate(model, ids))


class Watch(LogitsProcessor, StoppingCriteria):
    """Records the texts it is shown; stops nothing and changes nothing."""

    def __init__(self) -> None:
        self.texts: list[torch.Tensor] = []
        self.best: list[torch.Tensor] = []

    # A processor gets scores and returns them; a criterion may get a tuple or None, and returns flags.
    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> Any:
        self.texts.append(input_ids)
        if isinstance(scores, torch.Tensor):
            self.best.append(scores.argmax(-1))
            return scores
        return torch.zeros(len(input_ids), dtype=torch.bool)


@pytest.mark.parametrize("decoder", ["greedy", "returned", "beams"])
def test_processors_and_criteria_see_the_users_words(decoder: str) -> None:
    model = wrap(tiny_model("llama"), AXES["d3"])
    ids = torch.tensor([[3, 12, 30], [14, 40, 41]])
    processor, criterion = Watch(), Watch()
    with pytest.warns(EquiLMWarning, match="Watch sees token ids and cannot be checked"):
        text = generate(model, ids, **DECODERS[decoder], logits_processor=[processor], stopping_criteria=[criterion])
    each = len(processor.texts[0]) // len(ids)
    for seen in processor.texts + criterion.texts:
        assert torch.equal(seen[:, :3].unique(dim=0), ids.unique(dim=0))
    assert torch.equal(processor.texts[0], ids.repeat_interleave(each, 0))
    if decoder == "greedy":
        assert torch.equal(processor.best[0], text[:, 3])


def test_prefix_function_sees_and_answers_in_the_users_words() -> None:
    model = wrap(tiny_model("llama"), AXES["d3"])
    ids = torch.tensor([[3, 12, 30], [14, 40, 41]])
    allowed = {0: [12, 15], 1: [11, 13, 20]}
    seen: list[tuple[int, list[int]]] = []

    def prefix(batch_id: int, sent: torch.Tensor) -> list[int]:
        seen.append((batch_id, sent[:3].tolist()))
        return allowed[batch_id]

    decoders: list[dict[str, Any]] = [{"do_sample": True}, {"num_beams": 2}]
    for decoder in decoders:
        with pytest.warns(EquiLMWarning, match="prefix_allowed_tokens_fn function sees token ids"):
            text = generate(model, ids, prefix_allowed_tokens_fn=prefix, **decoder)
        for row in range(2):
            assert set(text[row, 3:].tolist()) <= {*allowed[row]}
        assert all(sent == ids[batch_id].tolist() for batch_id, sent in seen)


def test_a_custom_decoding_method_is_warned_about_and_gets_the_canonical_text() -> None:
    model = wrap(tiny_model("llama"), AXES["d3"])
    texts = []

    def decode(model: Any, input_ids: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        texts.append(input_ids)
        return input_ids

    for prompt in ([[3, 12, 30]], [[3, 10, 30]]):
        with pytest.warns(EquiLMWarning, match="custom_generate of type function sees token ids"):
            text = generate(model, torch.tensor(prompt), custom_generate=decode)
        assert text.tolist() == prompt
    assert torch.equal(*texts)


def test_relaxed_generation_is_the_base_loop_on_the_relaxed_logits() -> None:
    model = wrap(tiny_model("llama"), AXES["d2"], general_ids=[13, 30], relaxed=True)
    ids = text = torch.tensor([[3, 11, 30]])
    for _ in range(5):
        with torch.no_grad():
            text = torch.cat([text, model(input_ids=text).logits[:, -1].argmax(-1, keepdim=True)], 1)
    assert torch.equal(generate(model, ids, max_new_tokens=5, eos_token_id=None), text)


# --- Refusals --------------------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "paged cache": ({"cache_implementation": "paged"}, "paged cache"),
    "bad word": ({"bad_words_ids": [[30], [10]]}, r"bad_words_ids names the tokens \[10\] .* \[11\]"),
    "bad phrase": ({"bad_words_ids": [[30, 10]]}, r"bad_words_ids names the tokens \[30, 10\]"),
    "suppressed": ({"suppress_tokens": [10, 12, 13]}, r"suppress_tokens names the tokens \[10\]"),
    "suppressed at the start": ({"begin_suppress_tokens": [12]}, r"begin_suppress_tokens names the tokens \[12\]"),
    "bias": ({"sequence_bias": [[[10], 1.0], [[11], 2.0]]}, r"sequence_bias names the tokens \[10\]"),
    "forced first": ({"forced_bos_token_id": 10}, r"forced_bos_token_id names the tokens \[10\]"),
    "forced last": ({"forced_eos_token_id": [EOS, 11]}, r"forced_eos_token_id names the tokens \[11\]"),
    "eos": ({"eos_token_id": [EOS, 11]}, r"eos_token_id names the tokens \[11\]"),
    "healing": ({"token_healing": True}, "token_healing=True cannot be fair"),
    "hidden states": ({"output_hidden_states": True, "return_dict_in_generate": True}, "output_hidden_states"),
    "negative prompt": (
        {"guidance_scale": 1.5, "negative_prompt_ids": torch.tensor([[10]])},
        "negative_prompt_ids holds equality words",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_settings_that_name_tokens_are_refused(case: str) -> None:
    model = wrap(tiny_model("llama"))
    kwargs, message = REFUSED[case]
    with pytest.raises(EquiLMError, match=message):
        generate(model, random_ids(1, 5), **kwargs)
    with model.plain():  # the base model may still do it; paged batching is slow to start, healing needs a tokenizer
        if case not in ("paged cache", "healing"):
            generate(model, random_ids(1, 5), **kwargs)


@pytest.mark.parametrize(
    "kwargs",
    [
        {"bad_words_ids": [[30], [10], [11]]},
        {"suppress_tokens": [12, 13, 40]},
        {"sequence_bias": [[[10], 1.0], [[11], 1.0]]},
        {"guidance_scale": 1.5, "negative_prompt_ids": torch.tensor([[30]])},
        {"eos_token_id": [EOS, 40]},
    ],
    ids=str,
)
def test_settings_that_treat_a_list_alike_are_fair(kwargs: dict[str, Any]) -> None:
    model = wrap(tiny_model("llama"))
    assert_related(model, random_ids(1, 6), do_sample=True, **kwargs)


def test_watermarks_are_refused() -> None:
    from transformers import WatermarkingConfig

    with pytest.raises(EquiLMError, match="a watermark favours tokens by their ids"):
        generate(wrap(tiny_model("llama")), random_ids(1, 5), watermarking_config=WatermarkingConfig())


@pytest.mark.parametrize(
    "call",
    [
        lambda model: model.generate_batch([[3, 4]]),
        lambda model: model.init_continuous_batching(),
        lambda model: model.continuous_batching_context_manager(),
    ],
)
def test_continuous_batching_is_refused(call: Callable[..., Any]) -> None:
    with pytest.raises(EquiLMError, match="Continuous batching"):
        call(wrap(tiny_model("llama")))


def test_prompts_with_only_unmapped_words_get_a_warning() -> None:
    model = wrap(tiny_model("llama"))
    model.config.coverage = [Coverage("a", ("b",), ("b",), "lower", ((50, 51),), False, "two tokens")]
    with pytest.warns(EquiLMWarning, match=r"Prompt 1 holds an equality word .*\[50, 51\]"):
        generate(model, torch.tensor([[3, 50, 51, 10], [3, 50, 51, 4]]))


def test_stabilizer_helper_knows_products() -> None:
    model = wrap(tiny_model("llama"), AXES["2x3"])
    assert stabilizer(model, torch.tensor([[3, 10]])) == [0, 1, 2]
    assert stabilizer(model, torch.tensor([[3, 20]])) == [0, 3]


class _Stop(Exception):
    pass


class _RaiseAfter(LogitsProcessor):
    """Raises at the third new token."""

    def __init__(self, length: int):
        self.length = length

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if input_ids.shape[1] >= self.length + 2:
            raise _Stop
        return scores


@pytest.mark.filterwarnings("ignore:The logits processor")
@pytest.mark.parametrize("axes", ["d2", "d3", "d4", "2x3"])
@pytest.mark.parametrize("ending", ["ids", "dict", "raises"])
def test_a_cache_is_in_the_callers_words_after_generate(axes: str, ending: str) -> None:
    """Also the second call with it, which starts from a filled cache."""
    model: Any = wrap(tiny_model("llama"), AXES[axes])
    ids, cache = torch.tensor([[3, 11, 4], [11, 5, 10]]), DynamicCache()
    for turn in range(2):
        settings: dict[str, Any] = {"past_key_values": cache, "max_new_tokens": 4, "do_sample": False}
        settings["attention_mask"] = torch.ones_like(ids)
        if ending == "raises":
            with pytest.raises(_Stop):
                model.generate(ids, **settings, logits_processor=[_RaiseAfter(ids.shape[1])])
            seen = ids
        else:
            result = model.generate(ids, **settings, return_dict_in_generate=ending == "dict")
            seen = result if ending == "ids" else result.sequences
        length = cache.get_seq_length()
        if ending == "raises":  # the tokens in the cache are those that generate gives without the exception
            full = dict(settings, past_key_values=None)
            seen = model.generate(ids, **full)[:, :length]
        else:
            seen = seen[:, :length]
        following = torch.full((2, 1), 10 + turn)
        text = torch.cat([seen, following], 1)
        continued = model(following, past_key_values=copy.deepcopy(cache), attention_mask=torch.ones_like(text)).logits
        assert torch.allclose(continued[:, -1], model(text).logits[:, -1], atol=1e-4)
        ids = text
