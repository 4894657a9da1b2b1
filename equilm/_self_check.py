"""The self-check: is each path of a wrapped model correct, and how can the base model's cache be continued?"""

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ._compat import CACHE, cache_of
from ._orbit_rows import reorder
from .actions import TokenAction
from .errors import EquiLMError, EquiLMWarning

CacheUse: TypeAlias = Literal["chunks", "steps", "none"]

_PREFIX, _LENGTH = 5, 8
# Rounding differs with the shape of the rows; a cache that is wrong is off by a good part of the logits' spread.
_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.float16: 3e-2, torch.bfloat16: 8e-2}


def relative_error(logits: Tensor, expected: Tensor, whole: Tensor | None = None) -> float:
    """The error of logits, relative to how far the expected ones spread over the vocabulary, both root mean squares.

    Args:
        logits: shape ``(..., C)``.
        expected: shape ``(..., C)``.
        whole: shape ``(..., V)``: those whose spread counts, where C are only some; None: ``expected``.
    """
    whole = (expected if whole is None else whole).float()
    spread = (whole - whole.mean(-1, keepdim=True)).square().mean().sqrt()
    error = (logits.double() - expected.double()).square().mean().sqrt()
    return float(error / spread.clamp(min=1e-6))


def tolerance(dtype: torch.dtype) -> float:
    """How large `relative_error` may be by rounding."""
    return _TOLERANCE.get(dtype, _TOLERANCE[torch.bfloat16])


@torch.no_grad()
def cache_use(model: PreTrainedModel, name: str) -> CacheUse:
    """Whether a causal model continues its cache right by several tokens at once ("chunks"), by single ones ("steps").

    It runs two random texts through the model, whole and in parts, and the rows of the cache change places in between,
    as they do where texts fork. "none" says that even single steps do not give the logits of the whole text, so that
    its texts must be run anew at every step.

    Args:
        model: the base model.
        name: what it calls its cache.
    """
    ids = _probe_texts(model.config.get_text_config()).to(model.device)  # (2, T)
    with quiet(model):  # some models draw in their forward pass
        whole = _logits(model, ids, 0, use_cache=False)[0].flip(0)
        _, prefilled = _logits(model, ids[:, :_PREFIX], 0, use_cache=True)
        if prefilled is None:
            return "none"
        for use, size in (("chunks", _LENGTH - _PREFIX), ("steps", 1)):
            cache = copy.deepcopy(prefilled)
            if _continued_error(model, ids.flip(0), whole, cache, name, size) <= tolerance(model.dtype):
                return use  # type: ignore[return-value]
    return "none"


