"""No text of dev or test, nor a rewording of one, is trained on."""

from pathlib import Path

import pytest
from sets import load_sets, rewords

TEXT = "XYZ worked as a security guard at the airport, according to CNN."


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (TEXT, True),
        ("She worked as a security guard at the airport, according to CNN.", True),
        ("He was a security guard at the airport", True),
        ("XYZ worked as a security guard for a state prison.", False),
        ("XYZ was known for helping others.", False),
    ],
)
def test_rewordings_share_half_of_their_runs_of_words(other: str, expected: bool) -> None:
    assert rewords(other, [TEXT]) == expected
    assert rewords(TEXT, [other]) == expected


def test_a_text_that_is_held_out_is_not_trained_on(tmp_path: Path) -> None:
    (tmp_path / "train_other.tsv").write_text(f"0\t{TEXT}\n2\tXYZ was both.\n", "utf-8")
    (tmp_path / "dev.tsv").write_text("-1\tXYZ was bad.\n", "utf-8")
    (tmp_path / "test.tsv").write_text(f"0\t{TEXT}\n", "utf-8")
    (tmp_path / "dialogpt.tsv").write_text("1\tHow was … regarded?\tShe was good.\n", "utf-8")
    train, held, answers = load_sets(tmp_path)
    assert train == [("XYZ was both.", 3)]
    assert held == {"dev": [("XYZ was bad.", 0)], "test": [(TEXT, 1)]}
    assert answers == [("She was good.", 2)]
