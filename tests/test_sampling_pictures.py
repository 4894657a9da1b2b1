"""Fairness of whole texts about pictures: samples follow Q, scores are exact, and each picture stays with its text."""

import itertools
from functools import lru_cache
from typing import Any

import pytest
import torch
from models import PAD as TEXT_PAD
from models import VOCAB, CountRows, tiny_model
from picture_models import EOS, IMAGE, KINDS, PAD, VIDEO, batch, picture_model, random_pictures, text_with_pictures
from torch import Tensor
from transformers import (
    Florence2Config,
    Florence2ForConditionalGeneration,
    LogitsProcessorList,
    PreTrainedModel,
    SuppressTokensLogitsProcessor,
)
from transformers.generation.streamers import BaseStreamer

from equilm import EquiLMError, symmetrized_generate, symmetrized_log_prob
from equilm.actions import TokenAction

TOY, SAMPLES = 13, 1000
AXES: dict[str, list[list[list[int]]]] = {
    "d2": [[[7, 8], [9, 10]]],
    "d3": [[[7, 8, 9]]],
    "2x3": [[[7, 8]], [[9, 10, 11]]],
}
# A continuation cannot name pictures that are not there, and has no padding within.
# The others are in the slow tests.
EACH = [kind if kind in ("llava", "qwen2_5_vl") else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]
SILENT = [PAD, IMAGE, VIDEO]
WARP = LogitsProcessorList([SuppressTokensLogitsProcessor(SILENT, device="cpu")])
SAMPLER: dict[str, Any] = {"do_sample": True, "top_k": 0, "max_new_tokens": 2, "suppress_tokens": SILENT}
# Two pictures before and between the words of the first text, one in the second, which is shorter.
WORDS, PLACES = ([7, 9, 12, 10], [9, 7]), ([0, 2], [1])


def action_of(axes: str, vocab_size: int = TOY) -> TokenAction:
    return TokenAction.from_cycles(AXES[axes], vocab_size)


