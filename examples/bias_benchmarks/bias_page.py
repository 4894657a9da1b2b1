"""The results of the bias benchmarks as tables, and as a page of the documentation.

python examples/bias_benchmarks/bias_page.py          # docs/bias_benchmarks.md, from results/smollm2.json
python examples/bias_benchmarks/bias_page.py --results bias_benchmarks.json --page my-page.md
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bias_prose import GUARANTEE, INTRODUCTION, LM_EVAL_NOTE, NOTES, READING, SOURCES, TIES

FOLDER = Path(__file__).parent
TITLES = {
    "crows_pairs": "CrowS-Pairs",
    "stereoset": "StereoSet",
    "winobias": "WinoBias",
    "winogender": "Winogender",
    "bbq": "BBQ",
}
LEVELS = {"plain": "plain", "token": "EquiLM", "sequence": "sequence level"}
_FAIR = ("token", "sequence")
_WITH = {"token": "with EquiLM", "sequence": "at the sequence level"}
_OUTPUT = "examples/bias_benchmarks/results/smollm2.json"
_WRITE = "python examples/bias_benchmarks/bias_page.py"
_LM_EVAL = ("pct_stereotype of lm-eval", "ties")

Entry = Mapping[str, Any]


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=FOLDER / "results" / "smollm2.json")
    parser.add_argument("--page", type=Path, default=FOLDER.parents[1] / "docs" / "bias_benchmarks.md")
    arguments = parser.parse_args()
    results = json.loads(arguments.results.read_text("utf-8"))
    arguments.page.write_text(page(results), encoding="utf-8")


def tables(benchmark: str, result: Mapping[str, Any]) -> str:
    """All tables of a benchmark: what is covered, its metrics, and for CrowS-Pairs those of pure swaps alone."""
    parts = [coverage_table(benchmark, result), metric_table(result, "all")]
    if any(entry["subset"] == "swaps" for entry in result["entries"]):
        parts += ["Pure swaps alone:", metric_table(result, "swaps")]
        if benchmark == "crows_pairs":
            parts += ["By the rule of lm-eval, on pure swaps alone:", metric_table(result, "swaps", _LM_EVAL)]
    return "\n\n".join(parts)


def coverage_table(benchmark: str, result: Mapping[str, Any]) -> str:
    """How many items of each kind hold words of the axis, and how many are pure swaps, at either level."""
    rows = []
    for entry in _first_of_each_category(result["entries"], benchmark):
        cells = [
            " / ".join(f"{entry[part][level] / entry['items']:.0%}" if level in entry[part] else "–" for level in _FAIR)
            for part in ("moved", "swaps")
        ]
        rows.append([entry["category"], " × ".join(entry["axes"]), str(entry["items"]), *cells])
    return _table(["kind", "axis", "items", "with its words, EquiLM / text", "pure swaps, EquiLM / text"], rows)


def metric_table(result: Mapping[str, Any], subset: str, metrics: Sequence[str] = ()) -> str:
    """The metrics of each kind at each level, in percent.

    Args:
        result: a benchmark's results.
        subset: "all" items, or "swaps".
        metrics: these only, without intervals; by default all but those about lm-eval.
    """
    rows = []
    for entry in result["entries"]:
        chosen = entry["metric"] in metrics if metrics else entry["metric"] not in _LM_EVAL
        if entry["subset"] == subset and chosen:
            levels = entry["levels"]
            shown = [number(levels[level], interval=not metrics) if level in levels else "–" for level in LEVELS]
            rows.append([entry["category"], str(entry["items"]), entry["metric"], *shown])
    return _table(["kind", "items", "metric", *LEVELS.values()], rows)


def number(value: Mapping[str, Any], interval: bool = True) -> str:
    """A value in percent, with its interval where it has one."""
    low, high = value["low"], value["high"]
    shown = f"{_zero(value['value']):.1f}"
    return shown if low is None or not interval else f"{shown} ({_zero(low):.1f} to {_zero(high):.1f})"


def page(results: Mapping[str, Any]) -> str:
    """The page."""
    benchmarks = results["benchmarks"]
    parts = [
        INTRODUCTION.format(model=results["model"], dtype=results["dtype"], **_versions(benchmarks)),
        "```bash\n" + "\n".join([*_commands(benchmarks), _WRITE]) + "\n```",
        SOURCES,
        GUARANTEE,
        "## What the numbers show\n\n" + "\n".join(f"* {line}" for line in findings(benchmarks)),
        READING,
    ]
    parts += [
        f"## {title}\n\n{NOTES[name]}\n{tables(name, benchmarks[name])}"
        for name, title in TITLES.items()
        if name in benchmarks
    ]
    if "crows_pairs" in benchmarks:
        parts.append(LM_EVAL_NOTE.format(**_by_lm_eval(benchmarks["crows_pairs"])))
    parts.append(_ties(benchmarks))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def findings(benchmarks: Mapping[str, Any]) -> Iterator[str]:
    """One line for each benchmark: what is not covered, and what moved by more than chance."""
    for name in (name for name in TITLES if name in benchmarks):
        result = benchmarks[name]
        kinds = _first_of_each_category(result["entries"], name)
        items = sum(entry["items"] for entry in kinds)
        bare = items - sum(entry["moved"]["sequence"] for entry in kinds)
        swaps = sum(entry["swaps"]["sequence"] for entry in kinds)
        measured = f"{items} items" if items == result["of"] else f"{items} of {result['of']} items"
        yield (
            f"**{TITLES[name]}** ({measured}): {bare} ({bare / items:.0%}) hold no word of their axis, and {swaps} "
            f"({swaps / items:.0%}) are pure swaps. {_moves(result['entries'])}"
        )


def _moves(entries: Sequence[Entry]) -> str:
    """Which measures of bias moved by more than chance, towards their neutral value or away from it."""
    measures = [entry for entry in entries if entry["subset"] == "all" and entry["neutral"] is not None]
    one_metric = len({entry["metric"] for entry in measures}) == 1
    sentences: list[str] = []
    for level in _FAIR:
        nearer: list[str] = []
        further: list[str] = []
        tested = [
            entry
            for entry in measures
            if level in entry["levels"] and entry["levels"][level]["change"]["low"] is not None
        ]
        for entry in tested:
            change = entry["levels"][level]["change"]
            before, after = (abs(entry["levels"][each]["value"] - entry["neutral"]) for each in ("plain", level))
            if not change["low"] <= 0 <= change["high"] and before != after:
                name = entry["category"] if one_metric else f"{entry['metric']} for {entry['category']}"
                (nearer if after < before else further).append(name)
        if not tested:
            return "There are too few items for any interval, so nothing can be concluded."
        sentences.append(
            f"Beyond chance, {_WITH[level]} {len(nearer)} of {len(tested)} measures of bias are nearer to neutral"
            f"{_listed(nearer)} and {len(further)} further from it{_listed(further)}."
        )
    return " ".join(sentences)


def _listed(names: Sequence[str]) -> str:
    return f" ({'; '.join(names)})" if names else ""


def _commands(benchmarks: Mapping[str, Any]) -> Iterator[str]:
    """The commands that made the results."""
    for name, result in benchmarks.items():
        limit = "" if result["limit"] is None else f" --limit {result['limit']}"
        yield f"python examples/bias_benchmarks/run.py --benchmark {name}{limit} --output {_OUTPUT}"


def _by_lm_eval(result: Mapping[str, Any]) -> dict[str, str]:
    """The pure swaps of CrowS-Pairs by the rule of lm-eval and with ties as halves, over all kinds, as shares."""
    found: dict[str, str] = {}
    for metric, key in (("pct_stereotype of lm-eval", "rule"), ("stereotype likelier", "halves")):
        entries = [entry for entry in result["entries"] if entry["metric"] == metric and entry["subset"] == "swaps"]
        for level in LEVELS:
            some = [entry for entry in entries if level in entry["levels"]]
            total = sum(entry["items"] for entry in some)
            summed = sum(entry["items"] * entry["levels"][level]["value"] for entry in some)
            found[f"{key}_{level}"] = f"{summed / total:.1f}" if total else "no value"
            found[f"items_{level}"] = str(total)
    return found


def _ties(benchmarks: Mapping[str, Any]) -> str:
    """How far rounding reaches, and how many pairs tie by chance."""
    gaps = [result["rounding"][level] for result in benchmarks.values() for level in result["rounding"]]
    fair = [result["rounding"][level] for result in benchmarks.values() for level in _FAIR if result["rounding"]]
    return TIES.format(
        tie=next(iter(benchmarks.values()))["tie"],
        largest=max(gap["largest_gap_of_equals"] for gap in fair),
        chance=sum(gap["chance_ties"] for gap in gaps),
        others=sum(gap["others"] for gap in gaps),
    )


def _first_of_each_category(entries: Sequence[Entry], benchmark: str) -> list[Entry]:
    """An entry for each category, whose counts are those of all its items."""
    found: dict[str, dict[str, Any]] = {}
    for entry in entries:
        if entry["subset"] != "all":
            continue
        known = found.setdefault(entry["category"], dict(entry))
        # BBQ's entries are about one kind of context each: those of both kinds add up.
        if benchmark == "bbq" and entry["metric"] == "accuracy, disambiguated" != known["metric"]:
            known["items"] += entry["items"]
            for part in ("moved", "swaps"):
                known[part] = {level: known[part][level] + entry[part][level] for level in known[part]}
    return list(found.values())


def _versions(benchmarks: Mapping[str, Any]) -> dict[str, str]:
    made_with = next(iter(benchmarks.values()))["made_with"]
    return {f"{library}_version": version for library, version in made_with.items()}


def _zero(value: float) -> float:
    """Without a sign where it rounds to 0."""
    return 0.0 if abs(value) < 0.05 else value


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


if __name__ == "__main__":
    main()
