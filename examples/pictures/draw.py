"""Draws the pictures of the README and the documentation from the measured numbers in `docs/results`.

    python examples/pictures/draw.py            # writes docs/images/next-words.svg, regard.svg and cost.svg

`next_words.py`, `equilm report` and `examples/benchmarks/orders.py` measure the numbers.
"""

import argparse
import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from svg_picture import Picture

ROOT = Path(__file__).parents[2]
RESULTS, IMAGES = ROOT / "docs" / "results", ROOT / "docs" / "images"
DECODERS = {"plain": "plain", "r-equilm": "R-EquiLM", "equilm": "EquiLM", "sequence": "sequence level"}
COLORS = ("a", "b", "c", "d")


def next_words() -> Picture:
    """Bars of next-word probabilities: a row for each word, plain on the left and fair on the right."""
    results = json.loads((RESULTS / "next_words.json").read_text("utf-8"))
    found: dict[tuple[str, str], dict[str, float]] = {
        (row["prompt"], row["model"]): row["next"] for row in results["rows"]
    }
    man, woman, nurse = dict.fromkeys(prompt for prompt, _ in found)
    words = list(found[man, "plain"])
    values = [(word, [(m, p, found[p, m][word]) for m in ("plain", "EquiLM") for p in (man, woman)]) for word in words]
    told = "; ".join(f"{word} {_told(cells)}" for word, cells in values)
    after = {model: found[nurse, model] for model in ("plain", "EquiLM")}
    he_she = ", ".join(f"{model} he {p['he']:.1%} and she {p['she']:.1%}" for model, p in after.items())
    picture = Picture(
        560,
        480,
        "Next-word probabilities of SmolLM2-135M, plain and fair",
        f"How likely a word is after {man}, and after {woman}: {told}. After {nurse}: {he_she}.",
    )
    columns, longest = {"plain": 112, "EquiLM": 344}, max(value for _, cells in values for *_, value in cells)
    for model, x in columns.items():
        picture.text(x, 32, model, "text bold")
    y = 60
    for word, cells in values:
        picture.text(100, y + 18, word, anchor="end")
        for index, (model, _, value) in enumerate(cells):
            _bar(picture, columns[model], y + 18 * (index % 2), value / longest, value, COLORS[index % 2])
        y += 48
    for index, prompt in enumerate((man, woman)):
        picture.bar(16 + 250 * index, y + 1, 14, 14, COLORS[index])
        picture.text(38 + 250 * index, y + 14, f"{prompt} …", "quiet small")
    y += 34
    picture.line([(16, y), (544, y)])
    picture.text(16, y + 26, f"{nurse} …", "quiet small")
    top = max(value for chances in after.values() for value in chances.values())
    for model, chances in after.items():
        for index, (word, value) in enumerate(chances.items()):
            if model == "plain":
                picture.text(100, y + 50 + 20 * index, word, anchor="end")
            _bar(picture, columns[model], y + 37 + 20 * index, value / top, value, "quiet")
    return picture


def _bar(picture: Picture, x: float, y: float, share: float, value: float, color: str) -> None:
    length = 130 * share
    picture.bar(x, y, length, 15, color)
    picture.text(x + max(length, 1) + 6, y + 13, f"{100 * value:.2f} %", "text small")


def _told(cells: list[tuple[str, str, float]]) -> str:
    pairs = ((cells[at][0], cells[at][2], cells[at + 1][2]) for at in (0, 2))
    return ", ".join(f"{model} {first:.2%} and {second:.2%}" for model, first, second in pairs)


