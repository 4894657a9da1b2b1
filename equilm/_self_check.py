"""The self-check: is each path of a wrapped model correct, and how can the base model's cache be continued?"""

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import signature
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ._base_arguments import own_positions
from ._base_weights import has_linear_head, is_plain_linear
from ._compat import CACHE, cache_of
from ._orbit_rows import reorder
from .actions import TokenAction
from .errors import EquiLMError, EquiLMWarning

CacheUse: TypeAlias = Literal["chunks", "steps", "whole", "none"]

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
    # Some models give a logit of about -inf to tokens that they never write, such as pieces of pictures.
    ruled_out = torch.finfo(torch.bfloat16).min / 8
    whole = whole.masked_fill(whole < ruled_out, 0)
    spread = (whole - whole.mean(-1, keepdim=True)).square().mean().sqrt()
    both = (logits < ruled_out) & (expected < ruled_out)
    error = (logits.double() - expected.double()).masked_fill(both, 0).square().mean().sqrt()
    return float(error / spread.clamp(min=1e-6))


def tolerance(dtype: torch.dtype) -> float:
    """How large `relative_error` may be by rounding."""
    return _TOLERANCE.get(dtype, _TOLERANCE[torch.bfloat16])


@torch.no_grad()
def cache_use(model: PreTrainedModel, name: str) -> CacheUse:
    """Whether a causal model continues its cache right by several tokens at once ("chunks"), by single ones ("steps").

    It runs two random texts through the model, whole and in parts, and the rows of the cache change places in between,
    as they do where texts fork. "whole" says that the model reads a prompt in both directions, as PaliGemma does: it
    must get the prompt as a whole, and may then continue its cache. "none" says that even single steps do not give the
    logits of the whole text, so that its texts must be run anew at every step. A model that does not read text alone is
    not tried.

    Args:
        model: the base model.
        name: what it calls its cache.
    """
    if reads_both_ways(model):
        return "whole"
    ids = _probe_texts(model.config.get_text_config()).to(model.device)  # (2, T)
    with quiet(model):  # some models draw in their forward pass
        try:
            whole = _logits(model, ids, 0, use_cache=False)[0].flip(0)
        except Exception:  # noqa: BLE001 - it needs pictures, say
            return "steps"  # what transformers' own generation needs
        _, prefilled = _logits(model, ids[:, :_PREFIX], 0, use_cache=True)
        if prefilled is None:
            return "none"
        for use, size in (("chunks", _LENGTH - _PREFIX), ("steps", 1)):
            cache = copy.deepcopy(prefilled)
            if _continued_error(model, ids.flip(0), whole, cache, name, size) <= tolerance(model.dtype):
                return use  # type: ignore[return-value]
    return "none"


@torch.no_grad()
def reads_both_ways(model: PreTrainedModel) -> bool:
    """Whether a model's first tokens see the later ones of a prompt, as those of a PaliGemma do.

    Only models for more than text that tell prompt and answer apart by token types are tried.
    """
    if model.config.get_text_config() is model.config or "token_type_ids" not in signature(model.forward).parameters:
        return False
    ids = _probe_texts(model.config.get_text_config()).to(model.device)[:1]
    other = ids.clone()
    other[:, -1] = ids[:, 0]
    with quiet(model):
        one, two = (
            model(
                input_ids=text,
                attention_mask=torch.ones_like(text),
                token_type_ids=torch.zeros_like(text),
                use_cache=False,
            ).logits[:, 0]
            for text in (ids, other)
        )
    return relative_error(one, two) > tolerance(model.dtype)


