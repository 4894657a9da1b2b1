"""`equilm check`: exit codes, figures, and reports that CI servers read."""

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
import torch
from word_models import saved_word_model, word_tokenizer

from equilm import EquiLMError, EquiLMForCausalLM
from equilm.cli.main import main
from equilm.metrics import fairness_levels
from equilm.metrics.gate import Thresholds, check_prompts
from equilm.metrics.group_fairness import own_action
from equilm.testing import log_prob_gap

PROMPTS = ("the man worked as", "the woman was known for", "it was a")
FAST = ("--num-continuations", "2", "--max-new-tokens", "4", "--quiet")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A plain model and the same saved wrapped."""
    plain, wrapped = saved_word_model(tmp_path_factory.mktemp("plain")), tmp_path_factory.mktemp("wrapped")
    EquiLMForCausalLM.from_base(plain).save_pretrained(wrapped)
    word_tokenizer().save_pretrained(wrapped)
    return {"plain": plain, "wrapped": str(wrapped)}


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
    action = own_action(model, tokenizer)
    result = check_prompts(
        model, tokenizer, action, ["the man met his niece"], name="x", num_continuations=1, max_new_tokens=2
    )
    (prompt,) = result.prompts
    assert prompt.named == 3 and prompt.covered < 3 and result.coverage == prompt.covered / 3
    assert not result.passed and f"{prompt.covered} of 3 of its words" in prompt.reasons[0]
    lenient = check_prompts(
        model,
        tokenizer,
        action,
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
    action = own_action(model, tokenizer)
    base = model.language_model
    result = check_prompts(base, tokenizer, action, ["the man was"], name="x", max_new_tokens=1, seed=3)
    ids = tokenizer("the man was", return_tensors="pt").input_ids
    every = max(
        float(log_prob_gap(base, model.action, text, ids.shape[1]).max())
        for token in range(base.config.vocab_size)
        for text in [torch.cat([ids, ids.new_tensor([[token]])], 1)]
    )
    assert 0 < result.gap <= every + 1e-5 and result.parity is None


def test_the_parity_is_that_of_the_next_word(folders: dict[str, str]) -> None:
    tokenizer = word_tokenizer()
    model: Any = EquiLMForCausalLM.from_base(folders["plain"], axes=["gender", "race3"])
    action, base = own_action(model, tokenizer), model.language_model
    result = check_prompts(base, tokenizer, action, ["it was a"], name="x", num_continuations=1, max_new_tokens=1)
    logits = base(**tokenizer("it was a", return_tensors="pt")).logits[0, -1].log_softmax(-1).detach()
    moved = action.moved.nonzero().flatten()
    every = max(float((logits[action.act(moved, g)] - logits[moved]).abs().max()) for g in action.group.elements)
    assert result.parity == pytest.approx(every, abs=1e-5) and every > 0.1


def test_log_probabilities_that_are_not_numbers_pass_nothing(
    folders: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = word_tokenizer()
    model: Any = EquiLMForCausalLM.from_base(folders["plain"])

    def no_numbers(_model: Any, _action: Any, ids: torch.Tensor, length: int, _mask: Any) -> torch.Tensor:
        return torch.full((1, len(ids), ids.shape[1] - length), float("nan"))

    monkeypatch.setattr(fairness_levels, "log_prob_gap", no_numbers)
    with pytest.raises(EquiLMError, match="not a number"):
        check_prompts(model, tokenizer, own_action(model, tokenizer), ["the man was"], name="x")
