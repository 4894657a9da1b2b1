"""Group actions on tensors: on token ids and logit columns, on pixels, trivial and regular."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Protocol

import torch
from torch import Tensor

from .errors import EquiLMError
from .groups import CyclicGroup, DihedralGroup, Factors, Group

__all__ = [
    "Action",
    "LogitAction",
    "PixelAction",
    "RegularAction",
    "TokenAction",
    "TrivialAction",
]


class Action(Protocol):
    """How a group acts on a tensor: ``act(x, 0) == x`` and ``act(act(x, b), a) == act(x, group.compose(a, b))``."""

    @property
    def group(self) -> Group:
        """The group that acts."""
        ...

    def act(self, x: Tensor, g: int) -> Tensor:
        """``g·x``, of the shape and dtype of ``x``."""
        ...


@dataclass(frozen=True)
class TrivialAction:
    """Changes nothing: the action on invariant outputs, such as pooled features and class logits."""

    group: Group

    def act(self, x: Tensor, g: int) -> Tensor:
        """``x`` itself."""
        return x


@dataclass(frozen=True)
class PixelAction:
    """Rotates and flips images ``(..., height, width)``: C4 by counter-clockwise quarter turns, D4 with flips too.

    Args:
        group: ``CyclicGroup(4)`` or ``DihedralGroup(4)``.
    """

    group: Group

    def __post_init__(self) -> None:
        if self.group not in (CyclicGroup(4), DihedralGroup(4)):
            raise EquiLMError(f"PixelAction needs CyclicGroup(4) or DihedralGroup(4), got {self.group}.")

    def act(self, x: Tensor, g: int) -> Tensor:
        """``g·x`` for images ``(..., height, width)``; quarter turns need square ones."""
        self.group.check_element(g)
        flip, turns = divmod(g, 4)  # flips are horizontal
        height, width = x.shape[-2:]
        if turns % 2 and height != width:
            raise EquiLMError(
                f"A quarter turn needs square images, got height {height} and width {width}. Pad or crop them first."
            )
        return torch.rot90(x.flip(-1) if flip else x, turns, dims=(-2, -1))


@dataclass(frozen=True)
class RegularAction:
    """Acts on a stack of features indexed by the group: ``(h·y)[g] = h·y[g·h]`` (paper, appendix H).

    Args:
        inner: the action on each entry of the stack.
        dim: the dimension of the stack that is indexed by the group.
    """

    inner: Action
    dim: int = 0

    @property
    def group(self) -> Group:
        """The inner action's group."""
        return self.inner.group

    def act(self, x: Tensor, g: int) -> Tensor:
        """``g·x`` for a stack of |G| features."""
        if x.shape[self.dim] != self.group.order:
            raise EquiLMError(
                f"Dimension {self.dim} must be indexed by the {self.group.order} elements of {self.group}, "
                f"got shape {tuple(x.shape)}."
            )
        order = [self.group.compose(h, g) for h in self.group.elements]
        return self.inner.act(x.index_select(self.dim, torch.tensor(order, device=x.device)), g)


@dataclass(frozen=True)
class LogitAction:
    """Acts on the last dimension of logits as ``tokens`` acts on token ids: ``(g·y)[perm[g][v]] = y[v]``."""

    tokens: "TokenAction"

    @property
    def group(self) -> Group:
        """The group that acts on the token ids."""
        return self.tokens.group

    def act(self, x: Tensor, g: int) -> Tensor:
        """``g·x`` for logits ``(..., V)``."""
        return self.tokens.act_on_logits(x, g)


