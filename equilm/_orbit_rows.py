"""Running each distinct permuted context once: the rows of an orbit, and a cache that knows which row belongs to whom.

g·x and h·x share a row if g⁻¹h fixes x. So a text has one row until its first equality word, and after that only those
of the axes that it mentions. Equal prompts of a batch also share rows until their texts differ. Sharing is exact.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import EncoderDecoderCache, StaticCache

from .errors import EquiLMError


@dataclass(frozen=True)
class Rows:
    """The rows the base model runs on.

    Args:
        branches: int64, shape ``(|G|, B)``: the row that holds g·x_b.
        first: int64, shape ``(n,)``: for each row one place ``g·B + b`` that it serves.
        patterns: int64, shape ``(K, B)``: the distinct ones among the |G| rows of ``branches``.
        counts: int64, shape ``(K,)``: how often each occurs.
        weights: shape ``(|G|, B, T)``, adding up to 1 over g, where means are weighted; None: all alike.
    """

    branches: Tensor
    first: Tensor
    patterns: Tensor
    counts: Tensor
    weights: Tensor | None = None

    def to(self, device: torch.device) -> "Rows":
        """The same rows, their indices on ``device``."""
        if self.first.device == device:
            return self
        branches, first, patterns, counts = self.branches, self.first, self.patterns, self.counts
        weights = None if self.weights is None else self.weights.to(device)
        return Rows(branches.to(device), first.to(device), patterns.to(device), counts.to(device), weights)

    def weighed(self, per_row: Tensor) -> "Rows":
        """The same rows, their means weighted.

        Args:
            per_row: λ of each row, shape ``(n, T)``.

        Raises:
            EquiLMError: for weights that are negative, not finite or all zero.
        """
        weights = per_row.to(torch.promote_types(per_row.dtype, torch.float32))[self.branches]  # (|G|, B, T)
        total = weights.sum(0)
        if not torch.compiler.is_compiling() and not bool(
            ((weights >= 0).all(0) & (total > 0) & total.isfinite()).all()
        ):
            raise EquiLMError(
                "The weights of a text and its swaps must be finite, none negative and not all 0; λ gave others. End "
                "it with softplus or exp."
            )
        return replace(self, weights=weights / total)

    def select(self, per_text: Tensor) -> Tensor:
        """Repeat values of the texts ``(B, ...)`` for the rows ``(n, ...)``."""
        return per_text[self.first % self.branches.shape[1]]

    def mean(self, per_row: Tensor) -> Tensor:
        """The mean over g of the rows' values, from ``(n, ...)`` to ``(B, ...)``, summed in float32 or higher.

        With weights, from ``(n, T, ...)`` to ``(B, T, ...)``.
        """
        if len(self.patterns) == 1:
            return per_row[self.patterns[0]]
        total = torch.zeros((), dtype=torch.promote_types(per_row.dtype, torch.float32), device=per_row.device)
        if self.weights is not None:  # (|G|, B, T) on (B, T, ...)
            for branch, weights in zip(self.branches, self.weights, strict=True):
                total = total + per_row[branch] * weights.reshape(*weights.shape, *[1] * (per_row.ndim - weights.ndim))
            return total.to(per_row.dtype)
        for pattern, count in zip(self.patterns, self.counts / len(self.branches), strict=True):
            total = total + per_row[pattern] * count
        return total.to(per_row.dtype)


def all_rows(order: int, batch: int, device: torch.device) -> Rows:
    """One row for every g and b, g slowest, whatever the texts are: the shapes static caches and compilers need."""
    places = torch.arange(order * batch, device=device)
    branches = places.view(order, batch)
    return Rows(branches, places, branches, torch.ones(order, dtype=torch.int64, device=device))


def distinct_rows(copies: Tensor, attention_mask: Tensor | None, others: Tensor | None, parents: Tensor | None) -> Rows:
    """One row for each distinct permuted context.

    Args:
        copies: the new tokens of every g·x, int64, shape ``(|G|, B, T)``.
        attention_mask: shape ``(B, past + T)``; masked tokens do not tell contexts apart. None: all ones.
        others: what else tells texts apart, such as positions and token types, side by side: ``(B, k·T)``, or None.
        parents: int64, shape ``(|G|, B)``: the cached row that each context continues; None without a past.
    """
    order, batch, length = copies.shape
    keys = copies.flatten(0, 1)  # (|G|·B, T)
    if attention_mask is not None:
        keys = keys.masked_fill(attention_mask[:, -length:].repeat(order, 1) == 0, -1)
    # Parents come first: unique() sorts, so rows that do not fork keep their places and their cache is not copied.
    columns = [] if parents is None else [parents.flatten()[:, None]]
    columns.append(keys)
    if others is not None:
        columns.append(others.repeat(order, 1))
    distinct, inverse = torch.cat(columns, 1).unique(dim=0, return_inverse=True)  # (n, …), (|G|·B,)
    places = torch.arange(order * batch, device=copies.device)
    first = places.new_full((len(distinct),), order * batch).scatter_reduce(0, inverse, places, "amin")
    branches = inverse.view(order, batch)
    patterns, counts = branches.unique(dim=0, return_counts=True)
    return Rows(branches, first, patterns, counts)


def tells_apart(per_text: Mapping[str, Any], batch: int) -> Tensor | None:
    """Positions, token types and the like of texts side by side, as `distinct_rows` takes them.

    Args:
        per_text: each of shape ``(B, T, ...)`` or ``(1, T)``, by name; positions of several kinds ``(K, B, T)``.
        batch: B.
    """
    columns = []
    for name, value in per_text.items():
        by_text = value.transpose(0, 1) if name == "position_ids" and value.ndim == 3 else value
        columns.append(by_text.expand(batch, *by_text.shape[1:]).flatten(1).long())
    return torch.cat(columns, 1) if columns else None


def is_unusual(per_text: Mapping[str, Any]) -> bool:
    """Whether the attention mask is another than one value for each token; such rows cannot be compared."""
    mask = per_text.get("attention_mask")
    return isinstance(mask, dict) or (mask is not None and mask.ndim != 2)


def per_row(value: Any, rows: Rows, batch: int, of_several_kinds: bool = False) -> Any:
    """An attention mask, positions or token types of texts, for rows.

    Args:
        value: a tensor of shape ``(B, ...)`` or ``(1, ...)``, or a dict of these.
        rows: the rows.
        batch: B.
        of_several_kinds: whether a tensor with three dimensions is ``(K, B, T)`` or ``(K, 1, T)``, as positions are.
    """
    if isinstance(value, dict):  # a static cache has one mask for each kind of layer, or none
        return {kind: mask if mask is None else per_row(mask, rows, batch) for kind, mask in value.items()}
    if of_several_kinds and value.ndim == 3:
        return value.expand(-1, batch, -1)[:, rows.first % batch]
    return rows.select(value.expand(batch, *value.shape[1:]))  # positions may be given once for the whole batch


def choose(tensors: Sequence[Tensor | None] | None, rows: Tensor) -> Any:
    """These rows of the hidden states or attentions of every layer; None for layers that were not asked for."""
    return None if tensors is None else tuple(None if tensor is None else tensor[rows] for tensor in tensors)


class OrbitCache:
    """What `orbit_cache` adds to a transformers cache: it answers for a batch of texts, and holds their orbits' rows.

    ``reorder_cache``, ``batch_select_indices`` and ``batch_repeat_interleave`` take indices of texts. Repeating texts
    costs nothing; rows that no text needs any more are dropped.
    """

    branches: Tensor | None = None  # (|G|, B): the row that holds g·x_b; None while empty
    row_count = 0
    token_count = 0  # of each text, padding included; only counted where nothing is cropped
    static = False

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Keep the texts ``beam_idx``, in that order."""
        if self.branches is not None:
            self.assign(self.branches[:, beam_idx.to(self.branches.device)])

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep the texts ``indices``, in that order."""
        self.reorder_cache(indices)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every text ``repeats`` times, copies next to each other."""
        if self.branches is not None:
            self.assign(self.branches.repeat_interleave(repeats, dim=1))

    def reset(self) -> None:
        """Empty the cache."""
        super().reset()  # type: ignore[misc]
        self.branches = None
        self.token_count = 0

    def get_seq_length(self, *args: Any, **kwargs: Any) -> int:
        """As in transformers, also where all layers keep a state, which has no length and cannot be cropped."""
        try:
            return int(super().get_seq_length(*args, **kwargs))  # type: ignore[misc]
        except ValueError:
            return self.token_count

    def assign(self, branches: Tensor) -> None:
        """Hold the rows ``branches`` of shape ``(|G|, B)``, numbered as they are now, and no others."""
        if self.static:  # the number of rows stays |G|·B
            self.fork(branches.flatten())
            self.branches = torch.arange(branches.numel(), device=branches.device).view_as(branches)
            return
        rows, self.branches = branches.unique(return_inverse=True)
        self.fork(rows)

    def fork(self, parents: Tensor) -> None:
        """Let row i continue what row ``parents[i]`` holds."""
        if len(parents) != self.row_count or bool((parents != torch.arange(len(parents), device=parents.device)).any()):
            reorder(self, type(self).__bases__[1], parents)
            self.row_count = len(parents)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """For pickle and deepcopy: the class is made when it is first needed, so it is identified by its parts."""
        return _empty_orbit_cache, (type(self).__bases__[1],), self.__dict__


