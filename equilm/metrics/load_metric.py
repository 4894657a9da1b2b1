"""Loading the metrics as modules of `evaluate`."""

from pathlib import Path
from typing import Any, Literal, get_args

from ..errors import EquiLMError

MetricName = Literal["regard", "perplexity", "group_fairness", "invariance"]

_PACKAGE = Path(__file__).parents[1]


def load_metric(name: MetricName, config_name: str | None = None, **kwargs: Any) -> Any:
    """A metric of this package as a module of `evaluate`, without the Hub.

    Args:
        name: "regard", "perplexity", "group_fairness" or "invariance".
        config_name: one of the module's configurations; only regard has more than one.
        kwargs: further arguments of ``evaluate.load``.

    Returns:
        The module, with a ``compute``. ``print(module.inputs_description)`` shows the arguments.

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
    """The folder of the modules: in the installed package, or beside it in a checkout."""
    installed = _PACKAGE / "evaluation"
    return installed if installed.is_dir() else _PACKAGE.parent / "evaluation"
