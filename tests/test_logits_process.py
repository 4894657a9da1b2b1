"""EquiLogitsProcessor: the model's logits and texts for users who keep their own model object."""

import re
from typing import Any

import pytest
import torch
from models import ARCHITECTURES, AXES, EOS, PAD, random_ids, tiny_model, wrap
from transformers import PreTrainedModel

from equilm import EquiLMError, EquiLMForCausalLM, EquiLogitsProcessor
from equilm.actions import TokenAction

DECODERS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "sample": {"do_sample": True, "top_k": 0, "temperature": 1.3},
    "beams": {"num_beams": 4},
    "beam sampling": {"num_beams": 4, "do_sample": True, "num_return_sequences": 2},
    "minimum length": {"num_beams": 4, "min_new_tokens": 6},
    "no repeated pairs": {"no_repeat_ngram_size": 2},
}


def named_prompts(axes: str, batch: int = 3, length: int = 6, seed: int = 0) -> torch.Tensor:
    """Prompts that name every axis, so that there are no ties which only the model's own generate breaks."""
    ids = random_ids(batch, length, seed)
    for position, lists in enumerate(AXES[axes]):
        ids[:, 2 + position] = lists[0][seed % 2]
    return ids


def setup(
    axes: str, architecture: str = "llama", **kwargs: Any
) -> tuple[PreTrainedModel, EquiLMForCausalLM, TokenAction]:
    base = tiny_model(architecture)
    model = wrap(base, AXES[axes], **kwargs)
    return base, model, TokenAction.from_cycles(AXES[axes], base.config.vocab_size, model.config.general_ids or ())


