"""Perplexity of language models on a text, in the paper's blocks or in a sliding window, for one or several models.

The mean negative log-likelihood is that of the scored tokens (`equilm.metrics.text_blocks.cut` says which these are).
Word and byte perplexity follow the convention of lm-evaluation-harness: words are separated by white space in the text
as given, and bytes are those of its UTF-8 form. Word perplexity is exp(mean · tokens / words), where all tokens and
words of the part of the text that the blocks cover are counted. So tokens that are not scored, for lack of context,
count with the mean, and a last block that is dropped does not count. If every token is scored, this is exp(sum /
words). Byte perplexity is the same with bytes.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import EquiLMError
from ..loading import transformers_model
from ..modeling_equilm import EquiLMForCausalLM
from .perplexity_run import PerplexityResult, PerplexityRun
from .shared_rows import SharedRows, share_rows
from .text_blocks import Block, TextBlocks, cut

_CHUNK = 256  # positions whose log-probabilities are held in float32 at once


def perplexity(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    text: str | Sequence[str],
    *,
    block_size: int = 1024,
    stride: int | None = None,
    batch_size: int = 1,
    blocks: int | None = None,
    progress: bool = True,
) -> PerplexityResult:
    """The perplexity of one model on a text.

    Args:
        model: any causal language model: plain, EquiLM or R-EquiLM, or one inside its ``plain()``.
        tokenizer: its tokenizer.
        text: one text, or several, which are joined by blank lines.
        block_size: the number of tokens in a block, including special tokens.
        stride: None for the paper's blocks side by side; otherwise the step of a sliding window, in tokens.
        batch_size: the number of blocks in a forward pass.
        blocks: the number of blocks to score, from the start; None for all.
        progress: whether to show a progress bar.

    Returns:
        Token, word and byte perplexity, and the counts they are computed from.

    Raises:
        EquiLMError: for a model in training mode, an encoder-decoder, another model's tokenizer, a block longer than
            the model's maximum, a text that is too short, and likelihoods that are not finite.

    Example:
        >>> perplexity(model, tokenizer, load_wikitext("wikitext-2-raw")).perplexity  # doctest: +SKIP
    """
    run = measure_perplexities(
        {"model": model},
        tokenizer,
        text,
        block_size=block_size,
        stride=stride,
        batch_size=batch_size,
        blocks=blocks,
        progress=progress,
    )
    return run.compute()["model"]


def perplexities(
    models: Mapping[str, PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    text: str | Sequence[str],
    *,
    block_size: int = 1024,
    stride: int | None = None,
    batch_size: int = 1,
    blocks: int | None = None,
    progress: bool = True,
) -> dict[str, PerplexityResult]:
    """The perplexities of several models on the same blocks, by name; models with the same base share its rows.

    Arguments and errors are those of `perplexity`. `measure_perplexities` also compares the models, and can continue
    after an interruption.
    """
    run = measure_perplexities(
        models,
        tokenizer,
        text,
        block_size=block_size,
        stride=stride,
        batch_size=batch_size,
        blocks=blocks,
        progress=progress,
    )
    return run.compute()


@torch.no_grad()
def measure_perplexities(
    models: Mapping[str, PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    text: str | Sequence[str],
    *,
    block_size: int = 1024,
    stride: int | None = None,
    batch_size: int = 1,
    blocks: int | None = None,
    file: Path | None = None,
    progress: bool = True,
) -> PerplexityRun:
    """Score a text with several models, block by block.

    Args:
        models: the models by name.
        tokenizer: the tokenizer of all the models.
        text: one text, or several, which are joined by blank lines.
        block_size: the number of tokens in a block, including special tokens.
        stride: None for the paper's blocks side by side; otherwise the step of a sliding window, in tokens.
        batch_size: the number of blocks in a forward pass.
        blocks: the number of blocks to score, from the start; None for all.
        file: a JSON-lines file to which each block is written as it is scored. If it already contains blocks of the
            same measurement, the run continues after them, and scores the last one again to check that the models are
            the same.
        progress: whether to show a progress bar.

    Returns:
        The run, whose `PerplexityRun.compute` and `PerplexityRun.compare` give the results.

    Raises:
        EquiLMError: as `perplexity`, and for a file of another measurement.
    """
    pieces = cut(text, tokenizer, block_size, stride)
    if blocks is not None and not 1 <= blocks <= len(pieces.blocks):
        raise EquiLMError(
            f"blocks={blocks} must be from 1 to {len(pieces.blocks)}, the number of blocks of {block_size} tokens in "
            "the text."
        )
    if batch_size < 1:
        raise EquiLMError(f"batch_size={batch_size} must be at least 1.")
    for name, model in models.items():
        _check(name, model, pieces)
    run = PerplexityRun(pieces, tuple(models), blocks, file)
    with ExitStack() as stack:
        shared = [stack.enter_context(share_rows(base)) for base in _shared_bases(models)]
        if run.resumed:
            run.check(_score(models, pieces, [pieces.blocks[run.done - 1]], shared)[0])
        todo = pieces.blocks[run.done : run.count]
        with tqdm(total=run.count, initial=run.done, desc="Perplexity", unit="block", disable=not progress) as bar:
            for batch in _batches(todo, batch_size):
                start = perf_counter()
                for nlls in (scored := _score(models, pieces, batch, shared)):
                    run.update(nlls, (perf_counter() - start) / len(scored))
                bar.update(len(batch))
    return run


def max_positions(model: PreTrainedModel) -> int | None:
    """The length of the longest text a model takes, in tokens; None without a limit, as for recurrent models."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


