"""One architecture that sees pictures: everything that can be asked of it, compared with the definition.

Three layouts of two texts: pictures in front, pictures between words, and text alone where the base model runs on it.
The texts differ in length, so that one is padded on the left, and in the number of pictures, where the base model
takes that.
"""

import copy
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from checks import CYCLE, NEW_TOKENS, Comparison, Result, build, gap, generate, note, wrap
from checks import words as words_of
from definition import average, cyclic_table, forward_logits, generated_logits
from pictures import (
    DECODER_ONLY_TEXT,
    NO_PADDING,
    NO_PICTURES,
    NO_TOKENS,
    ONE_PICTURE,
    PICTURE,
    inputs,
    random_pictures,
)
from torch import Tensor

from equilm import EquiLMError

# Smallest change of logits that a picture makes, by which it is seen at all.
_SEEN = 1e-2


@dataclass(frozen=True)
class Case:
    """Two texts with their pictures, of a base model of this type."""

    base: Any
    name: str
    texts: Sequence[Sequence[int]]
    pictures: Tensor

    def arguments(self) -> dict[str, Any]:
        """For a forward pass."""
        return inputs(self.base, self.name, self.texts, self.pictures)

    def prompt(self) -> dict[str, Any]:
        """For `generate`, where an encoder-decoder with texts for its encoder begins by itself."""
        found = self.arguments()
        if self.name not in DECODER_ONLY_TEXT:
            found.pop("decoder_input_ids", None)
        return found

    def others(self) -> "Case":
        """The same texts with other pictures."""
        return Case(self.base, self.name, self.texts, random_pictures(len(self.pictures), seed=1))

    def alone(self) -> list["Case"]:
        """Each of the texts by itself."""
        counts = [list(text).count(PICTURE) for text in self.texts]
        parts = zip(self.texts, self.pictures.split(counts), strict=True)
        return [Case(self.base, self.name, [text], own) for text, own in parts]

    def twice(self) -> "Case":
        """A batch of the texts and the texts again."""
        return Case(self.base, self.name, [*self.texts, *self.texts], self.pictures.repeat(2, 1, 1, 1))


def layouts(base: Any, name: str) -> dict[str, Case]:
    """The three layouts, or those of them that the base model takes."""
    found: dict[str, list[list[int]]] = {}
    if name in NO_PADDING:
        found["pictures in front"] = [[PICTURE, 20, 10, 21, 22, 29], [PICTURE, 23, 24, 11, 25, 26]]
        found["pictures between"] = [[20, PICTURE, 10, 21, 22, 29], [11, PICTURE, 24, 12, 25, 26]]
    else:
        more = [] if name in ONE_PICTURE else [PICTURE]
        found["pictures in front"] = [[PICTURE, 20, 10, 21, 22], [PICTURE, *more, 23, 24, 11, 25, 26, 27, 28]]
        found["pictures between"] = [[20, PICTURE, 10, 21, 22], [11, PICTURE, 24, 12, 25, *more, 26, 27]]
    found["text alone"] = [[entry for entry in text if entry != PICTURE] for text in found["pictures in front"]]
    if name in NO_PICTURES:
        del found["pictures in front"], found["pictures between"]
    if name in NO_TOKENS:
        del found["pictures between"]  # a picture has no place among the words
    counts = {layout: sum(text.count(PICTURE) for text in texts) for layout, texts in found.items()}
    cases = {layout: Case(base, name, texts, random_pictures(counts[layout])) for layout, texts in found.items()}
    if name not in NO_PICTURES:
        try:
            _logits(base, cases["text alone"])
        except Exception:  # noqa: BLE001 - this base model needs a picture
            del cases["text alone"]
    return cases


def check_pictures(name: str) -> Result:
    """All comparisons for an entry of transformers' image-text-to-text mapping."""
    try:
        base = build(name, "image_text")
        cases = layouts(base, name)
        if not all(bool(_logits(base, case).isfinite().all()) for case in cases.values()):
            raise ValueError("its logits are not finite")
    except Exception as error:  # noqa: BLE001 - whatever it is, the base model alone raised it
        return Result(name, "not built", words_of(error))
    try:
        model = wrap(copy.deepcopy(base), "image_text")  # of its own, so that wrapping cannot change the definition
    except Exception as error:  # noqa: BLE001
        return Result(name, "refused" if isinstance(error, EquiLMError) else "crashed", words_of(error))
    result = Result(name)
    for title, compare, itself in picture_comparisons(base, model, cases):
        note(result, title, compare, itself)
    return result


