"""EquiLM and R-EquiLM around any causal language model of transformers (paper, section 5.3)."""

import copy
import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, GenerationConfig, GenerationMixin, PreTrainedModel
from transformers import initialization as init
from transformers.cache_utils import Cache, StaticCache
from transformers.modeling_outputs import CausalLMOutputWithPast

from .actions import TokenAction
from .configuration_equilm import EquiLMConfig
from .errors import EquiLMError
from .generation_equilm import FairGenerationMixin
from .orbit_rows import OrbitCache, Rows, adopt, all_rows, branches_of, distinct_rows
from .projection import has_linear_head, is_plain_linear, project_columns
from .report import FairnessReport, fairness_report
from .symmetrize import reynolds

# The models that are switched to plain in this thread or task, by id(); another thread's requests stay fair.
_PLAIN: ContextVar[frozenset[int]] = ContextVar("plain", default=frozenset())

# Prefilling the shared prefix by itself reads all weights once more, about the price of this many tokens.
_WORTH_A_PASS = 32


class EquiLMForCausalLM(FairGenerationMixin, PreTrainedModel, GenerationMixin):
    """A causal language model that treats demographic groups alike: P(gX₂|gX₁) = P(X₂|X₁) (paper, eq. 4).

    Everything happens in `forward`: the base model runs on the permuted contexts g·x in one batch; the logits are
    φ(x)[v] = 1/|G| Σ_g M(g·x)[g·v] (eq. 3). With ``config.relaxed``, R-EquiLM: the same for all words but the general
    ones, for which φ(x)[v] = M(x)[v]. Build it with `from_base`.

    Args:
        config: an `EquiLMConfig`.
        language_model: the base model to wrap; it is shared and left unchanged. None builds one from the config.
    """

    config_class = EquiLMConfig
    config: EquiLMConfig
    base_model_prefix = "language_model"
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
    _projects_once = False  # whether the head may be applied to the mean hidden state

    def __init__(self, config: EquiLMConfig, language_model: PreTrainedModel | None = None):
        super().__init__(config)
        if language_model is None:
            language_model = AutoModelForCausalLM.from_config(config.text_config)
        else:
            for module in language_model.modules():
                cast(Any, module)._is_hf_initialized = True  # or post_init would draw new weights for, say, LoRA
        self.language_model = language_model
        self._base_arguments = frozenset(inspect.signature(language_model.forward).parameters)
        self._is_stateful = language_model._is_stateful
        self.group = config.token_action().group
        for name, table in self._tables().items():
            self.register_buffer(name, table.to(language_model.device), persistent=False)
        self.post_init()
        self._projects_once = has_linear_head(language_model)

    def _tables(self) -> dict[str, Tensor]:
        action = self.config.token_action()
        moved = action.moved.nonzero().flatten()
        general = torch.tensor(action.general_ids if self.config.relaxed else (), dtype=torch.int64, device="cpu")
        return {
            "permutation": action.permutation,
            "words": torch.cat([moved, general]),
            "word_permutation": torch.searchsorted(moved, action.permutation[:, moved]),
        }

    def _init_weights(self, module: nn.Module) -> None:
        # from_pretrained leaves non-persistent buffers empty; this is its hook to fill them.
        if module is self:
            for name, table in self._tables().items():
                init.copy_(getattr(self, name), table)

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """As in transformers."""
        loaded = super().from_pretrained(*args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded  # with output_loading_info=True, a pair
        model._projects_once = has_linear_head(model.language_model)  # it had no weights when it was built
        return loaded

    @classmethod
    def from_base(
        cls,
        model_or_name: PreTrainedModel | str,
        tokenizer: Any = None,
        axes: Any = ("gender",),
        relaxed: bool = False,
        unmappable: Literal["raise", "skip"] = "skip",
        **from_pretrained_kwargs: Any,
    ) -> "EquiLMForCausalLM":
        """Wrap any causal language model.

        Args:
            model_or_name: a loaded model, a Hub id or a folder.
            tokenizer: the model's tokenizer; None loads it from where the model came from.
            axes: built-in names ("gender", "race", "race3", "orientation"), paths of axis files or `DemographicAxis`
                objects, one or several; several act as their product.
            relaxed: R-EquiLM: the axes' general words are left as the base model has them.
            unmappable: what to do with a word list that the tokenizer cannot carry: "skip" it, or "raise".
            from_pretrained_kwargs: given to ``from_pretrained`` when the model is loaded by name.

        Returns:
            The wrapped model, in evaluation mode. `fairness_report` says what is on.

        Raises:
            EquiLMError: for an unknown axis, lists the tokenizer cannot carry, a tokenizer that does not match the
                model, or a model that is not a causal language model.

        Example:
            >>> from equilm import EquiLMForCausalLM
            >>> model = EquiLMForCausalLM.from_base("HuggingFaceTB/SmolLM2-135M-Instruct")  # doctest: +SKIP
            >>> model.generate(**tokenizer("The man worked as", return_tensors="pt"))  # doctest: +SKIP
        """
        from .loading import load_base
        from .vocabulary import VocabularyAction

        base, tokenizer = load_base(model_or_name, tokenizer, **from_pretrained_kwargs)
        vocab_size = base.config.get_text_config().vocab_size
        action = VocabularyAction.from_axes(axes, tokenizer, vocab_size=vocab_size, unmappable=unmappable)
        return cls._wrap(base, action, relaxed)

    @classmethod
    def _wrap(cls, base: PreTrainedModel, action: Any, relaxed: bool) -> "EquiLMForCausalLM":
        text_config = copy.deepcopy(base.config)
        quantization = getattr(text_config, "quantization_config", None)
        if quantization is not None and quantization.quant_method == "gguf":
            del text_config.quantization_config  # transformers dequantises GGUF files as it loads them
        config = cast(Any, EquiLMConfig)(
            text_config=text_config,
            attn_implementation=base.config._attn_implementation,
            axes=[axis.to_dict() for axis in action.axes],
            cycles=[[list(ids) for ids in lists] for lists in action.cycles],
            general_ids=list(action.general_ids),
            coverage=[entry.to_dict() for entry in action.coverage],
            unmapped=[list(ids) for ids in action.unmapped_sequences],
            relaxed=relaxed,
            dtype=base.dtype,
        )
        return cls(config, base).eval()

    # One generation config serves the wrapped model and its base, so that plain() compares like with like.
    @property
    def generation_config(self) -> GenerationConfig:
        return self.language_model.generation_config

    @generation_config.setter
    def generation_config(self, generation_config: GenerationConfig) -> None:
        if "language_model" in self._modules:  # PreTrainedModel.__init__ sets it before there is a base
            self.language_model.generation_config = generation_config

    @property
    def action(self) -> TokenAction:
        """The action on token ids, its table where the model's is."""
        return TokenAction(self.group, self.permutation, tuple(self.config.general_ids or ()))

    @property
    def is_plain(self) -> bool:
        """Whether fairness is off here, inside `plain`."""
        return id(self) in _PLAIN.get()

    @contextmanager
    def plain(self) -> Iterator[PreTrainedModel]:
        """Switch fairness off for a comparison: inside, the model and `generate` are the base model's.

        It holds for this thread or task alone, and not inside a compiled forward pass, which stays fair.

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
        """What is on: print it. Inside `plain` it says that fairness is off."""
        return fairness_report(self.config, not self.is_plain)

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
        self.config.get_text_config().vocab_size = self.language_model.config.get_text_config().vocab_size
        for name, table in self._tables().items():
            setattr(self, name, table.to(self.permutation.device))
        return embeddings

    def prepare_inputs_for_generation(self, input_ids: Tensor, **kwargs: Any) -> dict[str, Any]:
        return cast(Any, self.language_model).prepare_inputs_for_generation(input_ids, **kwargs)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | dict[str, Tensor] | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        token_type_ids: Tensor | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """The averaged logits.

        Args:
            input_ids: int64, shape ``(B, T)``.
            attention_mask: shape ``(B, T + past)``, or the 4D masks of a static cache.
            position_ids: shape ``(B, T)``.
            past_key_values: a cache that this model has filled, or an empty one. It knows which of its rows holds
                which g·x_b and answers for B texts when cropped, reordered or repeated (`equilm.orbit_rows`).
            inputs_embeds: refused: an embedding cannot be permuted.
            labels: int64, shape ``(B, T)``, -100 where there is no loss.
            use_cache: whether to return a cache.
            logits_to_keep: the number of last positions to return logits for (0: all), or their indices.
            token_type_ids: shape ``(B, T)``.
            kwargs: handed on to the base model.

        Returns:
            ``logits`` of shape ``(B, T', V)``; with ``labels`` the mean cross-entropy as ``loss``; hidden states and
            attentions, where asked for, of the unpermuted rows.

        Raises:
            EquiLMError: for ``inputs_embeds``.
        """
        if inputs_embeds is not None or input_ids is None:
            raise EquiLMError(
                "EquiLM needs input_ids: the group permutes tokens, and inputs_embeds cannot be permuted. Pass the "
                "token ids, or use model.plain() to run the base model unfairly."
            )
        num_items = kwargs.pop("num_items_in_batch", None)
        # Positions and token types are optional extras that not every architecture knows; it then makes its own.
        extras = {"attention_mask": attention_mask, "position_ids": position_ids, "token_type_ids": token_type_ids}
        per_text = {k: v for k, v in extras.items() if v is not None and k in self._base_arguments}
        kwargs |= {"past_key_values": past_key_values, "use_cache": use_cache, "return_dict": True}
        if not torch.compiler.is_compiling() and self.is_plain:
            outputs = self.language_model(input_ids=input_ids, **per_text, **kwargs)
            logits = outputs.logits[:, kept_positions(logits_to_keep)]
            unpermuted = torch.arange(len(logits), device=logits.device)
        else:
            logits, outputs, unpermuted = self._average(input_ids, per_text, logits_to_keep, kwargs)

        loss = None
        if labels is not None:
            loss = self.loss_function(
                logits=logits, labels=labels, vocab_size=logits.shape[-1], num_items_in_batch=num_items
            )
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.get("past_key_values"),
            hidden_states=_choose(outputs.get("hidden_states"), unpermuted),
            attentions=_choose(outputs.get("attentions"), unpermuted),
        )

    def _average(
        self, input_ids: Tensor, per_text: dict[str, Any], logits_to_keep: int | Tensor, kwargs: dict[str, Any]
    ) -> tuple[Tensor, Any, Tensor]:
        """φ(x), shape ``(B, T', V)``; the base model's outputs on the permuted rows; the unpermuted ones among them."""
        cache = kwargs["past_key_values"]
        copies = self.action.orbit(input_ids)  # (|G|, B, T)
        rows = self._rows(copies, per_text, cache)  # n distinct rows serve |G|·B contexts
        whole = kwargs.get("output_hidden_states") or kwargs.get("output_attentions")  # of all tokens, not of the rest
        split = 0 if whole else self._shared_prefix(copies, rows, per_text, cache, logits_to_keep)
        if split > 0:
            rest = input_ids.shape[1] - split
            start = {name: value[:, : value.shape[1] - rest] for name, value in per_text.items()}
            self._average(input_ids[:, :split], start, 1, kwargs)
            tail = {name: value if name == "attention_mask" else value[:, split:] for name, value in per_text.items()}
            return self._average(input_ids[:, split:], tail, logits_to_keep, kwargs)

        if isinstance(cache, OrbitCache) and cache.branches is not None and not cache.static:
            cache.fork(cache.branches.flatten()[rows.first])
        arguments = {name: _per_row(value, rows, len(input_ids)) for name, value in per_text.items()}
        arguments |= {"input_ids": copies.flatten(0, 1)[rows.first], **kwargs}  # (n, T)
        kept, head = kept_positions(logits_to_keep), cast(Any, self.get_output_embeddings())
        if self._projects_once and is_plain_linear(head):
            outputs = self.language_model.get_decoder()(**arguments)
            hidden = outputs.last_hidden_state[:, kept]  # (n, T', H)
            rows, words = rows.to(hidden.device), self.words.to(hidden.device)
            logits = head(rows.mean(hidden))  # (B, T', V), right for all words that no g moves
            columns = project_columns(head, hidden, words)  # (n, T', C)
        else:
            if "logits_to_keep" in self._base_arguments:
                arguments["logits_to_keep"], kept = logits_to_keep, slice(None)
            outputs = self.language_model(**arguments)
            row_logits = outputs.logits[:, kept]  # (n, T', V)
            rows, words = rows.to(row_logits.device), self.words.to(row_logits.device)
            logits = rows.mean(row_logits)
            columns = row_logits[..., words]
        if outputs.get("past_key_values") is not None and not torch.compiler.is_compiling():
            adopt(outputs.past_key_values, rows)
        return self._fix_words(logits, columns, rows, words), outputs, rows.branches[0]

    def _fix_words(self, logits: Tensor, columns: Tensor, rows: Rows, words: Tensor) -> Tensor:
        """Put the words that some g moves, and R-EquiLM's general words, into the mean of the rows' logits."""
        moved = self.word_permutation.shape[1]
        branches = columns[..., :moved][rows.branches]  # (|G|, B, T', M)
        action = TokenAction(self.group, self.word_permutation.to(columns.device)).on_logits
        logits.index_copy_(-1, words[:moved], reynolds(branches, action))
        if self.config.relaxed:
            logits.index_copy_(-1, words[moved:], columns[..., moved:][rows.branches[0]])
        return logits

    def _rows(self, copies: Tensor, per_text: dict[str, Any], cache: Any) -> Rows:
        order, batch = copies.shape[:2]
        mask = per_text.get("attention_mask")
        fixed = torch.compiler.is_compiling() or isinstance(cache, StaticCache) or not self._shares_rows
        if fixed or isinstance(mask, dict) or (mask is not None and mask.ndim != 2):
            return all_rows(order, batch, copies.device)
        parents = None
        if cache is not None and cache.get_seq_length() > 0:
            parents = branches_of(cache)
            if parents.shape[1] != batch:
                raise EquiLMError(f"The cache holds {parents.shape[1]} texts, but input_ids {batch}.")
        positions = per_text.get("position_ids")
        if positions is not None:
            positions = positions.expand(batch, -1)
        return distinct_rows(copies, mask, positions, parents)

    def _shared_prefix(
        self, copies: Tensor, rows: Rows, per_text: dict[str, Any], cache: Any, logits_to_keep: int | Tensor
    ) -> int:
        """The number of leading tokens worth running once for all g, before the first equality word."""
        if cache is None or isinstance(cache, StaticCache) or torch.compiler.is_compiling():
            return 0
        if not self._shares_rows or not isinstance(logits_to_keep, int) or logits_to_keep != 1:
            return 0
        differs = (copies != copies[0]).flatten(0, 1).any(0)  # (T,)
        length = int(differs.int().argmax()) if bool(differs.any()) else 0
        if length == 0:
            return 0
        rest = copies.shape[2] - length
        start = {name: value[:, : value.shape[1] - rest] for name, value in per_text.items()}
        saved = len(rows.first) - len(self._rows(copies[..., :length], start, cache).first)
        return length if saved * length >= _WORTH_A_PASS else 0


def _per_row(value: Any, rows: Rows, batch: int) -> Any:
    """An attention mask, positions or token types of texts, for rows."""
    if isinstance(value, dict):  # a static cache has one mask for each kind of layer, or none
        return {kind: mask if mask is None else _per_row(mask, rows, batch) for kind, mask in value.items()}
    return rows.select(value.expand(batch, *value.shape[1:]))  # positions may be given once for the whole batch


def kept_positions(logits_to_keep: int | Tensor) -> slice | Tensor:
    """As an index: the last positions, all for 0, or those named."""
    return slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep


def _choose(tensors: Sequence[Tensor] | None, rows: Tensor) -> tuple[Tensor, ...] | None:
    return None if tensors is None else tuple(tensor[rows] for tensor in tensors)