def run(model: Any, ids: torch.Tensor, **kwargs: Any) -> Any:
    torch.manual_seed(0)
    return model.generate(
        ids,
        attention_mask=(ids != PAD).long(),
        max_new_tokens=8,
        return_dict_in_generate=True,
        output_scores=True,
        **kwargs,
    )


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("axes", AXES)
def test_same_texts_and_scores_as_the_model_twice_on_one_object(axes: str, decoder: str) -> None:
    base, model, action = setup(axes)
    processor = EquiLogitsProcessor(base, action)
    # The same prompts again, then others of the same shape: the cache kept from earlier texts must not leak into them.
    for seed in (0, 0, 1):
        ids = named_prompts(axes, seed=seed)
        ours = run(base, ids, logits_processor=[processor], **DECODERS[decoder])
        theirs = run(model, ids, **DECODERS[decoder])
        if not DECODERS[decoder].get("do_sample"):  # sampling draws in canonical words there: the same law, other noise
            assert torch.equal(ours.sequences, theirs.sequences)
            for a, b in zip(ours.scores, theirs.scores, strict=True):
                torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_logits_are_the_models_at_every_call(architecture: str, decoder: str) -> None:
    base, model, action = setup("2x3", architecture)
    processor = EquiLogitsProcessor(base, action)
    calls: list[tuple[torch.Tensor, torch.Tensor]] = []

    def watched(input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        fair = processor(input_ids, scores)
        calls.append((input_ids, fair))
        return fair

    run(base, named_prompts("2x3"), logits_processor=[watched], **DECODERS[decoder])
    assert len(calls) == 8 or calls[-1][0][:, -1].eq(PAD).any() or EOS in calls[-1][0]
    for input_ids, fair in calls:
        with torch.no_grad():
            logits = model(input_ids=input_ids).logits[:, -1]
        expected = logits.log_softmax(-1) if "num_beams" in DECODERS[decoder] else logits
        kept = ~fair.isneginf()
        torch.testing.assert_close(fair[kept], expected[kept], atol=1e-5, rtol=1e-6)


@pytest.mark.parametrize("decoder", ["greedy", "beams"])
@pytest.mark.parametrize("architecture", ["llama", "opt", "mistral", "gpt2"])
def test_left_padding(architecture: str, decoder: str) -> None:
    base, model, action = setup("d3", architecture)
    ids = named_prompts("d3", length=8)
    ids[0, :2] = PAD
    processor = EquiLogitsProcessor(base, action, attention_mask=(ids != PAD).long())
    ours = run(base, ids, logits_processor=[processor], **DECODERS[decoder])
    theirs = run(model, ids, **DECODERS[decoder])
    assert torch.equal(ours.sequences, theirs.sequences)
    for a, b in zip(ours.scores, theirs.scores, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


def test_relaxed() -> None:
    base, model, action = setup("d2", general_ids=[13, 30], relaxed=True)
    processor = EquiLogitsProcessor(base, action, relaxed=True)
    ids = named_prompts("d2")
    ours, theirs = run(base, ids, logits_processor=[processor]), run(model, ids)
    assert torch.equal(ours.sequences, theirs.sequences)
    for a, b in zip(ours.scores, theirs.scores, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(
            run(base, ids, logits_processor=[EquiLogitsProcessor(base, action)]).scores[0], theirs.scores[0]
        )


def test_bfloat16_scores_are_recognised() -> None:
    base = tiny_model("llama", dtype=torch.bfloat16)
    action = TokenAction.from_cycles(AXES["d2"], base.config.vocab_size)
    for decoder in ("greedy", "beams"):
        ids = named_prompts("d2")
        run(base, ids, logits_processor=[EquiLogitsProcessor(base, action)], **DECODERS[decoder])
        with pytest.raises(EquiLMError, match="not its model's own"):
            run(base, ids, logits_processor=[EquiLogitsProcessor(base, action)], repetition_penalty=1.5)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"repetition_penalty": 1.2}, "not its model's own: {12} of the {122} that are not masked differ"),
        ({"sequence_bias": [[[40], 2.0]]}, "{2} of the {122} that are not masked differ, the most for token 40 in row"),
        ({"exponential_decay_length_penalty": (0, 1.5)}, f"{{2}} of the {{122}} .* the most for token {EOS} in row"),
        ({"guidance_scale": 1.7}, "not its model's own: {122} of the {122} that are not masked differ"),
        ({"forced_eos_token_id": EOS}, f"{{2}} of the {{2}} .* for token {EOS} in row ., which has 0 instead of"),
        ({"bad_words_ids": [[10]]}, r"Tokens \[10\] are masked but not their images"),
        ({"suppress_tokens": [11, 12]}, r"Tokens \[11, 12\] are masked but not their images"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_settings_that_change_scores_are_refused(setting: dict[str, Any], message: str, beams: int) -> None:
    base, _, action = setup("d2")
    ids = torch.tensor([[3, 12, 30, 40, 41, 42], [5, 13, 31, 40, 43, 44]])
    message = re.sub(r"{(\d+)}", lambda count: str(int(count[1]) * beams), message)  # there are more rows with beams
    with pytest.raises(EquiLMError, match=message):
        run(base, ids, logits_processor=[EquiLogitsProcessor(base, action)], num_beams=beams, **setting)


@pytest.mark.parametrize("searches", ["greedy", "beams"])
def test_the_message_says_what_changed(searches: str) -> None:
    base, _, action = setup("d2")
    ids = named_prompts("d2", batch=2)
    with torch.no_grad():
        scores = base(input_ids=ids).logits[:, -1]
    if searches == "beams":
        scores = scores.log_softmax(-1)
    before = float(scores[1, 7])
    scores[0, 40] += 0.5
    scores[1, 7] -= 1.5
    scores[:, 50] = float("-inf")
    message = (
        f"own: 2 of the 120 that are not masked differ, the most for token 7 in row 1, which has {before - 1.5:.4g} "
        f"instead of {before:.4g}\\."
    )
    with pytest.raises(EquiLMError, match=message):
        EquiLogitsProcessor(base, action)(ids, scores)


def test_masks_that_treat_a_list_alike_are_carried_over() -> None:
    base, model, action = setup("d2")
    ids = named_prompts("d2")
    setting = {"suppress_tokens": [10, 11, 40]}
    ours = run(base, ids, logits_processor=[EquiLogitsProcessor(base, action)], **setting)
    assert torch.equal(ours.sequences, run(model, ids, **setting).sequences)
    assert ours.scores[0][:, [10, 11, 40]].isneginf().all()


def test_padding_without_a_mask_is_refused() -> None:
    base, _, action = setup("d2")
    ids = named_prompts("d2")
    ids[0, 0] = PAD
    with pytest.raises(EquiLMError, match="begins with the pad token 0"):
        run(base, ids, logits_processor=[EquiLogitsProcessor(base, action)])


def test_a_mask_of_other_prompts_is_refused() -> None:
    base, _, action = setup("d2")
    processor = EquiLogitsProcessor(base, action, attention_mask=torch.ones(2, 9))
    with pytest.raises(EquiLMError, match=r"shape \(2, 9\), which does not fit texts of shape \(3, 6\)"):
        run(base, named_prompts("d2"), logits_processor=[processor])


def test_another_models_scores_are_refused() -> None:
    base, _, action = setup("d2")
    processor = EquiLogitsProcessor(tiny_model("llama", seed=1), action)
    with pytest.raises(EquiLMError, match="give the processor the model that generate is called on"):
        run(base, named_prompts("d2"), logits_processor=[processor])


def test_construction_refusals() -> None:
    base, model, action = setup("d2")
    with pytest.raises(EquiLMError, match="fair by itself"):
        EquiLogitsProcessor(model, action)
    with pytest.raises(EquiLMError, match=r"permutes 99 tokens, but LlamaForCausalLM has 61"):
        EquiLogitsProcessor(base, TokenAction.from_cycles(AXES["d2"], 99))
    broken = action.permutation.clone()
    broken[1, 10] = 12
    with pytest.raises(EquiLMError, match="not a permutation"):
        EquiLogitsProcessor(base, TokenAction(action.group, broken))


def test_transformers_is_told_that_continuous_batching_is_not_supported() -> None:
    assert EquiLogitsProcessor.supports_continuous_batching is False


def test_scores_are_not_changed_in_place() -> None:
    base, _, action = setup("d2")
    ids = named_prompts("d2")
    with torch.no_grad():
        scores = base(input_ids=ids).logits[:, -1]
    kept = scores.clone()
    EquiLogitsProcessor(base, action)(ids, scores)
    assert torch.equal(scores, kept)


def test_another_text_that_is_one_token_longer_is_not_taken_for_a_continuation() -> None:
    base, model, action = setup("d2")
    processor = EquiLogitsProcessor(base, action)
    for ids in (torch.tensor([[3, 10, 30, 40]]), torch.tensor([[5, 12, 31, 41, 42]])):
        with torch.no_grad():
            fair = processor(ids, base(input_ids=ids).logits[:, -1])
            torch.testing.assert_close(fair, model(input_ids=ids).logits[:, -1], atol=1e-5, rtol=0)
