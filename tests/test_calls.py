"""Every way to call `forward`: losses, outputs as tuples or of some layers, and keywords it does not know."""

import warnings
from typing import Any

import pytest
import torch
from cache_models import cache_model
from models import AXES, VOCAB, random_ids, tiny_model, wrap
from seq2seq_models import tiny_seq2seq, wrap_seq2seq
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, BatchEncoding, DynamicCache

from equilm import EquiLMError
from equilm._compat import CACHE


def fair_logits(model: Any, ids: Tensor, **given: Any) -> Tensor:
    """The definition, with gradients: (B, T, V)."""
    base = model.language_model
    rows = [base(input_ids=row[ids], use_cache=False, **given).logits[..., row] for row in model.permutation]
    return torch.stack(rows).mean(0)


class TestLosses:
    """The cross-entropy is transformers' own, of the fair logits."""

    @pytest.mark.parametrize("architecture", ["llama", "gemma2"])
    def test_shift_labels_are_the_targets(self, architecture: str) -> None:
        model, ids = wrap(tiny_model(architecture), AXES["d3"]), random_ids(3, 8)
        shifted = random_ids(3, 8, seed=1).masked_fill(torch.rand(3, 8) < 0.3, -100)
        with torch.no_grad():
            loss = model(input_ids=ids, labels=ids, shift_labels=shifted).loss
            plain = model(input_ids=ids, labels=ids).loss
            expected = cross_entropy(fair_logits(model, ids).flatten(0, 1), shifted.flatten())
        torch.testing.assert_close(loss, expected)
        assert abs(loss - plain) > 0.01

    @pytest.mark.parametrize("items", [torch.tensor(40), 40])
    def test_num_items_in_batch_divides_the_sum(self, items: Any) -> None:
        model, ids = wrap(tiny_model("llama"), AXES["d3"]), random_ids(3, 8)
        with torch.no_grad():
            loss = model(input_ids=ids, labels=ids, num_items_in_batch=items).loss
            logits = fair_logits(model, ids)[:, :-1]
            expected = cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="sum") / 40
        torch.testing.assert_close(loss, expected)

    @pytest.mark.parametrize("how", ["argument", "configuration"])
    def test_router_losses_stay_in_the_loss(self, how: str) -> None:
        """Mixtral's: the base model's own over all the permuted texts, each counted once."""
        model = wrap(cache_model("mixtral", output_router_logits=how == "configuration"), AXES["d3"])
        ids, mask = random_ids(2, 9), torch.ones(2, 9, dtype=torch.int64)
        mask[0, :3] = 0
        labels = ids.masked_fill(mask == 0, -100)
        asked = {"output_router_logits": True} if how == "argument" else {}
        loss = model(input_ids=ids, attention_mask=mask, labels=labels, **asked).loss

        logits = fair_logits(model, ids, attention_mask=mask)[:, :-1]
        own = cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten())
        rows = torch.cat([row[ids] for row in model.permutation])
        aux = model.language_model(
            input_ids=rows, attention_mask=mask.repeat(3, 1), use_cache=False, output_router_logits=True
        ).aux_loss
        expected = own + 0.5 * aux
        torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
        assert 0.5 * aux > 0.1
        if how == "argument":
            without = model(input_ids=ids, attention_mask=mask, labels=labels, output_router_logits=False).loss
            torch.testing.assert_close(without, own, atol=1e-5, rtol=1e-5)
        ours, theirs = (torch.autograd.grad(one, list(model.parameters())) for one in (loss, expected))
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)

    def test_router_losses_are_fair(self) -> None:
        model = wrap(cache_model("mixtral", output_router_logits=True), AXES["d3"])
        ids = random_ids(2, 9)
        with torch.no_grad():
            losses = [model(input_ids=image, labels=image).loss for image in model.action.orbit(ids)]
        torch.testing.assert_close(torch.stack(losses), losses[0].expand(3), atol=1e-5, rtol=1e-5)


