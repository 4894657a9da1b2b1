"""What single architectures do differently: their caches, their buffers, their routers, their configurations."""

from pathlib import Path
from typing import Any

import checks
import pytest
import torch
from definition import average, cyclic_table, generated_logits
from models import AXES, VOCAB, random_ids, related, tiny_model, wrap
from seq2seq_models import wrap_seq2seq
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase
from word_models import word_tokenizer

from equilm import EquiLMError, EquiLMForCausalLM, EquiLMForSeq2SeqLM, EquiLogitsProcessor
from equilm._compat import cache_of
from equilm._self_check import definition, relative_error

CYCLE = AXES["d3"][0][0]


def generate(model: EquiLMForCausalLM, ids: Tensor, **kwargs: Any) -> Any:
    torch.manual_seed(0)
    return model.generate(ids, **{"max_new_tokens": 6, "do_sample": False, **kwargs})


@pytest.mark.parametrize(
    ("architecture", "use"),
    [
        ("llama", "chunks"),
        ("camembert", "chunks"),  # numbers positions by which tokens are no padding
        ("falcon_h1", "chunks"),  # keeps the last logits alone, unless asked for all
        ("minimax", "chunks"),  # has states that it reorders in one way of two
        ("jamba", "steps"),
        ("mamba", "steps"),
        ("prophetnet", "none"),  # contradicts itself
    ],
)
def test_how_caches_are_continued(architecture: str, use: str) -> None:
    model = wrap(checks.build(architecture, "causal"), AXES["d3"])
    ids = random_ids(3, 9)
    with torch.no_grad():
        whole = model(input_ids=ids, use_cache=False).logits
        cache = cache_of(model(input_ids=ids[:, :4], use_cache=True))
        assert model._continues_caches() == use
        if use == "none":
            with pytest.raises(EquiLMError, match="does not continue its cache"):
                model(input_ids=ids[:, 4:], cache=cache)
            return
        cache.reorder_cache(torch.tensor([2, 0, 0]))
        rest = model(input_ids=ids[[2, 0, 0], 4:], cache=cache).logits
    assert relative_error(rest, whole[[2, 0, 0], 4:]) < 1e-4


@pytest.mark.parametrize("architecture", ["mamba", "mamba2", "falcon_mamba"])
def test_states_without_a_length_are_continued(architecture: str) -> None:
    model = wrap(checks.build(architecture, "causal"), AXES["d3"])
    ids = random_ids(3, 6)
    first = generate(model, ids, max_new_tokens=4, return_dict_in_generate=True)
    longer = torch.cat([first.sequences, random_ids(3, 2, seed=9)], 1)
    assert cache_of(first).get_seq_length() == 9, "all but the last of ten tokens"
    expected = generate(model, longer, use_cache=False)
    continued = generate(model, longer, cache=cache_of(first))
    for row, prompt in enumerate(longer):
        assert related(model, prompt[None], expected[row, None], continued[row, None], 0)


def test_buffers_that_the_base_model_fills_in_are_there_after_loading(tmp_path: Path) -> None:
    model = wrap(checks.build("falcon_h1", "causal"), AXES["d3"])
    model.save_pretrained(tmp_path)
    loaded = EquiLMForCausalLM.from_pretrained(tmp_path)
    buffers = dict(model.language_model.named_buffers())
    assert any("mup_vector" in name for name in buffers)
    for name, buffer in loaded.language_model.named_buffers():
        torch.testing.assert_close(buffer, buffers[name])


