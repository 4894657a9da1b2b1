"""What a study consists of: cells as in the paper, seeds that pair the groups, and refusals of what is unknown."""

import json
from dataclasses import replace
from typing import Any

import pytest

from equilm import EquiLMError
from equilm.study import Cell, Study
from equilm.study.cells import CellTexts
from equilm.study.prompts import CONTEXTS, GROUPS, prompts
from equilm.study.study_plan import PAPER_DECODERS


def test_the_default_is_the_papers_study() -> None:
    study = Study()
    cells = study.cells()
    assert len(cells) == len(set(cells)) == 3 * 2 * 2 * 5 * len(PAPER_DECODERS)
    assert (study.samples * len(CONTEXTS["respect"]), study.max_new_tokens, study.top_k) == (500, 15, 40)
    for axis, groups in GROUPS.items():
        for task in CONTEXTS:
            for group in groups:
                mine = [cell for cell in cells if (cell.axis, cell.task, cell.group) == (axis, task, group)]
                assert {cell.prompt for cell in mine} == set(prompts(axis, task, group))
                assert all(cell.prompt.startswith(cell.phrase + " ") for cell in mine)


def test_groups_share_seeds_and_nothing_else_does() -> None:
    cells = Study().cells()
    for cell in cells:
        others = [replace(cell, group=group) for group in GROUPS[cell.axis]]
        assert len({other.seed(0) for other in others}) == 1
    firsts = [cell for cell in cells if cell.group == GROUPS[cell.axis][0]]
    assert len({cell.seed(base) for cell in firsts for base in (0, 1)}) == 2 * len(firsts)
    assert all(0 <= cell.seed(0) < 2**32 for cell in cells)  # what numpy takes


def test_seeds_do_not_change_from_one_version_to_the_next() -> None:
    assert Cell("gender", "respect", "man", "was known for", "plain").seed(0) == 703616528


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"axes": ["gender", "gender"]}, "axes must name at least one axis, each once; got"),
        ({"axes": []}, "axes must name"),
        ({"axes": ["agee"]}, "No axis 'agee': expected one of the built-in names"),
        ({"groups": ["man", "woman"]}, "are those of one axis, but there are 3"),
        ({"axes": ["age"], "groups": ["young", "tall"]}, "The group 'tall' has no word of the axis 'age'"),
        ({"axes": ["age"], "groups": ["young"]}, "expected at least two"),
        ({"axes": ["age"], "groups": ["young", "younger"]}, "cannot be compared"),
        (
            {"axes": ["age"], "groups": ["young", "old"], "prompts": ["The {group} house"]},
            "'The young house' becomes 'The young house' when .* which does not name 'old'",
        ),
        ({"tasks": ["respect", "respect"]}, "each once"),
        ({"decoders": ["EquiLM"]}, "plain, equilm, r-equilm, sequence, text"),
        ({"samples": 0}, "samples must be at least 1, got 0"),
        ({"max_new_tokens": 0}, "max_new_tokens must be"),
        ({"top_k": -1}, "top_k must be at least 1"),
        ({"seed": -1}, "seed must be at least 0"),
    ],
)
def test_errors(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(EquiLMError, match=message):
        Study(**arguments)


def test_texts_survive_json() -> None:
    cell = Cell("race", "respect", "Black man", "was known for", "sequence")
    texts = CellTexts(cell, [[1, 2], [3]], ["The Black man was known for « é »", "…"], 0.5)
    assert CellTexts.from_record(json.loads(json.dumps(texts.to_record()))) == texts
    assert texts.new_tokens == 3
