"""Judges of pronouns: rules, spaCy, or a causal language model say whether a place is a determiner's."""

import importlib.util
import re
from collections.abc import Callable
from typing import Any, Literal

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import EquiLMError
from .pronoun_rules import is_determiner
from .pronouns import PronounJudge

Pronouns = Literal["rules", "spacy", False] | PronounJudge | None

_SENTENCE_START = re.compile(r"(?:^|[.!?:\n][\"'”’)\]*_]*)\s*[\"'“‘(*_]*$")


def as_judge(pronouns: Pronouns) -> PronounJudge | None:
    """The judge that a value of `TextAction`'s ``pronouns`` asks for; None if pronouns are not to be judged.

    Raises:
        EquiLMError: for another value, and for spaCy where it is not installed.
    """
    if pronouns is None or pronouns is False:
        return None
    if pronouns == "rules":
        return is_determiner
    if pronouns == "spacy":
        return SpacyJudge()
    if callable(pronouns) and not isinstance(pronouns, torch.nn.Module):  # a model can be called too, but is no judge
        return pronouns
    raise EquiLMError(
        f"pronouns must be 'rules', 'spacy', a function of the text before and after a pronoun, or None, got "
        f"{type(pronouns).__name__ if isinstance(pronouns, torch.nn.Module) else repr(pronouns)}. For a language model "
        "pass CausalJudge(model, tokenizer)."
    )


class SpacyJudge:
    """Asks a pipeline of spaCy whether *her* is a possessive there (the tag ``PRP$``).

    Args:
        pipeline: the name of an installed English pipeline.

    Raises:
        EquiLMError: if spaCy or the pipeline is not installed.
    """

    def __init__(self, pipeline: str = "en_core_web_sm"):
        if importlib.util.find_spec("spacy") is None or importlib.util.find_spec(pipeline) is None:
            raise EquiLMError(
                f"Judging pronouns with spaCy needs spaCy and its pipeline {pipeline!r}: pip install spacy, and python "
                f"-m spacy download {pipeline}. Or use pronouns='rules'."
            )
        self._parse: Callable[[str], Any] = importlib.import_module(pipeline).load()

    def __call__(self, before: str, after: str) -> bool:
        """Whether the place between two pieces of text is a determiner's."""
        start = len(before)
        tokens = self._parse(f"{before}her{after}")
        return any(token.tag_ == "PRP$" for token in tokens if token.idx == start)


class CausalJudge:
    """Asks a causal language model what is likelier there: *his*, or *him* or *hers*, with what follows.

    One text at a time, so that rounding does not depend on what else is in a batch.

    Args:
        model: any causal language model of transformers.
        tokenizer: its tokenizer.
        lookahead: how many tokens after the pronoun count.

    Raises:
        EquiLMError: for a tokenizer with neither a beginning- nor an end-of-text token.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, lookahead: int = 3):
        first = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
        if first is None:
            raise EquiLMError(
                f"The tokenizer {tokenizer.name_or_path!r} has neither a beginning- nor an end-of-text token to put "
                "before a text. Set its bos_token or eos_token."
            )
        self._first = int(first)
        self.model, self.tokenizer, self.lookahead = model, tokenizer, lookahead

    def __call__(self, before: str, after: str) -> bool:
        """Whether the place between two pieces of text is a determiner's."""
        words = ("his", "him", "hers")
        if _SENTENCE_START.search(before):
            words = ("His", "Him", "Hers")
        determiner, *others = (self._score(before, word, after) for word in words)
        return determiner > max(others)

    @torch.no_grad()
    def _score(self, before: str, word: str, after: str) -> float:
        """log P of a word and what follows, given what stands before."""
        # Space and word are one token for most tokenizers, so the text before is cut at its last word.
        start = self._ids(before.rstrip())
        ids = self._ids(before + word + after)
        shared = 0
        while shared < min(len(start), len(ids) - 1) and start[shared] == ids[shared]:
            shared += 1
        end = len(self._ids(before + word)) + self.lookahead
        text = torch.tensor([[self._first, *ids[:end]]], device=self.model.device)  # (1, T)
        log_probs = self.model(text).logits[0, shared:-1].float().log_softmax(-1)  # (T - 1 - shared, V)
        return float(log_probs.gather(-1, text[0, shared + 1 :, None]).sum())

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
