"""Several texts packed into one row stay apart in each of its permuted copies, under SDPA and under FlashAttention."""

from typing import Any

import pytest
import torch
from flash_stand_in import use_stand_in
from models import AXES, random_ids, tiny_model, wrap
from torch import Tensor

from equilm import EquiLMError, EquiLMForCausalLM

LENGTHS = [5, 1, 7, 4]


@pytest.fixture(params=["llama", "opt", "qwen3"])
def architecture(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def texts() -> list[Tensor]:
    """Texts of different lengths; all but the single token name both axes of a product."""
    generator = torch.Generator().manual_seed(1)
    found = []
    for length in LENGTHS:
        ids = torch.randint(30, 61, (1, length), generator=generator)
        if length > 3:
            ids[0, 1], ids[0, 3] = 10 + length % 2, 20 + length % 3
        found.append(ids)
    return found


def packed(kernel: str) -> dict[str, Any]:
    """The texts end to end in one row, as data collators for each way of saying so give them."""
    ids = torch.cat(texts(), 1)
    positions = torch.cat([torch.arange(length) for length in LENGTHS])[None]
    arguments: dict[str, Any] = {"input_ids": ids, "position_ids": positions}
    if kernel == "offsets":
        offsets = torch.tensor([0, *LENGTHS]).cumsum(0).int()
        arguments |= {"cu_seq_lens_q": offsets, "cu_seq_lens_k": offsets, "max_length_q": 7, "max_length_k": 7}
    if kernel == "mask of ones":  # which transformers takes for no mask under FlashAttention
        arguments["attention_mask"] = torch.ones_like(ids)
    return arguments


def one_by_one(model: EquiLMForCausalLM) -> Tensor:
    """The definition on each text by itself, (1, Σ T, V)."""
    base = model.language_model
    found = []
    with torch.no_grad():
        for ids in texts():
            rows = [base(input_ids=row[ids], use_cache=False).logits[..., row] for row in model.permutation]
            found.append(torch.stack(rows).mean(0))
    return torch.cat(found, 1)


@pytest.mark.parametrize("axes", ["d2", "d3", "2x3"])
def test_restarting_positions_under_sdpa(axes: str) -> None:
    model = wrap(tiny_model("llama"), AXES[axes])
    with torch.no_grad():
        found = model(**packed("positions"), use_cache=False).logits
    torch.testing.assert_close(found, one_by_one(model), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("axes", ["d2", "d3", "2x3"])
@pytest.mark.parametrize("way", ["positions", "offsets", "mask of ones"])
def test_flash_attention(way: str, axes: str, architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = wrap(tiny_model(architecture), AXES[axes])
    expected = one_by_one(model)
    use_stand_in(model.language_model, monkeypatch)
    with torch.no_grad():
        found = model(**packed(way), use_cache=False).logits
        plain = model.language_model(**packed(way), use_cache=False).logits
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert (plain - expected).abs().max() > 0.1


def test_offsets_over_a_batch_of_several_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """``cu_seq_lens_*`` count over the flattened batch: here the rows hold two texts each."""
    model = wrap(tiny_model("llama"), AXES["d3"])
    ids = random_ids(2, 8)
    offsets = torch.tensor([0, 3, 8, 12, 16]).int()
    positions = torch.cat([torch.arange(n) for n in (3, 5, 4, 4)]).view(2, 8)
    lengths = {"max_length_q": 5, "max_length_k": 5}
    given = {"position_ids": positions, "cu_seq_lens_q": offsets, "cu_seq_lens_k": offsets, **lengths}
    with torch.no_grad():
        parts = [model(input_ids=part[None], use_cache=False).logits for part in ids.view(-1).split([3, 5, 4, 4])]
        use_stand_in(model.language_model, monkeypatch)
        found = model(input_ids=ids, use_cache=False, **given).logits
    torch.testing.assert_close(found.view(1, 16, -1), torch.cat(parts, 1), atol=1e-4, rtol=1e-4)


def test_the_loss_and_the_gradients_of_packed_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    model = wrap(tiny_model("llama"), AXES["2x3"])
    labels = torch.cat([ids.clone().index_fill_(1, torch.tensor([0]), -100) for ids in texts()], 1)
    logits = torch.cat([model(input_ids=ids, use_cache=False).logits[:, :-1] for ids in texts()], 1)
    targets = torch.cat([ids[:, 1:] for ids in texts()], 1)
    expected = torch.nn.functional.cross_entropy(logits[0], targets[0])
    use_stand_in(model.language_model, monkeypatch)
    packed_loss = model(**packed("positions"), labels=labels, use_cache=False).loss
    torch.testing.assert_close(packed_loss, expected, atol=1e-5, rtol=1e-5)
    ours, theirs = (torch.autograd.grad(loss, list(model.parameters())) for loss in (packed_loss, expected))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_padding_and_generation_under_flash_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = wrap(tiny_model("llama"), AXES["2x3"])
    ids = random_ids(3, 9, seed=4)
    model.generation_config.eos_token_id = None
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    settings = {"attention_mask": mask, "max_new_tokens": 5, "do_sample": False, "fair_ties": False}
    expected = model.generate(ids, **settings)
    use_stand_in(model.language_model, monkeypatch)
    assert torch.equal(model.generate(ids, **settings), expected)


def test_offsets_that_do_not_fit_are_refused() -> None:
    model, ids = wrap(tiny_model("llama")), random_ids(1, 6)
    offsets = torch.tensor([0, 2, 6]).int()
    for queries, keys in ((offsets, None), (offsets, torch.tensor([0, 3, 6]).int()), (offsets - 1, offsets - 1)):
        with pytest.raises(EquiLMError, match="must be equal and end with the 6 tokens of the batch"):
            model(input_ids=ids, cu_seq_lens_q=queries, cu_seq_lens_k=keys)
