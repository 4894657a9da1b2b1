"""What is computed from the blocks' sums, and going on after an interruption."""

import json
import math
from pathlib import Path

import pytest
from small_tokenizers import byte_level

from equilm import EquiLMError
from equilm.metrics.perplexity_run import PerplexityRun
from equilm.metrics.text_blocks import TextBlocks, cut

NLLS = [{"a": 6.0, "b": 7.0}, {"a": 9.0, "b": 9.5}, {"a": 3.0, "b": 3.5}]


def pieces(text: str = "ab cd ef éh", stride: int | None = None) -> TextBlocks:
    return cut(text, byte_level([]), block_size=4, stride=stride)  # 12 bytes: 3 blocks, 3 tokens scored in each


def filled(file: Path | None = None, count: int = 3) -> PerplexityRun:
    run = PerplexityRun(pieces(), ("a", "b"), count, file)
    for nlls in NLLS[run.done : count]:
        run.update(nlls, seconds=0.5)
    return run


def test_token_word_and_byte_perplexity() -> None:
    result = filled().compute()["a"]
    assert (result.nll, result.tokens, result.text_tokens) == (18.0, 9, 12)
    assert (result.words, result.bytes, result.blocks) == (4, 12, 3)
    assert result.perplexity == pytest.approx(math.exp(2))
    assert result.word_perplexity == pytest.approx(math.exp(2 * 12 / 4))  # 12 tokens at the mean, 4 words
    assert result.byte_perplexity == pytest.approx(math.exp(2 * 12 / 12))
    assert json.loads(json.dumps(result.to_dict()))["standard_error"] == result.standard_error


def test_counts_the_covered_stretch_only() -> None:
    result = filled(count=1).compute()["a"]
    assert (result.text_tokens, result.words, result.bytes) == (4, 2, 4)  # "ab c"
    assert result.standard_error is None


def test_standard_errors_are_those_of_blocks_and_of_their_paired_differences() -> None:
    run = filled()
    # Blocks of one length: the sample deviation of their means, over the root of their number.
    assert run.compute()["a"].standard_error == pytest.approx(1.0 / math.sqrt(3))  # means 2, 3, 1
    change = run.compare("a")["b"]
    mean = (1 + 0.5 + 0.5) / 9  # the differences of the sums
    assert change.ratio == pytest.approx(math.exp(mean))
    assert change.percent == pytest.approx(100 * (math.exp(mean) - 1))
    deviation = math.sqrt(((1 / 3 - mean) ** 2 + 2 * (1 / 6 - mean) ** 2) / 2)
    assert change.standard_error == pytest.approx(100 * math.exp(mean) * deviation / math.sqrt(3))
    assert list(run.compare("b")) == ["a"]
    assert filled(count=1).compare("a")["b"].standard_error is None


def test_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    file = tmp_path / "blocks.jsonl"
    first = filled(file, count=2)
    assert not first.resumed
    with file.open("a") as lines:
        lines.write('{"block": 3, "nl')  # what a killed process may leave
    resumed = filled(file)
    assert resumed.resumed and resumed.seconds == 1.5
    assert resumed.compute() == filled().compute()
    assert [json.loads(line)["nll"] for line in file.read_text().splitlines()[1:]] == NLLS
    fewer = PerplexityRun(pieces(), ("a", "b"), 1, file)
    assert fewer.compute() == filled(count=1).compute()


def test_starts_anew_in_a_file_that_holds_the_start_of_a_line_only(tmp_path: Path) -> None:
    file = tmp_path / "blocks.jsonl"
    file.write_text('{"models": ["a"')
    assert not filled(file).resumed
    assert filled(file).resumed


def test_refuses_the_file_of_another_measurement(tmp_path: Path) -> None:
    file = tmp_path / "blocks.jsonl"
    filled(file)
    for other, names, differs in [
        (pieces("ab cd ef gh!"), ("a", "b"), "tokens"),
        (pieces(stride=2), ("a", "b"), "stride"),
        (pieces(), ("a", "c"), "models"),
    ]:
        with pytest.raises(EquiLMError, match=rf"blocks.jsonl contains another measurement: {differs} differ"):
            PerplexityRun(other, names, None, file)


def test_refuses_the_file_of_other_models(tmp_path: Path) -> None:
    file = tmp_path / "blocks.jsonl"
    filled(file)
    run = PerplexityRun(pieces(), ("a", "b"), None, file)
    run.check({"a": 3.001, "b": 3.5})  # rounding
    with pytest.raises(EquiLMError, match=r"block 3 has 3\.5000 nats for 'b', but this model gives 3\.6000"):
        run.check({"a": 3.0, "b": 3.6})
