"""Every architecture of transformers, tiny and random, wrapped and compared with the definition of EquiLM.

    python examples/conformance/run.py                          # all mappings, then docs/conformance.md
    python examples/conformance/run.py --mapping image_text     # one, whose section of the page is written anew
    python examples/conformance/run.py --only llama --only jamba

Compared: the forward pass, cached steps, `generate`, one seed for X and gX, beams, save and load; with what the base
model alone gives for each g·X (`definition.py`), on prompts of 7 and 24 tokens, one of the two padded on the left; for
models that see, on texts with pictures in front, with pictures between words, and without (`picture_checks.py`). Each
architecture has a process of its own and so many seconds. Results are lines of JSON; a second run takes up where the
first stopped. The page is written when a mapping is complete. Takes about half an hour on one core.
"""

import argparse
import json
import multiprocessing
import os
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import transformers
from checks import check
from page import write_page
from picture_checks import check_pictures
from tqdm.auto import tqdm
from transformers.models.auto import modeling_auto

FOLDER = Path(__file__).parent
MAPPINGS = {
    "causal": modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    "seq2seq": modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    "image_text": modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
}


def check_and_send(name: str, mapping: str, connection: Connection) -> None:
    """In a process of its own: check an architecture and send the result."""
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    result = check_pictures(name) if mapping == "image_text" else check(name, mapping)
    connection.send(result.to_dict())


def run_one(context: Any, name: str, mapping: str, seconds: float) -> dict[str, Any]:
    """The result for an architecture, also when its process hangs or dies."""
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=check_and_send, args=(name, mapping, sender))
    process.start()
    sender.close()
    try:
        if receiver.poll(seconds):
            return receiver.recv()
        words = f"no result after {seconds:.0f} seconds"
    except EOFError:
        process.join()
        words = f"its process ended with exit code {process.exitcode}"
    finally:
        process.kill()
        process.join()
    return {"name": name, "verdict": "crashed", "words": words, "checks": {}}


def read_results(file: Path) -> dict[str, dict[str, Any]]:
    """The results so far, by architecture; of several the last."""
    lines = file.read_text("utf-8").splitlines() if file.exists() else []
    return {result["name"]: result for result in map(json.loads, lines)}


def main() -> None:
    """Check, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mapping", choices=MAPPINGS, action="append", help="one or more; by default all")
    parser.add_argument("--only", action="append", metavar="NAME", help="check these model types again, print, no page")
    parser.add_argument(
        "--again", action="append", default=[], metavar="VERDICT", help='check those again, such as "wrong"'
    )
    parser.add_argument("--seconds", type=float, default=240, help="for each architecture")
    parser.add_argument(
        "--results", type=Path, help="folder of the lines of JSON; by default one for each transformers"
    )
    parser.add_argument("--page", type=Path, default=FOLDER.parents[1] / "docs" / "conformance.md")
    arguments = parser.parse_args()

    folder = arguments.results or FOLDER / "results" / f"transformers-{transformers.__version__}"
    folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("forkserver")
    # The server that forks the processes imports all once; it does not inherit sys.path.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(FOLDER), *filter(None, [os.environ.get("PYTHONPATH")])])
    context.set_forkserver_preload(["picture_checks"])
    results: dict[str, dict[str, dict[str, Any]]] = {}
    for mapping in arguments.mapping or MAPPINGS:
        file = folder / f"{mapping}.jsonl"
        results[mapping] = read_results(file)
        names = [name for name in arguments.only or MAPPINGS[mapping] if name in MAPPINGS[mapping]]
        found = {name: result["verdict"] for name, result in results[mapping].items()}
        todo = [name for name in names if arguments.only or name not in found or found[name] in arguments.again]
        for name in tqdm(todo, desc=mapping, unit="model"):
            result = run_one(context, name, mapping, arguments.seconds)
            results[mapping][name] = result
            with file.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(result) + "\n")
            if arguments.only or result["verdict"] in ("wrong", "crashed"):
                tqdm.write(f"{name}: {result['verdict']} {result['words']}")
    if not arguments.only:
        complete = {m: [rows[name] for name in MAPPINGS[m] if name in rows] for m, rows in results.items()}
        write_page(arguments.page, complete, transformers.__version__)


if __name__ == "__main__":
    main()