def token_nlls(logits: Tensor, input_ids: Tensor) -> Tensor:
    """-log P of each token except the first, in float32 or higher precision.

    Args:
        logits: shape ``(B, T, V)``.
        input_ids: int64, shape ``(B, T)``.

    Returns:
        Shape ``(B, T - 1)``.
    """
    scored, targets = logits[:, :-1], input_ids[:, 1:].to(logits.device)
    chunks = []
    for part, ids in zip(scored.split(_CHUNK, 1), targets.split(_CHUNK, 1), strict=True):
        part = part.to(torch.promote_types(part.dtype, torch.float32))  # (B, ≤ _CHUNK, V)
        chunks.append(part.logsumexp(-1) - part.gather(-1, ids[..., None])[..., 0])
    return torch.cat(chunks, 1)


def _score(
    models: Mapping[str, PreTrainedModel], pieces: TextBlocks, batch: Sequence[Block], shared: Sequence[SharedRows]
) -> list[dict[str, float]]:
    """For each block of a batch, the sum of -log P over its scored tokens, by model."""
    for rows in shared:
        rows.clear()
    ids = pieces.input_ids(batch)  # (B, T)
    sums: list[dict[str, float]] = [{} for _ in batch]
    for name, model in models.items():
        on_device = ids.to(model.device)
        nlls = token_nlls(model(input_ids=on_device, use_cache=False).logits, on_device)  # (B, T - 1)
        for block, row, by_name in zip(batch, nlls, sums, strict=True):
            total = row[len(row) - block.tokens :].sum().item()
            if not math.isfinite(total):
                raise EquiLMError(
                    f"The log-likelihood that {name!r} gives tokens {block.scored_from} to {block.end} of the text is "
                    f"{-total}. Load the model in float32 or bfloat16, or check its weights."
                )
            by_name[name] = total
    return sums


def _batches(blocks: Sequence[Block], batch_size: int) -> Iterator[list[Block]]:
    """Batches of blocks of equal length: the last window may be shorter, and is then a batch of its own."""
    for _, alike in groupby(blocks, key=lambda block: block.end - block.begin):
        equal = list(alike)
        for start in range(0, len(equal), batch_size):
            yield equal[start : start + batch_size]


def _base(model: PreTrainedModel) -> PreTrainedModel:
    inside = transformers_model(model)
    return inside.language_model if isinstance(inside, EquiLMForCausalLM) else inside


def _shared_bases(models: Mapping[str, PreTrainedModel]) -> list[PreTrainedModel]:
    """The base models that several of the models share, if their decoder is a module apart from their head."""
    bases = [_base(model) for model in models.values()]
    distinct = {id(base): base for base in bases}
    return [
        base
        for key, base in distinct.items()
        if sum(id(other) == key for other in bases) > 1 and base.get_decoder() is not base
    ]


def _check(name: str, model: PreTrainedModel, pieces: TextBlocks) -> None:
    config = model.config.get_text_config()
    if model.config.is_encoder_decoder:
        raise EquiLMError(f"{name!r} is an encoder-decoder; perplexity is for decoder-only causal models.")
    if model.training:
        raise EquiLMError(f"{name!r} is in training mode, where dropout changes the likelihoods: call model.eval().")
    positions = max_positions(model)
    if positions is not None and pieces.block_size > positions:
        raise EquiLMError(
            f"block_size={pieces.block_size} is more than the {positions} positions of {name!r}. Use a smaller one."
        )
    largest = int(pieces.ids.max())
    if largest >= config.vocab_size:
        raise EquiLMError(
            f"The tokenizer gives the text token {largest}, which is not in the vocabulary of {name!r} "
            f"({config.vocab_size} tokens): it belongs to another model."
        )
