"""A comparison as HTML: texts side by side with differing words marked, bars of next words, the gap and the time."""

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from html import escape
from itertools import groupby
from operator import itemgetter

from comparison import LEVELS, Comparison, NextWord, Run

# Differences of log-probabilities below this, in nats per token, are rounding in single precision.
ROUNDING = 1e-4


def render(comparison: Comparison) -> str:
    """The results."""
    level = LEVELS[comparison.level]
    parts = [
        *(f'<p class="eq-note" role="note">{escape(note)}</p>' for note in comparison.notes),
        _numbers(comparison, level),
        _texts(comparison, level),
        _next_words(comparison, level),
        f'<details class="eq-report"><summary>Which words are swapped</summary><pre>{escape(str(comparison.report))}'
        "</pre></details>",
    ]
    return f'<div class="eq-results" data-state="done">{"".join(parts)}</div>'


def render_error(error: Exception) -> str:
    """The error in place of results."""
    return f'<div class="eq-results eq-error" data-state="error" role="alert">{escape(str(error))}</div>'


def _numbers(comparison: Comparison, level: str) -> str:
    plain, fair = comparison.plain, comparison.fair
    price = f"{fair.seconds:.1f} s, plain {plain.seconds:.1f} s; rows run: {fair.rows}, plain {plain.rows}"
    tiles = [
        ("plain-gap", "Gap of eq. 4, plain", *_gap(plain)),
        ("fair-gap", f"Gap of eq. 4, {level}", *_gap(fair)),
        ("price", "Time, against plain", f"{fair.seconds / plain.seconds:.2f} ×", price),
    ]
    return f'<dl class="eq-numbers">{"".join(map(_tile, *zip(*tiles, strict=True)))}</dl>'


def _tile(name: str, title: str, value: str, more: str) -> str:
    return (
        f'<div id="eq-{name}"><dt>{escape(title)}</dt><dd class="eq-value">{escape(value)}</dd>'
        f'<dd class="eq-more">{escape(more)}</dd></div>'
    )


def _gap(run: Run) -> tuple[str, str]:
    if run.largest_gap == 0:
        return "0", "exactly"
    if run.largest_gap <= ROUNDING:
        return "0", f"up to rounding: at most {nats(run.largest_gap)} nats per token"
    return nats(run.mean_gap), f"nats per token on average, at most {nats(run.largest_gap)}"


def _texts(comparison: Comparison, level: str) -> str:
    prompts = comparison.prompts
    others = [prompts[0 if number else 1] for number in range(len(prompts))] if len(prompts) > 1 else []
    head = "".join(
        f'<th scope="col" class="eq-prompt">{marked}</th>' for marked in _marked_texts(prompts, others, prompts)
    )
    rows = "".join(
        f'<tr id="eq-{name}-texts"><th scope="row">{escape(title)}</th>'
        + "".join(f"<td>{marked}</td>" for marked in _marked_texts(run.texts, run.others, run.swapped))
        + "</tr>"
        for name, title, run in (("plain", "Plain", comparison.plain), ("fair", level, comparison.fair))
    )
    key = (
        '<p class="eq-key"><mark class="eq-swap">dotted</mark> a word swapped for its counterpart · '
        '<mark class="eq-other">solid</mark> any other difference</p>'
    )
    return (
        f'<div class="eq-scroll"><table class="eq-texts"><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{key if others else ''}"
    )


def _marked_texts(texts: Sequence[str], others: Sequence[str], swapped: Sequence[str]) -> list[str]:
    if not others:
        return [escape(text) for text in texts]
    return [mark(*columns) for columns in zip(texts, others, swapped, strict=True)]


def mark(text: str, other: str, swapped: str) -> str:
    """A text as HTML, its words marked where it differs from another prompt's text.

    Args:
        text: the text.
        other: the other prompt's text.
        swapped: the other text in the words of this one. Words that agree with it, but not with ``other``, are swaps.
    """
    words = re.findall(r"\w+|\s+|[^\w\s]", text)
    common, explained = _common(other, words), _common(swapped, words)
    kinds = ["" if i in common & explained else "swap" if i in explained else "other" for i in range(len(words))]
    runs = groupby(zip(words, kinds, strict=True), key=itemgetter(1))  # neighbours of one kind share a mark
    return "".join(_marked(kind, "".join(word for word, _ in run)) for kind, run in runs)


def _marked(kind: str, text: str) -> str:
    if not kind or text.isspace():
        return escape(text)
    words = text.strip()  # spaces at the ends are not underlined
    start = text.index(words)
    end = start + len(words)
    return f'{text[:start]}<mark class="eq-{kind}">{escape(words)}</mark>{text[end:]}'


def _common(other: str, words: Sequence[str]) -> set[int]:
    """The places in ``words`` that another text has too, in its order."""
    matcher = SequenceMatcher(None, re.findall(r"\w+|\s+|[^\w\s]", other), words, autojunk=False)
    return {place for block in matcher.get_matching_blocks() for place in range(block.b, block.b + block.size)}


def _next_words(comparison: Comparison, level: str) -> str:
    words, groups = comparison.next_words, comparison.groups
    largest = max(p for word in words for p in (*word.plain, *word.fair))
    tables = "".join(
        f'<table id="eq-{name}-bars" class="eq-bars"><caption>{escape(title)}</caption><tbody>'
        + "".join(_bars(word, word.plain if name == "plain" else word.fair, groups, largest) for word in words)
        + "</tbody></table>"
        for name, title in (("plain", "Plain"), ("fair", level))
    )
    return f'<h3 class="eq-heading">The next word</h3><div class="eq-two">{tables}</div>'


def _bars(word: NextWord, probabilities: Sequence[float], groups: Sequence[str], largest: float) -> str:
    label = " / ".join(dict.fromkeys(_visible(text) for text in word.words))
    bars = "".join(
        f'<div class="eq-bar"><span class="eq-group">{escape(group)}</span>'
        f'<span class="eq-track"><span class="eq-fill eq-fill-{number % 4}" style="width:{p / largest:.2%}">'
        "</span></span>"
        f'<span class="eq-percent">{100 * p:.3g} %</span></div>'
        for number, (group, p) in enumerate(zip(groups, probabilities, strict=True))
    )
    return f'<tr><th scope="row">{escape(label)}</th><td>{bars}</td></tr>'


def _visible(text: str) -> str:
    return text.strip() or repr(text)[1:-1].replace(" ", "␣") or "(end)"


def nats(value: float) -> str:
    """A difference of log-probabilities, for readers."""
    return f"{value:.3f}" if value >= 1e-3 else f"{value:.0e}" if value else "0"
