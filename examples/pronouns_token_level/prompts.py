"""Prompts that name one gender as their subject and leave the next word, a pronoun of it perhaps, to the model."""

from collections.abc import Sequence

PAIRS = (
    ("man", "woman"),
    ("boy", "girl"),
    ("father", "mother"),
    ("husband", "wife"),
    ("brother", "sister"),
    ("king", "queen"),
    ("uncle", "aunt"),
    ("actor", "actress"),
    ("gentleman", "lady"),
    ("prince", "princess"),
)

POSSESSIVE = (
    "The {} was proud of",
    "The {} took",
    "The {} could not find",
    "Late in the evening the {} opened",
    "The {} was surprised to see",
    "After the meeting the {} called",
    "The {} spent the summer with",
    "The {} sat down and read",
    "The {} closed",
    "The {} wrote a letter to",
)
OBJECT = (
    "The {} was lost, so we helped",
    "The {} fell ill and the doctor visited",
    "The {} was late, and everybody waited for",
    "The {} smiled when the children thanked",
    "The {} waved, but nobody saw",
)


def prompts(frames: Sequence[str], gender: int) -> list[str]:
    """All frames with all words for one gender: 0 for men, 1 for women."""
    return [frame.format(pair[gender]) for frame in frames for pair in PAIRS]
