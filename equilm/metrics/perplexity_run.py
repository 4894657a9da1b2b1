"""The -log P of each block, from which perplexity is computed; a file of blocks lets an interrupted run continue."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import EquiLMError
from .record_file import RecordFile
from .text_blocks import TextBlocks

# When the same model scores a block again, only the order of sums differs, by the threads and the batch size.
_SAME = 1e-3


@dataclass(frozen=True)
class PerplexityResult:
    """Perplexity of one model on the blocks of a text.

    Args:
        perplexity: exp of the mean -log P of the scored tokens.
        word_perplexity: the same for each word of the text (see `equilm.metrics.perplexity`).
        byte_perplexity: the same for each byte.
        nll: the sum of -log P over the scored tokens, in nats.
        standard_error: the standard error of the mean -log P of a token, from the differences between blocks; None for
            a single block.
        tokens: the number of scored tokens.
        text_tokens: the number of tokens in the part of the text that the blocks cover, scored or not.
        words: the number of words in this part.
        bytes: the number of UTF-8 bytes in this part.
        blocks: the number of blocks.
        block_size: the number of tokens in a block.
        stride: the step of the sliding window, in tokens; None for blocks side by side.
    """

    perplexity: float
    word_perplexity: float
    byte_perplexity: float
    nll: float
    standard_error: float | None
    tokens: int
    text_tokens: int
    words: int
    bytes: int
    blocks: int
    block_size: int
    stride: int | None

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class PerplexityChange:
    """A model's perplexity against a reference model's on the same blocks.

    Args:
        ratio: perplexity / reference perplexity.
        percent: 100·(ratio - 1).
        standard_error: the standard error of ``percent``, from the paired differences of blocks (delta method); None
            for a single block.
    """

    ratio: float
    percent: float
    standard_error: float | None


class PerplexityRun:
    """The -log P of each block for several models.

    Args:
        pieces: the text and its blocks.
        names: the names of the models.
        count: the number of blocks to score; None for all.
        file: a JSON-lines file that keeps the blocks: a line with the settings, then a line for each block. None keeps
            them in memory only.

    Attributes:
        nlls: for each block scored so far, its -log P in nats by model.
        seconds: the total time that the blocks took.
        resumed: whether the file contained blocks.

    Raises:
        EquiLMError: for a file of another measurement.
    """

    def __init__(self, pieces: TextBlocks, names: Sequence[str], count: int | None = None, file: Path | None = None):
        self.pieces = pieces
        self.names = tuple(names)
        self.count = len(pieces.blocks) if count is None else count
        self.nlls: list[dict[str, float]] = []
        self.seconds = 0.0
        self._file = None if file is None else RecordFile(file, self._settings())
        for record in self._file.read()[: self.count] if self._file else ():
            self.nlls.append(record["nll"])
            self.seconds += record["seconds"]
        self.resumed = self.done > 0

    @property
    def done(self) -> int:
        """The number of blocks scored so far."""
        return len(self.nlls)

    def _settings(self) -> dict[str, Any]:
        return {
            "models": list(self.names),
            "block_size": self.pieces.block_size,
            "stride": self.pieces.stride,
            "prefix": list(self.pieces.prefix),
            "tokens": hashlib.sha256(self.pieces.ids.numpy().tobytes()).hexdigest(),
        }

    def check(self, nlls: Mapping[str, float]) -> None:
        """Compare the last block, scored again, with its values in the file.

        Raises:
            EquiLMError: if they differ, since the file then comes from other models with these names.
        """
        assert self._file is not None, "only blocks from a file are scored again"
        for name, nll in nlls.items():
            if not math.isclose(nll, self.nlls[-1][name], rel_tol=_SAME):
                raise EquiLMError(
                    f"{self._file.path} comes from other models: block {self.done} has {self.nlls[-1][name]:.4f} nats "
                    f"for {name!r}, but this model gives {nll:.4f}. Name another file, or delete this one."
                )

    def update(self, nlls: Mapping[str, float], seconds: float) -> None:
        """Add the next block.

        Args:
            nlls: for each model, the sum of -log P over the block's scored tokens.
            seconds: the time the block took.
        """
        self.nlls.append(dict(nlls))
        self.seconds += seconds
        if self._file is not None:
            self._file.append([{"block": self.done, "nll": dict(nlls), "seconds": seconds}])

    def compute(self) -> dict[str, PerplexityResult]:
        """The results over the blocks scored so far, by model."""
        stretch, tokens = self.pieces.covered(self.done), self._tokens()
        text_tokens, words, size = self.pieces.blocks[self.done - 1].end, len(stretch.split()), len(stretch.encode())
        results = {}
        for name in self.names:
            nlls = [block[name] for block in self.nlls]
            mean, error = _mean(nlls, tokens)
            results[name] = PerplexityResult(
                perplexity=math.exp(mean),
                word_perplexity=math.exp(mean * text_tokens / words),
                byte_perplexity=math.exp(mean * text_tokens / size),
                nll=math.fsum(nlls),
                standard_error=error,
                tokens=sum(tokens),
                text_tokens=text_tokens,
                words=words,
                bytes=size,
                blocks=self.done,
                block_size=self.pieces.block_size,
                stride=self.pieces.stride,
            )
        return results

    def compare(self, reference: str) -> dict[str, PerplexityChange]:
        """How the perplexity of each other model differs from that of ``reference``."""
        changes = {}
        for name in self.names:
            if name != reference:
                mean, error = _mean([block[name] - block[reference] for block in self.nlls], self._tokens())
                ratio = math.exp(mean)
                spread = None if error is None else 100 * ratio * error
                changes[name] = PerplexityChange(ratio, 100 * (ratio - 1), spread)
        return changes

    def _tokens(self) -> list[int]:
        return [block.tokens for block in self.pieces.blocks[: self.done]]


def _mean(sums: Sequence[float], tokens: Sequence[int]) -> tuple[float, float | None]:
    """The mean per token and its standard error, that of a ratio of sums, from the sums of the blocks."""
    total, count = sum(tokens), len(sums)
    mean = math.fsum(sums) / total
    if count == 1:
        return mean, None
    squares = math.fsum((value - mean * size) ** 2 for value, size in zip(sums, tokens, strict=True))
    return mean, math.sqrt(count / (count - 1) * squares) / total
