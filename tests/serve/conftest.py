"""The fixtures of these tests. They live in `served`, as mypy takes one module of this name."""

from served import gateways, toy, toy_server, url

__all__ = ["gateways", "toy", "toy_server", "url"]
