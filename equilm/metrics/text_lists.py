"""The one check of texts that are given to a metric: a list, not a single text, whose letters would be measured."""

from typing import Any

from ..errors import EquiLMError


def check_text_lists(**lists: Any) -> None:
    """Refuse a text in place of a list of texts, an empty list, and members that are not texts.

    Args:
        lists: by the name the user knows it by, what should be a list of texts; None is left alone.

    Raises:
        EquiLMError: names the argument, what was given, and the remedy.
    """
    for name, texts in lists.items():
        if texts is None:
            continue
        if isinstance(texts, str):
            raise EquiLMError(
                f"{name} must be a list of at least one text, got {texts!r}. Put a single text into a list."
            )
        if len(texts) == 0:
            raise EquiLMError(f"{name} must be a list of at least one text, got {texts!r}.")
        for position, text in enumerate(texts):
            if not isinstance(text, str):
                raise EquiLMError(
                    f"{name} must be a list of at least one text, but item {position} is {text!r} "
                    f"({type(text).__name__}), not a text."
                )
