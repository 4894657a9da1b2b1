"""`equilm check`: exit codes, figures, and reports that CI servers read."""

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
import torch
from word_models import word_model, word_tokenizer

from equilm import EquiLMForCausalLM
from equilm.cli.main import main
from equilm.metrics.gate import Thresholds, check_prompts
from equilm.testing import log_prob_gap
from equilm.words import DemographicAxis

PROMPTS = ("the man worked as", "the woman was known for", "it was a")
FAST = ("--num-continuations", "2", "--max-new-tokens", "4", "--quiet")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A plain model and the same saved wrapped."""
    plain, wrapped = tmp_path_factory.mktemp("plain"), tmp_path_factory.mktemp("wrapped")
    tokenizer = word_tokenizer()
    word_model(tokenizer).save_pretrained(plain)
    tokenizer.save_pretrained(plain)
    EquiLMForCausalLM.from_base(str(plain)).save_pretrained(wrapped)
    tokenizer.save_pretrained(wrapped)
    return {"plain": str(plain), "wrapped": str(wrapped)}


def test_a_plain_model_fails_and_a_wrapped_one_passes(
    folders: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written, junit = tmp_path / "check.json", tmp_path / "check.xml"
    files = ("--json", str(written), "--junit", str(junit))
    assert main(["check", *PROMPTS, "--model", folders["plain"], *FAST, *files]) == 1
    out = capsys.readouterr().out
    assert out.startswith("FAIL: 3 of 3 prompts") and out.count("failed: ") == 3
    result = json.loads(written.read_text("utf-8"))
    assert not result["passed"] and result["beside"]["passed"], "wrapped, it would pass"
    assert [prompt["prompt"] for prompt in result["judged"]["prompts"]] == list(PROMPTS)
    suite = ElementTree.parse(junit).getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("3", "3")

    for arguments in (("--model", folders["wrapped"]), ("--model", folders["plain"], "--wrap")):
        assert main(["check", *PROMPTS, *arguments, *FAST, *files]) == 0
        assert capsys.readouterr().out.startswith("PASS")
        assert json.loads(written.read_text("utf-8"))["judged"]["gap"] < 1e-4
        assert ElementTree.parse(junit).getroot().get("failures") == "0"


def test_what_cannot_be_told_is_exit_code_2(
    folders: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((Path(folders["plain"]) / name).read_bytes())
    assert main(["check", "the man", "--model", str(tmp_path), *FAST]) == 2, "no tokenizer"
    assert main(["check", "--model", folders["plain"], *FAST]) == 2, "no prompt"
    assert main(["check", "the man", "--model", folders["wrapped"], "--axis", "race", *FAST]) == 2
    assert "wrapped already" in capsys.readouterr().err


def test_words_that_the_table_does_not_swap_are_counted(folders: dict[str, str]) -> None:
    tokenizer = word_tokenizer()
    model: Any = EquiLMForCausalLM.from_base(folders["plain"])
    axes = [DemographicAxis.from_dict(axis) for axis in model.config.axes]
    result = check_prompts(
        model, tokenizer, model.action, axes, ["the man met his niece"], name="x", num_continuations=1, max_new_tokens=2
    )
    (prompt,) = result.prompts
    assert prompt.named == 3 and prompt.covered < 3 and result.coverage == prompt.covered / 3
    assert not result.passed and f"{prompt.covered} of 3 of its words" in prompt.reasons[0]
    lenient = check_prompts(
        model,
        tokenizer,
        model.action,
        axes,
        ["the man met his niece"],
        name="x",
        num_continuations=1,
        max_new_tokens=2,
        thresholds=Thresholds(coverage=0.0),
    )
    assert lenient.passed


def test_the_gap_is_that_of_equation_4(folders: dict[str, str]) -> None:
    """A text that the base model finds unlike its swap has the gap that `log_prob_gap` tells."""
    tokenizer = word_tokenizer()
    model: Any = EquiLMForCausalLM.from_base(folders["plain"])
    axes = [DemographicAxis.from_dict(axis) for axis in model.config.axes]
    base = model.language_model
    result = check_prompts(base, tokenizer, model.action, axes, ["the man was"], name="x", max_new_tokens=1, seed=3)
    ids = tokenizer("the man was", return_tensors="pt").input_ids
    every = max(
        float(log_prob_gap(base, model.action, text, ids.shape[1]).max())
        for token in range(base.config.vocab_size)
        for text in [torch.cat([ids, ids.new_tensor([[token]])], 1)]
    )
    assert 0 < result.gap <= every + 1e-5 and result.parity is None