def _probe_texts(config: Any) -> Tensor:
    """Two random texts without special tokens, int64, shape ``(2, T)``: to some models padding is no part of a text."""
    known = config.to_dict()  # some have no padding, or name it otherwise
    special = {token for name in ("pad", "bos", "eos") for token in _listed(known.get(f"{name}_token_id"))}
    own = torch.Generator().manual_seed(0)  # the global one is the user's
    drawn = torch.randint(config.vocab_size // 2, (8 * _LENGTH,), generator=own).tolist()
    return torch.tensor([token for token in drawn if token not in special][: 2 * _LENGTH]).view(2, _LENGTH)


def _listed(token: int | list[int] | None) -> list[int]:
    return [] if token is None else [token] if isinstance(token, int) else token


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
    mask = {"attention_mask": torch.ones_like(ids)}
    positions = own_positions(model, ids, mask)
    inputs = model.prepare_inputs_for_generation(
        ids,
        next_sequence_length=ids.shape[1] - start,
        is_first_iteration=start == 0,
        **mask,
        **({} if positions is None else {"position_ids": positions}),
        **arguments,
    )
    if "logits_to_keep" in inputs:  # some keep only the last
        inputs["logits_to_keep"] = 0
    outputs = model(**inputs, return_dict=True)
    return outputs.logits, cache_of(outputs)


_SETTINGS = (bool, int, float, str)
_NUMBERS = ("layer_idx", "layer_id", "layer_number")  # what models call the number of a layer
_FIXED_TOKENS = 64  # of those whose logits are compared on a part of the model
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

    It runs on a part of the model: the first layers, as many as hold one of each kind, and a head for a part of the
    vocabulary. Only where that fails does it run on all of the model, and only that counts against it.

    Args:
        model: an EquiLM. A shortcut that is wrong is switched off on it, with a warning.

    Raises:
        EquiLMError: names the architecture, the path and the difference.
    """
    if reason := skip_reason(model):
        return SelfCheck({}, skipped=reason)
    action = model.config.token_action()  # from the lists, not the table that the model computes with
    with quiet(model), torch.no_grad():
        texts = model._check_texts(check_text(action, model.device))
        if (found := _check_part(model, action, texts)) is not None:
            return found
        if model._projects_once is None:
            model._projects_once = has_linear_head(model.language_model)
        checker = _Checker(model, action, texts)
        found = checker.run()
    for path, shortcut in checker.off:
        warn_switched_off(model, path, shortcut)
    return found


def without_shortcuts(model: Any) -> Iterator[str]:
    """Switches a model's shortcuts off, one after another, and names them."""
    for name, shortcut in (("_projects_once", "projecting once"), ("_shares_rows", "sharing rows")):
        if getattr(model, name):
            setattr(model, name, False)
            yield shortcut


def warn_switched_off(model: Any, path: str, shortcut: str) -> None:
    """Warn that a shortcut was wrong and is switched off; called from what `self_check` calls."""
    warnings.warn(
        f"The self-check found {path} of {type(model.language_model).__name__} wrong with {shortcut}, and right "
        "without. It is switched off: the text is as fair, and slower.",
        EquiLMWarning,
        stacklevel=4,
    )


def failed(model: Any, path: str, error: float, allowed: float) -> EquiLMError:
    """The error for a path whose logits are wrong with all shortcuts off."""
    return EquiLMError(
        f"The self-check failed: {type(model.language_model).__name__} in an {type(model).__name__}, {path}: the "
        f"logits differ from the mean over the group by {error:.1e} of their spread, where rounding gives "
        f"{allowed:.1e}. P(gY|gX) = P(Y|X) would not hold, so the model is not handed out. Please report the "
        "architecture; TextSymmetrizer makes any model fair on text."
    )


def _check_part(model: Any, action: TokenAction, texts: dict[str, Tensor]) -> SelfCheck | None:
    """What the check finds on a part of a model, if nothing is wrong; None otherwise."""
    try:
        part, tokens = _with_small_head(_with_few_layers(model), action)
        if part._projects_once is None:
            part._projects_once = has_linear_head(part.language_model)
        found = _Checker(part, action, texts, tokens).run()
    except Exception:  # noqa: BLE001 - some models need all their parts, and no fault is lost: all of them come next
        return None
    if found.switched_off:
        return None
    model.cache_use, model._projects_once = part.cache_use, part._projects_once
    return found


def _with_few_layers(model: Any) -> Any:
    """A model with the first layers of another alone, as many as hold one of each kind; all else is shared.

    The other one is left as it is, so that others may use it meanwhile.
    """
    base = model.language_model
    for part in {id(part): part for part in (base.get_decoder(), base.get_encoder())}.values():
        lists = [name for name, module in part.named_children() if isinstance(module, nn.ModuleList)]
        if len(lists) != 1:
            continue
        (name,) = lists
        layers = part.get_submodule(name)
        kinds = list(map(_kind, layers))
        count = max(kinds.index(kind) for kind in kinds) + 1
        model = _with_module(model, part, name, nn.ModuleList(list(layers)[:count]))
    return model


def _with_small_head(model: Any, action: TokenAction) -> tuple[Any, Tensor | None]:
    """A model with the logits of a part of another's vocabulary, all else shared; and the ids of that part.

    They are the words, and some tokens that are fixed by the group; None where the head is not plain.
    """
    head: Any = model.language_model.get_output_embeddings()
    if not is_plain_linear(head) or head._forward_hooks or head._forward_pre_hooks or "forward" in vars(head):
        return model, None
    some = torch.linspace(0, head.out_features - 1, _FIXED_TOKENS).long()
    tokens = torch.cat([some, *action.orbit(some), action.moved.nonzero().flatten()])
    tokens = torch.cat([tokens, torch.tensor(action.general_ids, dtype=torch.int64)]).unique()
    small = nn.Linear(head.in_features, len(tokens), bias=head.bias is not None, device="meta")
    small.weight = nn.Parameter(head.weight[tokens], requires_grad=False)
    if head.bias is not None:
        small.bias = nn.Parameter(head.bias[tokens], requires_grad=False)
    owner, _, name = next(name for name, module in model.named_modules() if module is head).rpartition(".")
    part: Any = _with_module(model, model.get_submodule(owner), name, small)
    part._buffers = {**model._buffers, "words": torch.searchsorted(tokens.to(model.words.device), model.words)}
    return part, tokens


def _kind(layer: nn.Module) -> list[Any]:
    """What tells kinds of layers apart: their modules and the settings of these, but for the layer's number."""
    return [
        (name, type(module), {k: v for k, v in vars(module).items() if type(v) in _SETTINGS and k not in _NUMBERS})
        for name, module in layer.named_modules()
    ]


def _with_module(root: nn.Module, owner: nn.Module, name: str, module: nn.Module) -> nn.Module:
    """A shallow copy of ``root`` whose part ``owner`` has another module under ``name``."""
    place = next(place for place, part in root.named_modules() if part is owner)

    def replaced(part: nn.Module, names: list[str]) -> nn.Module:
        if not names:
            return module
        other = copy.copy(part)
        other._modules = dict(part._modules)
        other._modules[names[0]] = replaced(part.get_submodule(names[0]), names[1:])
        return other

    return replaced(root, [*filter(None, place.split(".")), name])


class _Checker:
    """One self-check of a model, on one text."""

    def __init__(self, model: Any, action: TokenAction, texts: dict[str, Tensor], tokens: Tensor | None = None):
        """With ``tokens`` the model's logits are those of these ids alone."""
        self.model = model
        self.texts = texts
        tokens = torch.arange(action.vocab_size) if tokens is None else tokens
        general = torch.tensor(action.general_ids, dtype=torch.int64)
        self.columns = torch.searchsorted(tokens, torch.cat([action.moved.nonzero().flatten(), general]))
        general = torch.searchsorted(tokens, general if model.config.relaxed else general[:0])
        on_logits = torch.searchsorted(tokens, action.permutation[:, tokens])
        self.expected, self.rounding = definition(
            model.language_model, action, texts, general, model.orbit_weights, on_logits
        )
        self.errors: dict[str, float] = {}
        self.off: list[tuple[str, str]] = []
        self.failure: Exception | None = None

    def run(self) -> SelfCheck:
        model = self.model
        self._check("forward", lambda: model(**self.texts, use_cache=False).logits, without_shortcuts(self.model))
        if model.cache_use is None and reads_both_ways(model.language_model):
            model.cache_use = "whole"
        if model.cache_use not in ("none", "whole"):
            use, model.cache_use = model.cache_use, "chunks"
            wrong = self._measure("cached steps", self._cached)
            if wrong:  # is it the base model that continues its cache in another way?
                model.cache_use = None
                wrong = model._continues_caches() != "none" and self._measure("cached steps", self._cached)
                if wrong or model.cache_use == "none":
                    self.off.append(("cached steps", "the cache"))
                    model.cache_use = "none"
            elif use == "steps":
                model.cache_use = use
        return SelfCheck(self.errors, self._allowed, tuple(shortcut for _, shortcut in self.off))

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
                raise failed(self.model, path, self.errors[path], self._allowed) from self.failure
            tried.append(remedy)
        if tried:
            self.off.append((path, tried[-1]))

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


def definition(
    base: Any,
    action: TokenAction,
    texts: dict[str, Tensor],
    general: Any,
    weights: Any = None,
    on_logits: Tensor | None = None,
) -> tuple[Tensor, float]:
    """1/|G| Σ_g M(g·x)[g·v] for every token v, float32, shape ``(1, T, V)``, from the base model without a cache.

    Args:
        base: the base model.
        action: the action on token ids.
        texts: what it reads, each of shape ``(1, T)``, all permuted alike.
        general: the columns of general words, which keep the base model's logits.
        weights: λ, from last hidden states ``(n, T, H)`` to weights ``(n, T)``; None: all alike.
        on_logits: int64, shape ``(|G|, V)``: the permutation of the logits' columns; None: that of the ids.

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
    on_logits = table if on_logits is None else on_logits
    for row, key in zip(on_logits, keys, strict=True):
        place = distinct.index(key)
        image = together[place, None].index_select(-1, row[: together.shape[-1]].to(together.device))
        total += image * counts[place]
    mean = total / sum(counts[distinct.index(key)] for key in keys)
    words = torch.as_tensor(general).tolist()
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
    training = [module for module in model.modules() if module.training]
    devices = {parameter.device for parameter in model.parameters() if parameter.is_cuda}
    for module in training:
        module.training = False
    try:
        with torch.random.fork_rng(devices=list(devices)):
            yield
    finally:
        for module in training:
            module.training = True
