"""The study's page: for each question and picture bars of the next words, plain and fair, as SVG in one HTML file."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from io import BytesIO
from typing import Any

# Can be told apart by color-blind readers and in gray.
_COLORS = ("#3b4cc0", "#e3a537", "#2f8f7a", "#b5485d", "#7a7a7a", "#9b6fc3")
_LABEL, _WIDTH, _BAR, _GAP, _VALUE = 120, 260, 14, 3, 74  # pixels

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem;
  color: #1d2330; background: #fff; }
h2 { margin-top: 2.5rem; } h3 { font-size: 1rem; margin: 1.5rem 0 .3rem; }
.row { display: flex; flex-wrap: wrap; gap: 1.5rem; align-items: flex-start; margin: 1rem 0; }
.row img { width: 112px; height: 112px; object-fit: contain; border: 1px solid #c9ced6; border-radius: 6px; }
figure { margin: 0; } figcaption { font-size: .85rem; } svg { max-width: 100%; height: auto; }
table { border-collapse: collapse; } th, td { padding: .25rem .8rem .25rem 0; text-align: left; }
td { font-variant-numeric: tabular-nums; }
@media (prefers-color-scheme: dark) { body { color: #e6e8ec; background: #14171c; } }
"""


def bars(rows: Mapping[str, Mapping[str, float]], largest: float, title: str) -> str:
    """Horizontal bars as an ``<svg>`` element.

    Args:
        rows: for each label the value of each group, all at least 0.
        largest: the value that fills the width.
        title: what is shown, for readers who cannot see it.
    """
    parts, y = [], 0
    groups = list(dict.fromkeys(group for values in rows.values() for group in values))
    for label, values in rows.items():
        height = len(values) * _BAR
        parts.append(f'<text x="{_LABEL - 8}" y="{y + height / 2 + 4:g}" text-anchor="end">{escape(label)}</text>')
        for group, value in values.items():
            color, width = _COLORS[groups.index(group) % len(_COLORS)], _WIDTH * value / largest if largest else 0
            parts.append(f'<rect x="{_LABEL}" y="{y}" width="{width:.2f}" height="{_BAR - _GAP}" fill="{color}"/>')
            parts.append(f'<text x="{_LABEL + width + 6:.2f}" y="{y + _BAR - _GAP - 1}">{100 * value:.3g} %</text>')
            y += _BAR
        y += 2 * _GAP
    spoken = ". ".join(
        f"{label}: " + ", ".join(f"{group} {value:.3g}" for group, value in values.items())
        for label, values in rows.items()
    )
    return (
        f'<svg role="img" aria-label="{escape(f"{title}. {spoken}")}" xmlns="http://www.w3.org/2000/svg" '
        f'viewBox="0 0 {_LABEL + _WIDTH + _VALUE} {max(y, 1)}" width="{_LABEL + _WIDTH + _VALUE}" '
        f'font-size="11" font-family="system-ui, sans-serif" fill="currentColor">{"".join(parts)}</svg>'
    )


def page(study: Mapping[str, Any], pictures: Mapping[str, Any]) -> str:
    """The whole page.

    Args:
        study: what `study.measure` returns.
        pictures: the pictures by name.
    """
    groups = study["groups"]
    key = " · ".join(
        f'<span style="color:{_COLORS[number % len(_COLORS)]}">■</span> {escape(group)}'
        for number, group in enumerate(groups)
    )
    sections = [
        f"<h2>{escape(question['question'])} {escape(question['answer'])} …</h2>"
        + "".join(_row(row, pictures[row["picture"]], groups) for row in question["pictures"])
        for question in study["questions"]
    ]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Who is in the picture?</title><style>{_STYLE}</style>"
        "<h1>Who is in the picture?</h1>"
        f"<p>Model: <code>{escape(study['model'])}</code>. Axis: {escape(study['axis'])}. {key}</p>"
        "<p>The pictures say nothing of who is meant. Under <i>words of the groups</i> are the probabilities that the "
        "next word of the answer is one of a group's words, when the question names no group. Under <i>the next "
        "word</i> the question names each group in turn; swapped words share a place. A fair model has equal bars. The "
        "distance is the total variation between the groups' next words, from 0 to 1.</p>"
        f"{_summary(study)}{''.join(sections)}</html>"
    )


def _summary(study: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><th scope='row'>{escape(kind)}</th><td>{means['gap']:.2g}</td><td>{means['distance']:.2g}</td></tr>"
        for kind, means in study["means"].items()
    )
    return (
        "<table><thead><tr><td></td><th scope='col'>difference between the groups' words</th>"
        f"<th scope='col'>distance between the groups' answers</th></tr></thead><tbody>{rows}</tbody></table>"
    )


def _row(row: Mapping[str, Any], picture: Any, groups: Sequence[str]) -> str:
    largest = max(value for kind in ("plain", "fair") for value in row[kind]["words"].values())
    neutral = {kind: row[kind]["words"] for kind in ("plain", "fair")}
    figures = [_figure("words of the groups", bars(neutral, largest, f"Words of the groups, {row['picture']}"))]
    top = max(value for kind in ("plain", "fair") for word in row[kind]["next"] for value in word["probabilities"])
    for kind in ("plain", "fair"):
        named = {
            " / ".join(dict.fromkeys(word["words"])): dict(zip(groups, word["probabilities"], strict=True))
            for word in row[kind]["next"]
        }
        caption = f"the next word, {kind}; distance {row[kind]['distance']:.2g}"
        figures.append(_figure(caption, bars(named, top, f"The next word, {kind}, {row['picture']}")))
    return (
        f"<h3>{escape(row['picture'])}</h3>"
        f'<div class="row"><img alt="{escape(row["picture"])}" src="{_data_url(picture)}">{"".join(figures)}</div>'
    )


def _figure(caption: str, drawing: str) -> str:
    return f"<figure><figcaption>{escape(caption)}</figcaption>{drawing}</figure>"


def _data_url(picture: Any) -> str:
    small = picture.copy()
    small.thumbnail((224, 224))
    file = BytesIO()
    small.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