def picture_comparisons(base: Any, model: Any, cases: dict[str, Case]) -> Iterator[Comparison]:
    """For each comparison its name, our difference from the definition, and the base model's from itself."""
    # A token that stands for a picture may lie beyond the logits.
    table = cyclic_table(base.get_input_embeddings().num_embeddings, CYCLE)
    for layout, case in cases.items():

        def forward(case: Case = case) -> float:
            return gap(_logits(model, case), _defined(base, case, table))

        def forward_itself(case: Case = case) -> float:
            whole = _logits(base, case)
            both = torch.cat([_logits(base, one) for one in case.alone()])
            return max(gap(both, whole), gap(_logits(base, case.twice())[: len(whole)], whole))

        def generated(case: Case = case) -> float:
            output = generate(model, case.prompt())
            path = output.sequences[:, -NEW_TOKENS:]
            expected = average(table, lambda row: _comparable(generated_logits(base, case.prompt(), path, row)))
            return gap(_comparable(torch.stack(output.logits, 1)), expected)

        def generated_itself(case: Case = case) -> float:
            return _generation_gap(base, case)

        yield f"forward, {layout}", forward, forward_itself
        yield f"generate, {layout}", generated, generated_itself
        yield f"one seed, {layout}", _seed_gap(model, case, table), generated_itself
        yield f"equation 4, {layout}", _equation_gap(model, case, table), forward_itself
        if len(case.pictures):
            yield f"other pictures, {layout}", _other_pictures(base, model, case, table), forward_itself

    first = next(iter(cases.values()))

    def saved() -> float:
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            loaded = type(model).from_pretrained(folder).eval()
        return gap(_logits(loaded, first), _logits(model, first))

    def saved_itself() -> float:
        with tempfile.TemporaryDirectory() as folder:
            base.save_pretrained(folder)
            loaded = type(base).from_pretrained(folder).eval()
        return gap(_logits(loaded, first), _logits(base, first))

    yield "save and load", saved, saved_itself


def _logits(model: Any, case: Case, row: Tensor | None = None) -> Tensor:
    """The logits of one forward pass after tokens that are not padding, ``(n, V)``; the texts permuted by ``row``."""
    arguments = case.arguments()
    logits = _comparable(forward_logits(model, arguments, row))
    mask = arguments.get("attention_mask")
    if mask is None or mask.shape != logits.shape[:2]:
        return logits.flatten(0, 1)
    return logits[mask.bool()]


def _comparable(logits: Tensor) -> Tensor:
    """Without the logits that an architecture itself forbids, such as those of the tokens of pictures."""
    return logits.masked_fill(logits < -1e30, 0.0)


def _defined(base: Any, case: Case, table: Tensor) -> Tensor:
    """φ with the base model alone, each permuted copy given the pictures anew."""
    return average(table, lambda row: _logits(base, case, row))


def _seed_gap(model: Any, case: Case, table: Tensor) -> Callable[[], float]:
    """The number of tokens that differ between generate(g·X) and g·generate(X), over all g, with one seed."""

    def differing() -> float:
        given, count = case.prompt(), 0
        settings = {"do_sample": True, "top_k": 0}
        text = generate(model, given, **settings).sequences
        for row in table[1:]:
            moved = {k: row[v] if k.endswith("input_ids") else v for k, v in given.items()}
            count += int((generate(model, moved, **settings).sequences != row[text]).sum())
        return float(count)

    return differing


def _equation_gap(model: Any, case: Case, table: Tensor) -> Callable[[], float]:
    """The largest difference of log P(g·x₂ | g·x₁) from log P(x₂ | x₁), over all next tokens and all g."""

    def largest() -> float:
        plain = _logits(model, case).log_softmax(-1)
        moved = [_logits(model, case, row).log_softmax(-1)[:, row[: plain.shape[-1]]] for row in table[1:]]
        return max(float((found - plain).abs().max()) for found in moved)

    return largest


def _other_pictures(base: Any, model: Any, case: Case, table: Tensor) -> Callable[[], float]:
    """The difference from the definition with other pictures; infinite where these change the base's logits alone."""

    def difference() -> float:
        other = case.others()
        theirs = (_logits(base, other) - _logits(base, case)).abs().max()
        ours = (_logits(model, other) - _logits(model, case)).abs().max()
        if theirs > _SEEN and ours <= _SEEN / 10:
            return float("inf")
        return gap(_logits(model, other), _defined(base, other, table))

    return difference


def _generation_gap(base: Any, case: Case) -> float:
    """By how much a base model contradicts itself in `generate`: with and without a cache, alone and in a batch."""
    given = case.prompt()
    whole = generate(base, given)
    logits, path = torch.stack(whole.logits, 1), whole.sequences[:, -NEW_TOKENS:]
    same = torch.arange(base.get_input_embeddings().num_embeddings)
    twice = generated_logits(base, case.twice().prompt(), path.repeat(2, 1), same)[: len(path)]
    alone = [generated_logits(base, one.prompt(), path[i : i + 1], same) for i, one in enumerate(case.alone())]
    found = [twice, torch.cat(alone)]
    with suppress(Exception):  # some cannot generate without a cache, which is no contradiction
        found.append(torch.stack(generate(base, given, use_cache=False).logits, 1))
    return max(gap(_comparable(other), _comparable(logits)) for other in found)
