"""EquiLM's forward pass: the definition, the guarantee, and what a wrapped model must still do."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from models import ARCHITECTURES, AXES, EOS, PAD, VOCAB, random_ids, tiny_model, wrap
from transformers import AutoModelForCausalLM, DynamicCache

from equilm import EquiLMConfig, EquiLMError, EquiLMForCausalLM
from equilm._compat import cache_of
from equilm.testing import assert_equivariant, equivariance_errors, log_prob_gap


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
class TestEveryArchitecture:
    def test_logits_equal_the_definition(self, architecture: str, axes: str) -> None:
        base = tiny_model(architecture)
        model = wrap(base, AXES[axes])
        ids, table = random_ids(3, 9), model.permutation
        with torch.no_grad():
            expected = torch.stack([base(input_ids=row[ids]).logits[..., row] for row in table]).mean(0)
            torch.testing.assert_close(model(input_ids=ids).logits, expected, atol=1e-5, rtol=0)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
    def test_equivariant(self, architecture: str, axes: str, dtype: torch.dtype) -> None:
        model = wrap(tiny_model(architecture, dtype=dtype), AXES[axes])
        seed = int(torch.seed() % 2**31)  # fresh ids in every run
        ids = random_ids(4, 11, seed)
        assert_equivariant(model, ids)
        with model.plain():
            plain = max(entry.error for entry in equivariance_errors(model, ids))
        assert plain > 0.5, "the base model must miss it clearly, or the check above says nothing"

    def test_eq_4(self, architecture: str, axes: str) -> None:
        model = wrap(tiny_model(architecture), AXES[axes])
        ids = random_ids(4, 20, seed=3)
        assert log_prob_gap(model, model.action, ids, prompt_length=4).max() <= 1e-4
        assert log_prob_gap(model.language_model, model.action, ids, prompt_length=4).max() > 0.1

    def test_cache_gives_the_logits_of_the_whole_text(self, architecture: str, axes: str) -> None:
        model = wrap(tiny_model(architecture), AXES[axes])
        ids = random_ids(2, 14)
        with torch.no_grad():
            whole = model(input_ids=ids).logits
            step = model(input_ids=ids[:, :6], use_cache=True)
            parts = [step.logits]
            for start, end in ((6, 7), (7, 11), (11, 14)):
                step = model(input_ids=ids[:, start:end], past_key_values=cache_of(step), use_cache=True)
                parts.append(step.logits)
        torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-4, rtol=0)

    def test_left_padding_changes_nothing(self, architecture: str, axes: str) -> None:
        model = wrap(tiny_model(architecture), AXES[axes])
        ids = random_ids(1, 8)
        padded = torch.cat([torch.full((1, 3), PAD), ids], 1)
        mask = (padded != PAD).long()
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        with torch.no_grad():
            out = model(input_ids=padded, attention_mask=mask, position_ids=positions).logits[:, 3:]
            torch.testing.assert_close(out, model(input_ids=ids).logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_relaxed_equality(architecture: str, axes: str) -> None:
    base = tiny_model(architecture)
    # 13 is both an equality and a general word, so its list leaves E; 30 and 31 are general only.
    model = wrap(base, AXES[axes], general_ids=[13, 30, 31], relaxed=True)
    ids = random_ids(3, 10)
    assert_equivariant(model, ids)  # on E′ ∪ N
    assert not model.action.moved[13] and model.action.moved.any()
    with torch.no_grad():
        logits, plain = model(input_ids=ids).logits, base(input_ids=ids).logits
    general = [13, 30, 31]
    torch.testing.assert_close(logits[..., general], plain[..., general], atol=1e-5, rtol=0)
    assert (logits - plain).abs().max() > 0.1
    strict = wrap(base, AXES[axes])
    with torch.no_grad():
        assert (strict(input_ids=ids).logits[..., general] - plain[..., general]).abs().max() > 0.1


@given(seed=st.integers(0, 10_000), axes=st.sampled_from(sorted(AXES)), length=st.integers(1, 24))
def test_equivariant_on_any_text(seed: int, axes: str, length: int) -> None:
    model = wrap(tiny_model("llama", seed=seed % 7), AXES[axes])
    assert_equivariant(model, random_ids(2, length, seed))


def test_neutral_text_gives_equal_logits_to_a_whole_list() -> None:
    model = wrap(tiny_model("llama"), AXES["d3"])
    neutral = torch.tensor([[3, 30, 40, 50]])
    logits = model(input_ids=neutral).logits[0, -1]
    for ids in AXES["d3"][0]:
        torch.testing.assert_close(logits[ids], logits[ids[0]].expand(3), atol=1e-5, rtol=0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_wrapping_leaves_the_base_unchanged(architecture: str) -> None:
    base = tiny_model(architecture)
    weights, config = copy.deepcopy(base.state_dict()), base.config.to_dict()
    ids = random_ids(2, 6)
    with torch.no_grad():
        before = base(input_ids=ids).logits
    model = wrap(base)
    with torch.no_grad():
        model(input_ids=ids)
        assert torch.equal(base(input_ids=ids).logits, before)
    assert model.language_model is base
    assert base.config.to_dict() == config
    assert all(torch.equal(base.state_dict()[name], value) for name, value in weights.items())


def test_wrapping_keeps_weights_that_are_not_marked_as_initialized() -> None:
    base = tiny_model("llama")
    base.lm_head = torch.nn.Linear(32, VOCAB, bias=False)  # as an adapter library would add
    weight = base.lm_head.weight.clone()
    wrap(base)
    assert torch.equal(base.lm_head.weight, weight)


def test_labels_give_the_loss_of_the_averaged_logits_and_gradients_flow() -> None:
    model = wrap(tiny_model("llama"))
    ids = random_ids(3, 8)
    labels = ids.masked_fill(torch.rand(ids.shape) < 0.3, -100)
    output = model(input_ids=ids, labels=labels)
    expected = torch.nn.functional.cross_entropy(output.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    torch.testing.assert_close(output.loss, expected)
    output.loss.backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


@pytest.mark.parametrize("architecture", ["llama", "opt"])
def test_logits_to_keep(architecture: str) -> None:
    model = wrap(tiny_model(architecture))
    ids = random_ids(2, 8)
    with torch.no_grad():
        whole = model(input_ids=ids).logits
        torch.testing.assert_close(model(input_ids=ids, logits_to_keep=3).logits, whole[:, -3:])
        kept = torch.tensor([1, 5])
        torch.testing.assert_close(model(input_ids=ids, logits_to_keep=kept).logits, whole[:, kept])


def test_hidden_states_and_attentions_are_the_unpermuted_rows() -> None:
    base = tiny_model("gpt2")
    base.set_attn_implementation("eager")
    model, ids = wrap(base), random_ids(2, 5)
    with torch.no_grad():
        fair = model(input_ids=ids, output_hidden_states=True, output_attentions=True)
        plain = base(input_ids=ids, output_hidden_states=True, output_attentions=True)
    for ours, theirs in zip(fair.hidden_states, plain.hidden_states, strict=True):
        torch.testing.assert_close(ours, theirs)
    for ours, theirs in zip(fair.attentions, plain.attentions, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_hidden_states_cover_a_prefix_that_would_otherwise_run_by_itself() -> None:
    model = wrap(tiny_model("llama"))
    ids = torch.cat([random_ids(1, 60).clamp(min=30), torch.tensor([[10, 3]])], 1)
    cache: Any = DynamicCache()
    with torch.no_grad():
        output = model(input_ids=ids, past_key_values=cache, logits_to_keep=1, output_hidden_states=True)
    assert output.hidden_states is not None and output.hidden_states[0].shape[:2] == (1, 62)


def test_wrapping_leaves_the_random_state_alone() -> None:
    base = tiny_model("llama")
    state = torch.get_rng_state()
    wrap(base)
    assert torch.equal(torch.get_rng_state(), state)


def test_plain_switches_fairness_off_inside_only() -> None:
    base = tiny_model("llama")
    model, ids = wrap(base), random_ids(2, 6)

    def text(of: Any) -> Any:
        return of.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=5)

    with torch.no_grad():
        fair, unfair = model(input_ids=ids).logits, base(input_ids=ids).logits
        assert not torch.allclose(fair, unfair, atol=0.1)
        with model.plain() as inner:
            assert inner is base and model.is_plain
            torch.testing.assert_close(model(input_ids=ids).logits, unfair)
            assert torch.equal(text(model), text(base))
        assert not model.is_plain
        torch.testing.assert_close(model(input_ids=ids).logits, fair)


def test_plain_holds_for_its_own_thread_and_model() -> None:
    from concurrent.futures import ThreadPoolExecutor

    model, other = wrap(tiny_model("llama")), wrap(tiny_model("llama"))
    with model.plain(), ThreadPoolExecutor(1) as pool:
        assert not pool.submit(lambda: model.is_plain).result()
        assert not other.is_plain


def test_plain_is_left_when_its_block_raises() -> None:
    model = wrap(tiny_model("llama"))
    with pytest.raises(RuntimeError, match="inside"), model.plain():
        raise RuntimeError("inside")
    assert not model.is_plain


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_save_and_load(architecture: str, dtype: torch.dtype, tmp_path: Path) -> None:
    model = wrap(tiny_model(architecture, dtype=dtype), AXES["2x3"], general_ids=[40])
    model.save_pretrained(tmp_path)
    loaded: Any = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(loaded) is EquiLMForCausalLM and loaded.dtype == dtype
    assert torch.equal(loaded.permutation, model.permutation)
    ids = random_ids(2, 7)
    with torch.no_grad():
        assert torch.equal(loaded(input_ids=ids).logits, model(input_ids=ids).logits)
    assert loaded.generation_config.eos_token_id == EOS
    tied = model.language_model.config.tie_word_embeddings
    assert (loaded.get_output_embeddings().weight is loaded.get_input_embeddings().weight) == tied


def test_resized_embeddings_stay_fixed() -> None:
    model = wrap(tiny_model("llama"))
    model.resize_token_embeddings(VOCAB + 4)
    assert model.vocab_size == model.config.vocab_size == VOCAB + 4
    ids = torch.cat([random_ids(2, 6), torch.full((2, 1), VOCAB + 1)], 1)
    assert model(input_ids=ids).logits.shape[-1] == VOCAB + 4
    assert_equivariant(model, ids)


def test_inputs_embeds_are_refused() -> None:
    model = wrap(tiny_model("llama"))
    embeds = model.get_input_embeddings()(random_ids(1, 4))
    with pytest.raises(EquiLMError, match="inputs_embeds cannot be permuted"):
        model(inputs_embeds=embeds)
    with pytest.raises(EquiLMError, match="inputs_embeds cannot be permuted"):
        model.generate(inputs_embeds=embeds)


def test_a_table_of_another_vocabulary_is_refused() -> None:
    base = tiny_model("llama")
    with pytest.raises(EquiLMError, match=f"99 is outside the model's vocabulary of {VOCAB}"):
        wrap(base, [[[10, 99]]])
    with pytest.raises(EquiLMError, match="11 stands in two places"):
        wrap(base, [[[10, 11], [11, 12]]])
    with pytest.raises(EquiLMError, match="no word lists"):
        EquiLMForCausalLM(EquiLMConfig(text_config=base.config.to_dict()), base)


def test_relaxed_with_nothing_left_to_swap_is_refused() -> None:
    with pytest.raises(EquiLMError, match="every list holds a general word"):
        wrap(tiny_model("llama"), [[[10, 11]]], general_ids=[11], relaxed=True)
