"""A model saved at commit 67c771d, and one saved now, load with the package and by their own code without it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from equilm import EquiLMError, EquiLMForCausalLM

OLD = Path(__file__).parent / "saved_at_67c771d"

# With None in sys.modules, `import equilm` raises ImportError, so the auto classes can only take the saved code.
_LOAD = """
import sys
sys.modules["equilm"] = None
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
folder, expected = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
assert type(model).__module__.startswith("transformers_modules"), type(model).__module__
tensors = load_file(expected)
with torch.no_grad():
    assert torch.equal(model(tensors["input_ids"]).logits, tensors["logits"])
"""


def load_without_the_package(folder: Path, expected: Path, cache: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", _LOAD, str(folder), str(expected)],
        capture_output=True,
        text=True,
        check=False,
        env={"HF_HOME": str(cache), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PATH": ""},
    )


def test_a_model_saved_earlier_loads_with_the_package() -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(OLD)
    assert isinstance(model, EquiLMForCausalLM)
    expected = load_file(OLD / "expected.safetensors")
    with torch.no_grad():
        assert torch.equal(model(expected["input_ids"]).logits, expected["logits"])
    stored = json.loads((OLD / "config.json").read_text())
    assert [[list(ids) for ids in lists] for lists in model.config.token_cycles()] == stored["cycles"]
    assert {"cycles", "general_ids", "unmapped"}.isdisjoint(model.config.to_diff_dict())


@pytest.mark.parametrize("name", ["cycles", "general_ids"])
def test_earlier_lists_that_are_not_those_of_the_coverage_are_refused(name: str, tmp_path: Path) -> None:
    for file in OLD.glob("*.*"):
        (tmp_path / file.name).symlink_to(file)
    config = json.loads((OLD / "config.json").read_text())
    config[name].pop()
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(EquiLMError, match=f"{name} of this EquiLMConfig are not the token ids of its coverage"):
        AutoModelForCausalLM.from_pretrained(tmp_path)


@pytest.mark.slow
def test_a_model_saved_earlier_loads_by_its_own_code(tmp_path: Path) -> None:
    done = load_without_the_package(OLD, OLD / "expected.safetensors", tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_a_model_saved_now_loads_by_its_own_code(
    base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    model = EquiLMForCausalLM.from_base(base, tokenizer, axes=["gender", "race3"])
    model.save_pretrained(tmp_path / "fair")
    ids = tokenizer("The man worked as a king and", return_tensors="pt").input_ids
    with torch.no_grad():
        save_file({"input_ids": ids, "logits": model(ids).logits}, tmp_path / "expected.safetensors")
    done = load_without_the_package(tmp_path / "fair", tmp_path / "expected.safetensors", tmp_path / "cache")
    assert done.returncode == 0, done.stderr[-3000:]
    for file in (tmp_path / "fair").glob("*.py"):  # it was the saved code that ran
        file.write_text("raise RuntimeError")
    done = load_without_the_package(tmp_path / "fair", tmp_path / "expected.safetensors", tmp_path / "cache")
    assert done.returncode != 0
