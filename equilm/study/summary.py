"""The findings of a study in plain words: sentences made from its numbers, however they turn out.

They tell axes and tasks apart, since an average over all would mostly reflect the one that differs most.
"""

from collections.abc import Iterable, Iterator

from .cells import DECODERS
from .records import JudgeRecord, StudyResults
from .scoring import MENTIONS

# Differences of log-probabilities below this, in nats per token, are rounding in single precision.
ROUNDING = 1e-4

# A difference counts as seen if its p-value is below this.
LEVEL = 0.05


def summarize(results: StudyResults) -> dict[str, list[str]]:
    """The sentences about each decoder at the top of the page, by its name for readers."""
    steps = (_disparity, _against_plain, _own_bias, _negative, _mentions, _pairs, _gap, _perplexity, _time)
    return {
        DECODERS[decoder]: [sentence for step in steps for sentence in step(results, decoder)]
        for decoder in results.study.decoders
    }


def _regard(results: StudyResults, decoder: str, view: str = "") -> list[JudgeRecord]:
    """What the regard classifier finds in a view; without one, in the view that the sentences are mainly about."""
    where = (results.classifier, decoder, view or _main(results)[0])
    return [found for found in results.judged if (found.judge, found.decoder, found.view) == where]


def _main(results: StudyResults) -> tuple[str, str]:
    """The view that the sentences are mainly about, and how they begin: names cannot be masked in all prompts."""
    masked = any(found.view == "masked" for found in results.judged)
    return ("masked", "Names masked") if masked else ("invariant", "By the invariant judge")


def _named(found: JudgeRecord) -> str:
    return f"{found.axis} {found.task}"


def listed(entries: Iterable[str]) -> str:
    """ "a", "a and b" or "a, b and c"."""
    *others, last = entries
    return f"{', '.join(others)} and {last}" if others else last


def p_value(value: float) -> str:
    """A p-value for readers."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def _seen(found: list[JudgeRecord]) -> list[str]:
    """The combinations of axis and task in which a difference is seen, the largest first."""
    largest = sorted(found, key=lambda record: -record.disparities[0].fractions.value)
    tested = [(record, record.disparities[0].fractions) for record in largest]
    return [f"{_named(r)} ({e.value:.3f}, {p_value(e.p_value)})" for r, e in tested if e.p_value < LEVEL]


def _disparity(results: StudyResults, decoder: str) -> Iterator[str]:
    found = _regard(results, decoder)
    begin, seen = _main(results)[1], _seen(found)
    if not seen:
        if found:
            yield f"{begin}, no difference in regard is seen in any of {len(found)} combinations of axis and task."
        return
    rest = len(found) - len(seen)
    others = f"; in the other {rest} of {len(found)} combinations of axis and task none is seen" if rest else ""
    yield f"{begin}, the groups' regard differs in {listed(seen)}{others}."


def _against_plain(results: StudyResults, decoder: str) -> Iterator[str]:
    plain = {_named(found): found.disparities[0].fractions.value for found in _regard(results, "plain")}
    if decoder == "plain" or not plain:
        return
    compared = [(_named(r), r.disparities[0].fractions.value) for r in _regard(results, decoder)]
    for word, chosen in (
        ("closer together", [entry for entry in compared if entry[1] < plain[entry[0]]]),
        ("further apart", [entry for entry in compared if entry[1] > plain[entry[0]]]),
    ):
        if chosen:
            values = listed(f"{name} ({value:.3f} against {plain[name]:.3f})" for name, value in chosen)
            yield f"The groups are {word} than the plain model's in {values}."


def _own_bias(results: StudyResults, decoder: str) -> Iterator[str]:
    written, own = (_seen(_regard(results, decoder, view)) for view in ("raw", "renamed"))
    if not _regard(results, decoder, "raw"):
        return
    yield (
        f"As written, a difference is seen in {listed(written or ['no combination'])}; on the same texts under either "
        f"name, where it is the classifier's own bias, in {listed(own or ['no combination'])}."
    )


def _negative(results: StudyResults, decoder: str) -> Iterator[str]:
    shares = {
        f"{_named(found)}, {group}": numbers.fractions["negative"].value
        for found in _regard(results, decoder)
        for group, numbers in found.by_group.items()
    }
    if not shares:
        return
    least, most = min(shares, key=shares.__getitem__), max(shares, key=shares.__getitem__)
    low, high = (f"{100 * shares[name]:.1f} % ({name})" for name in (least, most))
    yield f"{_main(results)[1]}, between {low} and {high} of its texts are of negative regard."


def _mentions(results: StudyResults, decoder: str) -> Iterator[str]:
    for found in results.judged:
        if (found.judge, found.decoder) == (MENTIONS, decoder):
            shares = listed(
                f"{100 * numbers.fractions['mentioned first'].value:.1f} % ({group})"
                for group, numbers in found.by_group.items()
            )
            test = p_value(found.disparities[0].fractions.p_value)
            yield f"After neutral prompts ({found.axis}), the first group that a text names: {shares} of texts; {test}."


def _pairs(results: StudyResults, decoder: str) -> Iterator[str]:
    found = [pair for pair in results.pairs if pair.decoder == decoder]
    if not found:
        return
    counts = listed(f"{pair.swapped} of {pair.pairs} ({pair.group})" for pair in found)
    unit = "word for word" if decoder == "text" else "token for token"
    drawn = f"From the same draws, {counts} texts are the first group's, swapped {unit}"
    promised, pairs = (sum(getattr(pair, name) for pair in found) for name in ("promised", "pairs"))
    if not promised:
        yield f"{drawn}; this decoder does not promise any."
        return
    of = "all of them" if promised == pairs else f"{promised} of {pairs}"
    rest = "" if promised == pairs else f"; it promises nothing for {pairs - promised}, whose prompts it does not swap"
    yield f"{drawn}, {'as promised' if all(pair.kept for pair in found) else f'although {of} should be'}{rest}."
    compared = [pair for pair in found if pair.equal_scores is not None]
    if names := sum(pair.name_only for pair in compared):
        equal = "equal to the last digit" if all(p.equal_scores for p in found) else "not equal, although it should be"
        yield f"In {names} of these only the name differs, and with names masked their regard is {equal}."


def _gap(results: StudyResults, decoder: str) -> Iterator[str]:
    found = [gap for gap in results.gaps if gap.decoder == decoder]
    largest = max(gap.largest for gap in found)
    means = listed(f"{nats(gap.mean)} ({gap.axis})" for gap in found)
    size = "which is rounding" if largest <= ROUNDING else f"and {means} on average"
    yield f"The gap of equation 4 is at most {nats(largest)} nats per token, {size}."


def nats(value: float) -> str:
    """A difference that may be rounding, for readers."""
    return f"{value:.3f}" if value >= 1e-3 else f"{value:.0e}" if value else "0"


def _perplexity(results: StudyResults, decoder: str) -> Iterator[str]:
    table = results.perplexity
    if table is None:
        return
    models = [model for model in table.models if model.decoder == decoder and model.change_percent is not None]
    if models:
        changes = listed(f"{model.change_percent:+.2f} % ({model.axis})" for model in models)
        plain = next(model.perplexity for model in table.models if model.decoder == "plain")
        yield f"Perplexity on {table.text} changes by {changes}, from the plain model's {plain:.2f}."


def _time(results: StudyResults, decoder: str) -> Iterator[str]:
    times = next(row.times_plain for row in results.cost if row.decoder == decoder)
    if decoder != "plain" and times is not None:
        yield f"A batch of texts takes {times:.2f} times as long as from the plain model."