def reorder(cache: Any, kind: type, parents: Tensor) -> None:
    """Let row i of a cache continue what row ``parents[i]`` holds.

    Args:
        cache: a transformers cache.
        kind: its class without what `orbit_cache` adds.
        parents: int64, shape ``(n,)``.
    """
    by_selection, by_reordering = (_definer(kind, name) for name in ("batch_select_indices", "reorder_cache"))
    if by_selection is not by_reordering and issubclass(by_selection, by_reordering):
        # MiniMax's has states of its own, and says only in one of the two methods what becomes of them.
        by_selection.batch_select_indices(cache, parents)
    else:
        by_reordering.reorder_cache(cache, parents)


def _definer(kind: type, method: str) -> Any:
    return next(base for base in kind.__mro__ if method in vars(base))


_ORBIT_CLASSES: dict[type, type] = {}  # one for each class of caches, so that types compare equal


def _orbit_class(plain: type) -> type:
    if plain not in _ORBIT_CLASSES:
        _ORBIT_CLASSES[plain] = type(f"Orbit{plain.__name__}", (OrbitCache, plain), {})
    return _ORBIT_CLASSES[plain]


def _empty_orbit_cache(plain: type) -> Any:
    orbit_class = _orbit_class(plain)
    return object.__new__(orbit_class)


