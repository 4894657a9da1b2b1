"""EquiLM around encoder-decoders: the definition, the guarantee, generation, training, saving, refusals."""

from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from models import AXES, EOS, PAD, VOCAB, random_ids, tiny_model, wrap
from safetensors import safe_open
from seq2seq_models import ARCHITECTURES, tiny_seq2seq, wrap_seq2seq
from small_tokenizers import metaspace
from tokenizers import decoders
from transformers import (
    AutoModelForSeq2SeqLM,
    DataCollatorForSeq2Seq,
    EncoderDecoderCache,
    FSMTConfig,
    MarianConfig,
    StaticCache,
    T5Config,
    T5ForConditionalGeneration,
    T5Model,
)
from transformers.modeling_outputs import BaseModelOutput

from equilm import EquiLMError, EquiLMForCausalLM, EquiLMForSeq2SeqLM
from equilm._compat import cache_of
from equilm.testing import assert_equivariant, equivariance_errors, log_prob_gap

# Two ways through the model: T5's head is not plain, BART's is, so its mean hidden state is projected once.
PAIR = ("t5", "bart")
SOURCE = torch.tensor([[3, 10, 30, 40], [12, 41, 42, 13], [30, 31, 32, 33]])  # the last holds no equality word


def pairs(batch: int = 3, seed: int = 0) -> dict[str, Any]:
    """Random texts for the encoder and for the decoder."""
    return {
        "input_ids": random_ids(batch, 9, seed),
        "decoder_input_ids": random_ids(batch, 7, seed + 1),
    }


def generate(model: Any, ids: torch.Tensor, seed: int = 0, **kwargs: Any) -> Any:
    torch.manual_seed(seed)
    return model.generate(ids, attention_mask=(ids != PAD).long(), **{"max_new_tokens": 8, "top_k": 0, **kwargs})


# All groups with two architectures, one group with the others.
@pytest.mark.parametrize(
    ("architecture", "axes"), [(a, x) for a in ARCHITECTURES for x in AXES if a in PAIR or x == "d3"]
)
class TestEveryArchitecture:
    def test_logits_equal_the_definition(self, architecture: str, axes: str) -> None:
        base = tiny_seq2seq(architecture)
        model, texts = wrap_seq2seq(base, AXES[axes]), pairs()
        mask = torch.ones_like(texts["input_ids"])
        mask[0, :3], mask[1, -2:] = 0, 0
        with torch.no_grad():
            branches = [
                base(**{name: row[ids] for name, ids in texts.items()}, attention_mask=mask).logits[..., row]
                for row in model.permutation
            ]
            logits = model(**texts, attention_mask=mask).logits
        expected = torch.stack(branches).mean(0)
        torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
        assert (logits - branches[0]).abs().max() > 0.5, "the base model must differ, or the check says nothing"

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
    def test_equivariant(self, architecture: str, axes: str, dtype: torch.dtype) -> None:
        model = wrap_seq2seq(tiny_seq2seq(architecture, dtype=dtype), AXES[axes])
        texts = pairs(4, int(torch.seed() % 2**31))  # fresh ids in every run
        assert_equivariant(model, **texts)
        with model.plain():
            assert max(entry.error for entry in equivariance_errors(model, **texts)) > 0.5


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("architecture", PAIR)
def test_eq_4(architecture: str, axes: str) -> None:
    model, texts = wrap_seq2seq(tiny_seq2seq(architecture), AXES[axes]), pairs(4)
    assert log_prob_gap(model, model.action, prompt_length=1, **texts).max() <= 1e-4
    assert log_prob_gap(model.language_model, model.action, prompt_length=1, **texts).max() > 0.1


@pytest.mark.parametrize("architecture", PAIR)
def test_relaxed_equality(architecture: str) -> None:
    base, texts, general = tiny_seq2seq(architecture), pairs(), [13, 30, 31]
    model = wrap_seq2seq(base, AXES["d3"], general_ids=general, relaxed=True)
    assert_equivariant(model, **texts)  # on E′ ∪ N
    with torch.no_grad():
        logits, plain = model(**texts).logits, base(**texts).logits
    torch.testing.assert_close(logits[..., general], plain[..., general], atol=1e-5, rtol=1e-5)
    assert (logits - plain).abs().max() > 0.1
    assert_equivariant(wrap_seq2seq(base, AXES["d3"]), **texts)


