"""The study's page, one HTML file that holds all it shows, and its numbers as Markdown for a README or a card."""

from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from ..metrics.regard_classifier import LABELS
from .cells import DECODERS
from .figures import regard_bars
from .scoring import VIEWS
from .summary import nats


def render(results: dict[str, Any]) -> str:
    """The page.

    Args:
        results: what ``results.json`` holds.
    """
    return _fill("page.html.jinja", results)


def render_summary(results: dict[str, Any]) -> str:
    """The page's sentences and tables as Markdown, without its texts.

    Args:
        results: what ``results.json`` holds.
    """
    return _fill("summary.md.jinja", results)


def _fill(template: str, results: dict[str, Any]) -> str:
    environment = Environment(
        loader=PackageLoader("equilm", "study"),
        autoescape=select_autoescape(["html.jinja"]),  # texts of models may hold anything
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "signed": signed, "nats": nats, "equality": equality, "figure": _figure}
    environment.filters |= {"decoder": DECODERS.__getitem__}
    axes = [_axis(results, axis) for axis in results["study"]["axes"]]
    return environment.get_template(template).render(
        **{
            name: results[name]
            for name in ("study", "summary", "sampled_with", "classifier", "truncated", "pairs", "gaps")
        },
        **{name: results[name] for name in ("cost", "perplexity")},
        axes=axes,
        labels=LABELS,
        views=VIEWS,
        more_than_two=any(len(axis["groups"]) > 2 for axis in axes),
        samples=[_samples(results, axis) for axis in axes],
        facts=_facts(results),
    )


def number(value: float) -> str:
    """Three decimals below 10, fewer beyond."""
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def signed(value: float) -> str:
    """As `number`, with its sign."""
    return f"{value:+.3f}"


def equality(pair: dict[str, Any]) -> str:
    """What became of the masked scores of the pairs in which only the name differs."""
    if not pair["name_only"]:
        return "–"
    return "equal to the last digit" if pair["equal_scores"] else "differs"


def _axis(results: dict[str, Any], axis: str) -> dict[str, Any]:
    found = {(r["task"], r["decoder"], r["view"]): r for r in results["regard"] if r["axis"] == axis}
    groups = list(next(iter(found.values()))["by_group"])
    tasks = []
    for task in results["study"]["tasks"]:
        rows = [
            {"decoder": name, **{view: found[task, decoder, view] for view in VIEWS}}
            for decoder, name in DECODERS.items()
            if decoder in results["study"]["decoders"]
        ]
        panels = {
            VIEWS[view]: {
                row["decoder"]: {group: _fractions(row[view]["by_group"][group]) for group in groups} for row in rows
            }
            for view in ("raw", "masked")
        }
        title = f"Regard of {' and '.join(groups)}, {task} prompts"
        texts = rows[0]["raw"]["by_group"][groups[0]]["n"]
        tasks.append({"name": task, "rows": rows, "texts": texts, "panels": panels, "title": title})
    return {"name": axis, "groups": groups, "tasks": tasks}


def _figure(task: dict[str, Any]) -> str:
    """Drawn where a template asks for it: the Markdown has none."""
    return regard_bars(task["panels"], task["title"])


def _fractions(group: dict[str, Any]) -> dict[str, float]:
    return {label: estimate["value"] for label, estimate in group["fractions"].items()}


def _samples(results: dict[str, Any], axis: dict[str, Any]) -> dict[str, Any]:
    blocks = [
        {
            "task": block["task"],
            "decoder": block["decoder"],
            "rows": [_marked([row[group] for group in axis["groups"]]) for row in block["rows"]],
        }
        for block in results["samples"]
        if block["axis"] == axis["name"]
    ]
    return {"name": axis["name"], "groups": axis["groups"], "blocks": blocks}


def _marked(texts: Sequence[str]) -> list[list[dict[str, Any]]]:
    """The words of each text, and whether they differ from the first text's (in the first: from the second's)."""
    words = [text.split() for text in texts]
    marked = []
    for i, own in enumerate(words):
        same: set[int] = set()
        for block in SequenceMatcher(None, words[0] if i else words[1], own, autojunk=False).get_matching_blocks():
            same.update(range(block.b, block.b + block.size))
        marked.append([{"word": word, "differs": place not in same} for place, word in enumerate(own)])
    return marked


def _facts(results: dict[str, Any]) -> dict[str, str]:
    study, sampled = results["study"], results["sampled_with"]
    return {
        "Model": f"{study['model']}, {study['parameters']:,} parameters, {study['dtype']}",
        "Axes": ", ".join(study["axes"]),
        "Tasks": ", ".join(study["tasks"]),
        "Decoders": ", ".join(DECODERS[decoder] for decoder in study["decoders"]),
        "Texts": f"{study['samples']} for each prompt and decoder, cut at the first newline",
        "Sampling": f"top-k {study['top_k']}, {study['max_new_tokens']} new tokens, seed {study['seed']}",
        "Regard classifier": results["classifier"],
        "Sampled with": ", ".join(f"{name} {value}" for name, value in sampled.items()),
        "Analyzed with": ", ".join(f"{name} {value}" for name, value in results["analyzed_with"].items()),
    }
