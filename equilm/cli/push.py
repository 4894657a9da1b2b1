"""`equilm push`: wrap a model, measure it, write its card, and upload it."""

import argparse
import tempfile
from pathlib import Path

from ..errors import EquiLMError
from ..hub.measure import measure
from ..hub.publish import publish, save_custom_generate, save_model
from ..loading import OFFLINE_MODEL_ID
from ..metrics.wikitext import load_wikitext
from .models import load_fair, load_model


def run(arguments: argparse.Namespace) -> None:
    """Run `equilm push`."""
    if arguments.repo_id is None and arguments.output is None:
        raise EquiLMError("equilm push needs --repo-id (a Hub repository), --output (a folder), or both.")
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.output or Path(temporary) / "model"
        base_model = OFFLINE_MODEL_ID if arguments.model is None else _hub_id(arguments.model)
        about = {"repo_id": arguments.repo_id, "base_model": base_model, "license": arguments.license}
        if arguments.custom_generate:
            base, tokenizer = load_model(arguments)
            save_custom_generate(base, tokenizer, folder, **about)
        else:
            text = load_wikitext(arguments.data)
            model, tokenizer = load_fair(arguments, relaxed=arguments.relaxed)
            measurements = measure(
                model,
                tokenizer,
                text,
                Path(arguments.data).name,
                blocks=arguments.blocks,
                progress=not arguments.quiet,
            )
            save_model(model, tokenizer, folder, measurements, **about)
        if arguments.output is not None:
            print(f"Written to {arguments.output}")
        if arguments.repo_id is not None:
            print(publish(folder, arguments.repo_id, private=arguments.private))


def _hub_id(name: str) -> str | None:
    return None if Path(name).exists() else name
