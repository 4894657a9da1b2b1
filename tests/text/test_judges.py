"""Judges of pronouns: English that the rules have to get right, language models, spaCy, and what is refused."""

import re
from typing import Any

import pytest
import torch
from small_tokenizers import byte_level
from transformers import GPT2Config, GPT2LMHeadModel

from equilm.errors import EquiLMError
from equilm.text import CausalJudge, SpacyJudge, TextAction
from equilm.text.judges import as_judge
from equilm.text.pronoun_rules import is_determiner

# In square brackets: his where a determiner stands, him or hers elsewhere.
ENGLISH = [
    "I told [him] I would call. She gave [his] brother a book, and [him] the key.",
    "He lost [his] temper and [his] keys. Ask [him] about [his] experience.",
    "They made [him] wait, and helped [him] walk. I heard [him] leave. Let [him] go! Let [his] hair grow.",
    "They called [him] crazy, but they called [his] mother. They elected [him] president in 1990.",
    "She paid [him] back and hurt [his] back. He lay on [his] back. We drove [him] home. We sold [his] home.",
    "I saw [him] last week, on [his] last day. I know [him] better than [his] better half does.",
    "I loved [him] so much. I miss [him] terribly, and [his] terribly funny jokes. I trusted [him] completely.",
    "It is [his] own. [His] very first album, [his] most famous song, and [his] highly regarded book.",
    "We found [him] dead. We found [his] dead body. It made [him] famous. I want [him] to see it.",
    "Each of [his] two sons gave [him] two dollars. Wish [him] luck. I thanked [him] for [his] help.",
    "[His] or [his] key, for [him] or [him]. Against [his] will, and with [his] 2009 album and in-laws.",
    'A friend of [hers] said that the book is [hers]. "I never loved [him]," she said to [his] "friend".',
]


@pytest.mark.parametrize("text", ENGLISH)
def test_rules(text: str) -> None:
    show = re.compile(r"\[([Hh])\w+\]")
    for match in show.finditer(text):
        before, after = (show.sub(r"\1er", part) for part in (text[: match.start()], text[match.end() :]))
        assert is_determiner(before, after) == (match[0].lower() == "[his]"), f"{before} | {after}"


@pytest.mark.parametrize(
    ("before", "determiner"), [("The man was proud of ", True), ("The man took ", True), ("Tell me about ", False)]
)
def test_rules_at_the_end_of_a_prompt(before: str, determiner: bool) -> None:
    assert is_determiner(before, "") == determiner


def _model() -> tuple[GPT2LMHeadModel, Any]:
    tokenizer = byte_level([" his", " him", " hers", " key", " saw", "His", "Him"])
    tokenizer.add_special_tokens({"eos_token": "<end>"})
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=16, n_layer=1, n_head=2, initializer_range=0.4, bos_token_id=0, eos_token_id=0
    )
    return GPT2LMHeadModel(config).eval(), tokenizer


@torch.no_grad()
def test_a_causal_model_compares_the_log_probabilities_of_his_him_and_hers() -> None:
    model, tokenizer = _model()
    judge = CausalJudge(model, tokenizer, lookahead=1)
    verdicts = set()
    for before, after in [(" saw ", " key"), (" key ", "."), ("", " key"), (" key saw saw ", ", saw"), (" saw", "")]:
        start = len(tokenizer.encode(before.rstrip()))
        words = ("His", "Him", "Hers") if not before else ("his", "him", "hers")
        scores = []
        for word in words:
            ids = tokenizer.encode(before + word + after)[: len(tokenizer.encode(before + word)) + 1]
            logits = model(torch.tensor([[tokenizer.eos_token_id, *ids]])).logits[0].log_softmax(-1)
            scores.append(sum(float(logits[t, ids[t]]) for t in range(start, len(ids))))
        assert judge(before, after) == (scores[0] > max(scores[1:]))
        verdicts.add(judge(before, after))
    assert verdicts == {True, False}


def test_a_tokenizer_without_a_token_to_begin_with_is_refused() -> None:
    with pytest.raises(EquiLMError, match="Set its bos_token or eos_token"):
        CausalJudge(_model()[0], byte_level([" his"]))


def test_a_causal_model_judges_in_an_action() -> None:
    action = TextAction("gender", pronouns=CausalJudge(*_model()))
    text = "He saw her key, and his, for hers. HER man gave him a key."
    assert action.act(action.act(text, 1), 1) == text


def test_spacy_is_asked_for_by_name() -> None:
    pytest.importorskip("spacy")
    pytest.importorskip("en_core_web_sm")
    assert SpacyJudge()("She gave him ", " key.")
    assert not SpacyJudge()("She gave ", " the key.")


def test_spacy_that_is_not_installed() -> None:
    with pytest.raises(
        EquiLMError, match=r"pip install spacy.*'no_such_pipeline'|'no_such_pipeline'.*pip install spacy"
    ):
        SpacyJudge("no_such_pipeline")


def test_what_judges() -> None:
    assert as_judge(None) is None
    assert as_judge(False) is None
    assert as_judge("rules") is is_determiner
    assert as_judge(is_determiner) is is_determiner


@pytest.mark.parametrize("value", ["rule", True, 3])
def test_refusals(value: Any) -> None:
    with pytest.raises(EquiLMError, match=f"got {value!r}"):
        TextAction("gender", pronouns=value)


def test_a_model_alone_is_refused() -> None:
    with pytest.raises(EquiLMError, match=r"got GPT2LMHeadModel.*CausalJudge\(model, tokenizer\)"):
        TextAction("gender", pronouns=_model()[0])
