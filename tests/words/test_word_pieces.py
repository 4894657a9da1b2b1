"""Words inside words: what is measured, what is left out because of it, and that it can be switched off."""

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from equilm.words import VocabularyAction, cover_axes
from equilm.words.surface_forms import longer_words
from equilm.words.word_pieces import MAX_PIECE_SHARE, PieceCounter, word_frequencies

GPT2 = Path(__file__).resolve().parents[3] / "shared" / "data" / "gpt2-tokenizer"


@pytest.fixture(scope="module")
def gpt2_tokenizer() -> Any:
    if not GPT2.is_dir():
        pytest.skip("needs the GPT-2 tokenizer in ../shared/data")
    return AutoTokenizer.from_pretrained(GPT2)


def _longer(tokenizer: Any, axis: str) -> dict[tuple[str, str], Any]:
    coverage = cover_axes(axis, tokenizer, max_piece_share=None)
    return {
        (word, row.variant): uses
        for row, pieces in longer_words(coverage, tokenizer)
        for word, uses in zip(row.words, pieces, strict=True)
    }


def test_the_word_list() -> None:
    words = word_frequencies()
    assert len(words) == 50_000 and list(words.values()) == sorted(words.values(), reverse=True)
    assert words["the"] > words["he"] > words["Heather"] > 0 and "Godzilla" in words and "menacing" in words


def test_gpt2_cuts(gpt2_tokenizer: Any) -> None:
    found = _longer(gpt2_tokenizer, "gender")
    assert "Heisenberg" in found["He", "title"].longer and "Menace" in found["Men", "title"].longer
    assert "menopause" in found["men", "lower"].longer and "man" not in found["men", "lower"].longer
    assert found["he", "lower"].share < 0.02 < found["men", "lower"].share
    # Where the piece's swap is the longer word's own, as in mother|s, nothing is cut.
    assert "grandmothers" not in found["grandmother", "lower"].longer


class _Pieces:
    """A tokenizer that has some words and their endings as tokens, after a space or not."""

    vocabulary = ("#", "# men", "# women", "acing", "# boy", "# girl", "friend", "?")

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        ids, rest = [], text
        while rest:
            known = [word for word in self.vocabulary if rest.startswith(word.removeprefix("#") or "#")]
            word = max(known, key=len, default="?")
            ids.append(self.vocabulary.index(word))
            rest = rest[len(word.removeprefix("#") or "#") if known else 1 :]
        return ids

    def __call__(self, texts: list[str], add_special_tokens: bool = False) -> dict[str, Any]:
        return {"input_ids": [self.encode(text) for text in texts]}

    def batch_decode(self, rows: list[list[int]]) -> list[str]:
        return ["".join(self.vocabulary[token].removeprefix("#") for token in ids) for ids in rows]


def test_counts_against_the_definition() -> None:
    tokenizer: Any = _Pieces()
    counter = PieceCounter(tokenizer, [("boy", "girl"), ("boyfriend", "girlfriend")])
    men, women = counter.count(["men", "women"], [1, 2], "# ")
    words = word_frequencies()
    assert men.whole == words["men"] and "menacing" in men.longer
    expected = {word: uses for word, uses in words.items() if word.startswith("men") and word != "men"}
    assert men.longer == expected
    assert men.share == sum(expected.values()) / (words["men"] + sum(expected.values()))
    assert "womens" in women.longer
    boy, girl = counter.count(["boy", "girl"], [4, 5], "# ")
    assert "boyfriend" not in boy.longer and "girlfriend" not in girl.longer and "boyfriends" in boy.longer


def test_forms_above_the_limit_are_left_out(gpt2_tokenizer: Any) -> None:
    whole = cover_axes("gender", gpt2_tokenizer, max_piece_share=None)
    held = cover_axes("gender", gpt2_tokenizer)
    shares = {
        (row.entry, row.variant): max(uses.share for uses in pieces)
        for row, pieces in longer_words(whole, gpt2_tokenizer)
    }
    for before, after in zip(whole, held, strict=True):
        share = shares.get((before.entry, before.variant), 0.0)
        assert after.mapped == (before.mapped and share <= MAX_PIECE_SHARE)
        if before.mapped and not after.mapped:
            assert "which is also the start of" in after.reason and "% of its uses" in after.reason
    galaxy = next(row for row in held if row.words == ("Guy", "Gal") and row.variant == "title")
    assert not galaxy.mapped and "Galactica" in galaxy.reason
    strict = VocabularyAction.from_axes("gender", gpt2_tokenizer, unmappable="skip", max_piece_share=0.01)
    assert not any(row.mapped for row in strict.coverage if row.words in (("men", "women"), ("God", "Goddess")))
