"""A check that a metric gets a list of texts. A single text would be measured letter by letter."""

from typing import Any

from ..errors import EquiLMError


def check_text_lists(**lists: Any) -> None:
    """Refuse a single text in place of a list, an empty list, and list items that are not texts.

    Args:
        lists: the arguments to check, by the names that the user knows them by; None is not checked.

    Raises:
        EquiLMError: names the argument, its value, and the remedy.
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
