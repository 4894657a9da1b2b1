"""Loading the metrics as modules of `evaluate`, and the models that they are given."""

from pathlib import Path
from typing import Any, Literal, get_args

from transformers import PreTrainedTokenizerBase

from ..errors import EquiLMError
from ..loading import load_base

MetricName = Literal["regard", "perplexity", "group_fairness", "invariance"]

_PACKAGE = Path(__file__).parents[1]


def load_metric(name: MetricName, config_name: str | None = None, **kwargs: Any) -> Any:
    """A metric of this package as a module of `evaluate`, without the Hub.

    Args:
        name: "regard", "perplexity", "group_fairness" or "invariance".
        config_name: one of the module's configurations; only regard has several.
        kwargs: what ``evaluate.load`` takes.

    Returns:
        The module, whose ``compute`` measures. ``print(module.inputs_description)`` shows the arguments.

    Raises:
        EquiLMError: for another name, or if `evaluate` is not installed.

    Example:
        >>> load_metric("perplexity").compute(predictions=texts, model_id="gpt2")["perplexity"]  # doctest: +SKIP
    """
    if name not in get_args(MetricName):
        raise EquiLMError(f"There is no metric {name!r}: expected one of {', '.join(get_args(MetricName))}.")
    try:
        import evaluate
    except ModuleNotFoundError as error:
        raise EquiLMError("Metrics need the package evaluate. Run: pip install 'equilm[evaluation]'") from error
    return evaluate.load(str(_folder() / name), config_name, **kwargs)


def _folder() -> Path:
    """Where the modules are: in the installed package, or beside it in a checkout."""
    installed = _PACKAGE / "evaluation"
    return installed if installed.is_dir() else _PACKAGE.parent / "evaluation"


def resolve_model(
    model: Any = None, model_id: str | None = None, tokenizer: PreTrainedTokenizerBase | None = None
) -> tuple[Any, PreTrainedTokenizerBase | None]:
    """The model and tokenizer that a metric is to use: those given, or loaded by Hub id or folder.

    Raises:
        EquiLMError: for neither a model nor an id, or both.
    """
    if (model is None) == (model_id is None):
        raise EquiLMError("Pass either model_id=..., a Hub id or a folder, or model=... with tokenizer=...")
    return (model, tokenizer) if model_id is None else load_base(model_id, tokenizer)