# --- Rows and caches -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shares_rows", [True, False])
@pytest.mark.parametrize("axes", ["d3", "2x3"])
@pytest.mark.parametrize("architecture", PAIR)
def test_a_cache_gives_the_logits_of_the_whole_text(architecture: str, axes: str, shares_rows: bool) -> None:
    model, texts = wrap_seq2seq(tiny_seq2seq(architecture), AXES[axes]), pairs()
    model._shares_rows = shares_rows
    ids = texts.pop("decoder_input_ids")
    with torch.no_grad():
        whole = model(**texts, decoder_input_ids=ids).logits
        encoded = model.get_encoder()(**texts)
        step = model(encoder_outputs=encoded, decoder_input_ids=ids[:, :2], use_cache=True)
        parts = [step.logits]
        for start, end in ((2, 3), (3, 6), (6, 7)):
            cache = cache_of(step)
            step = model(encoder_outputs=encoded, decoder_input_ids=ids[:, start:end], past_key_values=cache)
            parts.append(step.logits)
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-4, rtol=1e-4)
    assert cache_of(step).get_seq_length() == 7


@pytest.mark.parametrize("architecture", PAIR)
def test_a_cache_is_reordered_repeated_and_cropped_by_texts(architecture: str) -> None:
    model, texts = wrap_seq2seq(tiny_seq2seq(architecture), AXES["d3"]), pairs()
    order = torch.tensor([2, 2, 0, 1])
    moved = {name: ids[order] for name, ids in texts.items()}
    ids = texts.pop("decoder_input_ids")
    with torch.no_grad():
        cache: Any = cache_of(model(**texts, decoder_input_ids=ids[:, :4], use_cache=True))
        cache.reorder_cache(order)
        cache.crop(-2)
        encoded = model.get_encoder()(moved["input_ids"])
        step = model(
            encoder_outputs=encoded, decoder_input_ids=moved["decoder_input_ids"][:, 2:], past_key_values=cache
        )
        torch.testing.assert_close(step.logits, model(**moved).logits[:, 2:], atol=1e-4, rtol=1e-4)


def static_cache(model: Any, source: int, length: int) -> Any:
    config = model.config.get_text_config(decoder=True)
    return EncoderDecoderCache(*(StaticCache(config=config, max_cache_len=most) for most in (length, source)))


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_static_cache_holds_all_rows(compiled: bool) -> None:
    model: Any = wrap_seq2seq(tiny_seq2seq("t5"), AXES["d3"])
    ids, text = SOURCE[2:].repeat(2, 1), torch.arange(30, 36).repeat(2, 1)  # one row would do: no equality words
    cache = static_cache(model, ids.shape[1], text.shape[1])
    run = torch.compile(model.forward, backend="eager", fullgraph=True) if compiled else model.forward
    with torch.no_grad():
        whole, encoded = model(input_ids=ids, decoder_input_ids=text).logits, model.get_encoder()(ids)
        model(encoder_outputs=encoded, decoder_input_ids=text[:, :4], past_key_values=cache)
        for t in (4, 5):
            step = run(encoder_outputs=encoded, decoder_input_ids=text[:, t : t + 1], past_key_values=cache)
            torch.testing.assert_close(step.logits[:, 0], whole[:, t], atol=1e-4, rtol=1e-4)
    assert cache.branches.unique().numel() == 3 * 2
    cache.reorder_cache(torch.tensor([1, 1]))
    for half in (cache.self_attention_cache, cache.cross_attention_cache):
        assert len(half.layers[0].keys) == 3 * 2, "the number of rows stays"


def rows_run(model: EquiLMForSeq2SeqLM, **texts: torch.Tensor) -> tuple[int, int]:
    """How many rows the encoder and the decoder of the base model run on."""
    counts = []
    for part in (model.language_model.get_encoder(), model.language_model.get_decoder()):
        run = part.forward
        with patch.object(part, "forward", side_effect=run) as watched, torch.no_grad():
            model(**texts)
        counts.append(len(watched.call_args.kwargs["input_ids"]))
    return counts[0], counts[1]


def test_only_distinct_rows_run() -> None:
    model = wrap_seq2seq(tiny_seq2seq("bart"), AXES["2x3"])  # |G| = 6; 10–13 are of the first axis, 20–25 the second
    neutral = torch.tensor([[30, 31, 32]])
    assert rows_run(model, input_ids=neutral, decoder_input_ids=torch.tensor([[2, 33]])) == (1, 1)
    assert rows_run(model, input_ids=neutral, decoder_input_ids=torch.tensor([[2, 10]])) == (1, 2)
    assert rows_run(model, input_ids=torch.tensor([[30, 20]]), decoder_input_ids=torch.tensor([[2, 33]])) == (3, 3)
    assert rows_run(model, input_ids=torch.tensor([[30, 20]]), decoder_input_ids=torch.tensor([[2, 10]])) == (3, 6)
    twice = {"input_ids": torch.tensor([[30, 10], [30, 11]]), "decoder_input_ids": torch.tensor([[2, 33], [2, 33]])}
    assert rows_run(model, **twice) == (2, 2), "texts of one orbit share their rows"


