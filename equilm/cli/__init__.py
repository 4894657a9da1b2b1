"""The command line: ``equilm demo``, ``generate``, ``audit``, ``report`` and ``push``."""
