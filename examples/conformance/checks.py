"""One architecture: build it, wrap it, and compare everything that can be asked of it with the definition."""

import copy
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from definition import CACHE, average, cache_argument, cyclic_table, forward_logits, generated_logits, stepped_logits
from tiny_configs import BOS, IMAGE, LAST_SPECIAL, PAD, VOCAB, tiny_config
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoModelForSeq2SeqLM, PreTrainedModel
from transformers.cache_utils import Cache

from equilm import EquiLMError, EquiLMForCausalLM, EquiLMForImageTextToText, EquiLMForSeq2SeqLM

CYCLE = [10, 11, 12]
LENGTHS = (7, 24)
NEW_TOKENS = 5
# Largest difference of logits that rounding explains, relative to the largest logit, at least 1. Faults are above 0.01.
TOLERANCE = 5e-3
# Names of two-dimensional parameters that are no weights of a linear map: rates of recurrences.
_RATES = ("A_log", "dt_bias", "time_", "decay", "A_logs")


@dataclass
class Result:
    """What came out for one architecture.

    Args:
        name: the model type.
        verdict: "right", "refused", "as its base", "not built", "wrong" or "crashed".
        words: the refusal, the reason or the difference.
        checks: for each comparison "right" or what was otherwise.
    """

    name: str
    verdict: str = "right"
    words: str = ""
    checks: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """For a line of JSON."""
        return asdict(self)


def check(name: str, mapping: str) -> Result:
    """All comparisons for an entry of transformers' "causal" or "seq2seq" mapping."""
    result = Result(name)
    try:
        base = build(name, mapping)
        texts = {length: prompts(length, base.config.is_encoder_decoder) for length in LENGTHS}
        plain = [forward_logits(base, texts[length]) for length in LENGTHS]
        if not all(bool(kept(logits, t).isfinite().all()) for logits, t in zip(plain, texts.values(), strict=True)):
            raise ValueError("its logits are not finite")
    except Exception as error:  # noqa: BLE001 - whatever it is, the base model alone raised it
        return Result(name, "not built", words(error))
    try:
        model = wrap(copy.deepcopy(base), mapping)  # of its own, so that wrapping cannot change the definition
    except Exception as error:  # noqa: BLE001
        return Result(name, "refused" if isinstance(error, EquiLMError) else "crashed", words(error))
    for title, compare, itself in comparisons(base, model, texts):
        note(result, title, compare, itself)
    return result


def build(name: str, mapping: str) -> PreTrainedModel:
    """A tiny random model in evaluation mode, its weights large enough that an error shows."""
    torch.manual_seed(0)
    base = _AUTO[mapping].from_config(tiny_config(name, mapping), dtype=torch.float32).eval()
    with torch.no_grad():
        for parameter_name, parameter in base.named_parameters():
            if mapping == "image_text" and parameter.shape == (1,) and "gate" in parameter_name:
                parameter.fill_(1.0)  # a closed gate would hide the pictures
            if parameter.ndim >= 2 and not any(rate in parameter_name for rate in _RATES):
                nn.init.normal_(parameter, std=0.3)
    settings = base.generation_config
    settings.pad_token_id, settings.bos_token_id, settings.eos_token_id = PAD, BOS, None
    settings.decoder_start_token_id = BOS
    settings.forced_eos_token_id = settings.forced_bos_token_id = None
    settings.max_length = settings.max_new_tokens = None
    if mapping == "image_text":
        # Random weights would write tokens of pictures, for which there are no pictures.
        settings.suppress_tokens = list(range(IMAGE, LAST_SPECIAL + 1))
    return base


