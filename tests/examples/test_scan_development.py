"""The splits on which SCAN's settings are chosen: made of training pairs alone, and alike to what they stand for."""

import pytest
from development import development_split

from equilm.scan import interpret, load_split

# jump, run and walk as the development split of add_jump calls them, and what they were.
ORIGINAL = {"jump": "look", "run": "walk", "walk": "run"}
WITHHELD = {"add_jump": "jump", "around_right": "opposite right"}


@pytest.mark.parametrize("task", WITHHELD)
def test_development_splits_are_made_of_training_pairs_alone(task: str) -> None:
    split = development_split(task)
    commands = [*split["train"]["commands"], *split["test"]["commands"]]
    if task == "add_jump":
        commands = [" ".join(ORIGINAL.get(word, word) for word in command.split()) for command in commands]
        commands = [command for command in commands if command != "look"]
    assert set(commands) <= set(load_split(task)["train"]["commands"])  # type: ignore[arg-type]
    assert all(row["actions"] == interpret(row["commands"]) for part in split.values() for row in part)


@pytest.mark.parametrize("task", WITHHELD)
def test_what_they_test_was_not_trained_on(task: str) -> None:
    split, withheld = development_split(task), WITHHELD[task]
    assert all(withheld in command and command != withheld for command in split["test"]["commands"])
    assert {command for command in split["train"]["commands"] if withheld in command} <= {"jump"}
    assert len(split["test"]) > 1000


def test_a_tenth_of_the_training_pairs_is_the_bare_jump() -> None:
    shares = [
        split["train"]["commands"].count("jump") / len(split["train"])
        for split in (development_split("add_jump"), load_split("add_jump"))
    ]
    assert shares == pytest.approx([0.1, 0.1], abs=1e-3)