def orbit_cache(cache: Any) -> Any:
    """Make a transformers cache an `OrbitCache`, in place."""
    if not isinstance(cache, OrbitCache):
        cache.__class__ = _orbit_class(type(cache))
        cache.static = is_static(cache)
    return cache


def adopt(cache: Any, rows: Rows, tokens: int) -> None:
    """Note in a cache, in place, which rows it was just filled with, and with how many tokens of each text."""
    orbit_cache(cache)
    cache.branches = rows.branches
    cache.row_count = len(rows.first)
    cache.token_count += tokens


def is_filled(cache: Any) -> bool:
    """Whether a cache, or None, has seen tokens."""
    if cache is None:
        return False
    if isinstance(cache, OrbitCache) and cache.branches is None:
        return False
    try:
        return bool(cache.get_seq_length() > 0)
    except ValueError:  # there is no length where all layers keep a state
        return bool(cache.has_previous_state())


def is_static(cache: Any) -> bool:
    """Whether a cache, or None, has shapes that stay as they are: it then holds all |G|·B rows."""
    return isinstance(cache.self_attention_cache if isinstance(cache, EncoderDecoderCache) else cache, StaticCache)


def branches_of(cache: Any) -> Tensor:
    """Which row of a filled cache holds which g·x_b: shape ``(|G|, B)``.

    Raises:
        EquiLMError: for a cache that was not filled by an EquiLM.
    """
    if not isinstance(cache, OrbitCache) or cache.branches is None:
        raise EquiLMError(
            f"The {type(cache).__name__} was not filled by this EquiLM, so it lacks the "
            "permuted contexts. Pass the cache of an earlier call of this model, or an empty one."
        )
    return cache.branches
