"""What a study found, in plain words: sentences made from its numbers, whichever way they came out."""

from collections.abc import Iterator
from statistics import fmean
from typing import Any

from .cells import DECODERS, PAIRED

# Differences of log-probabilities below this, in nats per token, are rounding in single precision.
ROUNDING = 1e-4

# A disparity as written is put down to the classifier if it has the same one, up to this, on equal texts.
SAME_DISPARITY = 0.01

# The models with a perplexity of their own, as the table calls them: the sequence level has none for single tokens.
_WITH_PERPLEXITY = {"equilm": "EquiLM (", "r-equilm": "R-EquiLM ("}


def summarize(results: dict[str, Any]) -> dict[str, list[str]]:
    """For the top of the page: sentences about each decoder, by its name for readers.

    Args:
        results: what goes to ``results.json``, but for these sentences.
    """
    steps = (_disparity, _own_bias, _negative, _pairs, _gap, _perplexity, _time)
    return {
        DECODERS[decoder]: [sentence for step in steps for sentence in step(results, decoder)]
        for decoder in results["study"]["decoders"]
    }


def _disparities(results: dict[str, Any], decoder: str, view: str) -> dict[tuple[str, str], dict[str, float]]:
    """By axis and task, the largest disparity of label fractions and its interval."""
    chosen = [r for r in results["regard"] if (r["decoder"], r["view"]) == (decoder, view)]
    return {(r["axis"], r["task"]): r["disparities"][0]["fractions"] for r in chosen}


def _mean(disparities: dict[tuple[str, str], dict[str, float]]) -> float:
    return fmean(found["value"] for found in disparities.values())


def _disparity(results: dict[str, Any], decoder: str) -> Iterator[str]:
    ours, plain = (_disparities(results, name, "masked") for name in (decoder, "plain"))
    masked = f"Names masked, the groups' regard is {_mean(ours):.3f} apart on average"
    if decoder == "plain" or not plain:
        yield f"{masked}."
    else:
        lower = sum(ours[key]["value"] < plain[key]["low"] for key in ours)
        higher = sum(ours[key]["value"] > plain[key]["high"] for key in ours)
        yield (
            f"{masked}, against {_mean(plain):.3f} for the plain model: below its 95 % interval in {lower} and above "
            f"it in {higher} of {len(ours)} combinations of axis and task."
        )


def _own_bias(results: dict[str, Any], decoder: str) -> Iterator[str]:
    written, own = (_disparities(results, decoder, view) for view in ("raw", "renamed"))
    apart = fmean(abs(written[key]["value"] - own[key]["value"]) for key in written)
    if apart <= SAME_DISPARITY:
        cause = "so that it is the classifier's own bias about names"
    elif decoder in PAIRED:
        cause = "and the rest is about other words of the axis, in which paired texts differ too"
    else:
        cause = "and the rest is in what the texts say"
    yield (
        f"As written, it is {_mean(written):.3f} apart; on the same texts under either name the classifier sees "
        f"{_mean(own):.3f}, {cause}."
    )


def _negative(results: dict[str, Any], decoder: str) -> Iterator[str]:
    found = [r["by_group"].values() for r in results["regard"] if (r["decoder"], r["view"]) == (decoder, "masked")]
    share = fmean(group["fractions"]["negative"]["value"] for groups in found for group in groups)
    yield f"Names masked, {100 * share:.1f} % of its texts are of negative regard."


def _pairs(results: dict[str, Any], decoder: str) -> Iterator[str]:
    found = [pair for pair in results["pairs"] if pair["decoder"] == decoder]
    pairs, swapped, names = (sum(pair[name] for pair in found) for name in ("pairs", "swapped", "name_only"))
    drawn = f"From the same draws, {swapped} of {pairs} texts are the first group's, swapped token for token"
    if decoder not in PAIRED:
        yield f"{drawn}; it promises none."
        return
    yield f"{drawn}, {'as promised' if swapped == pairs else 'although all of them should be'}."
    if names:
        equal = (
            "equal to the last digit" if all(p["equal_scores"] for p in found) else "not equal, although it should be"
        )
        yield f"In {names} of these only the name differs, and masked their regard is {equal}."


def _gap(results: dict[str, Any], decoder: str) -> Iterator[str]:
    found = [gap for gap in results["gaps"] if gap["decoder"] == decoder]
    mean, largest = fmean(gap["mean"] for gap in found), max(gap["largest"] for gap in found)
    size = "which is rounding" if largest <= ROUNDING else f"and by {nats(mean)} on average"
    yield f"Equation 4 is missed by {nats(largest)} nats per token at most, {size}."


def nats(value: float) -> str:
    """A difference that may be rounding, for readers."""
    return f"{value:.3f}" if value >= 1e-3 else f"{value:.0e}" if value else "0"


def _perplexity(results: dict[str, Any], decoder: str) -> Iterator[str]:
    table = results["perplexity"]
    if table is None or decoder not in _WITH_PERPLEXITY:
        return
    changes = [r["change_percent"] for r in table["models"] if r["model"].startswith(_WITH_PERPLEXITY[decoder])]
    yield (
        f"Perplexity on {table['text']} changes by {min(changes):+.2f} % to {max(changes):+.2f} %, from the plain "
        f"model's {table['models'][0]['perplexity']:.2f}."
    )


def _time(results: dict[str, Any], decoder: str) -> Iterator[str]:
    times = next(row["times_plain"] for row in results["cost"] if row["decoder"] == decoder)
    if decoder != "plain" and times is not None:
        yield f"A batch of texts takes {times:.2f} times as long as from the plain model."