def test_generate_runs_the_encoder_once_on_distinct_rows() -> None:
    model = wrap_seq2seq(tiny_seq2seq("t5"), AXES["2x3"])
    encoder = model.language_model.get_encoder()
    with patch.object(encoder, "forward", side_effect=encoder.forward) as watched:
        generate(model, SOURCE, num_beams=3, num_return_sequences=2)
    assert watched.call_count == 1
    assert len(watched.call_args.kwargs["input_ids"]) == 2 + 2 + 1


@pytest.mark.parametrize("architecture", PAIR)
def test_padding_and_batching_change_nothing(architecture: str) -> None:
    model, texts = wrap_seq2seq(tiny_seq2seq(architecture), AXES["d3"]), pairs(1)
    ids, pads = texts["input_ids"], torch.full((1, 3), PAD)
    # BART counts its positions from the start of the row, so for it padding belongs on the right.
    sides = [(ids, pads)] if architecture == "bart" else [(ids, pads), (pads, ids)]
    other = random_ids(1, 12, 7)
    with torch.no_grad():
        expected = model(**texts).logits
        for side in sides:
            batch = torch.cat([torch.cat(side, 1), other])
            both = texts["decoder_input_ids"].repeat(2, 1)
            logits = model(input_ids=batch, attention_mask=(batch != PAD).long(), decoder_input_ids=both).logits
            torch.testing.assert_close(logits[:1], expected, atol=1e-4, rtol=1e-4)
        left = torch.cat([torch.full((1, 2), PAD), texts["decoder_input_ids"]], 1)
        if architecture == "t5":
            mask = (left != PAD).long()
            padded = model(input_ids=ids, decoder_input_ids=left, decoder_attention_mask=mask)
            torch.testing.assert_close(padded.logits[:, 2:], expected, atol=1e-4, rtol=1e-4)


def test_masks_tell_texts_apart() -> None:
    model, texts = wrap_seq2seq(tiny_seq2seq("t5"), AXES["d3"]), pairs(1)
    masks = {name.replace("input_ids", "attention_mask"): torch.ones_like(ids) for name, ids in texts.items()}
    for name, mask in masks.items():
        holed = mask.clone()
        holed[:, 1:3] = 0
        with torch.no_grad():
            one, other = (model(**texts, **{**masks, name: m}).logits for m in (mask, holed))
            twice = {key: ids.repeat(2, 1) for key, ids in {**texts, **masks}.items()}
            both = model(**{**twice, name: torch.cat([mask, holed])}).logits
        torch.testing.assert_close(both, torch.cat([one, other]), atol=1e-4, rtol=1e-4)
        assert (one - other)[:, -1].abs().max() > 0.1


def test_other_outputs_are_of_the_unpermuted_rows() -> None:
    base = tiny_seq2seq("bart")
    base.set_attn_implementation("eager")
    for axes in ("d3", "2x3"):
        model, texts = wrap_seq2seq(base, AXES[axes]), pairs()
        with torch.no_grad():
            fair: Any = model(**texts, output_hidden_states=True, output_attentions=True)
            plain = base(**texts, output_hidden_states=True, output_attentions=True)
        torch.testing.assert_close(fair.encoder_last_hidden_state, plain.encoder_last_hidden_state)
        for name in ("hidden_states", "attentions"):
            for side in ("encoder", "decoder"):
                for ours, theirs in zip(fair[f"{side}_{name}"], plain[f"{side}_{name}"], strict=True):
                    torch.testing.assert_close(ours, theirs)
        for ours, theirs in zip(fair.cross_attentions, plain.cross_attentions, strict=True):
            torch.testing.assert_close(ours, theirs)


# --- Generation ------------------------------------------------------------------------------------------------------

