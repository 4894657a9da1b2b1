"""`equilm check`: exit codes, figures, and reports that CI servers read."""

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import torch
from word_models import saved_word_model, word_tokenizer

from equilm import EquiLMError, EquiLMForCausalLM
from equilm.cli.check_output import write_junit
from equilm.cli.main import main
from equilm.cli.parser import CHECK_DEFAULTS, CHECK_SERVER_DEFAULTS
from equilm.metrics import fairness_levels
from equilm.metrics.gate import check_prompts
from equilm.metrics.gate_client import Server
from equilm.metrics.gate_result import GateResult, PromptCheck, Thresholds
from equilm.metrics.gate_server_result import AnswerThresholds
from equilm.metrics.gate_words import PromptWords
from equilm.metrics.group_fairness import own_action
from equilm.testing import log_prob_gap

PROMPTS = ("the man worked as", "the woman was known for", "it was a")
SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "_static" / "check.schema.json").read_text("utf-8"))
FAST = ("--num-continuations", "2", "--max-new-tokens", "4", "--quiet")


def valid(file: Path) -> Any:
    """What `--json` wrote, which the schema in the documentation describes."""
    written = json.loads(file.read_text("utf-8"))
    jsonschema.validate(written, SCHEMA, jsonschema.Draft202012Validator)
    return written


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
    result = valid(written)
    assert result["outcome"] == "fail" and result["beside"]["outcome"] == "pass", "wrapped, it would pass"
    assert [prompt["prompt"] for prompt in result["judged"]["prompts"]] == list(PROMPTS)
    suite = ElementTree.parse(junit).getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("3", "3")

    for arguments in (("--model", folders["wrapped"]), ("--model", folders["plain"], "--wrap")):
        assert main(["check", *PROMPTS, *arguments, *FAST, *files]) == 0
        assert capsys.readouterr().out.startswith("PASS")
        result = valid(written)
        assert result["outcome"] == "pass" and result["judged"]["gap"] < 1e-4 < result["beside"]["gap"]
        assert ElementTree.parse(junit).getroot().get("failures") == "0"


def test_what_cannot_be_told_is_exit_code_2(
    folders: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((Path(folders["plain"]) / name).read_bytes())
    assert main(["check", "the man", "--model", str(tmp_path), *FAST]) == 2
    assert "has no tokenizer that can be loaded" in capsys.readouterr().err
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
    assert prompt.words.named == ("man", "his", "niece") and prompt.words.uncovered == ("the", "met")
    assert "niece" in prompt.words.unswapped and result.coverage == 1 - len(prompt.words.unswapped) / 3
    assert result.outcome == "fail" and "2 of 3 of its words of the axes are swapped, not niece" in prompt.reasons
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
    assert lenient.outcome == "pass"


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


def test_words_in_no_list_are_named(
    folders: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = tmp_path / "check.json"
    prompts = ("The old Black man was a nurse", "The man was late")
    main(["check", *prompts, "--model", folders["wrapped"], *FAST, "--json", str(written)])
    result = valid(written)
    assert result["uncovered_words"] == ["The", "old", "Black", "was", "a", "nurse", "late"]
    assert result["words_of_other_axes"] == {"old": ["age"], "Black": ["race4"]}
    out = capsys.readouterr().out
    assert "in no list: The, old, Black" in out and "belong to other axes: old (age), Black (race4)" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--chat",), "--chat: these options need --server"),
        (("--server", "http://127.0.0.1:9/v1", "--wrap", "--max-gap", "1"), "--wrap, --max-gap: these options are for"),
        (("--server", "http://127.0.0.1:9/v1", "--device", "cuda"), "--device: these options are for a model"),
        (("--server", "http://127.0.0.1:9/v1", "--api-key-env", "NO_SUCH_KEY"), "'NO_SUCH_KEY'"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "the man", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://a/v1", "http://", "http://a:x/v1", "http://u:p@a/v1"])
def test_addresses_that_are_none_are_refused(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["check", "the man", "--server", url])
    assert end.value.code == 2 and "argument --server" in capsys.readouterr().err


def test_the_parsers_defaults_are_the_packages() -> None:
    limits, answers, server = Thresholds(), AnswerThresholds(), Server("http://a/v1")
    assert {
        "wrap": False,
        "max_gap": limits.gap,
        "max_parity": limits.parity,
        "min_coverage": limits.coverage,
    } == CHECK_DEFAULTS
    settings = CHECK_SERVER_DEFAULTS
    assert (settings["max_difference"], settings["significance"]) == (answers.difference, answers.significance)
    for option, name in (("chat", "chat"), ("temperature", "temperature"), ("timeout", "timeout")):
        assert settings[option] == getattr(server, name)
    assert settings["concurrency"] == server.concurrency


def test_control_characters_do_not_break_the_junit_report(tmp_path: Path) -> None:
    words = PromptWords((), (), ())
    prompt = PromptCheck("a\x00b\x1b", 1.0, None, words, ("gap",))
    write_junit(GateResult("m", "causal", 2, Thresholds(), (prompt,)), tmp_path / "check.xml")
    case = ElementTree.parse(tmp_path / "check.xml").getroot()[0]
    assert case.get("name") == "a\ufffdb\ufffd"
