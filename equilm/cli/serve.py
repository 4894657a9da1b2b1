"""``equilm serve``: the gateway from the command line."""

import argparse
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import EquiLMError

if TYPE_CHECKING:
    from ..serve.config import GatewayConfig

_LIMITS = {
    "connect_timeout": "seconds for a connection to an upstream server",
    "stall_timeout": "seconds without a byte from an upstream server before it counts as stalled",
    "total_timeout": "seconds for a whole request",
    "max_body_mb": "the largest request, in MB",
    "max_generations": "how many generations may run at once",
    "max_choices": "the largest n of a request",
}


def add_parser(commands: Any) -> None:
    """Add ``serve`` to the subparsers of ``equilm``."""
    parser = commands.add_parser("serve", help="a gateway that makes any OpenAI-compatible server fair")
    add = parser.add_argument
    add("--upstream", metavar="URL", help="the base URL of the server that generates, such as http://127.0.0.1:8000/v1")
    add("--axis", action="append", metavar="AXIS", help="a name or the path of a JSON file; always on; may be repeated")
    add("--allow-axis", action="append", metavar="AXIS", help="an axis that a request may turn on by X-Equilm-Axes")
    add("--config", type=Path, metavar="JSON", help="a file with these settings; options replace what it says")
    add("--host", default="127.0.0.1", help="the address to listen at (%(default)s)")
    add("--port", type=int, default=8080, help="(%(default)s)")
    add("--log-text", action="store_true", default=None, help="write prompts and answers to the log")
    add("--report", action="store_true", help="say what is on, and stop")
    for name, about in _LIMITS.items():
        add(f"--{name.replace('_', '-')}", type=int if name.endswith(("ons", "ices")) else float, help=about)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Serve until interrupted, or print the report.

    Raises:
        EquiLMError: for a package that is missing, and for settings that cannot be.
    """
    try:
        import uvicorn

        from ..serve.app import create_app
        from ..serve.report import report
    except ModuleNotFoundError as error:
        raise EquiLMError(f"equilm serve needs {error.name}. Run: pip install 'equilm[serve]'") from error

    if not 0 <= arguments.port <= 65535:
        raise EquiLMError(f"--port is {arguments.port}: expected a number from 0 to 65535.")
    config = configuration(arguments)
    print(report(config), file=sys.stdout if arguments.report else sys.stderr, flush=True)
    if arguments.report:
        return
    app = create_app(config)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs every URL
    uvicorn.run(
        app,
        host=arguments.host,
        port=arguments.port,
        access_log=False,
        server_header=False,
        log_config=None,
        timeout_graceful_shutdown=10,
    )


def configuration(arguments: argparse.Namespace) -> "GatewayConfig":
    """The settings of the file and the options together.

    Raises:
        EquiLMError: for settings that cannot be.
    """
    from ..serve.config import GatewayConfig, Upstream

    given: dict[str, Any] = {name: getattr(arguments, name) for name in (*_LIMITS, "log_text")}
    given |= {"axes": arguments.axis, "allowed_axes": arguments.allow_axis}
    if arguments.upstream is not None:
        given["upstreams"] = [Upstream(arguments.upstream)]
    options = {name: value for name, value in given.items() if value is not None}
    if arguments.config is not None:
        return GatewayConfig.load(arguments.config, **options)
    return GatewayConfig(**{"upstreams": (), **options})
