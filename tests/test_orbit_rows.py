"""Paying for the orbit only: which rows the base model runs on, and that it changes nothing."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from models import ARCHITECTURES, AXES, PAD, random_ids, tiny_model, wrap
from torch import Tensor, nn
from transformers import DynamicCache

from equilm import EquiLMError, EquiLMForCausalLM
from equilm._base_weights import has_linear_head
from equilm._compat import CACHE, cache_of

THREE_AXES = [[[10, 11]], [[12, 13]], [[14, 15]]]
NEUTRAL = [3, 30, 40, 50]


@contextmanager
def watched(module: Any) -> Iterator[list[tuple[int, ...]]]:
    """The shapes of what a module is called with: token ids ``(rows, T)`` or hidden states ``(rows, T, H)``."""
    shapes: list[tuple[int, ...]] = []

    def note(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        shapes.append(tuple((args[0] if args else kwargs["input_ids"]).shape))

    handle = module.register_forward_pre_hook(note, with_kwargs=True)
    yield shapes
    handle.remove()


def full(model: EquiLMForCausalLM) -> EquiLMForCausalLM:
    """The same model on all |G|·B rows, each with its own logits: the reference."""
    reference = EquiLMForCausalLM(model.config, model.language_model).eval()
    reference._shares_rows = reference._projects_once = False
    return reference


def generate(model: EquiLMForCausalLM, ids: Tensor, **kwargs: Any) -> Any:
    return model.generate(ids, attention_mask=(ids != PAD).long(), max_new_tokens=6, eos_token_id=None, **kwargs)


def decoder(model: EquiLMForCausalLM) -> Any:
    model._continues_caches()  # found out beforehand, so that these passes are not counted
    return model.language_model.get_decoder()


# --- The rows --------------------------------------------------------------------------------------------------------


def test_neutral_text_runs_one_row() -> None:
    model = wrap(tiny_model("llama"), THREE_AXES)
    with watched(decoder(model)) as shapes, torch.no_grad():
        model(input_ids=torch.tensor([NEUTRAL, NEUTRAL[::-1]]))
    assert shapes == [(2, 4)]


@pytest.mark.parametrize(("words", "rows"), [([10], 2), ([10, 11, 10], 2), ([10, 13], 4), ([15, 13, 11], 8)])
def test_text_pays_for_the_axes_it_mentions(words: list[int], rows: int) -> None:
    model = wrap(tiny_model("llama"), THREE_AXES)
    with watched(decoder(model)) as shapes, torch.no_grad():
        model(input_ids=torch.tensor([NEUTRAL + words]))
    assert shapes == [(rows, 4 + len(words))]


def test_the_cache_forks_at_the_first_equality_word() -> None:
    model = wrap(tiny_model("llama"), THREE_AXES)
    cache: Any = DynamicCache()
    ids = torch.tensor([[3, 30, 10, 4, 13, 5]])
    with watched(decoder(model)) as shapes, torch.no_grad():
        steps = [model(input_ids=ids[:, t : t + 1], past_key_values=cache).logits for t in range(6)]
    assert [rows for rows, _ in shapes] == [1, 1, 2, 2, 4, 4]
    with torch.no_grad():
        whole = full(model)(input_ids=ids).logits
    torch.testing.assert_close(torch.cat(steps, 1), whole, atol=1e-5, rtol=0)


def test_equal_prompts_share_their_prefill() -> None:
    model = wrap(tiny_model("llama"), AXES["d2"])
    ids = torch.tensor([[3, 10, 30]])
    with watched(decoder(model)) as shapes:
        generate(model, ids, do_sample=True, num_return_sequences=100)
    assert shapes[0] == (2, 3), "the orbit of one prompt, not 100 times the group"
    with watched(decoder(model)) as shapes:
        generate(model, torch.tensor([[3, 10, 30], [3, 11, 30], [3, 40, 30]]))
    assert shapes[0][0] == 3, "the man, the woman and the neutral prompt"


def test_the_prefix_before_the_first_equality_word_runs_once() -> None:
    model = wrap(tiny_model("llama"), AXES["d4"])
    ids = torch.cat([random_ids(2, 60, seed=1).clamp(min=30), torch.tensor([[10, 3], [11, 3]])], 1)
    with watched(decoder(model)) as shapes:
        text = generate(model, ids)
    assert shapes[:2] == [(2, 60), (8, 2)]
    assert torch.equal(text, generate(full(model), ids))
    with watched(decoder(model)) as shapes:  # too short to be worth reading the weights once more
        generate(model, ids[:, -6:])
    assert shapes[0] == (8, 6)


def test_masks_tell_contexts_apart_and_masked_tokens_do_not() -> None:
    model = wrap(tiny_model("llama"), AXES["d2"])
    ids, mask = torch.tensor([[3, 30, 10, 4], [3, 30, 10, 4]]), torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]])
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=mask).logits[:, -1]
        torch.testing.assert_close(logits, full(model)(input_ids=ids, attention_mask=mask).logits[:, -1])
    assert (logits[0] - logits[1]).abs().max() > 0.1
    with watched(decoder(model)) as shapes, torch.no_grad():
        model(input_ids=torch.tensor([[0, 30, 4], [11, 30, 4]]), attention_mask=torch.tensor([[0, 1, 1], [0, 1, 1]]))
    assert shapes == [(1, 3)]


def test_texts_that_differ_in_token_types_share_no_row() -> None:
    base = tiny_model("gpt2")
    model = wrap(base)
    ids, types = random_ids(1, 6).repeat(2, 1), torch.zeros(2, 6, dtype=torch.long)
    ids[:, 2], types[1, 3:] = 10, 7
    expected = torch.stack(
        [
            model.action.act_on_logits(
                base(model.action.act(ids, g), token_type_ids=types).logits, model.group.inverse(g)
            )
            for g in model.group.elements
        ]
    ).mean(0)
    assert not torch.allclose(expected[0], expected[1], atol=0.1)
    torch.testing.assert_close(model(input_ids=ids, token_type_ids=types).logits, expected, atol=1e-4, rtol=0)
    # Step by step with a cache, too.
    cache: Any = None
    steps = []
    for t in range(6):
        output = model(input_ids=ids[:, t, None], token_type_ids=types[:, t, None], cache=cache, use_cache=True)
        cache = cache_of(output)
        steps.append(output.logits)
    torch.testing.assert_close(torch.cat(steps, 1), expected, atol=1e-4, rtol=0)


def test_repeating_texts_costs_nothing_and_reordering_drops_what_is_not_needed() -> None:
    model = wrap(tiny_model("llama"), AXES["d2"])
    cache: Any = DynamicCache()
    with torch.no_grad():
        model(input_ids=torch.tensor([[3, 10], [3, 12], [3, 40]]), past_key_values=cache)
    assert cache.layers[0].keys.shape[0] == 5
    cache.batch_repeat_interleave(3)
    assert cache.layers[0].keys.shape[0] == 5 and cache.branches.shape == (2, 9)
    cache.reorder_cache(torch.tensor([8, 0, 1]))
    assert cache.layers[0].keys.shape[0] == 3
    cache.batch_select_indices(torch.tensor([0]))
    assert cache.layers[0].keys.shape[0] == 1


# --- It changes nothing ----------------------------------------------------------------------------------------------


@given(
    seed=st.integers(0, 10**6),
    axes=st.sampled_from([*sorted(AXES), "three"]),
    architecture=st.sampled_from(ARCHITECTURES),
    chunks=st.lists(st.integers(1, 4), min_size=1, max_size=4),
)
@example(seed=917760, axes="2x3", architecture="llama", chunks=[1, 1, 1])
@settings(max_examples=60)
def test_every_fast_path_equals_all_rows(seed: int, axes: str, architecture: str, chunks: list[int]) -> None:
    base = tiny_model(architecture)
    with torch.no_grad():  # of a trained model's size: with the tests' large weights, rounding alone reaches 1.7e-5
        for parameter in base.parameters():
            parameter.mul_(0.25)
    model = wrap(base, THREE_AXES if axes == "three" else AXES[axes])
    reference = full(model)
    generator = torch.Generator().manual_seed(seed)
    batch, length = 4, 4 + sum(chunks)
    ids = random_ids(batch, length, seed)
    neutral = torch.rand(batch, length, generator=generator) < 0.6  # so that words come late, or never
    ids = torch.where(neutral, ids.clamp(min=30), ids)
    ids[1] = ids[0]  # equal prompts, that may part
    ids[1, -1] = 33
    mask = torch.ones_like(ids)
    mask[2, :3] = 0
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    caches: list[Any] = [DynamicCache(config=model.config.get_text_config()) for _ in range(2)]
    start = 0
    order = torch.arange(batch)
    with torch.no_grad():
        for size in (4, *chunks):
            end = start + size
            logits = [
                m(
                    input_ids=ids[order, start:end],
                    attention_mask=mask[order, :end],
                    position_ids=positions[order, start:end],
                    past_key_values=cache,
                ).logits
                for m, cache in zip((model, reference), caches, strict=True)
            ]
            kept = mask[order, start:end].bool()
            torch.testing.assert_close(logits[0][kept], logits[1][kept], atol=1e-5, rtol=1e-5)
            # What beam search does: keep some texts, repeat some, in another order.
            choice = torch.randint(0, batch, (batch,), generator=generator)
            order = order[choice]
            for cache in caches:
                cache.reorder_cache(choice)
            start = end


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("kwargs", [{}, {"num_beams": 3, "num_return_sequences": 3}], ids=["greedy", "beams"])
def test_texts_equal_those_of_all_rows(architecture: str, kwargs: dict[str, Any]) -> None:
    model = wrap(tiny_model(architecture), AXES["2x3"])
    ids = random_ids(5, 8, seed=4)
    ids[:, 2], ids[:, 3] = 10, 21  # no ties
    ids[0, :2] = PAD
    assert torch.equal(generate(model, ids, **kwargs), generate(full(model), ids, **kwargs))


def test_gradients_equal_those_of_all_rows() -> None:
    model = wrap(tiny_model("llama"), AXES["d3"])
    ids = torch.tensor([[3, 30, 40, 41], [3, 10, 40, 14], [3, 10, 40, 14]])
    gradients = []
    for m in (model, full(model)):
        m.zero_grad()
        m(input_ids=ids, labels=ids).loss.backward()
        gradients.append([grad.clone() for p in m.language_model.parameters() if (grad := p.grad) is not None])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)


def test_cropping_goes_back_before_the_fork() -> None:
    model = wrap(tiny_model("llama"), THREE_AXES)
    ids, other = torch.tensor([[3, 30, 10, 4]]), torch.tensor([[3, 30, 13, 4]])
    cache: Any = DynamicCache()
    with torch.no_grad():
        model(input_ids=ids, past_key_values=cache)
        cache.crop(-2)
        logits = model(input_ids=other[:, 2:], past_key_values=cache).logits
        torch.testing.assert_close(logits, model(input_ids=other).logits[:, 2:], atol=1e-5, rtol=0)


def test_a_prefix_cache_is_copied_and_continued() -> None:
    model = wrap(tiny_model("llama"), AXES["d2"])
    prefix = torch.tensor([[3, 10, 30, 31]])
    cache: Any = DynamicCache()
    with torch.no_grad():
        model(input_ids=prefix, past_key_values=cache)
        for end in ([[12, 5]], [[40, 41]]):
            ids = torch.tensor(end)
            again = model(input_ids=ids, past_key_values=copy.deepcopy(cache)).logits
            whole = model(input_ids=torch.cat([prefix, ids], 1)).logits[:, 4:]
            torch.testing.assert_close(again, whole, atol=1e-5, rtol=0)


def test_caches_that_do_not_fit_are_refused() -> None:
    model = wrap(tiny_model("llama"))
    plain: Any = DynamicCache()
    with torch.no_grad():
        model.language_model(input_ids=torch.tensor([[3, 4]]), **{CACHE: plain})
        with pytest.raises(EquiLMError, match="not filled by this EquiLM"):
            model(input_ids=torch.tensor([[5]]), past_key_values=plain)
        ours = cache_of(model(input_ids=torch.tensor([[3, 4]])))
        with pytest.raises(EquiLMError, match="holds 1 texts, but input_ids 2"):
            model(input_ids=torch.tensor([[5], [6]]), past_key_values=ours)


def test_chunked_prefill() -> None:
    model = wrap(tiny_model("llama"), AXES["2x3"])
    ids = random_ids(2, 11)
    ids[:, 0], ids[:, 1] = 10, 21
    assert torch.equal(generate(model, ids, prefill_chunk_size=4), generate(model, ids))


@pytest.mark.allow_deprecated  # transformers' own call of the assistant
def test_assisted_by_the_plain_model() -> None:
    model = wrap(tiny_model("llama"), AXES["2x3"])
    ids = torch.tensor([[3, 10, 30, 21, 5]])
    assert torch.equal(generate(model, ids, assistant_model=model.language_model), generate(model, ids))


# --- Projecting once -------------------------------------------------------------------------------------------------


def test_the_head_sees_the_mean_hidden_state_only() -> None:
    model = wrap(tiny_model("llama"), AXES["d4"])
    ids = random_ids(2, 7)
    with watched(model.get_output_embeddings()) as shapes, torch.no_grad():
        model(input_ids=ids)
        model(input_ids=ids, logits_to_keep=2)
    assert shapes == [(2, 7, 32), (2, 2, 32)]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_which_heads_are_linear(architecture: str) -> None:
    assert has_linear_head(tiny_model(architecture)) == (architecture != "gemma2"), "gemma2 caps its logits"


def test_a_multiplier_is_found() -> None:
    from transformers import CohereConfig, CohereForCausalLM, GraniteConfig, GraniteForCausalLM

    sizes: dict[str, Any] = {
        "vocab_size": 61,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    for base in (
        CohereForCausalLM(CohereConfig(**sizes)),
        GraniteForCausalLM(GraniteConfig(**sizes, logits_scaling=2.0)),
    ):
        assert not has_linear_head(base)
        model = wrap(base.eval())
        ids = random_ids(2, 5)
        with torch.no_grad():
            torch.testing.assert_close(model(input_ids=ids).logits, full(model)(input_ids=ids).logits)


def test_a_head_changed_after_wrapping_is_not_taken_for_linear() -> None:
    model = wrap(tiny_model("llama"), AXES["d2"])

    class Capped(nn.Linear):
        def forward(self, *inputs: Tensor) -> Tensor:
            return 5 * torch.tanh(super().forward(*inputs) / 5)

    head: Any = model.get_output_embeddings()
    head.__class__ = Capped
    ids = random_ids(2, 6)
    with torch.no_grad():
        torch.testing.assert_close(model(input_ids=ids).logits, full(model)(input_ids=ids).logits)


def test_a_loaded_model_projects_once_too(tmp_path: Any) -> None:
    wrap(tiny_model("llama")).save_pretrained(tmp_path)
    assert EquiLMForCausalLM.from_pretrained(tmp_path)._projects_once


# --- Fixed shapes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "mistral"])
@pytest.mark.parametrize(
    "kwargs",
    [{}, {"num_beams": 3}, {"prefill_chunk_size": 3}, {"prefill_chunk_size": 3, "num_beams": 2}],
    ids=["greedy", "beams", "chunked", "chunked beams"],
)
def test_a_static_cache_keeps_all_rows(architecture: str, kwargs: dict[str, Any]) -> None:
    model = wrap(tiny_model(architecture), AXES["d3"])
    ids = torch.tensor([[3, 10, 30, 4], [3, 40, 14, 5]])
    with watched(decoder(model)) as shapes:
        text = generate(model, ids, cache_implementation="static", **kwargs)
    assert {rows for rows, _ in shapes} == {3 * 2 * kwargs.get("num_beams", 1)}
    assert torch.equal(text, generate(model, ids, **kwargs))


@pytest.mark.slow
def test_compiled_decoding_without_graph_breaks() -> None:
    from transformers import CompileConfig, StaticCache

    model = wrap(tiny_model("llama"), AXES["d3"])
    ids = torch.tensor([[3, 10, 30, 4], [3, 40, 14, 5]])
    config: Any = CompileConfig(fullgraph=True, backend="aot_eager")  # needs no C++ compiler
    config.mode = None
    config._compile_all_devices = True  # transformers compiles on accelerators only, unless told so
    text = generate(model, ids, cache_implementation="static", compile_config=config)
    assert torch.equal(text, generate(model, ids))

    compiled = torch.compile(model.forward, fullgraph=True, backend="eager")
    cache = StaticCache(config=model.config.get_text_config(), max_cache_len=8)
    with torch.no_grad():
        steps: list[Any] = [compiled(input_ids=ids[:, t : t + 1], past_key_values=cache).logits for t in range(4)]
        torch.testing.assert_close(torch.cat(steps, 1), model(input_ids=ids).logits, atol=1e-5, rtol=0)
