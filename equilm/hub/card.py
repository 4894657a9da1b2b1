"""The model card: which words are treated alike, measurements, intended use and limits."""

import re
from importlib.resources import files

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ..modeling_equilm import EquiLMForCausalLM
from .measure import Measurements

_TEMPLATE = files(__package__).joinpath("model_card.md.jinja")


def model_card(
    model: EquiLMForCausalLM,
    measurements: Measurements,
    repo_id: str,
    *,
    base_model: str | None = None,
    license: str | None = None,  # noqa: A002 - the Hub's name for it
) -> ModelCard:
    """Write the card of a wrapped model.

    Args:
        model: the wrapped model.
        measurements: the result of `equilm.hub.measure` for this model.
        repo_id: where readers find the model: a Hub id or a folder.
        base_model: Hub id of the base model, if it has one.
        license: the license of the weights, which is the base model's; a Hub license id such as "apache-2.0".
    """
    data = ModelCardData(
        base_model=base_model,
        library_name="transformers",
        license=license,
        pipeline_tag="text-generation",
        tags=[*(model.model_tags or ()), "equi-tuning"],
        model_name=repo_id.rsplit("/", 1)[-1],
        eval_results=_results(measurements),
    )
    report = model.fairness_report()
    card = ModelCard.from_template(
        data,
        template_str=_TEMPLATE.read_text(encoding="utf-8"),
        repo_id=repo_id,
        name=repo_id.rsplit("/", 1)[-1],
        base_name=base_model or f"a {type(model.language_model).__name__}",
        report=report,
        axes=[axis["name"] for axis in model.config.axes or []],
        measured=measurements,
        change=100 * (measurements.perplexity[1] / measurements.perplexity[0] - 1),
        coverage=_coverage(model),
    )
    card.text = re.sub(r"\n{3,}", "\n\n", card.text)  # empty lines from the template's conditions
    return card


def _results(measured: Measurements) -> list[EvalResult]:
    prompts = "the paper's contexts with the model's own words"
    rows = [
        ("prompts", prompts, "group_fairness", "eq. 4 gap, mean (nats per token)", _rounded(measured.gap_mean[1])),
        (
            "prompts",
            prompts,
            "group_fairness",
            "eq. 4 gap, largest (nats per token)",
            _rounded(measured.gap_largest[1]),
        ),
        ("text", measured.perplexity_data, "perplexity", "perplexity per token", round(measured.perplexity[1], 2)),
    ]
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type=kind,
            dataset_name=data,
            metric_type=metric,
            metric_name=name,
            metric_value=value,
        )
        for kind, data, metric, name, value in rows
    ]


def _rounded(gap: float) -> float:
    """Two digits, as in the card's table."""
    return float(f"{gap:.1e}")


def _coverage(model: EquiLMForCausalLM) -> list[tuple[str, int, int]]:
    """For each axis, its name, the number of surface forms that are swapped, and the number of all forms."""
    rows = [row for row in model.config.coverage or [] if not row.general]
    names = dict.fromkeys(row.axis for row in rows)
    by_axis = {name: [row.mapped for row in rows if row.axis == name] for name in names}
    return [(name, sum(mapped), len(mapped)) for name, mapped in by_axis.items()]