class TestOutputs:
    """What comes back, and how."""

    @pytest.mark.parametrize("architecture", ["llama", "gemma2", "mixtral"])
    def test_a_tuple_where_a_tuple_is_asked_for(self, architecture: str) -> None:
        base = cache_model(architecture) if architecture == "mixtral" else tiny_model(architecture)
        model, ids = wrap(base, AXES["d3"]), random_ids(2, 7)
        with torch.no_grad():
            whole = model(input_ids=ids, labels=ids, use_cache=False)
            loss, logits = model(input_ids=ids, labels=ids, use_cache=False, return_dict=False)
            assert torch.equal(loss, whole.loss) and torch.equal(logits, whole.logits)
            model.config.return_dict = False
            loss, logits = model(input_ids=ids, labels=ids, use_cache=False)
            assert torch.equal(loss, whole.loss)
            assert torch.equal(model(input_ids=ids, return_dict=True).logits, whole.logits)

    def test_a_tuple_of_the_base_inside_plain(self) -> None:
        model, ids = wrap(tiny_model("llama")), random_ids(2, 7)
        with torch.no_grad(), model.plain() as base:
            (logits,) = model(input_ids=ids, use_cache=False, return_dict=False)
            assert torch.equal(logits, base(input_ids=ids).logits)

    @pytest.mark.parametrize("layers", [[1], [0, 2], True])
    def test_hidden_states_of_some_layers(self, layers: Any) -> None:
        model, ids = wrap(tiny_model("llama"), AXES["d3"]), random_ids(2, 7)
        with torch.no_grad():
            ours = model(input_ids=ids, output_hidden_states=layers).hidden_states
            theirs = model.language_model(input_ids=ids, output_hidden_states=layers).hidden_states
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert (one is None) == (other is None)
            if other is not None:
                torch.testing.assert_close(one, other)

    @pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma3"])
    def test_the_configuration_has_the_size_of_the_vocabulary(self, architecture: str, tmp_path: Any) -> None:
        model = wrap(tiny_model(architecture))
        assert model.config.vocab_size == VOCAB
        model.config.save_pretrained(tmp_path)
        assert AutoConfig.from_pretrained(tmp_path).vocab_size == VOCAB
        model.resize_token_embeddings(VOCAB + 3)
        assert model.config.vocab_size == VOCAB + 3
        model.config.vocab_size = VOCAB  # as a user of transformers may set it
        assert model.config.get_text_config().vocab_size == VOCAB


UNKNOWN = {
    "pixel_values": torch.zeros(1, 3, 4, 4),
    "past_states": DynamicCache(),
    "prefix": [torch.zeros(1, 4)],
    "encoder_outputs": (torch.zeros(1, 4, 32),),
    "block_table": {"rows": torch.zeros(1)},
}


class TestUnknownKeywords:
    """A tensor or a cache under a name that is not known is refused: the permuted texts would not have it."""

    @pytest.mark.parametrize("name", UNKNOWN)
    def test_what_may_hold_a_tensor_is_refused_by_name(self, name: str) -> None:
        model = wrap(tiny_model("llama"))
        with pytest.raises(EquiLMError, match=f"what the group does to {name}, a "):
            model(input_ids=random_ids(1, 4), **{name: UNKNOWN[name]})

    def test_flags_are_handed_on(self) -> None:
        model, ids = wrap(tiny_model("llama")), random_ids(1, 4)
        with torch.no_grad():
            expected = model(input_ids=ids).logits
            assert torch.equal(model(input_ids=ids, output_attentions=False, pixel_values=None).logits, expected)

    def test_generate_refuses_tensors_of_other_names(self) -> None:
        model: Any = wrap(tiny_model("llama"))
        ids = random_ids(1, 4)
        for name in ("pixel_values", "input_features", "image_grid_thw"):
            with pytest.raises(EquiLMError, match=f"what the group does to {name}, a Tensor"):
                model.generate(ids, **{name: torch.ones(1, 3)}, max_new_tokens=2)
        with pytest.raises(ValueError, match="not used by the model"):  # transformers' own, for a misspelt setting
            model.generate(ids, max_new_token=2)

    def test_a_4d_mask_belongs_to_each_text(self) -> None:
        model, ids = wrap(tiny_model("llama"), AXES["d3"]), random_ids(2, 6)
        blocks = torch.block_diag(*(torch.ones(3, 3),) * 2).tril().bool()[None, None].expand(2, 1, 6, 6)
        positions = torch.arange(3).repeat(2)[None].expand(2, 6)
        with torch.no_grad():
            both = model(input_ids=ids, attention_mask=blocks, position_ids=positions).logits
            parts = [model(input_ids=part).logits for part in ids.split(3, 1)]
        torch.testing.assert_close(both, torch.cat(parts, 1), atol=1e-5, rtol=1e-5)


def test_the_tokenizers_output_goes_straight_into_forward_and_generate() -> None:
    """Token types too, which llama does not take and GPT-2 does."""
    for architecture in ("llama", "gpt2"):
        model: Any = wrap(tiny_model(architecture))
        ids = random_ids(2, 5)
        encoded = BatchEncoding({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
        with torch.no_grad():
            expected = model(**encoded).logits
            encoded["token_type_ids"] = torch.zeros_like(ids)
            found = model(**encoded).logits
        if architecture == "llama":
            assert torch.equal(found, expected)
        assert model.generate(**encoded, max_new_tokens=2, do_sample=False).shape == (2, 7)


def test_nothing_warns_of_our_making() -> None:
    """No FutureWarning from the names of the cache, in forward, generate, beams and for an encoder-decoder."""
    model, ids = wrap(tiny_model("llama"), AXES["d3"]), random_ids(2, 5)
    seq2seq: Any = wrap_seq2seq(tiny_seq2seq("bart"), AXES["d3"])
    settings: dict[str, Any] = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 3}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for one in (model, seq2seq):
            one.generate(ids, **settings)
            one.generate(ids, **settings, num_beams=2, return_dict_in_generate=True, do_sample=False)
            with one.plain():
                one.generate(ids, **settings)
        output = model(input_ids=ids, use_cache=True)
        model(input_ids=ids[:, :1], use_cache=True, **{CACHE: output[CACHE]})