def _probe_texts(config: Any) -> Tensor:
    """Two random texts without special tokens, int64, shape ``(2, T)``: to some models padding is no part of a text."""
    special = {config.pad_token_id, config.bos_token_id, *torch.tensor(config.eos_token_id or []).flatten().tolist()}
    own = torch.Generator().manual_seed(0)  # the global one is the user's
    drawn = torch.randint(config.vocab_size // 2, (8 * _LENGTH,), generator=own).tolist()
    return torch.tensor([token for token in drawn if token not in special][: 2 * _LENGTH]).view(2, _LENGTH)


def _continued_error(model: Any, ids: Tensor, whole: Tensor, cache: Any, name: str, size: int) -> float:
    """The error of texts continued ``size`` tokens at a time, their cached rows reversed; infinite where it cannot."""
    parts = []
    try:
        reorder(cache, type(cache), torch.tensor([1, 0], device=ids.device))
        for start in range(_PREFIX, _LENGTH, size):
            logits, cache = _logits(model, ids[:, : start + size], start, use_cache=True, **{name: cache})
            parts.append(logits)
    except Exception:  # noqa: BLE001 - each model has its own way to refuse several tokens at once
        return float("inf")
    return relative_error(torch.cat(parts, 1), whole[:, _PREFIX:])


def _logits(model: Any, ids: Tensor, start: int, **arguments: Any) -> tuple[Tensor, Any]:
    """The logits of the tokens from ``start`` on, as generate() runs them, and the cache."""
    inputs = model.prepare_inputs_for_generation(
        ids,
        next_sequence_length=ids.shape[1] - start,
        attention_mask=torch.ones_like(ids),
        is_first_iteration=start == 0,
        **arguments,
    )
    if "logits_to_keep" in inputs:  # some keep only the last
        inputs["logits_to_keep"] = 0
    outputs = model(**inputs, return_dict=True)
    return outputs.logits, cache_of(outputs)


_MANY_ELEMENTS = 16  # for larger groups the text holds one equality word, so that few of the g·x differ
_PREFILLED = 5  # tokens of the text that are prefilled; the first two of them are the same for all g


@dataclass(frozen=True)
class SelfCheck:
    """The result of a self-check; ``str()`` gives it as text.

    Args:
        errors: for each path, the error of its logits, relative to their spread over the vocabulary.
        tolerance: the largest error that rounding can explain.
        switched_off: the shortcuts that were wrong, which the model now runs without.
        skipped: why nothing was checked; empty if something was.
    """

    errors: dict[str, float]
    tolerance: float = 0.0
    switched_off: tuple[str, ...] = ()
    skipped: str = ""

    def __str__(self) -> str:
        if self.skipped:
            return f"not run: {self.skipped}"
        found = ", ".join(f"{path} {error:.1e}" for path, error in self.errors.items())
        off = f"; switched off: {', '.join(self.switched_off)}" if self.switched_off else ""
        return f"passed: relative errors {found}, at most {self.tolerance:.0e}{off}"


def skip_reason(model: nn.Module) -> str:
    """Why a model cannot be checked now; empty if it can."""
    tensors = list(model.parameters())
    if any(tensor.is_meta for tensor in tensors):
        return "weights are offloaded or on the meta device; call model.self_check() once they are loaded"
    return ""


def check_model(model: Any) -> SelfCheck:
    """Compare the forward pass, prefill with a shared prefix, and cached steps with the definition.

    Args:
        model: an EquiLM. A shortcut that is wrong is switched off on it, with a warning.

    Raises:
        EquiLMError: names the architecture, the path and the difference.
    """
    if reason := skip_reason(model):
        return SelfCheck({}, skipped=reason)
    with quiet(model), torch.no_grad():
        texts = model._check_texts(check_text(model.config.token_action(), model.device))
        return _Checker(model, texts).run()


class _Checker:
    """One self-check of a model, on one text."""

    def __init__(self, model: Any, texts: dict[str, Tensor]):
        self.model = model
        self.texts = texts
        action = model.config.token_action()  # from the lists, not the table that the model computes with
        self.columns = torch.cat(
            [action.moved.nonzero().flatten(), torch.tensor(action.general_ids, dtype=torch.int64)]
        )
        general = action.general_ids if model.config.relaxed else ()
        self.expected, self.rounding = definition(model.language_model, action, texts, general, model.orbit_weights)
        self.errors: dict[str, float] = {}
        self.off: list[str] = []
        self.failure: Exception | None = None

    def run(self) -> SelfCheck:
        model = self.model
        self._check("forward", lambda: model(**self.texts, use_cache=False).logits, self._without_shortcuts())
        if model.cache_use != "none":
            use, model.cache_use = model.cache_use, "chunks"
            wrong = self._measure("cached steps", self._cached)
            if wrong:  # is it the base model that continues its cache in another way?
                model.cache_use = None
                wrong = model._continues_caches() != "none" and self._measure("cached steps", self._cached)
                if wrong or model.cache_use == "none":
                    self._note("cached steps", "the cache")
                    model.cache_use = "none"
            elif use == "steps":
                model.cache_use = use
        return SelfCheck(self.errors, self._allowed, tuple(self.off))

    def _without_shortcuts(self) -> Iterator[str]:
        """Switches the model's shortcuts off, one after another, and names them."""
        for name, shortcut in (("_projects_once", "projecting once"), ("_shares_rows", "sharing rows")):
            if getattr(self.model, name):
                setattr(self.model, name, False)
                yield shortcut

    def _cached(self) -> Tensor:
        """Logits after a prefill, the shared prefix by itself, and after one more token: ``(1, 2, V)``."""
        model: Any = self.model
        worth, model._worth_a_pass = model._worth_a_pass, 1
        try:
            name = list(self.texts)[-1]  # what is continued
            ids = self.texts[name]
            others = model._check_arguments(self.texts)
            first = model(**others, **{name: ids[:, :_PREFILLED]}, use_cache=True)
            cache = {CACHE: cache_of(first)}
            second = model(**others, **{name: ids[:, _PREFILLED:]}, use_cache=True, **cache)
        finally:
            model._worth_a_pass = worth
        return torch.cat([first.logits[:, -1:], second.logits], 1)

    def _check(self, path: str, run: Any, remedies: Iterator[str]) -> None:
        tried = []
        while self._measure(path, run):
            remedy = next(remedies, None)
            if remedy is None:
                raise EquiLMError(
                    f"The self-check failed: {type(self.model.language_model).__name__} in an "
                    f"{type(self.model).__name__}, {path}: the logits differ from the mean over the group by "
                    f"{self.errors[path]:.1e} of their spread, where rounding gives {self._allowed:.1e}. P(gY|gX) = "
                    "P(Y|X) would not hold, so the model is not handed out. Please report the architecture; "
                    "TextSymmetrizer makes any model fair on text."
                ) from self.failure
            tried.append(remedy)
        if tried:
            self._note(path, tried[-1])

    def _measure(self, path: str, run: Any) -> bool:
        """Run a path and note its error; whether it is too large."""
        try:
            logits = run()
        except EquiLMError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a model raises, the path does not work on it
            self.errors[path] = float("inf")
            self.failure = error
            return True
        expected = self.expected[:, -logits.shape[1] :]
        words = self.columns.to(logits.device)
        part = relative_error(logits[..., words], expected[..., words], expected)
        self.errors[path] = max(relative_error(logits, expected), part)
        return not self.errors[path] <= self._allowed  # NaN is too large as well

    @property
    def _allowed(self) -> float:
        return max(tolerance(self.model.dtype), 4 * self.rounding)

    def _note(self, path: str, shortcut: str) -> None:
        self.off.append(shortcut)
        warnings.warn(
            f"The self-check found {path} of {type(self.model.language_model).__name__} wrong with {shortcut}, and "
            "right without. It is switched off: the text is as fair, and slower.",
            EquiLMWarning,
            stacklevel=6,
        )


def definition(
    base: Any, action: TokenAction, texts: dict[str, Tensor], general: Any, weights: Any = None
) -> tuple[Tensor, float]:
    """1/|G| Σ_g M(g·x)[g·v] for every token v, float32, shape ``(1, T, V)``, from the base model without a cache.

    Args:
        base: the base model.
        action: the action on token ids.
        texts: what it reads, each of shape ``(1, T)``, all permuted alike.
        general: ids of general words, which keep the base model's logits.
        weights: λ, from last hidden states ``(n, T, H)`` to weights ``(n, T)``; None: all alike.

    Returns:
        Also the rounding of the base model itself: how much its logits change with the rows beside a text, for
        low-precision weights and kernels.
    """
    table = action.permutation.to(base.device)
    images = [{name: row[ids] for name, ids in texts.items()} for row in table]
    keys = [tuple(torch.cat(list(image.values()), 1)[0].tolist()) for image in images]
    distinct = list(dict.fromkeys(keys))
    rows = [images[keys.index(key)] for key in distinct]
    stacked = {name: torch.cat([row[name] for row in rows]) for name in texts}
    outputs = base(**stacked, use_cache=False, **({} if weights is None else {"output_hidden_states": True}))
    together = outputs.logits.float()
    counts = torch.ones(together.shape[:2]) if weights is None else weights(outputs.hidden_states[-1]).float()  # (n, T)
    counts = counts.to(together.device)[..., None]
    rounding = 0.0
    if base.dtype not in (torch.float32, torch.float64) or getattr(base, "is_quantized", False):
        alone = base(**rows[0], use_cache=False).logits.float()
        rounding = relative_error(together[:1], alone)
    total = torch.zeros_like(together[:1])
    for row, key in zip(table, keys, strict=True):
        place = distinct.index(key)
        image = together[place, None].index_select(-1, row[: together.shape[-1]].to(together.device))
        total += image * counts[place]
    mean = total / sum(counts[distinct.index(key)] for key in keys)
    words = list(general)
    mean[..., words] = together[distinct.index(keys[0]), None][..., words]
    return mean, rounding


def check_text(action: TokenAction, device: torch.device) -> Tensor:
    """Two tokens fixed by the group, one that it moves, one fixed, one moved, one fixed: int64, shape ``(1, 6)``."""
    own = torch.Generator().manual_seed(0)  # the global one is the user's
    moved, fixed = action.moved.nonzero().flatten().cpu(), (~action.moved).nonzero().flatten().cpu()
    words = moved[torch.randint(len(moved), (2,), generator=own)]
    if action.group.order > _MANY_ELEMENTS:
        words = words[:1].expand(2)
    # The first tokens of a vocabulary are special ones, the last are padding.
    low, high = len(fixed) // 4, max(len(fixed) // 4 + 1, 3 * len(fixed) // 4)
    others = fixed[torch.randint(low, high, (4,), generator=own)]
    text = torch.stack([others[0], others[1], words[0], others[2], words[1], others[3]])
    return text[None].to(device)


@contextmanager
def quiet(model: nn.Module) -> Iterator[None]:
    """Within the context, a model is in evaluation mode and draws from its own random state."""
    training = [(module, module.training) for module in model.modules()]
    devices = {parameter.device for parameter in model.parameters() if parameter.is_cuda}
    model.eval()
    try:
        with torch.random.fork_rng(devices=list(devices)):
            yield
    finally:
        for module, was in training:
            module.training = was
