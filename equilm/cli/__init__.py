"""The command line: ``equilm demo``, ``generate``, ``audit``, ``report`` and ``push``. It has no Python interface."""

__all__: list[str] = []
