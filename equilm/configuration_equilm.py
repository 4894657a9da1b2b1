"""The configuration of an EquiLM: the base model's, the demographic axes, and the token lists they map to."""

import copy
from typing import Any, cast

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig

from ._table_checks import check_lists
from .actions import TokenAction
from .errors import EquiLMError


@strict
class EquiLMConfig(PreTrainedConfig):
    """Configuration of `EquiLMForCausalLM`; `EquiLMForCausalLM.from_base` writes it for you.

    Args:
        text_config: the base model's configuration, or a dict of it.
        axes: the demographic axes as in their JSON files, kept so that ``config.json`` stays readable.
        cycles: for each axis its lists of token ids; the generator turns each id into the next of its list.
        general_ids: token ids of R-EquiLM's general words (the set 𝒢 of the paper, section 5.3).
        coverage: which surface forms of which words are swapped, and why others are not.
        unmapped: token id sequences of equality words that cannot be swapped; prompts with no others get a warning.
        relaxed: R-EquiLM instead of EquiLM.

    Raises:
        EquiLMError: if the lists do not define a permutation of the base model's vocabulary, or are not those of the
            words in ``axes`` and ``coverage``.
    """

    model_type = "equilm"
    keys_to_ignore_at_inference = ["cache", "past_key_values"]  # Trainer gathers no caches
    sub_configs = {"text_config": AutoConfig}

    text_config: dict[str, Any] | PreTrainedConfig | None = None
    axes: list[dict[str, Any]] | None = None
    cycles: list[list[list[int]]] | None = None
    general_ids: list[int] | None = None
    coverage: list[dict[str, Any]] | None = None
    unmapped: list[list[int]] | None = None
    relaxed: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        if self.text_config is None:
            self.text_config = AutoConfig.for_model("gpt2")
        elif isinstance(self.text_config, dict):
            self.text_config = AutoConfig.for_model(**self.text_config)
        else:  # transformers writes the choice of attention into the configurations below its own
            self.text_config = copy.deepcopy(self.text_config)
        super().__post_init__(**kwargs)
        if self.cycles is not None:
            self.token_action()
            self._check_lists()

    def get_text_config(self, *args: Any, **kwargs: Any) -> PreTrainedConfig:
        """The part of the base model's configuration that is about text."""
        return cast(PreTrainedConfig, self.text_config).get_text_config(*args, **kwargs)

    @property
    def vocab_size(self) -> int:
        """V, the size of the base model's (padded) vocabulary."""
        return cast(int, self.get_text_config().vocab_size)

    def _check_lists(self) -> None:
        if self.axes is None and self.coverage is None:
            return  # lists of token ids without words
        try:
            check_lists(self.axes or [], self.coverage or [], self.cycles or [], self.general_ids or [])
        except (KeyError, IndexError, TypeError) as error:
            raise EquiLMError(
                f"axes or coverage of this EquiLMConfig is malformed ({error!r}). Get the repository anew, or wrap the "
                "base model again with EquiLMForCausalLM.from_base."
            ) from error

    def token_action(self) -> TokenAction:
        """The action on token ids: of EquiLM, or of R-EquiLM when ``relaxed`` is set."""
        if self.cycles is None:
            raise EquiLMError(
                "This EquiLMConfig has no word lists, so there is nothing to treat alike. Build the model with "
                "EquiLMForCausalLM.from_base(model, tokenizer, axes=...), which maps the words to tokens."
            )
        action = TokenAction.from_cycles(self.cycles, self.get_text_config().vocab_size, self.general_ids or ())
        if not self.relaxed:
            return action
        relaxed = action.relaxed()
        if not relaxed.moved.any():
            raise EquiLMError(
                "With relaxed=True every list holds a general word, so nothing would be swapped. Give fewer general "
                "words, more lists, or relaxed=False."
            )
        return relaxed
