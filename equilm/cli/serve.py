"""``equilm serve``: the gateway from the command line."""

import argparse
import logging
import sys
from typing import TYPE_CHECKING, Any

from ..errors import EquiLMError
from ..logging import disable_default_handler, enable_propagation

if TYPE_CHECKING:
    from ..serve.config import GatewayConfig

_SETTINGS = ("connect_timeout", "stall_timeout", "total_timeout", "max_body_mb", "max_generations", "max_choices")


def run(arguments: argparse.Namespace) -> None:
    """Serve until interrupted, or print the report.

    Raises:
        EquiLMError: for a package that is missing, and for settings that cannot be.
    """
    try:
        import uvicorn

        from ..serve.app import create_app
        from ..serve.overview import overview
    except ModuleNotFoundError as error:
        raise EquiLMError(f"equilm serve needs {error.name}. Run: pip install 'equilm[serve]'") from error

    config = configuration(arguments)
    print(overview(config), file=sys.stdout if arguments.report else sys.stderr, flush=True)
    if arguments.report:
        return
    app = create_app(config)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    disable_default_handler()  # the gateway's lines go with those of the server around it
    enable_propagation()
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
    """The settings of the file, with those of the options in their place.

    Raises:
        EquiLMError: for settings that cannot be.
    """
    from ..serve.config import GatewayConfig, Upstream

    given = vars(arguments)
    options: dict[str, Any] = {name: given[name] for name in (*_SETTINGS, "log_text") if name in given}
    options |= {
        name: given[option] for name, option in (("axes", "axis"), ("allowed_axes", "allow_axis")) if option in given
    }
    if "upstream" in given:
        options["upstreams"] = [Upstream(given["upstream"])]
    if "config" in given:
        return GatewayConfig.load(given["config"], **options)
    return GatewayConfig(**{"upstreams": (), **options})
