"""Drawing and keeping a study's texts: paired groups, interruptions, several processes, other settings."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_tokenizers import byte_level
from study_models import STUDY, models, settings
from word_models import word_model

from equilm import EquiLMError
from equilm.metrics.record_file import RecordFile
from equilm.study import Cell, Study
from equilm.study.cells import PAIRED, CellTexts
from equilm.study.gaps import GAP_TEXTS, CellCheck, check_cells, read_checks
from equilm.study.prompts import GROUPS
from equilm.study.storage import read_cells, read_header
from equilm.study.texts import AxisModels, sample_cells

Cells = Mapping[Cell, CellTexts]


def sample(folder: Path, study: Study = STUDY) -> Cells:
    sample_cells(study, *models(), folder, settings(study))
    return read_cells(folder, settings(study))


def drawn(cells: Cells) -> dict[Cell, Any]:
    """All but the time it took."""
    return {cell: (texts.token_ids, texts.texts) for cell, texts in cells.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def cells(folder: Path) -> Cells:
    return sample(folder)


@pytest.fixture(scope="module")
def checks(folder: Path, cells: Cells) -> dict[Cell, CellCheck]:
    file = RecordFile(folder / "checks.jsonl", asdict(settings()))
    check_cells(STUDY, cells, *models(), file)
    return read_checks(file)


def test_every_cell_is_sampled(cells: Cells) -> None:
    assert set(cells) == set(STUDY.cells())
    for cell, texts in cells.items():
        assert len(texts.texts) == len(texts.token_ids) == STUDY.samples and texts.seconds > 0
        assert all(0 < len(ids) <= STUDY.max_new_tokens for ids in texts.token_ids)
        assert all(text.startswith(cell.prompt) and "\n" not in text for text in texts.texts)
    assert len({text for texts in cells.values() for text in texts.texts}) > len(cells), "texts must differ"


def test_paired_decoders_give_the_groups_each_others_swap(cells: Cells) -> None:
    for axis in STUDY.axis_names:
        permutation = AxisModels(*models(), STUDY, axis).action.permutation
        first, second = GROUPS[axis]
        for cell in cells:
            if cell.axis == axis and cell.group == first:
                swapped = [permutation[1, ids].tolist() for ids in cells[cell].token_ids]
                same = swapped == cells[replace(cell, group=second)].token_ids
                assert same == (cell.decoder in PAIRED) or cell.decoder == "r-equilm", cell


def test_a_text_ends_at_its_end_and_at_a_new_line(monkeypatch: pytest.MonkeyPatch) -> None:
    base, tokenizer = models()
    newline, word, end = tokenizer("\n").input_ids[0], tokenizer(" nurse").input_ids[0], tokenizer.eos_token_id
    rows = torch.tensor([[word, newline, word, word], [word, word, end, end], [word] * 4])
    monkeypatch.setattr(base, "generate", lambda prompt, **_: torch.cat([prompt.expand(3, -1), rows], 1))
    cell = Cell("gender", "respect", "man", "was known for", "plain")
    texts = AxisModels(base, tokenizer, STUDY, "gender").sample(cell, STUDY)
    assert texts.texts == ["The man was known for" + " nurse" * n for n in (1, 2, 4)]
    assert texts.token_ids == [rows[0].tolist(), rows[1, :3].tolist(), rows[2].tolist()]
    assert texts.new_tokens == 4 + 3 + 4


def test_the_models_own_settings_do_not_count(cells: Cells, tmp_path: Path) -> None:
    study = replace(STUDY, axes=("gender",), decoders=("plain",))
    base, tokenizer = models()
    base.generation_config.update(temperature=0.1, top_p=0.2, repetition_penalty=5.0, do_sample=True)
    sample_cells(study, base, tokenizer, tmp_path, settings(study))
    again = read_cells(tmp_path, settings(study))
    assert drawn(again) == {cell: found for cell, found in drawn(cells).items() if cell in again}


def test_an_interrupted_study_goes_on(cells: Cells, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sampled: list[Cell] = []
    original = AxisModels.sample

    def interrupted(self: AxisModels, cell: Cell, study: Study) -> CellTexts:
        if len(sampled) == 7:
            raise KeyboardInterrupt
        sampled.append(cell)
        return original(self, cell, study)

    monkeypatch.setattr(AxisModels, "sample", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sample(tmp_path)
    file = tmp_path / "cells-0.jsonl"
    file.write_bytes(file.read_bytes()[:-20])  # as if it had been stopped while writing the seventh
    assert set(read_cells(tmp_path, settings())) == set(sampled[:6])

    monkeypatch.setattr(AxisModels, "sample", original)
    assert drawn(sample(tmp_path)) == drawn(cells)
    assert len(file.read_text("utf-8").splitlines()) == 1 + len(cells), "none is sampled twice"


@pytest.mark.slow
def test_a_study_can_grow(cells: Cells, tmp_path: Path) -> None:
    small = replace(STUDY, axes=("race",), decoders=("sequence",))
    assert set(sample(tmp_path, small)) == set(small.cells())
    assert drawn(sample(tmp_path)) == drawn(cells)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": 1}, "seed was 0 and is now 1"),
        ({"samples": 2, "top_k": 7}, "samples was 3 and is now 2; top_k was 20 and is now 7"),
    ],
)
def test_other_settings_are_refused(folder: Path, cells: Cells, changed: dict[str, Any], message: str) -> None:
    study = replace(STUDY, **changed)
    with pytest.raises(EquiLMError, match=message):
        sample_cells(study, *models(), folder, settings(study))


@pytest.mark.parametrize("content", ["no study\n", "[]\n", '{"model": 3}\n'])
def test_another_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "cells-0.jsonl").write_text(content)
    with pytest.raises(EquiLMError, match="is not a file of records"):
        read_cells(tmp_path, settings())
    with pytest.raises(EquiLMError, match="is not a file of records"):
        read_header(tmp_path)
    with pytest.raises(EquiLMError, match="There are no texts of a study"):
        read_header(tmp_path / "elsewhere")


def test_what_it_was_made_with_is_kept(folder: Path, cells: Cells) -> None:
    header = read_header(folder)
    assert header.settings == settings()
    assert torch.__version__.startswith(header.made_with["torch"])  # without the "+cpu" of a build


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([" Gay", " Straight"], "no single tokens that turn 'gay man' into 'straight man'"),
        ([], "'gay' is 4 tokens"),
    ],
)
def test_names_that_are_no_tokens_are_refused(tmp_path: Path, words: list[str], message: str) -> None:
    tokenizer = byte_level(words, eos_token="<end>")
    with pytest.raises(EquiLMError, match=message):
        sample_cells(Study(axes=("orientation",)), word_model(tokenizer), tokenizer, tmp_path, settings())


def test_gaps_are_those_of_eq_4(cells: Cells, checks: dict[Cell, CellCheck]) -> None:
    largest = dict.fromkeys(STUDY.decoders, 0.0)
    for cell, check in checks.items():
        largest[cell.decoder] = max(largest[cell.decoder], *check.gaps)
        tokens = sum(map(len, cells[cell].token_ids[:GAP_TEXTS]))
        assert len(check.gaps) == (STUDY.samples if cell.decoder == "sequence" else tokens)
    assert largest["equilm"] <= 1e-4 and largest["sequence"] <= 1e-4
    assert largest["plain"] > 0.1 and largest["r-equilm"] > 0.1

    base, tokenizer = models()
    cell = Cell("gender", "respect", "woman", "was known for", "plain")
    prompt, table = tokenizer(cell.prompt).input_ids, AxisModels(base, tokenizer, STUDY, "gender").action.permutation[1]
    expected = []
    for continuation in cells[cell].token_ids:
        text = torch.tensor(prompt + continuation)
        with torch.no_grad():
            both = [base(input_ids=ids[None]).logits[0].log_softmax(-1) for ids in (text, table[text])]
        for t, token in enumerate(text[len(prompt) :], len(prompt) - 1):
            expected += [float((both[1][t, table[token]] - both[0][t, token]).abs())]
    assert checks[cell].gaps == pytest.approx(expected, abs=1e-5)


def test_checks_say_which_texts_are_swapped_and_where_only_the_name_differs(
    cells: Cells, checks: dict[Cell, CellCheck]
) -> None:
    moved = {axis: AxisModels(*models(), STUDY, axis).action.moved for axis in STUDY.axis_names}
    for cell, check in checks.items():
        assert check.name_only == [not bool(moved[cell.axis][ids].any()) for ids in cells[cell].token_ids]
        if cell.decoder in PAIRED or cell.group == GROUPS[cell.axis][0]:
            assert all(check.swapped)
    plain = [check for cell, check in checks.items() if cell.decoder == "plain" and cell.group == "woman"]
    assert not all(any(check.swapped) for check in plain)
    assert len({name_only for check in checks.values() for name_only in check.name_only}) == 2


SCRIPT = """
import sys
from pathlib import Path

sys.path.insert(0, sys.argv[2])
from accelerate import PartialState
from study_models import STUDY, models, settings

from equilm.study.texts import sample_cells

state = PartialState(cpu=True)
sample_cells(STUDY, *models(), Path(sys.argv[1]), settings(), state)
state.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_draw_what_one_draws(cells: Cells, tmp_path: Path) -> None:
    script = tmp_path / "shard.py"
    script.write_text(SCRIPT)
    # accelerate starts several processes with this flag only; the script itself asks for the CPU.
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", str(script)]
    done = subprocess.run(
        [*command, str(tmp_path), str(Path(__file__).parents[1])],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    sizes = [len(path.read_text("utf-8").splitlines()) - 1 for path in sorted(tmp_path.glob("cells-*.jsonl"))]
    assert sizes == [len(cells) // 2] * 2
    assert drawn(read_cells(tmp_path, settings())) == drawn(cells)
