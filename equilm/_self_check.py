"""The guarantee, checked on the user's own model: each path against the definition, written down once more."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ._cache_use import relative_error, tolerance
from ._compat import CACHE, cache_of
from .actions import TokenAction
from .errors import EquiLMError, EquiLMWarning

if TYPE_CHECKING:
    from ._modeling_base import EquiLMPreTrainedModel

_MANY_ELEMENTS = 16  # for larger groups the text holds one equality word, so that few of the g·x differ
_PREFILLED = 5  # tokens of the text that are prefilled; the first two of them are the same for all g


@dataclass(frozen=True)
class SelfCheck:
    """What a self-check found; ``str()`` of it is for people.

    Args:
        errors: for each path the error of its logits, relative to their spread over the vocabulary.
        tolerance: how large an error may be by rounding.
        switched_off: the paths that were wrong, and that the model now goes without.
        skipped: why nothing was checked; empty where something was.
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
    """Why a model's passes cannot be checked now; empty where they can."""
    tensors = list(model.parameters())
    if any(tensor.is_meta for tensor in tensors):
        return "weights are offloaded or on the meta device; call model.self_check() once they are loaded"
    return ""


def check_model(model: "EquiLMPreTrainedModel") -> SelfCheck:
    """Compare the forward pass, prefill with a shared prefix, and cached steps with the definition.

    Args:
        model: an EquiLM. What is wrong and can be done without is switched off on it, with a warning.

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

    def __init__(self, model: "EquiLMPreTrainedModel", texts: dict[str, Tensor]):
        self.model = model
        self.texts = texts
        action = model.config.token_action()  # from the lists, not the table that the model computes with
        self.columns = torch.cat(
            [action.moved.nonzero().flatten(), torch.tensor(action.general_ids, dtype=torch.int64)]
        )
        general = action.general_ids if model.config.relaxed else ()
        self.expected, self.rounding = definition(model.language_model, action, texts, general)
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


def definition(base: Any, action: TokenAction, texts: dict[str, Tensor], general: Any) -> tuple[Tensor, float]:
    """1/|G| Σ_g M(g·x)[g·v] for every token v, float32, shape ``(1, T, V)``, from the base model without a cache.

    Args:
        base: the base model.
        action: the action on token ids.
        texts: what it reads, each of shape ``(1, T)``, all permuted alike.
        general: ids of general words, which keep the base model's logits.

    Returns:
        Also the rounding of the base model itself: how much its logits change with the rows beside a text, for
        low-precision weights and kernels.
    """
    table = action.permutation.to(base.device)
    images = [{name: row[ids] for name, ids in texts.items()} for row in table]
    keys = [tuple(torch.cat(list(image.values()), 1)[0].tolist()) for image in images]
    distinct = list(dict.fromkeys(keys))
    rows = [images[keys.index(key)] for key in distinct]
    together = base(**{name: torch.cat([row[name] for row in rows]) for name in texts}, use_cache=False).logits.float()
    rounding = 0.0
    if base.dtype not in (torch.float32, torch.float64) or getattr(base, "is_quantized", False):
        alone = base(**rows[0], use_cache=False).logits.float()
        rounding = relative_error(together[:1], alone)
    total = torch.zeros_like(together[:1])
    for row, key in zip(table, keys, strict=True):
        total += together[distinct.index(key), None].index_select(-1, row.to(together.device))
    mean = total / len(table)
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
    """Inside, a model is in evaluation mode and draws from a random state of its own."""
    training = [(module, module.training) for module in model.modules()]
    devices = {parameter.device for parameter in model.parameters() if parameter.is_cuda}
    model.eval()
    try:
        with torch.random.fork_rng(devices=list(devices)):
            yield
    finally:
        for module, was in training:
            module.training = was