def prompts(length: int, seq2seq: bool) -> dict[str, Tensor]:
    """Two texts of ``length`` tokens, the first padded on the left; each names the axis."""
    ids = torch.randint(20, VOCAB - 1, (2, length), generator=torch.Generator().manual_seed(length))
    ids[:, length * 2 // 3] = torch.tensor(CYCLE[:2])
    ids[0, : length // 4] = PAD
    texts = {"input_ids": ids, "attention_mask": (ids != PAD).long()}
    if seq2seq:
        start = torch.randint(20, VOCAB - 1, (2, 6), generator=torch.Generator().manual_seed(1))
        start[:, 0], start[:, 3] = BOS, torch.tensor(CYCLE[1:])
        texts["decoder_input_ids"] = start
    return texts


def wrap(base: PreTrainedModel, mapping: str) -> Any:
    """The base model with one list of three tokens."""
    # As `from_base` does it, which needs a tokenizer too.
    # Among transformers' encoder-decoders are decoders with a tower for sounds; these are wrapped as what they are.
    model_class: Any = EquiLMForSeq2SeqLM if base.config.is_encoder_decoder else EquiLMForCausalLM
    if mapping == "image_text":
        model_class = EquiLMForImageTextToText
    config = model_class.config_class(
        text_config=copy.deepcopy(base.config),
        attn_implementation=base.config._attn_implementation,
        cycles=[[CYCLE]],
    )
    return model_class(config, base).eval()


def kept(logits: Tensor, texts: dict[str, Tensor]) -> Tensor:
    """The logits after tokens that are not padding, ``(n, V)``; an encoder-decoder's are all kept."""
    if "decoder_input_ids" in texts or logits.shape[1] != texts["input_ids"].shape[1]:
        return logits.flatten(0, 1)
    return logits[texts["attention_mask"].bool()]


_AUTO: dict[str, Any] = {
    "causal": AutoModelForCausalLM,
    "seq2seq": AutoModelForSeq2SeqLM,
    "image_text": AutoModelForImageTextToText,
}
Comparison = tuple[str, Callable[[], float], Callable[[], float]]


def comparisons(base: Any, model: Any, by_length: dict[int, dict[str, Tensor]]) -> Iterator[Comparison]:
    """For each comparison its name, our difference from the definition, and the base model's from itself."""
    table = cyclic_table(base.config.get_text_config().vocab_size, CYCLE)
    for length, texts in by_length.items():
        given = {k: v for k, v in texts.items() if k != "decoder_input_ids"}

        def forward(texts: dict[str, Tensor] = texts) -> float:
            expected = average(table, lambda row: forward_logits(base, texts, row))
            return gap(kept(forward_logits(model, texts), texts), kept(expected, texts))

        def forward_itself(texts: dict[str, Tensor] = texts) -> float:
            whole = forward_logits(base, texts)
            halves = [forward_logits(base, {k: v[i : i + 1] for k, v in texts.items()}) for i in range(2)]
            again = forward_logits(base, {k: v.repeat(2, 1) for k, v in texts.items()})[:2]
            both = torch.cat(halves)
            return max(gap(kept(both, texts), kept(whole, texts)), gap(kept(again, texts), kept(whole, texts)))

        def stepped(texts: dict[str, Tensor] = texts) -> float:
            name = cache_argument(base)
            with torch.no_grad():
                if name is None or not isinstance(base(**texts, use_cache=True).get(name), Cache):
                    return 0.0  # a state of another kind cannot be forked, so that there is no cache to continue
            found = kept(stepped_logits(model, texts, 3, None, CACHE), texts)
            whole = gap(found, kept(average(table, lambda row: forward_logits(base, texts, row)), texts))
            if whole <= TOLERANCE:
                return whole
            # Some models read a text otherwise in steps than as a whole.
            return gap(found, kept(average(table, lambda row: stepped_logits(base, texts, 3, row, name)), texts))

        def stepped_itself(texts: dict[str, Tensor] = texts) -> float:
            steps = stepped_logits(base, texts, 3, None, str(cache_argument(base)))
            return max(gap(kept(steps, texts), kept(forward_logits(base, texts), texts)), forward_itself(texts))

        def generated(given: dict[str, Tensor] = given) -> float:
            output = generate(model, given)
            path = output.sequences[:, -NEW_TOKENS:]
            expected = average(table, lambda row: generated_logits(base, given, path, row))
            return gap(torch.stack(output.logits, 1), expected)

        def generated_itself(given: dict[str, Tensor] = given) -> float:
            return generation_gap(base, given)

        yield f"forward {length}", forward, forward_itself
        yield f"steps {length}", stepped, stepped_itself
        yield f"generate {length}", generated, generated_itself

        def one_seed(given: dict[str, Tensor] = given) -> float:
            return seed_gap(model, table, given, do_sample=True, top_k=0)

        yield f"one seed {length}", one_seed, generated_itself

        def beams(given: dict[str, Tensor] = given) -> float:
            output = generate(model, given, num_beams=3, output_scores=True)
            path = output.sequences[:, -NEW_TOKENS:]
            logits = average(table, lambda row: generated_logits(base, given, path, row)).log_softmax(-1)
            expected = logits.gather(-1, path[..., None]).sum((1, 2)) / NEW_TOKENS
            return max(gap(output.sequences_scores, expected), seed_gap(model, table, given, num_beams=3))

        yield f"beams {length}", beams, generated_itself

    texts = by_length[LENGTHS[0]]

    def saved() -> float:
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            loaded = type(model).from_pretrained(folder).eval()
        return gap(kept(forward_logits(loaded, texts), texts), kept(forward_logits(model, texts), texts))

    def saved_itself() -> float:
        with tempfile.TemporaryDirectory() as folder:
            base.save_pretrained(folder)
            loaded = type(base).from_pretrained(folder).eval()
        return gap(kept(forward_logits(loaded, texts), texts), kept(forward_logits(base, texts), texts))

    yield "save and load", saved, saved_itself


def generate(model: Any, given: dict[str, Tensor], **settings: Any) -> Any:
    """Generation with a fixed seed."""
    torch.manual_seed(0)
    settings = {"do_sample": False, "output_logits": True, **settings}
    return model.generate(**given, max_new_tokens=NEW_TOKENS, return_dict_in_generate=True, **settings)


def seed_gap(model: Any, table: Tensor, given: dict[str, Tensor], **settings: Any) -> float:
    """The number of tokens that differ between generate(g·X) and g·generate(X), over all g, with one seed."""
    text, differing = generate(model, given, **settings).sequences, 0
    for row in table[1:]:
        image = generate(model, {**given, "input_ids": row[given["input_ids"]]}, **settings).sequences
        differing += int((image != row[text]).sum())
    return float(differing)


def generation_gap(base: Any, given: dict[str, Tensor]) -> float:
    """By how much a base model contradicts itself in ``generate``: with and without a cache, alone and in a batch."""
    whole = generate(base, given)
    logits, path = torch.stack(whole.logits, 1), whole.sequences[:, -NEW_TOKENS:]
    same = torch.arange(base.config.get_text_config().vocab_size)
    found = []
    twice = {k: v.repeat(2, 1) for k, v in given.items()}
    found.append(gap(generated_logits(base, twice, path.repeat(2, 1), same)[:2], logits))
    alone = [generated_logits(base, {k: v[i : i + 1] for k, v in given.items()}, path[i : i + 1], same) for i in (0, 1)]
    found.append(gap(torch.cat(alone), logits))
    found.append(gap(torch.stack(generate(base, given, use_cache=False).logits, 1)[:, :2], logits[:, :2]))
    return max(found)


def gap(found: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the largest expected value, at least 1; infinite for what is not finite."""
    if found.shape != expected.shape or not bool(found.isfinite().all()):
        return float("inf")
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1.0))


def note(result: Result, title: str, compare: Callable[[], float], itself: Callable[[], float]) -> None:
    """Run one comparison and note it; the worst verdict is the architecture's."""
    verdict, reason = "right", "right"
    try:
        difference = compare()
        if not difference <= TOLERANCE:
            verdict, reason = "wrong", f"{title} differs by {difference:.2g}"
    except EquiLMError as error:
        verdict, reason = "refused", words(error)
    except Exception as error:  # noqa: BLE001
        verdict, reason = "crashed", words(error)
    if verdict in ("wrong", "crashed"):
        try:
            own = itself()
            if not own <= TOLERANCE:
                verdict, reason = "as its base", f"{title}: the base model contradicts itself by {own:.2g}"
        except Exception as error:  # noqa: BLE001
            verdict, reason = "as its base", f"{title}: the base model raises {words(error)}"
    result.checks[title] = reason
    order = ("right", "as its base", "refused", "crashed", "wrong")
    if order.index(verdict) > order.index(result.verdict):
        result.verdict, result.words = verdict, reason


def words(error: BaseException) -> str:
    """What an error says: a refusal as it stands, of another its kind and place too."""
    if isinstance(error, EquiLMError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "equilm" in Path(frame.filename).parts]
    places = dict.fromkeys(f"{Path(frame.filename).name}:{frame.lineno}" for frame in [*ours[-1:], frames[-1]])
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]} ({', '.join(places)})"
