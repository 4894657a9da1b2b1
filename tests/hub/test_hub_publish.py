"""Repositories: what is saved loads without the package, through the Hub's real client too; `custom_generate`."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from loopback_hub import serve
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase
from transformers.dynamic_module_utils import get_class_from_dynamic_module

from equilm import EquiLMError, EquiLMForCausalLM, VocabularyAction, symmetrized_generate
from equilm.cli.main import main
from equilm.hub import save_custom_generate

ROOT = Path(__file__).parents[2]
PROMPT = "The man worked as a king and"


@pytest.fixture(scope="module")
def base_folder(
    base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("base")
    base.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_the_saved_code_needs_no_package_and_is_complete(
    base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    model = EquiLMForCausalLM.from_base(base, tokenizer)
    model.save_pretrained(tmp_path)
    allowed = {"huggingface_hub", "tokenizers", "torch", "transformers", *sys.stdlib_module_names}
    from transformers.dynamic_module_utils import get_imports, get_relative_imports

    files = list(tmp_path.glob("*.py"))
    assert {"modeling_equilm.py", "configuration_equilm.py"} <= {file.name for file in files}
    for file in files:
        assert set(get_imports(file)) <= allowed, file
        for name in get_relative_imports(file):
            assert (tmp_path / f"{name}.py").exists(), f"{file.name} imports .{name}"


def test_remote_code_gives_the_same_model(
    base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    model = EquiLMForCausalLM.from_base(base, tokenizer, axes=["gender", "race3"])
    model.save_pretrained(tmp_path / "fair")
    # The auto classes would take the installed package's class.
    saved: Any = get_class_from_dynamic_module("modeling_equilm.EquiLMForCausalLM", str(tmp_path / "fair"))
    assert saved is not EquiLMForCausalLM
    code = saved.from_pretrained(tmp_path / "fair")
    ids = tokenizer(PROMPT, return_tensors="pt").input_ids
    assert torch.equal(code(ids).logits, model(ids).logits)


def push(*arguments: str) -> int:
    return main(["push", *arguments])


def test_push_to_a_folder(
    base_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_ROUNDS", "_TIMED_TOKENS", "_PROMPTS_PER_AXIS"):  # other tests look at the numbers
        monkeypatch.setattr(sys.modules["equilm.hub.measure"], name, 1)
    text = tmp_path / "text.txt"
    text.write_text("The doctor worked as a nurse . " * 150)
    wanted = ["--output", str(tmp_path / "fair"), "--data", str(text), "--blocks", "1"]
    assert push("--model", str(base_folder), "--axis", "race3", *wanted) == 0
    assert "race3" in (tmp_path / "fair" / "README.md").read_text()
    loaded: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "fair")
    assert loaded.group.order == 3
    again = ["--model", str(tmp_path / "fair"), "--data", str(text), "--blocks", "1"]
    assert push(*again, "--output", str(tmp_path / "again")) == 0
    assert push(*again, "--output", str(tmp_path / "again"), "--axis", "gender") == 2
    assert "wrapped already" in capsys.readouterr().err
    assert push("--model", str(base_folder), "--data", str(text)) == 2
    assert "needs --repo-id" in capsys.readouterr().err


def test_custom_generate(
    base: PreTrainedModel, base_folder: Path, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    assert push("--model", str(base_folder), "--custom-generate", "--output", str(tmp_path)) == 0
    card = (tmp_path / "README.md").read_text()
    for section in (
        "Description",
        "Base model",
        "Model compatibility",
        "Additional Arguments",
        "Output Type changes",
        "Example usage",
    ):
        assert f"## {section}\n" in card
    assert "custom_generate" in card.split("---")[1]

    inputs = tokenizer(PROMPT, return_tensors="pt")
    settings: dict[str, Any] = {"max_new_tokens": 6, "do_sample": True}
    custom: dict[str, Any] = {"custom_generate": str(tmp_path), "trust_remote_code": True, "tokenizer": tokenizer}
    fair: Any = EquiLMForCausalLM.from_base(base, tokenizer, axes=["gender", "race3"])
    plain: Any = base
    torch.manual_seed(3)
    expected = fair.generate(**inputs, **settings)
    torch.manual_seed(3)
    assert torch.equal(plain.generate(**inputs, **settings, **custom, axes=["gender", "race3"]), expected)

    action = VocabularyAction.from_axes("gender", tokenizer, vocab_size=base.config.vocab_size, unmappable="skip")
    torch.manual_seed(3)
    symmetrized: Any = symmetrized_generate(
        base, inputs.input_ids, action, attention_mask=inputs.attention_mask, **settings
    )
    adopted: Any = AutoModelForCausalLM.from_pretrained(tmp_path, trust_remote_code=True)  # it brings its generate
    for model, extra in ((plain, custom), (adopted, {"tokenizer": tokenizer})):
        torch.manual_seed(3)
        assert torch.equal(model.generate(**inputs, **settings, **extra, level="sequence"), symmetrized)
    assert "generate" in vars(adopted)

    with pytest.raises(EquiLMError, match="level must be 'token' or 'sequence', got 'word'"):
        plain.generate(**inputs, **custom, level="word")
    with pytest.raises(EquiLMError, match="cannot be used at the sequence level"):
        plain.generate(**inputs, **custom, level="sequence", relaxed=True)
    with pytest.raises(EquiLMError, match=r"pass model\.language_model"):
        save_custom_generate(fair, tokenizer, tmp_path)


@pytest.mark.slow
def test_round_trip_through_the_hub_without_the_package() -> None:
    script = ROOT / "examples" / "hub" / "round_trip.py"
    done = subprocess.run(
        [sys.executable, str(script), "--tiny"], capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "tiny-gpt2: logits bit-equal where equilm is not installed: True" in done.stdout


@pytest.mark.slow
def test_push_to_hub_and_back(base_folder: Path, tmp_path: Path) -> None:
    """`push_to_hub` itself, `from_pretrained` by id, and the pipeline by id, all through the real client."""
    script = """
import sys
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline
from equilm import EquiLMForCausalLM
model = EquiLMForCausalLM.from_base(sys.argv[1])
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
model.push_to_hub("someone/fair")
tokenizer.push_to_hub("someone/fair")
loaded = AutoModelForCausalLM.from_pretrained("someone/fair")
ids = tokenizer(sys.argv[2], return_tensors="pt").input_ids
assert torch.equal(loaded(ids).logits, model(ids).logits)
text = pipeline("text-generation", model="someone/fair")(sys.argv[2], max_new_tokens=4, do_sample=False)
assert text[0]["generated_text"].startswith(sys.argv[2]), text
"""
    with serve(tmp_path / "hub") as hub:
        environment = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": "hf_loopback"}
        environment |= {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        done = subprocess.run(
            [sys.executable, "-c", script, str(base_folder), PROMPT],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        names = {path.name for path in hub.files("someone/fair")}
        assert {"config.json", "model.safetensors", "modeling_equilm.py", "tokenizer.json", "README.md"} <= names
        assert not any(name.endswith((".bin", ".pt")) for name in names)
