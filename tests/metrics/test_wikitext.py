"""Wikitext from files, from the data set's rows, and what is said where the Hub cannot be reached."""

import builtins
from pathlib import Path
from typing import Any

import datasets
import pytest

from equilm import EquiLMError
from equilm.metrics.wikitext import load_wikitext

DATA = Path(__file__).parents[3] / "shared" / "data" / "wikitext"


def test_reads_a_file_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "wiki.txt"
    file.write_text(" \n = Title = \n \n né\n", "utf-8")
    assert load_wikitext(file) == load_wikitext(str(file)) == " \n = Title = \n \n né\n"


def test_refuses_what_is_neither_a_name_nor_a_file(tmp_path: Path) -> None:
    with pytest.raises(EquiLMError, match=r"'wikitext-3' is neither a text file nor one of wikitext-2-raw, "):
        load_wikitext("wikitext-3")
    with pytest.raises(EquiLMError, match="is neither a text file"):
        load_wikitext(tmp_path)


def test_names_a_remedy_where_the_hub_cannot_be_reached() -> None:
    with pytest.raises(EquiLMError, match=r"wikitext-2-raw-v1\) could not be loaded: .* name a text file"):
        load_wikitext("wikitext-2-raw")


def test_names_the_extra_where_datasets_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "datasets":
            raise ModuleNotFoundError("No module named 'datasets'", name=name)
        return imported(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(EquiLMError, match=r"pip install 'equilm\[evaluation\]'"):
        load_wikitext("wikitext-103")


@pytest.mark.parametrize("where", ["made up", "shared"])
def test_the_rows_of_the_data_set_make_up_the_file(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "wiki.txt" if where == "made up" else DATA / "wikitext-2-raw.test.txt"
    if where == "made up":
        file.write_text(" \n = Title = \n \n A text . \n \n", "utf-8")
    elif not file.exists():
        pytest.skip(f"needs {file}")
    lines = file.read_text("utf-8").splitlines(keepends=True)
    rows = [line if line.strip() else "" for line in lines]  # as the data set has them: blank lines are empty
    asked = []

    def load_dataset(*args: Any, **kwargs: Any) -> dict[str, list[str]]:
        asked.append((args, kwargs))
        return {"text": rows}

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert len(rows) == (5 if where == "made up" else 4358)  # the number the data set has
    assert load_wikitext("wikitext-2-raw") == file.read_text("utf-8")
    assert asked == [(("Salesforce/wikitext", "wikitext-2-raw-v1"), {"split": "test"})]