def test_the_languages_of_tokens_go_to_their_copies() -> None:
    base = checks.build("xlm", "causal")
    model, ids = wrap(base, [[CYCLE]]), random_ids(2, 5)
    output = generate(model, ids, return_dict_in_generate=True, output_logits=True)
    table, path = cyclic_table(VOCAB, CYCLE), output.sequences[:, 5:]
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    expected = average(table, lambda row: generated_logits(base, given, path, row))
    torch.testing.assert_close(torch.stack(output.logits, 1), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("projects", [True, False])
def test_a_head_may_leave_out_the_padding_of_the_vocabulary(projects: bool) -> None:
    base: Any = tiny_model("llama")
    base.lm_head = nn.Linear(base.config.hidden_size, VOCAB - 3)
    model, ids = wrap(base, AXES["2x3"]), random_ids(3, 7).clamp(max=VOCAB - 4)
    model._projects_once = bool(model._projects_once) and projects
    expected, _ = definition(base, model.action, {"input_ids": ids[:1]}, ())
    with torch.no_grad():
        logits = model(input_ids=ids[:1]).logits
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
    assert not model.self_check().switched_off
    output = generate(model, ids, return_dict_in_generate=True, output_scores=True)
    assert torch.equal(torch.stack(output.scores, 1).argmax(-1), output.sequences[:, 7:])
    processor = EquiLogitsProcessor(base, model.action)
    texts = base.generate(ids, max_new_tokens=6, do_sample=False, logits_processor=[processor])
    assert torch.equal(texts, output.sequences)


@pytest.mark.parametrize("architecture", ["minimax", "xlstm", "mamba"])
def test_a_processor_goes_without_a_cache_of_another_kind(architecture: str) -> None:
    base: Any = checks.build(architecture, "causal")
    model, ids = wrap(base, AXES["d3"]), random_ids(2, 6)
    ids[:, 1] = torch.tensor(CYCLE[:2])
    processor = EquiLogitsProcessor(base, model.action)
    assert (processor._cache_argument is None) == (architecture != "mamba")
    texts = base.generate(ids, max_new_tokens=6, do_sample=False, logits_processor=[processor])
    assert torch.equal(texts, generate(model, ids))


def test_a_configuration_may_lack_special_tokens() -> None:
    base: Any = checks.build("cpmant", "causal")
    assert "pad_token_id" not in base.config.to_dict()
    assert wrap(base, AXES["d3"])._continues_caches() == "none"


# --- Encoder-decoders -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["switch_transformers", "nllb-moe"])
def test_encoder_decoders_with_routers(architecture: str) -> None:
    base = checks.build(architecture, "seq2seq")
    model = wrap_seq2seq(base, AXES["d3"])
    assert not model.self_check().switched_off
    texts = {"input_ids": random_ids(3, 9), "decoder_input_ids": random_ids(3, 7, 1)}
    labels = texts["decoder_input_ids"]
    assert model(**texts, labels=labels).loss.isfinite()
    with pytest.raises(EquiLMError, match=r"output_router_logits: the loss that .* adds for its routers"):
        model(**texts, labels=labels, output_router_logits=True)
    model.language_model.config.output_router_logits = True
    with pytest.raises(EquiLMError, match="output_router_logits"):
        model(**texts, labels=labels)
    assert model(**texts, labels=labels, output_router_logits=False).loss.isfinite()


def test_a_decoder_with_a_tower_for_sounds_is_a_causal_model(tmp_path: Path) -> None:
    base: Any = checks.build("qwen2_audio", "seq2seq")
    tokenizer: PreTrainedTokenizerBase = word_tokenizer()
    base.resize_token_embeddings(len(tokenizer))
    with pytest.raises(EquiLMError, match=r"Qwen2Audio\w+ is a decoder, .* Wrap it with EquiLMForCausalLM"):
        wrap_seq2seq(base)
    with pytest.raises(EquiLMError, match="is not an encoder-decoder"):
        EquiLMForSeq2SeqLM.from_base(base, tokenizer)
    base.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model = EquiLMForCausalLM.from_base(str(tmp_path))
    assert type(model.language_model) is type(base)
    ids = torch.tensor([tokenizer.encode("The man worked as")])
    with torch.no_grad():
        logits = model(input_ids=ids).logits
        model.save_pretrained(tmp_path / "wrapped")
        loaded = EquiLMForCausalLM.from_pretrained(tmp_path / "wrapped")
        assert torch.equal(loaded(input_ids=ids).logits, logits)
