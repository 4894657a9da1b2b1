"""The commands ``equilm demo``, ``generate``, ``check``, ``audit``, ``report`` and ``push``; no Python interface."""

__all__: list[str] = []