def regard() -> Picture:
    """Differences in regard between two groups, with their 95 % intervals, by axis, task and decoder."""
    with (RESULTS / "regard_study" / "results.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["measure"] == "disparity" and row["view"] == "masked"]
    by_cell: dict[tuple[str, str], dict[str, list[float]]] = {}
    for row in rows:
        numbers = [float(row[name]) for name in ("value", "low", "high")]
        by_cell.setdefault((row["axis"], row["task"]), {})[row["decoder"]] = numbers
    most = math.ceil(10 * max(high for cell in by_cell.values() for *_, high in cell.values())) / 10
    told = "; ".join(f"{axis} {task} {_intervals(cell)}" for (axis, task), cell in by_cell.items())
    height = 96 + 88 * len(by_cell)
    picture = Picture(
        560,
        height,
        "Difference in regard between two groups, with 95 % intervals",
        f"Names masked, 0 is equal: {told}.",
    )

    def at(value: float) -> float:
        return 176 + 360 * value / most

    for index, label in enumerate(DECODERS.values()):
        x = (20, 110, 236, 346)[index]
        picture.mark(x, 26, COLORS[index], index)
        picture.text(x + 12, 31, label)
    for step in range(round(10 * most) + 1):
        picture.line([(at(step / 10), 46), (at(step / 10), height - 44)])
        picture.text(at(step / 10), height - 26, f"{step / 10:g}", "quiet small", "middle")
    picture.text(at(most / 2), height - 8, "difference in regard, 0 to 1", "quiet small", "middle")
    for place, ((axis, task), cell) in enumerate(by_cell.items()):
        y = 64 + 88 * place
        picture.text(16, y + 26, axis, "text bold")
        picture.text(16, y + 46, task, "quiet")
        for index, name in enumerate(DECODERS):
            value, low, high = cell[name]
            picture.line([(at(low), y + 18 * index), (at(high), y + 18 * index)], COLORS[index], 3)
            picture.mark(at(value), y + 18 * index, COLORS[index], index)
    return picture


def _intervals(cell: dict[str, list[float]]) -> str:
    return ", ".join(
        f"{DECODERS[name]} {value:.3f} ({low:.3f} to {high:.3f})" for name, (value, low, high) in cell.items()
    )


def cost() -> Picture:
    """Time against the plain model's, by the order of the group, on two logarithmic axes."""
    results = json.loads((RESULTS / "orders.json").read_text("utf-8"))
    lines: dict[str, dict[int, dict[str, Any]]] = {}
    for row in results["rows"]:
        lines.setdefault(row["way"], {})[row["order"]] = row
    orders = list(next(iter(lines.values())))
    told = "; ".join(
        f"{way} " + ", ".join(f"{row['median']:.2f} at {order}" for order, row in line.items())
        for way, line in lines.items()
    )
    title = "Time to generate against the plain model, by the order of the group |G|"
    picture = Picture(560, 420, title, f"Times the plain model: {told}.")
    most = max(row["high"] for line in lines.values() for row in line.values())

    def point(order: int, ratio: float) -> tuple[float, float]:
        x = 60 + 268 * (math.log(order / orders[0]) / math.log(orders[-1] / orders[0]))
        return x, 340 - 290 * math.log(max(ratio, 0.8) / 0.8) / math.log(most / 0.8)

    for ratio in (1, 2, 5, 10, 20, 50, 100):
        if ratio <= most:
            picture.line([(60, point(2, ratio)[1]), (328, point(2, ratio)[1])])
            picture.text(50, point(2, ratio)[1] + 5, f"{ratio} ×", "quiet small", "end")
    for order in orders:
        picture.text(point(order, 1)[0], 366, str(order), "quiet", "middle")
    picture.text(194, 394, "order of the group, |G|", "quiet small", "middle")
    picture.text(16, 26, "time against the plain model", "quiet small")
    labels = _spread([(point(orders[-1], line[orders[-1]]["median"])[1], way) for way, line in lines.items()])
    for index, (way, line) in enumerate(lines.items()):
        points = [point(order, row["median"]) for order, row in line.items()]
        picture.line(points, COLORS[index], 2.5)
        for x, y in points:
            picture.mark(x, y, COLORS[index], index)
        picture.text(342, labels[way] + 5, way, f"{COLORS[index]} small")
    return picture


def _spread(labels: list[tuple[float, str]], gap: float = 20) -> dict[str, float]:
    """Heights for labels, from the top, at least a gap apart."""
    placed: dict[str, float] = {}
    last = -math.inf
    for height, label in sorted(labels):
        last = max(height, last + gap)
        placed[label] = last
    return placed


PICTURES: dict[str, Callable[[], Picture]] = {"next-words": next_words, "regard": regard, "cost": cost}


def main() -> None:
    """Draw them all."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    for name, draw in PICTURES.items():
        (IMAGES / f"{name}.svg").write_text(str(draw()), "utf-8")


if __name__ == "__main__":
    main()
