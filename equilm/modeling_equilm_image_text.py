"""EquiLM and R-EquiLM around any decoder of transformers that reads pictures and text (paper, eq. 3)."""

from dataclasses import replace
from typing import Any, ClassVar, cast

import torch
from torch import Tensor
from transformers import AutoModelForImageTextToText, PreTrainedModel, ProcessorMixin

from ._base_arguments import NEGATIVE_PROMPT, WITH_PICTURES, TextBatch, refuse_unknown, take_per_text
from ._compat import CACHE, one_cache
from ._orbit_rows import is_filled
from ._picture_check import check_pictures, runs_on_text
from ._pictures import Pictures, mismatch, named_tokens, placeholder_tokens, take_pictures
from ._self_check import SelfCheck, check_text, skip_reason
from .configuration_equilm import EquiLMConfig
from .errors import EquiLMError
from .modeling_equilm import EquiLMForCausalLM

# In the arguments of a generation: how many copies of each text there are, side by side, to the pictures of one.
_COPIES = "picture_copies"


class EquiLMForImageTextToText(EquiLMForCausalLM):
    """A model of pictures and text that treats demographic groups alike: P(gY|gX, pictures) = P(Y|X, pictures).

    The group acts on the words. Pictures, the tokens that stand for them, and their places are the same for all
    permuted copies of a text, so each picture is encoded once. The logits are φ(x)[v] = 1/|G| Σ_g M(g·x, pictures)[g·v]
    (paper, eq. 3). ``forward`` and ``generate`` take what the base model's processor makes. Build it with `from_base`.

    Args:
        config: an `EquiLMConfig`, whose ``text_config`` is the configuration of the whole base model.
        language_model: the base model to wrap; it is shared and left unchanged. None builds one from the config.
        weights: as in `EquiLMForCausalLM`.

    Raises:
        EquiLMError: for an encoder-decoder, and for axes that move a token which stands for pictures.

    Example:
        >>> from equilm import EquiLMForImageTextToText
        >>> model = EquiLMForImageTextToText.from_base("HuggingFaceTB/SmolVLM-256M-Instruct")  # doctest: +SKIP
        >>> chat = [{"role": "user", "content": [{"type": "image", "url": "photo.jpg"},
        ...                                      {"type": "text", "text": "What is this person's job?"}]}]
        >>> inputs = processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=True,
        ...                                        return_dict=True, return_tensors="pt")  # doctest: +SKIP
        >>> model.generate(**inputs, max_new_tokens=20)  # doctest: +SKIP
    """

    base_auto_class: ClassVar[Any] = AutoModelForImageTextToText

    def __init__(self, config: EquiLMConfig, language_model: PreTrainedModel | None = None, weights: Any = None):
        base_config = cast(Any, config.text_config)
        if base_config.is_encoder_decoder:
            raise EquiLMError(
                f"{base_config.model_type} reads pictures in an encoder and writes in a decoder; "
                "EquiLMForImageTextToText wraps decoders that read both. TextSymmetrizer makes any generator fair on "
                "text."
            )
        action = config.token_action()
        for name, token in named_tokens(base_config).items():
            if 0 <= token < action.vocab_size and bool(action.moved[token]):
                raise EquiLMError(
                    f"The axes move token {token}, which is the base model's {name}: the group may move words only. "
                    "Leave its list out of the axes, or check that the tokenizer is the model's."
                )
        super().__init__(config, language_model, weights)

    def _tables(self) -> dict[str, Tensor]:
        tables = super()._tables()
        table = tables["permutation"]
        # The tokens of pictures may lie beyond the logits' vocabulary, as Mllama's does. They are fixed.
        end = max(table.shape[1], *(token + 1 for token in placeholder_tokens(self.config.text_config)), 0)
        beyond = torch.arange(table.shape[1], end, device="cpu")
        return {**tables, "permutation": torch.cat([table, beyond.expand(len(table), -1)], 1)}

    def forward(  # type: ignore[override]  # one argument more, by name
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | dict[str, Tensor] | None = None,
        position_ids: Tensor | None = None,
        cache: Any = None,
        pixel_values: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """The averaged logits.

        Args:
            input_ids: int64, shape ``(B, T)``, with the tokens that stand for pictures.
            attention_mask: as in `EquiLMForCausalLM`.
            position_ids: shape ``(B, T)``, or ``(K, B, T)`` for positions of several kinds. None lets the base model
                make them.
            cache: as in `EquiLMForCausalLM`.
            pixel_values: the pictures, in the base model's own layout: those of all texts in their order.
            kwargs: what else the base model's processor makes of pictures and videos, such as ``image_grid_thw``; and
                as in `EquiLMForCausalLM`.

        Returns:
            As in `EquiLMForCausalLM`.

        Raises:
            EquiLMError: for pictures that do not fit the texts, and as in `EquiLMForCausalLM`.
        """
        names = ("past_key_values", "cache_params")
        cache = one_cache(cache=cache, **{name: kwargs.pop(name, None) for name in names})
        if pixel_values is not None:
            kwargs["pixel_values"] = pixel_values
        is_plain = not torch.compiler.is_compiling() and self.is_plain
        if is_plain:
            kwargs = {name: value for name, value in kwargs.items() if value is not None and name != _COPIES}
        elif input_ids is not None and not is_filled(cache):
            self._refuse_missing(input_ids, kwargs)
        try:
            return super().forward(input_ids, attention_mask, position_ids, cache, **kwargs)
        except ValueError as error:
            if is_plain or input_ids is None or isinstance(error, EquiLMError):
                raise
            if is_filled(cache):
                raise EquiLMError(
                    f"{type(self.language_model).__name__} does not go on with a text without its pictures ({error}), "
                    "so it cannot be generated fairly. symmetrized_generate makes whole texts fair."
                ) from error
            raise mismatch(self.language_model, input_ids, error) from error

    @classmethod
    def from_base(cls, model_or_name: Any, tokenizer: Any = None, *args: Any, **kwargs: Any) -> Any:
        """As `EquiLMForCausalLM.from_base`. With a processor, the self-check also reads a small picture.

        Args:
            model_or_name: a loaded model, a Hub id or a folder.
            tokenizer: the model's processor or its tokenizer; None loads the tokenizer from the model's name or path.
            args: as in `EquiLMForCausalLM.from_base`.
            kwargs: likewise.
        """
        try:  # by the package's name: the copy of this file in a Hub repository has no such module beside it
            from equilm.text.image_prompts import image_inputs
        except ImportError as error:
            raise EquiLMError("To wrap another model the package is needed: pip install equilm.") from error

        checks = kwargs.pop("self_check", True)
        kwargs["self_check"] = False  # once, below
        model = super().from_base(model_or_name, tokenizer, *args, **kwargs)
        if checks and isinstance(tokenizer, ProcessorMixin):
            inputs = image_inputs(tokenizer, ["Who is this person?"], [_small_picture()])
            model.self_check(**inputs.to(model.device, dtype=model.dtype))
        elif checks:
            model.self_check()
        return model

    def self_check(self, **inputs: Any) -> SelfCheck:
        """Check the guarantee on this model, as `EquiLMForCausalLM.self_check` does, and with pictures if given.

        Args:
            inputs: what the base model's processor makes of texts and pictures; words of the axes are put into the
                texts. With none, only text is read.

        Raises:
            EquiLMError: names the architecture, the path and the difference.
        """
        if self.is_plain:
            raise EquiLMError("Inside plain() there is no fairness to check. Call self_check outside.")
        reason = skip_reason(self)
        if not reason and runs_on_text(self, self._check_texts(check_text(self.config.token_action(), self.device))):
            super().self_check()
        else:
            asks = "the model does not read text without pictures; call model.self_check(**inputs) with the processor's"
            self._checked = SelfCheck({}, skipped=reason or asks)
        if inputs and not reason:
            found = check_pictures(self, inputs)
            errors = {**self._checked.errors, **found.errors}
            self._checked = replace(found, errors=errors, switched_off=self._checked.switched_off + found.switched_off)
        return self._checked

    def _refuse_missing(self, ids: Tensor, arguments: dict[str, Any]) -> None:
        """Refuse texts with tokens of pictures, and no pictures."""
        given = [
            name
            for name, value in take_pictures(dict(arguments), self._base_arguments).items()
            if not isinstance(value, Tensor) or value.is_floating_point()
        ]
        tokens = torch.tensor(placeholder_tokens(self.config.text_config), device=ids.device)
        if given or torch.compiler.is_compiling() or not bool(torch.isin(ids, tokens).any()):
            return
        counts = torch.isin(ids, tokens).sum(-1).tolist()
        raise EquiLMError(
            f"The texts have {counts} tokens that stand for pictures, but no picture is given. Pass all that the "
            "processor made: model(**inputs), with pixel_values and what comes with them."
        )

    def _batch(self, input_ids: Tensor, arguments: dict[str, Any]) -> TextBatch:
        copies = arguments.pop(_COPIES, 1)
        per_text = take_per_text(arguments, self._base_arguments, WITH_PICTURES)
        found = take_pictures(arguments, self._base_arguments)
        refuse_unknown(arguments)
        pictures = Pictures(found, len(input_ids) // copies) if found else None
        return TextBatch(input_ids, per_text, arguments, pictures=pictures)

    def _pictures_end_before(self, batch: TextBatch, length: int) -> bool:
        if batch.pictures is None:
            return True
        tokens = torch.tensor(placeholder_tokens(self.config.text_config), device=batch.ids.device)
        places = torch.isin(batch.ids, tokens)
        # Where no token stands for the pictures, or masks say what sees them, all tokens may need them.
        return bool(places.any()) and not places[:, length:].any() and _has_plain_masks(batch)

    def _check_inputs(self, others: dict[str, Any], kwargs: dict[str, Any]) -> None:
        known = ("input_ids", CACHE, *WITH_PICTURES, *NEGATIVE_PROMPT)
        arguments = {name: value for name, value in others.items() if name not in known}
        take_pictures(arguments, self._base_arguments)
        refuse_unknown({name: value for name, value in arguments.items() if isinstance(value, Tensor | list)})

    def _validate_model_kwargs(self, model_kwargs: dict[str, Any]) -> None:
        known = {k: v for k, v in model_kwargs.items() if k not in self._base_arguments}
        cast(Any, super())._validate_model_kwargs(known)

    def _prepare_position_ids_for_generation(self, inputs_tensor: Tensor, model_kwargs: dict[str, Any]) -> Tensor:
        base = cast(Any, self.language_model)
        return cast(Tensor, base._prepare_position_ids_for_generation(inputs_tensor, model_kwargs))

    def _expand_inputs_for_generation(
        self,
        expand_size: int = 1,
        is_encoder_decoder: bool = False,
        input_ids: Any = None,
        **model_kwargs: Any,
    ) -> tuple[Any, dict[str, Any]]:
        """As in transformers, but for the pictures: copies of a text share those of one."""
        texts = dict(model_kwargs)
        positions = {k: texts.pop(k) for k in ("position_ids",) if texts.get(k) is not None and texts[k].ndim == 3}
        per_text = {name: texts.pop(name) for name in WITH_PICTURES if name in texts}
        pictures = take_pictures(texts, self._base_arguments)
        ids, expanded = cast(Any, super())._expand_inputs_for_generation(
            expand_size, is_encoder_decoder, input_ids, **texts, **per_text
        )
        positions = {name: value.repeat_interleave(expand_size, 1) for name, value in positions.items()}
        return ids, {**expanded, **positions, **pictures, **({_COPIES: expand_size} if pictures else {})}

    def prepare_inputs_for_generation(self, input_ids: Tensor, **kwargs: Any) -> dict[str, Any]:
        """As the base model."""
        copies = {name: kwargs.pop(name) for name in (_COPIES,) if name in kwargs}
        return {**super().prepare_inputs_for_generation(input_ids, **kwargs), **copies}

    def _update_model_kwargs_for_generation(
        self, outputs: Any, model_kwargs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> dict[str, Any]:
        base: Any = self.language_model
        try:
            return cast(
                dict[str, Any], base._update_model_kwargs_for_generation(outputs, model_kwargs, *args, **kwargs)
            )
        except AttributeError as error:
            raise EquiLMError(
                f"{type(base).__name__} generates from outputs that belong to the permuted rows ({error}): its texts "
                "cannot be fair. Its forward pass is; symmetrized_generate makes whole texts fair."
            ) from error


def _small_picture() -> Tensor:
    """A picture of 64 by 64 pixels, dark on the left and light on the right: uint8, shape ``(3, 64, 64)``."""
    return torch.linspace(0, 255, 64).to(torch.uint8).expand(3, 64, 64).clone()


def _has_plain_masks(batch: TextBatch) -> bool:
    return all(value.ndim == 2 or name == "position_ids" for name, value in batch.per_text.items())
