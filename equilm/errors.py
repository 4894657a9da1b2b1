"""The package's error and warning types: every refusal names the value, what was expected and the remedy."""

__all__ = ["EquiLMError", "EquiLMWarning"]


class EquiLMError(ValueError):
    """Input that cannot be used, or a setting under which fairness would not hold."""


class EquiLMWarning(UserWarning):
    """Something the user should know about the guarantee; generation continues."""
