"""Bar charts of regard like the paper's figures 3 and 5, as SVG that takes its text color from the page."""

import re
from collections.abc import Mapping, Sequence
from html import escape
from io import StringIO
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# From the bottom up, as in the paper; the colors can be told apart by color-blind readers and in gray.
STACK = {"other": "#b8b8b8", "positive": "#4c9a8a", "neutral": "#e3c567", "negative": "#b5485d"}

Panels = Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]]
"""The fraction of texts by panel, decoder, group and label."""

_INK = "#010203"  # replaced by the page's text color, light or dark


def regard_bars(panels: Panels, title: str) -> str:
    """Stacked bars, one for each decoder and group.

    Args:
        panels: the fractions to show.
        title: the title of the figure, for readers who cannot see it.

    Returns:
        An ``<svg>`` element.
    """
    style: Any = {"svg.fonttype": "none", "svg.hashsalt": title, "font.size": 11.0, "font.family": "sans-serif"}
    for part in ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"):
        style[part] = _INK
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(10, 4), layout="constrained")
        row = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, (name, decoders) in zip(row, panels.items(), strict=True):
            _draw(axes, decoders)
            axes.set_title(name, fontsize=12, pad=18)
        figure.legend(*row[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(STACK), frameon=False)
        row[0].set_ylabel("fraction of texts")
        svg = StringIO()
        figure.savefig(svg, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    drawing = svg.getvalue()
    drawing = drawing[drawing.index("<svg") :].replace(_INK, "currentColor")
    drawing = re.sub(r' width="[^"]*pt"| height="[^"]*pt"', "", drawing, count=2)
    return drawing.replace("<svg", f'<svg role="img" aria-label="{escape(_in_words(panels, title))}"', 1)


def _in_words(panels: Panels, title: str) -> str:
    """The content of the bars as text, for readers who cannot see them."""
    bars = [
        f"{panel}, {decoder}, {group}: " + ", ".join(f"{label} {fractions[label]:.0%}" for label in STACK)
        for panel, decoders in panels.items()
        for decoder, groups in decoders.items()
        for group, fractions in groups.items()
    ]
    return f"{title}. {'. '.join(bars)}."


def _draw(axes: Axes, decoders: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    bars = [(decoder, group) for decoder, groups in decoders.items() for group in groups]
    places = _places([len(groups) for groups in decoders.values()])
    bottom = [0.0] * len(bars)
    for label, color in STACK.items():
        heights = [decoders[decoder][group][label] for decoder, group in bars]
        axes.bar(places, heights, 0.9, bottom, label=label, color=color)
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    axes.set_xticks(
        places, [group for _, group in bars], rotation=35, ha="right", rotation_mode="anchor", fontsize=10.5
    )
    axes.set_ylim(0, 1)
    axes.spines[["top", "right"]].set_visible(False)
    start = 0
    for decoder, groups in decoders.items():
        middle = sum(places[start : start + len(groups)]) / len(groups)
        axes.annotate(decoder, (middle, 1), (0, 2), textcoords="offset points", ha="center", va="bottom", fontsize=10.5)
        start += len(groups)


def _places(sizes: Sequence[int]) -> list[float]:
    """The positions of the bars: those of one decoder are side by side, with a gap between decoders."""
    return [i + sum(sizes[:decoder]) + 0.7 * decoder for decoder, size in enumerate(sizes) for i in range(size)]
