"""Perplexity against plain Python loops over the same model, for both protocols and for fair models."""

import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from models import tiny_model
from transformers import PreTrainedModel, PreTrainedTokenizerBase, T5Config, T5ForConditionalGeneration
from word_models import word_model, word_tokenizer

from equilm import EquiLMError, EquiLMForCausalLM
from equilm.metrics import shared_rows
from equilm.metrics.perplexity import measure_perplexities, perplexities, perplexity, token_nlls

TEXT = "The man was late because he had a job. The nurse is known for kind works and is a woman. A Black person " * 3


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return word_tokenizer()


@pytest.fixture(scope="module")
def models(tokenizer: PreTrainedTokenizerBase) -> dict[str, PreTrainedModel]:
    base = word_model(tokenizer).double()
    fair = {
        f"{axis}{' relaxed' * relaxed}": EquiLMForCausalLM.from_base(base, tokenizer, axes=[axis], relaxed=relaxed)
        for axis in ("gender", "race3")
        for relaxed in (False, True)
    }
    return {"plain": base, **fair}


@torch.no_grad()
def next_token_nll(model: PreTrainedModel, context: list[int], token: int) -> float:
    logits = model(input_ids=torch.tensor([context])).logits[0, -1].tolist()
    return math.log(math.fsum(math.exp(logit) for logit in logits)) - logits[token]


def reference_blocks(model: PreTrainedModel, ids: list[int], size: int) -> list[float]:
    """-log P of each token but the first of each whole block of ``size``."""
    blocks = [ids[start : start + size] for start in range(0, len(ids), size)]
    return [
        next_token_nll(model, block[:place], block[place])
        for block in blocks
        if len(block) == size
        for place in range(1, size)
    ]


def reference_window(model: PreTrainedModel, ids: list[int], size: int, stride: int) -> list[float]:
    """As in the perplexity guide of transformers: windows move on by ``stride``, and score what they see first."""
    nlls, seen = [], 1
    for begin in range(0, len(ids), stride):
        end = min(begin + size, len(ids))
        nlls += [next_token_nll(model, ids[begin:place], ids[place]) for place in range(seen, end)]
        seen = end
        if end == len(ids):
            break
    return nlls


