"""The configuration of an EquiLM: the base model's, the demographic axes, and which of their words are swapped."""

import copy
from typing import Any, Literal, cast

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig

from ._coverage import Coverage, axis_factors, check_coverage, general_token_ids, token_cycles
from .actions import TokenAction
from .errors import EquiLMError


@strict
class EquiLMConfig(PreTrainedConfig):
    """Configuration of all wrapped models but encoder-decoders; `EquiLMForCausalLM.from_base` and its like write it.

    The words of ``axes`` and their ``coverage`` say which tokens are swapped. A model without words has ``cycles``
    instead.

    Args:
        text_config: the base model's configuration, or a dict of it.
        axes: the demographic axes as in their JSON files.
        coverage: `Coverage` rows, or dicts of them, which say which surface forms are swapped, and why others are not.
        relaxed: R-EquiLM instead of EquiLM.
        cycles: only without ``coverage``: for each axis, its lists of token ids. The generator turns each id into the
            next one in its list.
        orbit_weights: λ-equitune in place of the plain mean: ``"learned"``, or ``"given"`` by the user, who passes
            ``weights`` when loading as well.
        general_ids: only with ``cycles``: token ids of R-EquiLM's general words (the set 𝒢 of the paper, section 5.3).

    Raises:
        EquiLMError: if the lists do not define a permutation of the base model's vocabulary, or if ``coverage`` does
            not fit ``axes``.
    """

    model_type = "equilm"
    keys_to_ignore_at_inference = ["cache", "past_key_values"]  # Trainer gathers no caches
    sub_configs = {"text_config": AutoConfig}

    text_config: dict[str, Any] | PreTrainedConfig | None = None
    axes: list[dict[str, Any]] | None = None
    coverage: list[Any] | None = None  # of `Coverage` once the configuration is made
    relaxed: bool = False
    cycles: list[list[list[int]]] | None = None
    general_ids: list[int] | None = None
    orbit_weights: Literal["learned", "given"] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        if self.text_config is None:
            self.text_config = AutoConfig.for_model("gpt2")
        elif isinstance(self.text_config, dict):
            self.text_config = AutoConfig.for_model(**self.text_config)
        else:  # transformers writes the choice of attention into the configurations below its own
            self.text_config = copy.deepcopy(self.text_config)
        self._take_over_labels(kwargs)
        if self.coverage is not None:
            self._read_coverage()
            kwargs.pop("unmapped", None)  # stored until 2026-11, and derived from the coverage since
        super().__post_init__(**kwargs)
        if self.coverage is not None or self.cycles is not None:
            self.token_action()

    def _take_over_labels(self, given: dict[str, Any]) -> None:
        """A classifier's labels are those of the base model, unless they are given."""
        base = cast(PreTrainedConfig, self.text_config)
        if self.id2label is None and "num_labels" not in given:
            self.id2label, self.label2id = base.id2label, base.label2id
        if self.problem_type is None:
            self.problem_type = base.problem_type

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As in transformers. The configuration of a model of another type, such as a plain one, is refused."""
        if (given := config_dict.get("model_type", cls.model_type)) != cls.model_type:
            raise EquiLMError(
                f"A saved model of the type {cls.model_type!r} was expected, but this is one of the type {given!r}. To "
                "wrap a plain model, use from_base(name, axes=...)."
            )
        return super().from_dict(config_dict, **kwargs)

    def get_text_config(self, *args: Any, **kwargs: Any) -> PreTrainedConfig:
        """The part of the base model's configuration that is about text."""
        return cast(PreTrainedConfig, self.text_config).get_text_config(*args, **kwargs)

    @property
    def vocab_size(self) -> int:
        """V, the size of the base model's (padded) vocabulary."""
        return cast(int, self.get_text_config().vocab_size)

    @vocab_size.setter
    def vocab_size(self, size: int) -> None:
        self.get_text_config().vocab_size = size

    def _read_coverage(self) -> None:
        rows, axes = self.coverage or [], self.axes or []
        try:
            self.coverage = [row if isinstance(row, Coverage) else Coverage.from_dict(row) for row in rows]
            check_coverage(axes, self.coverage)
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise EquiLMError(
                f"axes or coverage of this EquiLMConfig is malformed ({error!r}). Download the repository again, "
                "or wrap the base model again with EquiLMForCausalLM.from_base."
            ) from error
        stored = (self.cycles, self.general_ids)  # in files from before these were derived
        self.cycles = self.general_ids = None
        derived = ([[list(ids) for ids in lists] for lists in self.token_cycles()], list(self.token_general_ids()))
        for name, old, new in zip(("cycles", "general_ids"), stored, derived, strict=True):
            if old is not None and old != new:
                raise EquiLMError(
                    f"{name} of this EquiLMConfig are not the token ids of its coverage. Download the repository "
                    "again, or wrap the base model again with EquiLMForCausalLM.from_base."
                )

    def to_dict(self) -> dict[str, Any]:
        """As in transformers; ``coverage`` as dicts, and without what is derived from it."""
        output = super().to_dict()
        if self.coverage is not None:
            output["coverage"] = [row.to_dict() for row in self.coverage]
            del output["cycles"], output["general_ids"]
        return output

    def token_cycles(self) -> tuple[tuple[tuple[int, ...], ...], ...]:
        """For each axis, the lists of token ids that are swapped."""
        if self.coverage is not None:
            return token_cycles([axis["name"] for axis in self.axes or ()], self.coverage)
        return tuple(tuple(map(tuple, lists)) for lists in self.cycles or ())

    def token_general_ids(self) -> tuple[int, ...]:
        """The token ids of R-EquiLM's general words."""
        return tuple(self.general_ids or ()) if self.coverage is None else general_token_ids(self.coverage)

    def token_action(self) -> TokenAction:
        """The action on token ids: EquiLM's, or R-EquiLM's when ``relaxed`` is set."""
        if self.coverage is None and self.cycles is None:
            raise EquiLMError(
                "This EquiLMConfig has no word lists, so there is nothing to treat alike. Build the model with "
                "EquiLMForCausalLM.from_base(model, tokenizer, axes=...), which maps the words to tokens."
            )
        vocab_size = self.get_text_config().vocab_size
        factors = None if self.coverage is None else [axis_factors(axis) for axis in self.axes or ()]
        action = TokenAction.from_cycles(self.token_cycles(), vocab_size, self.token_general_ids(), factors)
        if not self.relaxed:
            return action
        relaxed = action.relaxed()
        if not relaxed.moved.any():
            raise EquiLMError(
                "With relaxed=True every list holds a general word, so nothing would be swapped. Give fewer general "
                "words, more lists, or relaxed=False."
            )
        return relaxed


@strict
class EquiLMSeq2SeqConfig(EquiLMConfig):
    """Configuration of `EquiLMForSeq2SeqLM`; `EquiLMForSeq2SeqLM.from_base` writes it for you.

    Args:
        is_encoder_decoder: always true; `generate` looks here.

    The others are those of `EquiLMConfig`: ``text_config`` is the configuration of the encoder-decoder.
    """

    model_type = "equilm_seq2seq"
    keys_to_ignore_at_inference = ["cache", "past_key_values"]

    is_encoder_decoder: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        if self.text_config is None:
            self.text_config = AutoConfig.for_model("t5")
        super().__post_init__(**kwargs)
