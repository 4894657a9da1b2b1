"""The shipped checks must see an error where there is one, and say where."""

from typing import Any

import pytest
import torch
from models import AXES, random_ids, tiny_model, wrap

from equilm import EquiLMForCausalLM
from equilm.testing import TOLERANCE, assert_equivariant, equivariance_errors, log_prob_gap


def test_returns_one_entry_for_each_element() -> None:
    model = wrap(tiny_model("llama"), AXES["2x3"])
    errors = assert_equivariant(model, random_ids(2, 6))
    assert [entry.element for entry in errors] == list(model.group.elements)


class Skewed(EquiLMForCausalLM):
    """Adds `skew` to one logit of one token at one place, for texts that begin with a certain word."""

    skew = 1.0

    def forward(self, input_ids: Any = None, *args: Any, **kwargs: Any) -> Any:
        output: Any = super().forward(input_ids, *args, **kwargs)
        if input_ids[1, 0] == 11:
            output.logits[1, 2, 33] += self.skew
        return output


def test_names_the_element_the_place_and_the_token() -> None:
    ids = torch.tensor([[3, 4, 5, 6], [10, 4, 5, 6]])
    model = wrap(tiny_model("llama"))
    model.__class__ = Skewed
    with pytest.raises(
        AssertionError, match=r"group element 1 the logits differ by 1.00e\+00 .* text 1, position 2, token 33"
    ):
        assert_equivariant(model, ids)
    assert_equivariant(model, ids, atol=1.1)
    model.__class__ = EquiLMForCausalLM
    with pytest.raises(AssertionError), model.plain():
        assert_equivariant(model, ids)


def test_nan_is_not_equivariant() -> None:
    base = tiny_model("llama")
    with torch.no_grad():
        base.lm_head.weight[5] = float("nan")
    with pytest.raises(AssertionError, match="nan"):
        assert_equivariant(wrap(base), random_ids(1, 4))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_the_tolerance_of_a_dtype_passes_its_rounding_and_no_more(dtype: torch.dtype) -> None:
    base: Any = tiny_model("llama")
    model = wrap(base.to(dtype), AXES["d3"])
    ids = torch.tensor([[3, 4, 5, 6], [10, 4, 5, 6]])
    with torch.no_grad():
        tolerance = TOLERANCE[dtype] * max(1.0, float(model(input_ids=ids).logits.abs().max()))
    assert_equivariant(model, ids)
    model.__class__ = Skewed
    model.skew = 2 * tolerance  # type: ignore[assignment]
    with pytest.raises(AssertionError, match="text 1, position 2, token 33"):
        assert_equivariant(model, ids)


def test_relaxed_model_is_not_equivariant_on_general_words() -> None:
    model = wrap(tiny_model("llama"), general_ids=[30], relaxed=True)
    ids = torch.tensor([[10, 3, 4]])
    assert_equivariant(model, ids)
    action = model.action
    with torch.no_grad():
        left = model(input_ids=action.act(ids, 1)).logits
        right = action.act_on_logits(model(input_ids=ids).logits, 1)
    assert (left - right)[..., 30].abs().max() > 0.1


def test_log_prob_gap_is_eq_4() -> None:
    model = wrap(tiny_model("llama"), AXES["d3"])
    ids = random_ids(2, 9)
    gap = log_prob_gap(model.language_model, model.action, ids, prompt_length=4)
    assert gap.shape == (2, 2, 5)
    with torch.no_grad():
        for g in (1, 2):
            total = [
                model.language_model(input_ids=x).logits[:, 3:-1].log_softmax(-1).gather(-1, x[:, 4:, None])[..., 0]
                for x in (model.action.act(ids, g), ids)
            ]
            torch.testing.assert_close(gap[g - 1], (total[0] - total[1]).abs())


def test_log_prob_gap_leaves_masked_tokens_out() -> None:
    model = wrap(tiny_model("llama"))
    ids, mask = random_ids(2, 9), torch.ones(2, 9, dtype=torch.long)
    mask[1, -2:] = 0
    gap = log_prob_gap(model, model.action, ids, 4, mask)
    assert gap[:, 1, -2:].isnan().all() and not gap[:, 0].isnan().any() and not gap[:, 1, :-2].isnan().any()


def test_equivariance_errors_inside_plain_are_the_bases() -> None:
    model = wrap(tiny_model("llama"))
    with model.plain():
        assert max(entry.error for entry in equivariance_errors(model, random_ids(2, 6))) > 0.5
