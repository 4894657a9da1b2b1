"""The common base of all EquiLM classes: tables, wrapping and loading, `plain`, embeddings."""

import copy
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, ClassVar, Literal, TypeVar, cast

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel
from transformers import initialization as init

from ._base_arguments import FOR_DECODING
from ._base_weights import (
    build_base,
    has_linear_head,
    is_plain_linear,
    project_columns,
    refuse_adapters,
    take_over_quantization,
    trunk,
)
from ._compat import CACHE, cache_argument, pop_cache
from ._coverage import check_repository
from ._fairness_report import FairnessReport, fairness_report
from ._generation import FairGenerationMixin
from ._orbit_rows import Rows, is_filled, orbit_cache
from ._self_check import CacheUse, SelfCheck, cache_use, check_model
from .actions import TokenAction
from .configuration_equilm import EquiLMConfig
from .errors import EquiLMError
from .symmetrize import LearnedWeights, reynolds

# The models that are switched to plain in this thread or task, by id(); another thread's requests stay fair.
_PLAIN: ContextVar[frozenset[int]] = ContextVar("plain", default=frozenset())

Wrapped = TypeVar("Wrapped", bound="EquiLMPreTrainedModel")


class EquiLMPreTrainedModel(FairGenerationMixin, PreTrainedModel):
    """A wrapped language model without its forward pass: `EquiLMForCausalLM` and `EquiLMForSeq2SeqLM` add that.

    Args:
        config: an `EquiLMConfig`.
        language_model: the base model to wrap; it is shared and left unchanged. None builds one from the config.
        weights: the λ of a config whose ``orbit_weights`` are ``"given"``, as in `from_base`.

    Raises:
        EquiLMError: for weights where there are none to be, and the other way round.
    """

    config_class: Any = EquiLMConfig
    config: EquiLMConfig
    base_auto_class: ClassVar[Any] = AutoModelForCausalLM  # the kind of model that is wrapped
    base_model_prefix = "language_model"
    model_tags = ["equilm", "fairness"]  # what the Hub lists the model under
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True

    permutation: Tensor  # int64, (|G|, V)
    words: Tensor  # int64, (C,): the M tokens that some g moves, then the general words
    word_permutation: Tensor  # int64, (|G|, M): the permutation among the moved tokens, by their place in `words`

    _shares_rows = True  # False runs all |G|·B rows, the reference that tests and benchmarks compare with
    # Whether the head may be applied to the mean hidden state; None: not known yet, `check_model` finds out.
    _projects_once: bool | None = False
    # Prefilling the shared prefix by itself reads all weights once more, about the price of this many tokens.
    _worth_a_pass = 32
    _checked = SelfCheck({}, skipped="call model.self_check()")
    _takes_weights = False  # whether the mean over g may be weighted
    cache_use: CacheUse | None = None  # how the base model's cache may be continued; None: not known yet

    def __init__(self, config: EquiLMConfig, language_model: PreTrainedModel | None = None, weights: Any = None):
        if language_model is not None:
            # Which class to load, where the auto class has another, or none.
            cast(Any, config.text_config).architectures = [type(language_model).__name__]
            if config._attn_implementation is None:
                config._attn_implementation = language_model.config._attn_implementation
        super().__init__(config)
        self._is_new = language_model is None  # without weights yet
        if language_model is None:
            language_model = build_base(self.base_auto_class, config.text_config)
        self.language_model = language_model
        self.orbit_weights = self._orbit_weights(weights)
        self._base_arguments = frozenset(inspect.signature(language_model.forward).parameters)
        self._cache_argument = cache_argument(language_model)
        self._trunk_cache_argument = cache_argument(trunk(language_model))
        self.cache_use = None if self._cache_argument else "none"
        self._is_stateful = language_model._is_stateful
        self.group = config.token_action().group
        for name, table in self._tables().items():
            self.register_buffer(name, table.to(language_model.device), persistent=False)
        self.post_init()
        self._projects_once = has_linear_head(language_model)

    def _orbit_weights(self, given: Any) -> Any:
        """λ, which weighs the rows of an orbit; None: all alike."""
        kind = self.config.orbit_weights
        if kind is not None and not self._takes_weights:
            raise EquiLMError(
                f"{type(self).__name__} averages over the group without weights: orbit_weights are for "
                "EquiLMForCausalLM."
            )
        if (given is not None) != (kind == "given"):
            raise EquiLMError(
                f"The configuration's orbit_weights is {kind!r}, and weights is a {type(given).__name__}. A λ of your "
                "own is passed when wrapping and when loading: from_pretrained(..., weights=λ)."
            )
        if kind != "learned":
            return given
        base: Any = self.language_model
        learned = LearnedWeights(base.config.get_text_config().hidden_size)
        return learned.to(base.device, base.dtype)

    def _weighed(self, rows: Rows, hidden: Tensor) -> Rows:
        """The rows with the weights that λ gives them, from their last hidden states ``(n, T, H)``."""
        if self.orbit_weights is None:
            return rows
        per_row = self.orbit_weights(hidden)
        if per_row.shape != hidden.shape[:2]:
            raise EquiLMError(
                f"λ turned hidden states of shape {tuple(hidden.shape)} into weights of shape {tuple(per_row.shape)}: "
                f"expected {tuple(hidden.shape[:2])}, one for each row and token."
            )
        return rows.to(hidden.device).weighed(per_row)

    def _tables(self) -> dict[str, Tensor]:
        action = self.config.token_action()
        moved = action.moved.nonzero().flatten()
        general = torch.tensor(action.general_ids if self.config.relaxed else (), dtype=torch.int64, device="cpu")
        return {
            "permutation": action.permutation,
            "words": torch.cat([moved, general]),
            "word_permutation": torch.searchsorted(moved, action.permutation[:, moved]),
        }

    def init_weights(self) -> None:
        """Draw a new base model's weights; those of a given one stay, as do adapters, ties and quantization."""
        if self._is_new:
            super().init_weights()

    def initialize_weights(self) -> None:
        """Give their values to all that was not loaded, the base model's parts by its own rules."""
        # transformers takes parts of custom code that hold no tensor of their own for initialized, all the way down.
        # Some base models, such as Falcon-H1, fill in buffers of their layers from there.
        self.language_model.initialize_weights()
        for module in (self.orbit_weights, self):
            if isinstance(module, nn.Module):
                self._init_weights(module)  # leaves what was loaded as it is

    def _init_weights(self, module: nn.Module) -> None:
        # from_pretrained leaves non-persistent buffers empty; this is its hook to fill them.
        if module is self:
            for name, table in self._tables().items():
                init.copy_(getattr(self, name), table)
        elif isinstance(module, LearnedWeights):
            init.zeros_(module.weight)
            init.zeros_(module.bias)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """As in transformers. A table that does not fit its words, or the tokenizer beside it, is refused.

        Args:
            pretrained_model_name_or_path: a Hub id or a folder.
            args: as in transformers.
            kwargs: as in transformers; ``self_check=False`` skips `self_check`.
        """
        checks = kwargs.pop("self_check", True)
        loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded  # with output_loading_info=True, a pair
        if pretrained_model_name_or_path is not None:
            check_repository(pretrained_model_name_or_path, model.config.coverage or (), **kwargs)
        model._projects_once = None  # it had no weights when it was built
        if checks:
            model.self_check()
        if model._projects_once is None:
            model._projects_once = has_linear_head(model.language_model)
        return loaded

    @classmethod
    def from_base(
        cls: type[Wrapped],
        model_or_name: PreTrainedModel | str,
        tokenizer: Any = None,
        axes: Any = ("gender",),
        relaxed: bool = False,
        unmappable: Literal["raise", "skip"] = "skip",
        max_piece_share: float | None = 0.25,
        self_check: bool = True,
        weights: Any = None,
        **from_pretrained_kwargs: Any,
    ) -> Wrapped:
        """Wrap a language model of the kind that the class is for.

        Args:
            model_or_name: a loaded model, a Hub id or a folder.
            tokenizer: the model's tokenizer; None loads it from the model's name or path.
            axes: built-in names ("gender", "race", "race3", "orientation"), paths of axis files or `DemographicAxis`
                objects, one or several; several act as their product.
            relaxed: R-EquiLM: the axes' general words are left as the base model has them.
            unmappable: what to do with a word list that the tokenizer has no single tokens for: "skip" it, or "raise".
            max_piece_share: leave a form out if more than this share of the uses of one of its tokens are pieces of
                longer words, as "men" is in "men|acing"; None leaves none out.
            self_check: run `self_check` on the wrapped model.
            weights: λ-equitune, for causal models: each g·x counts by λ(g·x) / Σ_h λ(h·x) in the mean. "learned" starts
                from equal weights and trains along with the model; or a function, such as an ``nn.Module``, from the
                base model's last hidden states ``(n, T, H)`` to weights ``(n, T)``, none negative. λ is one function
                for all g, and may look only at the text up to each token, as hidden states do; eq. 4 then holds
                exactly. None weighs all alike.
            from_pretrained_kwargs: given to ``from_pretrained`` when the model is loaded by name.

        Returns:
            The wrapped model, in evaluation mode. `fairness_report` says what is on. Its ``name_or_path`` is the base
            model's: a trainer that loads a reference model by that name, as TRL's DPO and GRPO do where none is given,
            gets the plain model. Give it ``ref_model``, or train what `save_pretrained` and then `from_pretrained` made
            of this model, whose name is a folder of the fair one.

        Raises:
            EquiLMError: for an unknown axis, lists that the tokenizer has no single tokens for, a tokenizer that does
                not match the model, a model of another kind or one that is wrapped already, or a model that fails its
                self-check.

        Example:
            >>> from equilm import EquiLMForCausalLM
            >>> model = EquiLMForCausalLM.from_base("HuggingFaceTB/SmolLM2-135M-Instruct")  # doctest: +SKIP
            >>> model.generate(**tokenizer("The man worked as", return_tensors="pt"))  # doctest: +SKIP
        """
        try:  # by the package's name: the copy of this file in a Hub repository has no word lists beside it
            from equilm.loading import load_base
            from equilm.words.vocabulary import VocabularyAction
        except ImportError as error:
            raise EquiLMError("To wrap another model the package is needed: pip install equilm.") from error

        if weights is not None and not cls._takes_weights:
            raise EquiLMError(f"{cls.__name__} takes no weights: λ is for EquiLMForCausalLM. Leave them out.")
        if not (weights is None or weights == "learned" or callable(weights)):
            raise EquiLMError(f'weights={weights!r} is not known: expected "learned", a function, or None.')
        base, tokenizer = load_base(model_or_name, tokenizer, cls.base_auto_class, **from_pretrained_kwargs)
        if isinstance(base, EquiLMPreTrainedModel):
            raise EquiLMError(
                f"The {type(base).__name__} given is wrapped already, with its own axes. Use it as it is, or wrap its "
                "base: its language_model."
            )
        vocab_size = base.config.get_text_config().vocab_size
        action = VocabularyAction.from_axes(
            axes, tokenizer, vocab_size=vocab_size, unmappable=unmappable, max_piece_share=max_piece_share
        )
        model = cls._wrap(base, action, relaxed, weights)
        if self_check:
            model.self_check()
        return model

    @classmethod
    def _wrap(cls: type[Wrapped], base: PreTrainedModel, action: Any, relaxed: bool, weights: Any) -> Wrapped:
        text_config = copy.deepcopy(base.config)
        if hasattr(text_config, "quantization_config"):
            del text_config.quantization_config  # it is about the files, which are the whole model's
        config = cast(Any, cls.config_class)(
            text_config=text_config,
            attn_implementation=base.config._attn_implementation,
            axes=[axis.to_dict() for axis in action.axes],
            coverage=list(action.coverage),
            relaxed=relaxed,
            orbit_weights="learned" if weights == "learned" else None if weights is None else "given",
            dtype=base.dtype,
            name_or_path=base.name_or_path,
        )
        given = {} if weights is None or weights == "learned" else {"weights": weights}
        model = cls(config, base, **given).eval()
        take_over_quantization(model, base)
        return model

    @property
    def generation_config(self) -> GenerationConfig:
        """One generation config serves the wrapped model and its base, so that `plain` compares like with like."""
        return self.language_model.generation_config

    @generation_config.setter
    def generation_config(self, generation_config: GenerationConfig) -> None:
        if "language_model" in self._modules:  # PreTrainedModel.__init__ sets it before there is a base
            self.language_model.generation_config = generation_config

    @property
    def action(self) -> TokenAction:
        """The action on token ids, its table where the model's is."""
        return TokenAction(self.group, self.permutation, self.config.token_general_ids())

    @property
    def is_plain(self) -> bool:
        """Whether fairness is off here, inside `plain`."""
        return id(self) in _PLAIN.get()

    @contextmanager
    def plain(self) -> Iterator[PreTrainedModel]:
        """Switch fairness off for a comparison: within the context, the model and `generate` are the base model's.

        This only affects the current thread or task, and no compiled forward pass, which stays fair.

        Example:
            >>> with model.plain():  # doctest: +SKIP
            ...     model.generate(**inputs)
        """
        token = _PLAIN.set(_PLAIN.get() | {id(self)})
        try:
            yield self.language_model
        finally:
            _PLAIN.reset(token)

    def fairness_report(self) -> FairnessReport:
        """Which words are swapped and what is promised: print it. Inside `plain` it says that fairness is off."""
        return replace(fairness_report(self.config, not self.is_plain), self_check=str(self._checked))

    def self_check(self) -> SelfCheck:
        """Check the guarantee on this model: a short random text, each path against the definition.

        The forward pass, a prefill with its shared prefix, and cached steps are compared with the mean over g of the
        base model's own logits on each g·x, without a cache (paper, eq. 3). A shortcut that is wrong on this
        architecture is switched off, where the model is right without, with a warning. `from_base` and
        `from_pretrained` run it; `fairness_report` shows what it found. Random states and modes stay as they are.

        Raises:
            EquiLMError: names the architecture, the path and the difference.

        Example:
            >>> print(model.self_check())  # doctest: +SKIP
        """
        if self.is_plain:
            raise EquiLMError("Inside plain() there is no fairness to check. Call self_check outside.")
        self._checked = check_model(self)
        return self._checked

    def _check_texts(self, ids: Tensor) -> dict[str, Tensor]:
        """What the self-check reads, by the names of `forward`'s arguments; the last is what is continued."""
        raise NotImplementedError

    def _check_arguments(self, texts: dict[str, Tensor]) -> dict[str, Any]:
        """What else the self-check gives `forward` when it continues a text."""
        raise NotImplementedError

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        return self.language_model.get_output_embeddings()

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.language_model.set_output_embeddings(new_embeddings)

    def resize_token_embeddings(self, *args: Any, **kwargs: Any) -> nn.Module:
        """As in transformers; tokens that are new stay fixed by the group."""
        embeddings = self.language_model.resize_token_embeddings(*args, **kwargs)
        self.vocab_size = self.language_model.config.get_text_config().vocab_size  # transformers sets it as well
        self.config.get_text_config().vocab_size = self.vocab_size
        for name, table in self._tables().items():
            setattr(self, name, table.to(self.permutation.device))
        return embeddings

    def save_pretrained(self, *args: Any, **kwargs: Any) -> None:
        """As in transformers. Weights with adapters of peft around them are refused (`equilm._base_weights`)."""
        refuse_adapters(self, self.language_model)
        super().save_pretrained(*args, **kwargs)

    def prepare_inputs_for_generation(self, input_ids: Tensor, **kwargs: Any) -> dict[str, Any]:
        kwargs = {name: value for name, value in kwargs.items() if name not in FOR_DECODING}
        if (cache := pop_cache(kwargs)) is not None:
            kwargs[self._cache_name] = cache
            if is_filled(cache) and kwargs.get("is_first_iteration") and kwargs.get("next_sequence_length") is None:
                input_ids = _new_ids(input_ids, kwargs.get("attention_mask"), cache)
        inputs = cast(Any, self.language_model).prepare_inputs_for_generation(input_ids, **kwargs)
        if (cache := pop_cache(inputs)) is not None:
            inputs[CACHE] = cache
        return cast(dict[str, Any], inputs)

    def _prepare_cache_for_generation(
        self,
        generation_config: GenerationConfig,
        model_kwargs: dict[str, Any],
        generation_mode: Any,
        batch_size: int,
        max_cache_length: int,
    ) -> None:
        """As the base model, by whose class transformers decides which cache it gets, and under which name."""
        cache = pop_cache(model_kwargs)
        if generation_config.use_cache and self._continues_caches() == "none":
            generation_config.use_cache = False
        if cache is not None:
            model_kwargs[self._cache_name] = cache
        base = cast(Any, self.language_model)
        rows = self.group.order * batch_size  # what a cache of fixed size holds
        base._prepare_cache_for_generation(generation_config, model_kwargs, generation_mode, rows, max_cache_length)
        if (cache := pop_cache(model_kwargs)) is not None:
            model_kwargs[CACHE] = orbit_cache(cache)

    @property
    def _cache_name(self) -> str:
        return self._cache_argument or CACHE

    def _continues_caches(self) -> CacheUse:
        """How a filled cache may be continued: found out once, by trying."""
        if self.cache_use is None:
            self.cache_use = cache_use(self.language_model, self._cache_name)
        return self.cache_use

    def _mean_logits(self, row_logits: Tensor, rows: Rows) -> Tensor:
        """φ(x), shape ``(B, T, V)``, from the base model's logits of each row, ``(n, T, V)``."""
        rows, words = rows.to(row_logits.device), self.words.to(row_logits.device)
        return self._fix_words(rows.mean(row_logits), row_logits[..., words], rows, words)

    def _project(self, hidden: Tensor, rows: Rows) -> Tensor:
        """φ(x), shape ``(B, T, V)``, from each row's last hidden states, ``(n, T, H)``, where `_may_project`."""
        head: Any = self.language_model.get_output_embeddings()
        rows, words = rows.to(hidden.device), self.words.to(hidden.device)
        rows = self._weighed(rows, hidden)
        logits = head(rows.mean(hidden))  # (B, T, V), right for all words that no g moves
        return self._fix_words(logits, project_columns(head, hidden, words), rows, words)

    @property
    def _may_project(self) -> bool:
        """Whether `_project` gives what `_mean_logits` gives: an adapter may have come to the head meanwhile."""
        return bool(self._projects_once) and is_plain_linear(self.language_model.get_output_embeddings())

    def _fix_words(self, logits: Tensor, columns: Tensor, rows: Rows, words: Tensor) -> Tensor:
        """Put the words that some g moves, and R-EquiLM's general words, into the mean of the rows' logits."""
        return logits.index_copy_(-1, words, self._word_logits(columns, rows))

    def _word_logits(self, columns: Tensor, rows: Rows) -> Tensor:
        """φ(x) of `words` alone, ``(B, T, C)``, from each row's logits of them, ``(n, T, C)``."""
        moved = self.word_permutation.shape[1]
        branches = columns[..., :moved][rows.branches]  # (|G|, B, T, M)
        action = TokenAction(self.group, self.word_permutation.to(columns.device)).on_logits
        return torch.cat([reynolds(branches, action, rows.weights), columns[..., moved:][rows.branches[0]]], -1)


def _new_ids(ids: Tensor, mask: Tensor | None, cache: Any) -> Tensor:
    """The ids that a filled cache has not seen, of texts given whole: transformers leaves this out for states."""
    whole = mask is None or mask.shape[1] == ids.shape[1]
    return ids[:, cache.get_seq_length() :] if whole and all(cache.is_linear) else ids
