"""The demo application's HTML: what is marked, what is called rounding, and that texts stay texts."""

from dataclasses import replace
from typing import Any

import pytest
from comparison import Comparison, NextWord, Run
from rendering import mark, render, render_error

from equilm import EquiLMError, FairnessReport
from equilm.groups import CyclicGroup

REPORT = FairnessReport(
    True,
    "EquiLM",
    CyclicGroup(2),
    2,
    "mean",
    {"gender": [("man", "woman")]},
    {"gender": {}},
    (),
    2,
    "P(gY|gX) = P(Y|X)",
)
PLAIN = Run((" a <b>cook", " a maid"), (" a maid", " a <b>cook"), (" a maid", " a <b>cook"), 0.25, 2.5, 2.0, 48)
FAIR = Run((" what he does", " what she does"), (" what she does", " what he does"), (), 1e-8, 1e-6, 3.0, 96)
COMPARISON = Comparison(
    level="EquiLM",
    prompts=("The man", "The woman"),
    groups=("man", "woman"),
    plain=PLAIN,
    fair=replace(FAIR, swapped=FAIR.texts),
    next_words=(NextWord((" he", " she"), (0.5, 0.25), (0.4, 0.4)), NextWord(("\n", "\n"), (0.1, 0.2), (0.1, 0.1))),
    report=REPORT,
    notes=("A <note>.",),
)


@pytest.mark.parametrize(
    ("text", "other", "swapped", "expected"),
    [
        ("The man", "The woman", "The man", 'The <mark class="eq-swap">man</mark>'),
        ("she sings", "he sings", "she sings", '<mark class="eq-swap">she</mark> sings'),
        (
            "she sings",
            "he dances",
            "she dances",
            '<mark class="eq-swap">she</mark> <mark class="eq-other">sings</mark>',
        ),
        ("one two three", "one", "one", 'one <mark class="eq-other">two three</mark>'),
        ("the same", "the same", "the same", "the same"),
        ("<i>", "", "", '<mark class="eq-other">&lt;i&gt;</mark>'),
    ],
)
def test_marks(text: str, other: str, swapped: str, expected: str) -> None:
    assert mark(text, other, swapped) == expected


def test_texts_stand_side_by_side_and_stay_texts() -> None:
    page = render(COMPARISON)
    assert '<th scope="col" class="eq-prompt">The <mark class="eq-swap">woman</mark></th>' in page
    assert '<td> what <mark class="eq-swap">she</mark> does</td>' in page
    assert "<b>" not in page and "&lt;b&gt;cook" in page
    assert "A &lt;note&gt;." in page


def test_numbers() -> None:
    page = render(COMPARISON)
    assert "0.250" in page and "at most 2.500" in page
    assert "up to rounding: at most 1e-06 nats per token" in page
    assert "1.50 ×" in page and "rows run: 96, plain 48" in page


@pytest.mark.parametrize(
    ("largest", "shown"), [(0.0, "exactly"), (1e-4, "up to rounding"), (2e-4, "nats per token on average")]
)
def test_what_is_called_rounding(largest: float, shown: str) -> None:
    page = render(replace(COMPARISON, fair=replace(COMPARISON.fair, mean_gap=largest, largest_gap=largest)))
    assert shown in page[page.index("eq-fair-gap") : page.index("eq-price")]


def test_bars_are_as_long_as_probabilities() -> None:
    page = render(COMPARISON)
    plain = page[page.index("eq-plain-bars") : page.index("eq-fair-bars")]
    assert "he / she" in plain and "\\n" in plain
    assert [f"width:{width}" in plain for width in ("100.00%", "50.00%", "20.00%", "40.00%")] == [True] * 4
    assert "25 %" in plain
    assert page[page.index("eq-fair-bars") :].count("width:80.00%") == 2


def test_one_prompt_alone_has_nothing_to_compare() -> None:
    def alone(run: Run) -> Run:
        return replace(run, texts=run.texts[:1], others=(), swapped=())

    columns: dict[str, Any] = {"plain": alone(PLAIN), "fair": alone(FAIR), "prompts": ("The nurse",)}
    assert "<mark" not in render(replace(COMPARISON, **columns))


def test_errors_are_shown_as_text() -> None:
    assert 'role="alert">No &lt;axis&gt;</div>' in render_error(EquiLMError("No <axis>"))