DECODERS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "warped": {"do_sample": True, "top_k": 20, "top_p": 0.8, "temperature": 1.5},
    "penalised": {"do_sample": True, "encoder_repetition_penalty": 1.4, "no_repeat_ngram_size": 2},
    "returned": {"do_sample": True, "num_return_sequences": 3},
    "beams": {"num_beams": 3, "num_return_sequences": 2},
    "beam sampling": {"num_beams": 3, "do_sample": True},
    "no cache": {"do_sample": True, "use_cache": False},
    "static cache": {"num_beams": 2, "cache_implementation": "static"},
    "lookup": {"prompt_lookup_num_tokens": 3},
}


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("architecture", PAIR)
def test_one_seed_one_text(architecture: str, decoder: str) -> None:
    model = wrap_seq2seq(tiny_seq2seq(architecture), AXES["2x3"])
    action = model.action
    ids = random_ids(1 if decoder == "lookup" else 3, 6)
    ids[0, :2] = PAD
    settings = {"min_new_tokens": 4, **DECODERS[decoder]}
    texts = generate(model, ids, **settings)
    each = len(texts) // len(ids)
    for g in (1, 3):  # they generate the group
        images = generate(model, action.act(ids, g), **settings)
        for row, (text, image) in enumerate(zip(texts, images, strict=True)):
            prompt = ids[row // each]
            fixing = [s for s in model.group.elements if torch.equal(action.act(prompt, s), prompt)]
            expected = [action.act(action.act(text, s), g) for s in fixing]
            assert any(torch.equal(image, other) for other in expected), (g, row, text, image)


@pytest.mark.parametrize("architecture", PAIR)
def test_greedy_text_is_the_most_likely_token_of_the_fair_logits(architecture: str) -> None:
    model = wrap_seq2seq(tiny_seq2seq(architecture), AXES["d3"])
    ids = SOURCE[:2]
    text = torch.full((2, 1), model.generation_config.decoder_start_token_id)
    for _ in range(6):
        with torch.no_grad():
            logits = model(input_ids=ids, decoder_input_ids=text).logits
        text = torch.cat([text, logits[:, -1].argmax(-1, keepdim=True)], 1)
    settings: dict[str, Any] = {"max_new_tokens": 6, "eos_token_id": None}
    assert torch.equal(generate(model, ids, **settings), text)
    assert torch.equal(generate(model, ids, use_cache=False, **settings), text)
    assert torch.equal(generate(model, ids, cache_implementation="static", **settings), text)
    rows = [generate(model, row[None], **settings) for row in ids]
    assert torch.equal(torch.cat(rows), text)


@pytest.mark.allow_deprecated  # transformers hands the assistant its settings in two ways
def test_an_assistant_leaves_the_greedy_text_as_it_is() -> None:
    model = wrap_seq2seq(tiny_seq2seq("t5"), AXES["d3"])
    expected = generate(model, SOURCE[:1])
    assert torch.equal(generate(model, SOURCE[:1], assistant_model=model.language_model), expected)


@pytest.mark.parametrize("axes", ["d2", "d3"])
def test_ties_after_a_neutral_text_are_broken_evenly(axes: str) -> None:
    base: Any = tiny_seq2seq("t5")
    neutral, members = SOURCE[2:], AXES[axes][0][0]
    start = torch.tensor([[PAD]])
    with torch.no_grad():
        hidden = base(input_ids=neutral, decoder_input_ids=start, output_hidden_states=True).decoder_hidden_states[-1]
        base.shared.weight[members] = 40 * hidden[0, -1] / hidden[0, -1].norm()  # the head's too: says a member first
    model, rows, order = wrap_seq2seq(base, AXES[axes]), 300, len(members)
    many = neutral.repeat(rows, 1)
    for decoder in ({}, {"num_beams": 2}):
        said = generate(model, many, max_new_tokens=1, **decoder)[:, 1].tolist()
        # Six standard deviations of the binomial: a fair draw fails once in 10⁸ runs, a fixed choice always.
        deviation = (rows / order * (1 - 1 / order)) ** 0.5
        assert set(said) == set(members)
        assert all(abs(said.count(token) - rows / order) < 6 * deviation for token in members), said
    assert len(set(generate(model, many, max_new_tokens=1, fair_ties=False)[:, 1].tolist())) == 1


@pytest.mark.parametrize("decoder", ["greedy", "returned", "beams"])
def test_scores_come_back_in_the_users_words(decoder: str) -> None:
    model: Any = wrap_seq2seq(tiny_seq2seq("bart"), AXES["2x3"])
    output = generate(
        model,
        SOURCE,
        **DECODERS[decoder],
        return_dict_in_generate=True,
        output_scores=True,
        output_logits=True,
        eos_token_id=None,
    )
    beams = output.get("beam_indices")
    scores = model.compute_transition_scores(output.sequences, output.scores, beams, normalize_logits=True)
    with torch.no_grad():
        source = SOURCE.repeat_interleave(len(output.sequences) // len(SOURCE), 0)
        logits = model(input_ids=source, decoder_input_ids=output.sequences).logits.log_softmax(-1)[:, :-1]
    expected = logits.gather(-1, output.sequences[:, 1:, None])[..., 0]
    torch.testing.assert_close(scores, expected, atol=1e-4, rtol=0)
    assert len(output.logits) == len(output.scores) == 8 and output.logits[0].shape[-1] == VOCAB


@pytest.mark.parametrize("architecture", PAIR)
def test_the_decoders_text_may_begin_with_equality_words(architecture: str) -> None:
    model = wrap_seq2seq(tiny_seq2seq(architecture), AXES["2x3"])
    action, first = model.action, model.generation_config.decoder_start_token_id
    # The first text names the second axis in the encoder and the first in the decoder, the second one the latter only.
    ids, start = torch.tensor([[3, 20, 30], [3, 31, 30]]), torch.tensor([[first, 10], [first, 12]])
    for decoder in ("greedy", "warped", "beams"):
        settings = {"min_new_tokens": 4, **DECODERS[decoder]}
        texts = generate(model, ids, decoder_input_ids=start, **settings)
        each = len(texts) // len(ids)
        assert torch.equal(texts[:, :2], start.repeat_interleave(each, 0))
        for g in (1, 3):
            images = generate(model, action.act(ids, g), decoder_input_ids=action.act(start, g), **settings)
            assert torch.equal(images[:each], action.act(texts[:each], g)), "nothing but e fixes both sides"
            second = [action.act(action.act(texts[each:], s), g) for s in (0, 1, 2)]  # these fix 31, 30 and 12
            assert any(torch.equal(images[each:], image) for image in second)


def test_a_text_continues_from_a_returned_cache() -> None:
    model = wrap_seq2seq(tiny_seq2seq("bart"), AXES["2x3"])
    first = generate(model, SOURCE[:2], max_new_tokens=4, return_dict_in_generate=True, eos_token_id=None)
    start = torch.cat([first.sequences, torch.tensor([[10], [21]])], 1)
    mask = torch.ones_like(start)
    settings: dict[str, Any] = {"decoder_input_ids": start, "decoder_attention_mask": mask, "eos_token_id": None}
    expected = generate(model, SOURCE[:2], **settings)
    assert torch.equal(generate(model, SOURCE[:2], past_key_values=cache_of(first), **settings), expected)


def test_a_returned_cache_continues_the_text() -> None:
    model = wrap_seq2seq(tiny_seq2seq("bart"), AXES["2x3"])
    first = generate(model, SOURCE, max_new_tokens=4, return_dict_in_generate=True, eos_token_id=None)
    text = torch.cat([first.sequences, torch.tensor([[10], [21], [33]])], 1)
    cache = cache_of(first)
    new = text[:, cache.get_seq_length() :]
    with torch.no_grad():
        step = model(encoder_outputs=model.get_encoder()(SOURCE), decoder_input_ids=new, past_key_values=cache)
        whole = model(input_ids=SOURCE, decoder_input_ids=text).logits[:, -new.shape[1] :]
    torch.testing.assert_close(step.logits, whole, atol=1e-4, rtol=0)


def test_relaxed_generation_is_the_loop_on_the_relaxed_logits() -> None:
    model = wrap_seq2seq(tiny_seq2seq("t5"), AXES["d3"], general_ids=[13], relaxed=True)
    text = generate(model, SOURCE[:1], max_new_tokens=5, eos_token_id=None)
    with torch.no_grad():
        logits = model(input_ids=SOURCE[:1], decoder_input_ids=text).logits
    assert torch.equal(logits[:, :-1].argmax(-1), text[:, 1:])


def test_plain_is_the_base_model() -> None:
    base = tiny_seq2seq("bart")
    model, texts = wrap_seq2seq(base), pairs()
    with torch.no_grad(), model.plain() as inner:
        assert inner is base and not model.fairness_report().active
        torch.testing.assert_close(model(**texts).logits, base(**texts).logits)
        encoded = model.get_encoder()(texts["input_ids"])
        again = model(encoder_outputs=encoded, decoder_input_ids=texts["decoder_input_ids"])
        torch.testing.assert_close(again.logits, base(**texts).logits)
        assert torch.equal(generate(model, SOURCE), generate(base, SOURCE))
        embeds = base.get_input_embeddings()(texts["input_ids"])
        assert model(inputs_embeds=embeds, decoder_input_ids=texts["decoder_input_ids"]).logits.shape[-1] == VOCAB
    assert not torch.equal(generate(model, SOURCE), generate(base, SOURCE))


# --- Training --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", PAIR)
def test_labels_give_the_loss_and_gradients_flow_everywhere(architecture: str) -> None:
    base = tiny_seq2seq(architecture)
    model, texts = wrap_seq2seq(base, AXES["d3"]), pairs()
    labels = texts.pop("decoder_input_ids")
    labels[0, -3:] = -100
    output: Any = model(**texts, labels=labels)
    shifted = base.prepare_decoder_input_ids_from_labels(labels)  # type: ignore[operator]
    assert torch.equal(model.prepare_decoder_input_ids_from_labels(labels), shifted)
    logits = model(**texts, decoder_input_ids=shifted).logits
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
    torch.testing.assert_close(output.loss, expected)
    summed = model(**texts, labels=labels, num_items_in_batch=5).loss
    torch.testing.assert_close(summed, expected * (labels != -100).sum() / 5)
    assert cache_of(output) is None
    with model.plain(), torch.no_grad():
        torch.testing.assert_close(model(**texts, labels=labels).loss, base(**texts, labels=labels).loss)
    output.loss.backward()
    assert all(
        parameter.grad is not None and parameter.grad.any()
        for parameter in model.parameters()
        if parameter.numel() and parameter.requires_grad
    )


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated")  # its successor came after 5.17
@pytest.mark.parametrize("architecture", PAIR)
def test_gradient_checkpointing_gives_the_same_gradients(architecture: str) -> None:
    gradients = []
    for checkpointing in (False, True):
        model, texts = wrap_seq2seq(tiny_seq2seq(architecture), AXES["d3"]).train(), pairs()
        if checkpointing:
            model.gradient_checkpointing_enable()
            assert model.language_model.get_encoder().gradient_checkpointing
        model(input_ids=texts["input_ids"], labels=texts["decoder_input_ids"]).loss.backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-4, rtol=1e-3)


def test_a_step_of_training_keeps_the_guarantee() -> None:
    model, texts = wrap_seq2seq(tiny_seq2seq("t5"), AXES["d3"]).train(), pairs()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    model(input_ids=texts["input_ids"], labels=texts["decoder_input_ids"]).loss.backward()
    optimizer.step()
    assert_equivariant(model.eval(), **texts)


# --- Wrapping, saving, loading ---------------------------------------------------------------------------------------


def word_seq2seq(folder: Path) -> tuple[Any, Any]:
    """A tokenizer as T5's with some whole words, and a tiny T5 with a padded vocabulary, saved to a folder."""
    tokenizer = metaspace(["▁man", "▁woman", "▁he", "▁she", "▁worked", "▁as", "▁was", "▁kind"])
    tokenizer.backend_tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(
        {"pad_token": "<pad>", "eos_token": "</s>", "additional_special_tokens": ["<extra_id_0>"]}
    )
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 1, "num_heads": 4}
    sizes |= {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    sizes |= {"decoder_start_token_id": tokenizer.pad_token_id}
    config = T5Config(vocab_size=len(tokenizer) + 9, **sizes)
    base = T5ForConditionalGeneration(config).eval()
    base.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return base, tokenizer


# Among so few tokens "▁he" is a piece of "her" and "here" too, which would leave it out.
WHOLE_WORDS: dict[str, Any] = {"max_piece_share": None}


def test_from_base_by_folder_and_by_object(tmp_path: Path) -> None:
    base, tokenizer = word_seq2seq(tmp_path)
    model = EquiLMForSeq2SeqLM.from_base(str(tmp_path), **WHOLE_WORDS)
    by_object = EquiLMForSeq2SeqLM.from_base(base, tokenizer, **WHOLE_WORDS)
    inputs = tokenizer(["man worked as", "he was kind"], padding=True, return_tensors="pt")
    labels = tokenizer(["he was kind", "woman worked as"], padding=True, return_tensors="pt").input_ids
    with torch.no_grad():
        assert torch.equal(model(**inputs, labels=labels).logits, by_object(**inputs, labels=labels).logits)
    assert_equivariant(model, inputs.input_ids, decoder_input_ids=labels)
    assert model.permutation.shape[1] == len(tokenizer) + 9
    assert not model.action.moved[tokenizer.all_special_ids].any()
    assert sorted(model.fairness_report().swapped["gender"]) == [("he", "she"), ("man", "woman")]
    texts = {}
    for text in ("man worked as", "woman worked as"):
        ids = tokenizer(text, return_tensors="pt").input_ids
        texts[text] = generate(model, ids, do_sample=True, max_new_tokens=12)
    assert torch.equal(model.action.act(texts["man worked as"], 1), texts["woman worked as"])


def test_a_saved_model_brings_its_tokenizer_and_its_code(tmp_path: Path) -> None:
    base, tokenizer = word_seq2seq(tmp_path / "base")
    model = EquiLMForSeq2SeqLM.from_base(base, tokenizer, **WHOLE_WORDS)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    ids = tokenizer("man was kind", return_tensors="pt").input_ids
    assert torch.equal(generate(loaded, ids), generate(model, ids))
    assert {"modeling_equilm_seq2seq.py", "_modeling_base.py"} <= {file.name for file in tmp_path.iterdir()}


def test_the_collator_shifts_labels_with_the_model(tmp_path: Path) -> None:
    base, tokenizer = word_seq2seq(tmp_path)
    model = EquiLMForSeq2SeqLM.from_base(base, tokenizer, **WHOLE_WORDS)
    collator = DataCollatorForSeq2Seq(tokenizer, model=model, return_tensors="pt")
    rows = [{"input_ids": tokenizer(t).input_ids, "labels": tokenizer(t).input_ids} for t in ("he was kind", "man")]
    batch = collator(rows)
    assert batch["decoder_input_ids"][0, 0] == tokenizer.pad_token_id
    assert torch.isfinite(model(**batch).loss)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_save_and_load(architecture: str, dtype: torch.dtype, tmp_path: Path) -> None:
    model, texts = wrap_seq2seq(tiny_seq2seq(architecture, dtype=dtype), AXES["2x3"], general_ids=[40]), pairs()
    model.save_pretrained(tmp_path)
    loaded: Any = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert type(loaded) is EquiLMForSeq2SeqLM and loaded.dtype == dtype
    assert torch.equal(loaded.permutation, model.permutation)
    with torch.no_grad():
        assert torch.equal(loaded(**texts).logits, model(**texts).logits)
    assert torch.equal(generate(loaded, SOURCE), generate(model, SOURCE))
    assert loaded.generation_config.eos_token_id == EOS and loaded.config.is_encoder_decoder
    assert loaded._projects_once == model._projects_once
    parts = (loaded, loaded.language_model.get_encoder(), loaded.language_model.get_decoder())
    assert len({id(part.get_input_embeddings().weight) for part in parts}) == 1
    with safe_open(tmp_path / "model.safetensors", "pt") as weights:
        tables = [name for name in weights.keys() if tuple(weights.get_slice(name).get_shape()) == (VOCAB, 32)]  # noqa: SIM118
    assert len(tables) == 1, "the shared embeddings are saved once"


def test_resized_embeddings_stay_fixed() -> None:
    model, texts = wrap_seq2seq(tiny_seq2seq("bart")), pairs()
    model.resize_token_embeddings(VOCAB + 4)
    texts["input_ids"][0, 0] = VOCAB + 1
    assert model(**texts).logits.shape[-1] == VOCAB + 4
    assert_equivariant(model, **texts)


# --- Refusals --------------------------------------------------------------------------------------------------------


def test_what_cannot_be_permuted_is_refused() -> None:
    model, texts = wrap_seq2seq(tiny_seq2seq("t5")), pairs()
    embeds = model.get_input_embeddings()(texts["input_ids"])
    ids = texts["decoder_input_ids"]
    with pytest.raises(EquiLMError, match="cannot give inputs_embeds"):
        model(inputs_embeds=embeds, decoder_input_ids=ids)
    with pytest.raises(EquiLMError, match="cannot give decoder_inputs_embeds"):
        model(input_ids=texts["input_ids"], decoder_inputs_embeds=embeds)
    with pytest.raises(EquiLMError, match="what the group does to global_attention_mask"):
        model(**texts, global_attention_mask=torch.ones_like(texts["input_ids"]))
    with pytest.raises(EquiLMError, match="inputs_embeds cannot be permuted"):
        model.get_encoder()(inputs_embeds=embeds)
    with pytest.raises(EquiLMError, match="EquiLM needs input_ids"):
        model(decoder_input_ids=ids)
    with pytest.raises(EquiLMError, match="needs decoder_input_ids, or labels"):
        model(input_ids=texts["input_ids"])
    with pytest.raises(EquiLMError, match=r"attention_mask has shape \(3, 1, 9, 9\) and input_ids \(3, 9\)"):
        model(**texts, attention_mask=torch.ones(3, 1, 9, 9))


def test_objects_of_unknown_names_are_refused() -> None:
    model, texts = wrap_seq2seq(tiny_seq2seq("t5")), pairs()
    with pytest.raises(EquiLMError, match="what the group does to blip, a list"):
        model(**texts, blip=[1])
    with pytest.raises(EquiLMError, match=r"shift_labels: .* Pass them as labels"):
        model(**texts, shift_labels=texts["decoder_input_ids"])


@pytest.mark.parametrize("architecture", PAIR)
def test_a_tuple_holds_what_the_output_holds(architecture: str) -> None:
    model, texts = wrap_seq2seq(tiny_seq2seq(architecture)), pairs()
    with torch.no_grad():
        output = model(**texts, labels=texts["decoder_input_ids"])
        given = model(**texts, labels=texts["decoder_input_ids"], return_dict=False)
        with model.plain():
            plain = model(**texts, labels=texts["decoder_input_ids"], return_dict=False)
    assert isinstance(given, tuple) and isinstance(plain, tuple)
    torch.testing.assert_close(given[:2], output.to_tuple()[:2])
    assert given[0].ndim == 0 and given[1].shape == output.logits.shape == plain[1].shape


def test_encodings_and_caches_of_others_are_refused() -> None:
    base = tiny_seq2seq("t5")
    model, texts = wrap_seq2seq(base), pairs()
    ids = texts.pop("decoder_input_ids")
    with torch.no_grad():
        plain: Any = base(**texts, decoder_input_ids=ids, use_cache=True)
        encoded = model.get_encoder()(texts["input_ids"])
        fair = model(encoder_outputs=encoded, decoder_input_ids=ids, use_cache=True)
    with pytest.raises(EquiLMError, match="BaseModelOutput, which lacks the permuted texts"):
        model(encoder_outputs=BaseModelOutput(plain.encoder_last_hidden_state), decoder_input_ids=ids)
    with pytest.raises(EquiLMError, match="encoder_outputs holds 3 texts, but decoder_input_ids 2"):
        model(encoder_outputs=encoded, decoder_input_ids=ids[:2])
    with pytest.raises(EquiLMError, match="was not filled by this EquiLM"):
        model(encoder_outputs=encoded, decoder_input_ids=ids, past_key_values=cache_of(plain))
    with pytest.raises(EquiLMError, match="pass an EncoderDecoderCache"):
        model(**texts, decoder_input_ids=ids, past_key_values=cache_of(plain).self_attention_cache)
    two = model.get_encoder()(texts["input_ids"][:2])
    with pytest.raises(EquiLMError, match="The cache holds 3 texts, but decoder_input_ids 2"):
        model(encoder_outputs=two, decoder_input_ids=ids[:2], past_key_values=cache_of(fair))
    assert isinstance(cache_of(fair), EncoderDecoderCache)


def test_generation_settings_that_cannot_be_fair_are_refused() -> None:
    model = wrap_seq2seq(tiny_seq2seq("bart"))
    with torch.no_grad():
        encoded = model.get_encoder()(SOURCE)
    with pytest.raises(EquiLMError, match="token ids, got encoder_outputs"):
        model.generate(encoder_outputs=encoded)
    with pytest.raises(EquiLMError, match="token ids, got decoder_inputs_embeds"):
        model.generate(SOURCE, decoder_inputs_embeds=torch.zeros(3, 1, 32))
    with pytest.raises(EquiLMError, match="inputs_embeds cannot be permuted"):
        model.generate(inputs_embeds=torch.zeros(3, 4, 32))
    with pytest.raises(EquiLMError, match="decoder_start_token_id names the tokens"):
        model.generate(SOURCE, decoder_start_token_id=10)
    with pytest.raises(EquiLMError, match="forced_bos_token_id names the tokens"):
        model.generate(SOURCE, forced_bos_token_id=10)
    with pytest.raises(EquiLMError, match="Continuous batching"):
        model.generate(SOURCE, cache_implementation="paged")
    with pytest.raises(EquiLMError, match="output_hidden_states"):
        model.generate(SOURCE, output_hidden_states=True, return_dict_in_generate=True)


def test_models_that_cannot_be_wrapped_are_refused(tmp_path: Path) -> None:
    base, tokenizer = word_seq2seq(tmp_path)
    causal = tiny_model("gpt2")
    with pytest.raises(EquiLMError, match=r"GPT2LMHeadModel is not an encoder-decoder .* EquiLMForCausalLM"):
        EquiLMForSeq2SeqLM.from_base(causal, tokenizer)
    causal.save_pretrained(tmp_path / "causal")
    with pytest.raises(EquiLMError, match="causal' is not an encoder-decoder"):
        EquiLMForSeq2SeqLM.from_base(str(tmp_path / "causal"), tokenizer)
    with pytest.raises(EquiLMError, match=r"is not a decoder-only .* EquiLMForSeq2SeqLM"):
        EquiLMForCausalLM.from_base(base, tokenizer)
    with pytest.raises(EquiLMError, match=r"is not a decoder-only .* EquiLMForSeq2SeqLM"):
        EquiLMForCausalLM.from_base(str(tmp_path), tokenizer)
    with pytest.raises(EquiLMError, match="T5Model is not an encoder-decoder language model"):
        EquiLMForSeq2SeqLM.from_base(T5Model(base.config), tokenizer)
    assert not isinstance(wrap(causal), EquiLMForSeq2SeqLM)


@pytest.mark.parametrize("separate", ["marian", "fsmt"])
def test_models_with_two_vocabularies_are_refused(separate: str) -> None:
    sizes: dict[str, Any] = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "pad_token_id": PAD}
    sizes |= {f"{side}_{name}": 4 for side in ("encoder", "decoder") for name in ("attention_heads", "ffn_dim")}
    if separate == "marian":
        own: dict[str, Any] = {"share_encoder_decoder_embeddings": False, "decoder_vocab_size": VOCAB}
        config: Any = MarianConfig(vocab_size=VOCAB, **own, **sizes, decoder_start_token_id=PAD)
    else:
        config = FSMTConfig(langs=["en", "de"], src_vocab_size=VOCAB, tgt_vocab_size=VOCAB, **sizes)
    with pytest.raises(EquiLMError, match="embeddings of their own"):
        wrap_seq2seq(AutoModelForSeq2SeqLM.from_config(config))
