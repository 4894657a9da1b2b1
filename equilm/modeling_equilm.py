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
from transformers.cache_utils import Cache
from transformers.modeling_outputs import CausalLMOutputWithPast

from .actions import TokenAction
from .configuration_equilm import EquiLMConfig
from .errors import EquiLMError
from .generation_equilm import FairGenerationMixin
from .report import FairnessReport, fairness_report
from .symmetrize import reynolds

# The models that are switched to plain in this thread or task, by id(); another thread's requests stay fair.
_PLAIN: ContextVar[frozenset[int]] = ContextVar("plain", default=frozenset())


class EquiLMForCausalLM(FairGenerationMixin, PreTrainedModel, GenerationMixin):
    """A causal language model that treats demographic groups alike: P(gX₂|gX₁) = P(X₂|X₁) (paper, eq. 4).

    Everything happens in `forward`: the base model runs on the permuted contexts g·x in one batch, and the logits are
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

    permutation: Tensor

    def __init__(self, config: EquiLMConfig, language_model: PreTrainedModel | None = None):
        super().__init__(config)
        if language_model is None:
            language_model = AutoModelForCausalLM.from_config(config.text_config)
        else:
            for module in language_model.modules():
                setattr(module, "_is_hf_initialized", True)  # noqa: B010 - or post_init would draw new weights for, say, LoRA's layers
        self.language_model = language_model
        self._base_arguments = frozenset(inspect.signature(language_model.forward).parameters)
        self._is_stateful = language_model._is_stateful
        self._set_table()
        self.post_init()

    def _set_table(self) -> None:
        action = self.config.token_action()
        self.group = action.group
        self.register_buffer("permutation", action.permutation.to(self.language_model.device), persistent=False)

    def _init_weights(self, module: nn.Module) -> None:
        # from_pretrained leaves non-persistent buffers empty; this is its hook to fill them.
        if module is self:
            init.copy_(self.permutation, self.config.token_action().permutation)

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
        self._set_table()
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
            past_key_values: a cache of |G|·B rows, as this model returns it: row ``g·B + b`` holds g·x of row b.
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
        loss_kwargs = {"num_items_in_batch": kwargs.pop("num_items_in_batch", None)}
        row_arguments = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "position_ids": position_ids,
            "token_type_ids": token_type_ids,
        }
        # Positions and token types are optional extras that not every architecture knows; it then makes its own.
        row_arguments = {k: v for k, v in row_arguments.items() if v is not None and k in self._base_arguments}
        plain = not torch.compiler.is_compiling() and self.is_plain
        batch = len(input_ids)
        rows = {k: v if plain else self._rows(k, v, batch) for k, v in row_arguments.items()}
        if "logits_to_keep" in self._base_arguments:
            kwargs["logits_to_keep"] = logits_to_keep
        outputs = self.language_model(
            **rows, past_key_values=past_key_values, use_cache=use_cache, **{**kwargs, "return_dict": True}
        )
        logits = outputs.logits  # (|G|·B, T', V)
        if "logits_to_keep" not in self._base_arguments:
            kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
            logits = logits[:, kept]
        if not plain:
            logits = self._average(logits.unflatten(0, (self.group.order, batch)))  # (B, T', V)

        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=logits.shape[-1], **loss_kwargs)
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.get("past_key_values"),
            hidden_states=_first_rows(outputs.get("hidden_states"), batch),
            attentions=_first_rows(outputs.get("attentions"), batch),
        )

    def _rows(self, name: str, value: Any, batch: int) -> Any:
        """One row for each g and each b, g slowest: shape ``(|G|·B, ...)``."""
        if name == "input_ids":
            return self.action.orbit(value).flatten(0, 1)
        if isinstance(value, dict):  # a static cache has one mask for each kind of layer, or none
            return {kind: mask if mask is None else self._rows(name, mask, batch) for kind, mask in value.items()}
        per_row = value.expand(batch, *value.shape[1:])  # positions may be given once for the whole batch
        return per_row.repeat(self.group.order, *[1] * (value.ndim - 1))

    def _average(self, branches: Tensor) -> Tensor:
        """φ(x) from the logits of g·x: ``(|G|, B, T', V)`` to ``(B, T', V)``."""
        logits = reynolds(branches, self.action.on_logits)
        if self.config.relaxed:
            general = list(self.config.general_ids or ())
            logits[..., general] = branches[0][..., general]
        return logits


def _first_rows(tensors: Sequence[Tensor] | None, batch: int) -> tuple[Tensor, ...] | None:
    return None if tensors is None else tuple(tensor[:batch] for tensor in tensors)