@pytest.mark.parametrize("name", ["plain", "gender", "gender relaxed", "race3"])
@pytest.mark.parametrize(("stride", "batch_size"), [(None, 1), (None, 3), (5, 1), (5, 2)])
def test_agrees_with_a_plain_loop(
    name: str,
    stride: int | None,
    batch_size: int,
    models: dict[str, PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    model, size = models[name], 12
    ids = tokenizer.encode(TEXT)
    nlls = reference_blocks(model, ids, size) if stride is None else reference_window(model, ids, size, stride)
    result = perplexity(model, tokenizer, TEXT, block_size=size, stride=stride, batch_size=batch_size, progress=False)
    assert len(ids) % size and result.tokens == len(nlls)  # so that a last block is dropped, or shorter
    assert result.nll == pytest.approx(math.fsum(nlls), rel=1e-7)
    assert result.perplexity == pytest.approx(math.exp(math.fsum(nlls) / len(nlls)), rel=1e-7)
    if stride is not None:
        assert result.text_tokens == len(ids) and result.words == len(TEXT.split())


def test_word_perplexity_is_that_of_lm_evaluation_harness_where_all_tokens_are_scored(
    models: dict[str, PreTrainedModel], tokenizer: PreTrainedTokenizerBase
) -> None:
    result = perplexity(models["plain"], tokenizer, TEXT, block_size=12, stride=5, progress=False)
    mean = result.nll / result.tokens  # the first token has no context, and enters at the mean
    assert result.word_perplexity == pytest.approx(math.exp((result.nll + mean) / len(TEXT.split())))
    assert result.byte_perplexity == pytest.approx(
        math.exp((result.nll + mean) / len(TEXT.rstrip().encode())), rel=5e-2
    )


def test_several_models_share_rows_and_get_what_each_gets_alone(
    models: dict[str, PreTrainedModel], tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    original = shared_rows.SharedRows.__init__

    def keep(self: Any, *args: Any) -> None:
        made.append(self)
        original(self, *args)

    monkeypatch.setattr(shared_rows.SharedRows, "__init__", keep)
    together = perplexities(models, tokenizer, TEXT, block_size=12, batch_size=2, progress=False)
    (rows,) = made
    assert rows.served > rows.run
    for name, model in models.items():
        alone = perplexity(model, tokenizer, TEXT, block_size=12, batch_size=2, progress=False)
        assert together[name].nll == pytest.approx(alone.nll, rel=1e-12)
    assert len(made) == 1  # a single model shares with none


def test_is_plain_inside_plain(models: dict[str, PreTrainedModel], tokenizer: PreTrainedTokenizerBase) -> None:
    fair: Any = models["gender"]
    seen = []
    for context in (nullcontext(), fair.plain()):
        with context:
            seen.append(perplexity(fair, tokenizer, TEXT, block_size=12, progress=False).nll)
    plain = perplexity(models["plain"], tokenizer, TEXT, block_size=12, progress=False).nll
    assert seen[1] == pytest.approx(plain, rel=1e-9) and abs(seen[0] - plain) > 1


def test_an_interrupted_run_goes_on(
    models: dict[str, PreTrainedModel], tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    file = tmp_path / "blocks.jsonl"
    pair = {name: models[name] for name in ("plain", "gender")}
    measure_perplexities(pair, tokenizer, TEXT, block_size=12, blocks=2, file=file, progress=False)
    resumed = measure_perplexities(pair, tokenizer, TEXT, block_size=12, file=file, progress=False)
    assert resumed.resumed
    whole = perplexities(pair, tokenizer, TEXT, block_size=12, progress=False)
    for name, result in resumed.compute().items():
        assert result.nll == pytest.approx(whole[name].nll, rel=1e-12)
    other = {"plain": models["plain"], "gender": word_model(tokenizer, padding=9)}
    with pytest.raises(EquiLMError, match=r"blocks.jsonl comes from other models: .* for 'gender'"):
        measure_perplexities(other, tokenizer, TEXT, block_size=12, file=file, progress=False)


def test_half_precision_is_scored_in_float32() -> None:
    logits = torch.randn(2, 600, 50).bfloat16()  # longer than a chunk
    ids = torch.randint(50, (2, 600))
    nlls = token_nlls(logits, ids)
    expected = -logits[:, :-1].double().log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
    assert nlls.dtype == torch.float32
    torch.testing.assert_close(nlls.double(), expected, atol=1e-5, rtol=0)


def test_refuses_what_cannot_be_scored(models: dict[str, PreTrainedModel], tokenizer: PreTrainedTokenizerBase) -> None:
    def score(model: PreTrainedModel, text: str = TEXT, **settings: Any) -> None:
        perplexity(model, tokenizer, text, **{"block_size": 12, "progress": False, **settings})

    base = models["plain"]
    with pytest.raises(EquiLMError, match="block_size=4096 is more than the 2048 positions of 'model'"):
        score(base, TEXT * 100, block_size=4096)
    with pytest.raises(EquiLMError, match="blocks=0 must be from 1 to"):
        score(base, blocks=0)
    with pytest.raises(EquiLMError, match="blocks=1000 must be from 1 to"):
        score(base, blocks=1000)
    with pytest.raises(EquiLMError, match="batch_size=0"):
        score(base, batch_size=0)
    with pytest.raises(EquiLMError, match=r"gives the text token \d+, which is not in the vocabulary of 'model'"):
        score(tiny_model("llama"))
    broken = word_model(tokenizer)
    with pytest.raises(EquiLMError, match=r"'model' is in training mode.*call model.eval\(\)"):
        score(broken.train())
    torch.nn.init.constant_(broken.get_output_embeddings().weight, float("nan"))
    with pytest.raises(EquiLMError, match="'model' gives tokens 1 to 12 of the text is nan"):
        score(broken.eval())
    t5 = T5ForConditionalGeneration(T5Config(vocab_size=600, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2))
    with pytest.raises(EquiLMError, match="encoder-decoder"):
        score(t5.eval())