@dataclass(frozen=True, eq=False)
class TokenAction:
    """Permutes token ids: ``permutation[g][v]`` is the token that ``g`` turns ``v`` into.

    Args:
        group: the group that acts.
        permutation: int64, shape ``(|G|, V)``, with ``permutation[compose(a, b)] == permutation[a][permutation[b]]``.
        general_ids: the ids of R-EquiLM's general words, the set 𝒢 of the paper (section 5.3).
    """

    group: Group
    permutation: Tensor
    general_ids: tuple[int, ...] = ()

    @classmethod
    def from_cycles(
        cls,
        cycles: Sequence[Sequence[Sequence[int]]],
        vocab_size: int,
        general_ids: Sequence[int] = (),
        factors: Sequence[Mapping[str, int]] | None = None,
    ) -> "TokenAction":
        """The action of a product of cyclic groups, one for each factor; several make a `ProductGroup`.

        Args:
            cycles: for each axis its lists of token ids, each list as long as the axis has members. The generator
                turns each id into the next one of its list (paper, section 5.3: a cyclic shift by one).
            vocab_size: V, the size of the model's (padded) vocabulary; ids in no list are fixed.
            general_ids: the ids of R-EquiLM's general words.
            factors: for each axis its factors and their sizes, such as ``{"gender": 2, "race": 2}`` for a joint list,
                which has one id for each combination, row-major. By default each axis is a factor of its own.

        Raises:
            EquiLMError: for an id outside the vocabulary or in two places, and for lists of unequal length.
        """
        if factors is None:
            factors = [{str(number): len(lists[0])} for number, lists in enumerate(cycles) if lists]
        _check_cycles(cycles, [math.prod(own.values()) for own in factors], vocab_size)
        for token in general_ids:
            _check_id(token, vocab_size)
        product = Factors(factors)
        permutation = torch.arange(vocab_size, device="cpu").repeat(product.group.order, 1)  # (|G|, V)
        for number, lists in enumerate(cycles):
            rows = torch.tensor(lists, device="cpu").view(len(lists), -1)  # (lists, d)
            for g, moves in enumerate(product.moves(number)):
                permutation[g, rows] = rows[:, list(moves)]
        group = product.group
        return cls(group, permutation, tuple(sorted(set(general_ids))))

    @property
    def vocab_size(self) -> int:
        """V, the number of token ids."""
        return self.permutation.shape[1]

    @property
    def on_logits(self) -> LogitAction:
        """The same group's action on logit columns."""
        return LogitAction(self)

    @property
    def moved(self) -> Tensor:
        """bool, shape ``(V,)``: the tokens not fixed by the group, E′ of the paper."""
        return (self.permutation != self.permutation[0]).any(0)

    def act(self, x: Tensor, g: int) -> Tensor:
        """``g·x`` for token ids of any shape."""
        self.group.check_element(g)
        return self.permutation[g][x]

    def act_on_logits(self, logits: Tensor, g: int) -> Tensor:
        """``g·y`` for logits ``(..., V)``; ``g⁻¹·y`` is ``act_on_logits(y, group.inverse(g))``.

        Some models have fewer logits than token ids: their heads leave out the padding at the end of the vocabulary.
        """
        return logits.index_select(-1, self.permutation[self.group.inverse(g), : logits.shape[-1]])

    def orbit(self, ids: Tensor) -> Tensor:
        """All of ``g·ids``: shape ``(|G|, *ids.shape)``."""
        return self.permutation[:, ids]

    def to(self, device: torch.device) -> "TokenAction":
        """The same action with its table on ``device``."""
        return self if self.permutation.device == device else replace(self, permutation=self.permutation.to(device))

    def relaxed(self) -> "TokenAction":
        """The action R-EquiLM uses: lists that contain a general word are taken out of E and fixed."""
        general = torch.zeros(self.vocab_size, dtype=torch.bool, device=self.permutation.device)
        general[list(self.general_ids)] = True
        fixed = general[self.permutation].any(0)  # (V,): some g turns v into a general word
        identity = self.permutation[0]
        return TokenAction(self.group, torch.where(fixed, identity, self.permutation), self.general_ids)

    def check(self) -> None:
        """Check that the table is an action of the group; use it for a table that you built yourself.

        Raises:
            EquiLMError: names the element whose row is wrong.
        """
        table, order = self.permutation, self.group.order
        if table.dtype != torch.int64 or table.ndim != 2 or len(table) != order:
            raise EquiLMError(
                f"A table of token permutations is int64 of shape ({order}, V) for {self.group}, "
                f"got {table.dtype} of shape {tuple(table.shape)}."
            )
        identity = torch.arange(self.vocab_size, device=table.device)
        for g in self.group.elements:
            inside = table[g][(table[g] >= 0) & (table[g] < self.vocab_size)]
            if not torch.bincount(inside, minlength=self.vocab_size).all():
                raise EquiLMError(f"Row {g} of the table is not a permutation of the {self.vocab_size} token ids.")
        if not torch.equal(table[0], identity):
            raise EquiLMError("Row 0 of the table moves tokens, but element 0 is the identity.")
        for a in self.group.elements:
            for b in self.group.elements:
                if not torch.equal(table[self.group.compose(a, b)], table[a][table[b]]):
                    raise EquiLMError(
                        f"The table is not an action of {self.group}: row {self.group.compose(a, b)} is not row {a} "
                        f"after row {b}."
                    )


def _check_cycles(cycles: Sequence[Sequence[Sequence[int]]], sizes: Sequence[int], vocab_size: int) -> None:
    if not any(cycles) or len(cycles) != len(sizes):
        raise EquiLMError("A token action needs at least one axis, and each axis at least one list of token ids.")
    for lists, size in zip(cycles, sizes, strict=True):
        lengths = sorted({len(ids) for ids in lists} | {size})
        if len(lengths) > 1 or lengths[0] < 2:
            raise EquiLMError(f"All lists of an axis need one length, at least 2, got lengths {lengths}.")
    seen: set[int] = set()
    for token in chain.from_iterable(chain.from_iterable(cycles)):
        _check_id(token, vocab_size)
        if token in seen:
            raise EquiLMError(f"Token id {token} stands in two places, so the lists do not define a permutation.")
        seen.add(token)


def _check_id(token: int, vocab_size: int) -> None:
    if not 0 <= token < vocab_size:
        raise EquiLMError(
            f"Token id {token} is outside the model's vocabulary of {vocab_size} tokens: the word lists were mapped "
            "with another tokenizer. Map them again with the model's own tokenizer."
        )
