"""The metrics by name, from a checkout and from an installed package."""

import builtins
import shutil
from pathlib import Path
from typing import Any

import pytest

from equilm import EquiLMError
from equilm.metrics import load_metric as loading
from equilm.metrics.load_metric import load_metric

EVALUATION = Path(__file__).parents[2] / "evaluation"


@pytest.mark.parametrize("name", ["regard", "perplexity", "group_fairness"])
def test_loads_each_metric(name: Any) -> None:
    assert load_metric(name).name == name


def test_loads_a_configuration() -> None:
    assert load_metric("regard", "compare").config_name == "compare"


def test_loads_from_inside_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = tmp_path / "equilm"
    shutil.copytree(EVALUATION, installed / "evaluation")
    monkeypatch.setattr(loading, "_PACKAGE", installed)
    assert loading._folder() == installed / "evaluation"
    assert load_metric("perplexity").name == "perplexity"


def test_names_the_metrics_there_are() -> None:
    with pytest.raises(EquiLMError, match="no metric 'bleu': expected one of regard, perplexity, group_fairness"):
        load_metric("bleu")  # type: ignore[arg-type]


def test_names_the_extra_where_evaluate_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "evaluate":
            raise ModuleNotFoundError("No module named 'evaluate'", name=name)
        return imported(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(EquiLMError, match=r"pip install 'equilm\[evaluation\]'"):
        load_metric("regard")