@lru_cache
def toy(kind: str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    return picture_model(kind, TOY, dtype)


def prompts(kind: str) -> list[list[int]]:
    return [text_with_pictures(kind, words, places) for words, places in zip(WORDS, PLACES, strict=True)]


def inputs(kind: str, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    return batch(kind, prompts(kind), random_pictures(3).to(dtype))


def alone(kind: str, row: int, texts: list[list[int]], dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """Texts that have the pictures of one text of the batch."""
    own = random_pictures(3).to(dtype)[:2] if row == 0 else random_pictures(3).to(dtype)[2:]
    return batch(kind, texts, own.repeat(len(texts), 1, 1, 1))


def toy_texts() -> Tensor:
    """All texts of two tokens; after the end of a text there is padding."""
    said = [token for token in range(TOY) if token not in SILENT]
    pairs = [pair for pair in itertools.product(said, repeat=2) if pair[0] != EOS]
    return torch.tensor([*pairs, (EOS, PAD)])


@torch.no_grad()
def next_token(model: Any, kind: str, row: int, text: list[int]) -> Tensor:
    """P(·|text, the row's pictures), float64, by one forward pass over the text alone."""
    given = alone(kind, row, [text], model.dtype)
    logits = model(**given, use_cache=False).logits[0, -1].double()
    logits[SILENT] = -torch.inf
    return logits.softmax(-1)


def brute_force(model: Any, kind: str, row: int, action: TokenAction) -> Tensor:
    """Q(Y|X) by the definition for all texts of two tokens; float64, shape ``(texts,)``."""
    texts, total = toy_texts(), torch.zeros(len(toy_texts()), dtype=torch.float64)
    for g in action.group.elements:
        x = action.act(torch.tensor(prompts(kind)[row]), g).tolist()
        first = next_token(model, kind, row, x)
        second = torch.stack([next_token(model, kind, row, [*x, token]) for token in range(TOY) if token not in SILENT])
        places = {token: place for place, token in enumerate(t for t in range(TOY) if t not in SILENT)}
        for number, (one, two) in enumerate(action.act(texts, g).tolist()):
            total[number] += first[one] * (1.0 if one == EOS else second[places[one], two]) / action.group.order
    return total


def misfit(samples: Tensor, expected: Tensor) -> float:
    """How many standard deviations the χ² of the counts lies above its mean; rare texts are pooled."""
    code, texts = torch.tensor([TOY, 1]), toy_texts()
    counts = torch.bincount(samples @ code, minlength=TOY**2)[texts @ code].double()
    assert counts.sum() == len(samples), "a text that is none"
    mean = expected * len(samples)
    rare = mean < 5
    counts = torch.cat([counts[~rare], counts[rare].sum()[None]])
    mean = torch.cat([mean[~rare], mean[rare].sum()[None]])
    chi = float(((counts - mean) ** 2 / mean.clamp(min=1)).sum())
    freedom = len(mean) - 1
    return (chi - freedom) / (2 * freedom) ** 0.5


@pytest.mark.parametrize("axes", ["d3", pytest.param("2x3", marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", EACH)
def test_samples_of_each_text_follow_q_given_its_pictures(kind: str, axes: str) -> None:
    model, action, given = toy(kind), action_of(axes), inputs(kind)
    torch.manual_seed(0)
    rows: Any = symmetrized_generate(model, action=action, num_return_sequences=SAMPLES, **given, **SAMPLER)
    width = given["input_ids"].shape[1]
    assert torch.equal(rows[:, :width], given["input_ids"].repeat_interleave(SAMPLES, 0))
    expected = [brute_force(model, kind, row, action) for row in range(2)]
    for row, other in ((0, 1), (1, 0)):
        samples = rows[row * SAMPLES : (row + 1) * SAMPLES, width:]
        assert misfit(samples, expected[row]) < 6
        # And the check can tell: neither the other text's law fits, nor that of other pictures.
        assert misfit(samples, expected[other]) > 20
    torch.manual_seed(0)
    shown = {**given, "pixel_values": given["pixel_values"].flip(0)}
    rows = symmetrized_generate(model, action=action, num_return_sequences=SAMPLES, **shown, **SAMPLER)
    assert misfit(rows[:SAMPLES, width:], expected[0]) > 20


@pytest.mark.parametrize("kind", EACH)
def test_log_q_is_the_sum_by_brute_force(kind: str) -> None:
    model, action, texts = toy(kind, torch.float64), action_of("d3"), toy_texts()
    for row in range(2):
        x = prompts(kind)[row]
        given = alone(kind, row, [x] * len(texts), torch.float64)
        with torch.no_grad():
            log_q = symmetrized_log_prob(model, continuation_ids=texts, action=action, warp=WARP, **given)
        torch.testing.assert_close(log_q.exp(), brute_force(model, kind, row, action), atol=1e-9, rtol=1e-7)
        assert abs(float(log_q.logsumexp(0))) < 1e-9


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("kind", EACH)
def test_log_q_is_fair_for_texts_about_the_same_pictures(kind: str, axes: str) -> None:
    model, action, given = toy(kind, torch.float64), action_of(axes), inputs(kind, torch.float64)
    texts = torch.tensor([[9, 12, 7, EOS], [8, 7, EOS, PAD]])

    def score(h: int, **changed: Any) -> Tensor:
        moved = {**given, "input_ids": action.act(given["input_ids"], h), **changed}
        return symmetrized_log_prob(model, continuation_ids=action.act(texts, h), action=action, **moved)

    with torch.no_grad():
        log_q = score(0)
        for h in action.group.elements:
            torch.testing.assert_close(score(h), log_q, atol=1e-10, rtol=0)
            torch.testing.assert_close(score(h, batch_size=1), log_q, atol=1e-10, rtol=0)
        assert (score(0, pixel_values=given["pixel_values"].flip(0)) - log_q).abs().min() > 1e-3
        # Each text of the padded batch is scored as it is alone.
        for row in range(2):
            own = alone(kind, row, [prompts(kind)[row]], torch.float64)
            by_itself = symmetrized_log_prob(model, continuation_ids=texts[row, None], action=action, **own)
            torch.testing.assert_close(by_itself[0], log_q[row], atol=1e-8, rtol=0)


def test_equal_texts_about_different_pictures_are_not_one() -> None:
    model, action = toy("llava", torch.float64), action_of("d2")
    x = text_with_pictures("llava", [7, 12], [0])
    given = batch("llava", [x, x, x], random_pictures(2).double()[[0, 1, 0]])
    with torch.no_grad():
        log_q = symmetrized_log_prob(model, continuation_ids=torch.tensor([[9, 12]] * 3), action=action, **given)
    torch.testing.assert_close(log_q[0], log_q[2])
    assert abs(float(log_q[0] - log_q[1])) > 0.01


def test_batches_are_run_as_a_whole_and_only_distinct_ones() -> None:
    model, action = picture_model("llava", TOY), action_of("2x3")
    counted = CountRows(model)
    given = batch(
        "llava",
        [text_with_pictures("llava", [9, 12], [0]), text_with_pictures("llava", [10, 12], [0])],
        random_pictures(2),
    )
    texts = torch.tensor([[12, EOS], [11, EOS]])  # names one axis of the two: three images of the batch
    with torch.no_grad():
        for batch_size, sizes in ((None, [6]), (4, [4, 2]), (1, [2, 2, 2])):
            counted.sizes.clear()
            symmetrized_log_prob(model, continuation_ids=texts, action=action, batch_size=batch_size, **given)
            assert counted.sizes == sizes


@pytest.mark.parametrize("kind", EACH)
def test_elements_reproduce_the_rows_with_their_pictures(kind: str) -> None:
    model: Any = toy(kind)
    action = action_of("d3")
    kwargs: dict[str, Any] = {"max_new_tokens": 4, "do_sample": True, "top_k": 1, "suppress_tokens": SILENT}
    torch.manual_seed(1)
    rows, elements = symmetrized_generate(
        model, action=action, num_return_sequences=4, return_elements=True, **inputs(kind), **kwargs
    )
    assert len(set(elements.tolist())) > 1
    width = inputs(kind)["input_ids"].shape[1]
    for number, (text, g) in enumerate(zip(rows, elements.tolist(), strict=True)):
        x = action.act(torch.tensor(prompts(kind)[number // 4]), g)
        plain = model.generate(**alone(kind, number // 4, [x.tolist()]), **kwargs)[0, len(x) :]
        expected = action.act(plain, action.group.inverse(g))
        assert torch.equal(text[width:][: len(expected)], expected)
        assert (text[width:][len(expected) :] == PAD).all()


@pytest.mark.parametrize("decoder", [{"do_sample": True, "num_return_sequences": 3}, {"num_beams": 2}, {}])
def test_one_seed_one_text(decoder: dict[str, Any]) -> None:
    model, action, given = toy("llava"), action_of("2x3"), inputs("llava")
    texts = []
    for h in action.group.elements:
        torch.manual_seed(3)
        moved = {**given, "input_ids": action.act(given["input_ids"], h)}
        text: Any = symmetrized_generate(
            model, action=action, max_new_tokens=5, suppress_tokens=SILENT, **moved, **decoder
        )
        texts.append(action.act(text, action.group.inverse(h)))
    assert all(torch.equal(text, texts[0]) for text in texts)


class Recorder(BaseStreamer):
    def __init__(self) -> None:
        self.ids: list[Tensor] = []

    def put(self, value: Tensor) -> None:
        self.ids.append(value.view(-1, 1) if value.ndim == 1 else value)

    def end(self) -> None:
        self.ids.append(torch.zeros(6, 0, dtype=torch.long))


def test_streams_and_outputs_are_in_the_order_of_the_texts() -> None:
    model, action, given, streamer = toy("llava"), action_of("d3"), inputs("llava"), Recorder()
    wanted: dict[str, Any] = {"return_dict_in_generate": True, "output_scores": True, "output_hidden_states": True}
    torch.manual_seed(0)
    kwargs = {**SAMPLER, "eos_token_id": None}
    output: Any
    output, elements = symmetrized_generate(
        model,
        action=action,
        num_return_sequences=3,
        streamer=streamer,
        return_elements=True,
        **wanted,
        **kwargs,
        **given,
    )
    assert torch.equal(torch.cat(streamer.ids, 1), output.sequences)
    width = given["input_ids"].shape[1]
    for number, g in enumerate(elements.tolist()):
        x = prompts("llava")[number // 3]
        for step, scores in enumerate(output.scores):
            text = action.act(torch.tensor(x + output.sequences[number, width : width + step].tolist()), g).tolist()
            law = action.act_on_logits(next_token(model, "llava", number // 3, text), action.group.inverse(g))
            torch.testing.assert_close(scores[number].double().softmax(-1), law, atol=1e-4, rtol=0)
        states = output.hidden_states[0][-1][number, -len(x) :]
        with torch.no_grad():
            own = alone("llava", number // 3, [action.act(torch.tensor(x), g).tolist()])
            expected = toy("llava")(**own, output_hidden_states=True).hidden_states[-1][0]
        torch.testing.assert_close(states, expected, atol=1e-3, rtol=1e-3)


def florence() -> Any:
    """A tiny random encoder-decoder that reads pictures in its encoder, two tokens for one of 32 by 32 pixels."""
    special: dict[str, Any] = {"pad_token_id": PAD, "eos_token_id": EOS, "decoder_start_token_id": EOS}
    sizes = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "init_std": 0.4, "vocab_size": TOY}
    ends = {**special, "bos_token_id": None, "forced_eos_token_id": None, "max_position_embeddings": 64}
    stages: dict[str, Any] = {"embed_dim": [8, 16, 16, 32], "num_heads": [1, 2, 2, 4], "num_groups": [1, 2, 2, 4]}
    stages |= {"depths": [1, 1, 1, 1], "patch_stride": [4, 2, 2, 2], "window_size": 2, "projection_dim": 32}
    torch.manual_seed(0)
    config = Florence2Config(
        text_config={"model_type": "bart", **sizes, **ends, "encoder_attention_heads": 2, "decoder_attention_heads": 2},
        vision_config=stages,
        image_token_id=IMAGE,
        is_encoder_decoder=True,
        **special,
    )
    return Florence2ForConditionalGeneration(config).double().eval()


@torch.no_grad()
def test_encoder_decoders_read_pictures_too() -> None:
    model, action, texts = florence(), action_of("d3"), toy_texts()
    ids = torch.tensor([[IMAGE, IMAGE, 7, 12, 9], [IMAGE, IMAGE, 8, 10, 12]])
    pictures = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    expected = torch.zeros(2, len(texts), dtype=torch.float64)
    begun = torch.tensor([[EOS, token] for token in range(TOY)])
    for row, g in itertools.product(range(2), action.group.elements):
        x = action.act(ids[row], g).expand(TOY, -1)
        seen = pictures[row].expand(TOY, -1, -1, -1)
        logits = model(input_ids=x, pixel_values=seen, decoder_input_ids=begun).logits  # (first token, step, V)
        logits[..., SILENT] = -torch.inf
        law = logits.softmax(-1)
        for number, (one, two) in enumerate(action.act(texts, g).tolist()):
            expected[row, number] += law[one, 0, one] * (1.0 if one == EOS else law[one, 1, two]) / action.group.order
    for row in range(2):
        given: dict[str, Any] = {"input_ids": ids[row, None].expand(len(texts), -1)}
        given["pixel_values"] = pictures[row, None].expand(len(texts), -1, -1, -1)
        log_q = symmetrized_log_prob(model, continuation_ids=texts, action=action, warp=WARP, **given)
        torch.testing.assert_close(log_q.exp(), expected[row], atol=1e-9, rtol=1e-7)
    torch.manual_seed(0)
    count = 300
    kwargs = {**SAMPLER, "num_return_sequences": count}
    rows: Any = symmetrized_generate(model, ids, action, pixel_values=pictures, **kwargs)
    for row, other in ((0, 1), (1, 0)):
        samples = rows[row * count : (row + 1) * count, 1:]
        assert misfit(samples, expected[row]) < 6 and misfit(samples, expected[other]) > 20


@pytest.mark.parametrize("kind", EACH)
def test_pictures_are_encoded_once(kind: str) -> None:
    """In a generation of several texts, and in a batch of scores."""
    model: Any = picture_model(kind, TOY)
    action, given = action_of("2x3"), inputs(kind)
    symmetrized_generate(model, action=action, num_return_sequences=5, **given, **SAMPLER)  # tries two copies
    sizes: list[int] = []

    def count(_: Any, args: Any, kwargs: Any, _output: Any) -> None:
        sizes.append(len(next(value for value in (*args, *kwargs.values()) if value.ndim)))

    model.get_encoder(modality="image").register_forward_hook(count, with_kwargs=True)
    model.generate(**given, max_new_tokens=1)
    plain = list(sizes)
    symmetrized_generate(model, action=action, num_return_sequences=5, **given, **SAMPLER)  # the first finds out how
    sizes.clear()
    symmetrized_generate(model, action=action, num_return_sequences=5, **given, **SAMPLER)
    assert sizes == plain
    sizes.clear()
    with torch.no_grad():
        symmetrized_log_prob(model, continuation_ids=torch.tensor([[9, 12], [8, 7]]), action=action, **given)
    assert sizes == plain


def test_lists_of_pictures_go_along_too() -> None:
    """As some processors make them, for pictures of several sizes."""
    model: Any = picture_model("llava", TOY)
    action, given, seen = action_of("d2"), inputs("llava"), []
    encode = model.model.get_image_features

    def watched(pixel_values: Any, **kwargs: Any) -> Any:
        seen.append(len(pixel_values))
        return encode(torch.stack(tuple(pixel_values)), **kwargs)

    model.model.get_image_features = watched
    listed = {**given, "pixel_values": list(given["pixel_values"])}
    texts = torch.tensor([[9, 12], [8, 7]])
    with torch.no_grad():
        log_q = symmetrized_log_prob(model, continuation_ids=texts, action=action, **listed)
        rows: Any = symmetrized_generate(
            model, action=action, num_return_sequences=4, **{**SAMPLER, "max_new_tokens": 1}, **listed
        )
        expected = symmetrized_log_prob(toy("llava"), continuation_ids=texts, action=action, **given)
    assert seen == [6, 12] and len(rows) == 8
    torch.testing.assert_close(log_q, expected)


# --- Refusals --------------------------------------------------------------------------------------------------------


def test_pictures_for_a_model_of_text_are_refused() -> None:
    model, action = tiny_model("llama"), action_of("d2", VOCAB)
    ids = torch.tensor([[TEXT_PAD, 7, 12]])
    pictures: dict[str, Any] = {"pixel_values": random_pictures(1)}
    with pytest.raises(EquiLMError, match="LlamaForCausalLM takes no pixel_values"):
        symmetrized_generate(model, ids, action, **pictures)
    with pytest.raises(EquiLMError, match="LlamaForCausalLM takes no pixel_values"):
        symmetrized_log_prob(model, ids, ids, action, **pictures)


@pytest.mark.parametrize(("kind", "name"), [("llava", "image_token_index"), ("qwen3_vl", "vision_start_token_id")])
def test_a_table_that_moves_what_stands_for_a_picture_is_refused(kind: str, name: str) -> None:
    token = getattr(toy(kind).config, name)
    action = TokenAction.from_cycles([[[7, token]]], TOY)
    given = inputs(kind)
    with pytest.raises(EquiLMError, match=f"moves token {token}, the .*{name}"):
        symmetrized_generate(toy(kind), action=action, **given)
    with pytest.raises(EquiLMError, match=f"moves token {token}, the .*{name}"):
        symmetrized_log_prob(toy(kind), continuation_ids=given["input_ids"], action=action, **given)
