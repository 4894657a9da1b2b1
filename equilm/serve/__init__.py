"""The gateway: fairness at the sequence level, as an OpenAI-compatible server in front of any other."""

from .app import create_app
from .config import GatewayConfig, Upstream

__all__ = ["GatewayConfig", "Upstream", "create_app"]
