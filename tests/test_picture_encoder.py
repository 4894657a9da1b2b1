"""One encoding for all copies of a picture, whatever the form of the encoder's output; and all where that has none."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from equilm._picture_encoder import encoded_once

COPIES = 3


class Encoder(nn.Module):
    """Makes features of pictures ``(N, 4)`` in one of several forms, and notes for how many."""

    def __init__(self, form: str):
        super().__init__()
        self.form = form
        self.seen: list[int] = []

    def forward(self, pixels: Tensor, sizes: Tensor | None = None) -> Any:
        self.seen.append(len(pixels))
        features = torch.stack([pixels.cos(), pixels.sin()], 1)  # (N, 2, 4): two tokens of each picture
        match self.form:
            case "by picture":
                return features
            case "packed":
                return features.flatten(0, 1)[None]  # (1, 2·N, 4)
            case "list":
                return list(features)
            case "layers":
                return BaseModelOutputWithPooling(last_hidden_state=features, hidden_states=(pixels, features))
            case "one tensor twice":
                return BaseModelOutputWithPooling(last_hidden_state=features, pooler_output=features)
            case _:
                return features.cumsum(0)  # each picture with all before it


def flat(output: Any) -> list[Tensor]:
    """All tensors of an output."""
    if isinstance(output, Tensor):
        return [output]
    values = output.values() if isinstance(output, BaseModelOutputWithPooling) else output
    return [tensor for value in values for tensor in flat(value)]


FORMS = ["by picture", "packed", "list", "layers", "one tensor twice"]


@torch.no_grad()
@pytest.mark.parametrize("pictures", [1, 2])
@pytest.mark.parametrize("form", FORMS)
def test_the_first_call_tries_two_copies_and_the_others_run_one(form: str, pictures: int) -> None:
    encoder = Encoder(form)
    base = SimpleNamespace(get_encoder=lambda modality: encoder, base_model=None)
    for _ in range(2):
        pixels = torch.randn(pictures, 4).repeat(COPIES, 1)
        expected = encoder(pixels)
        encoder.seen.clear()
        with encoded_once(base, COPIES):
            found = encoder(pixels, sizes=torch.ones(COPIES * pictures, 2))
        assert type(found) is type(expected)
        for one, other in zip(flat(found), flat(expected), strict=True):
            torch.testing.assert_close(one, other)
    assert encoder.seen == [pictures], "the second call"


@torch.no_grad()
def test_what_is_no_repetition_runs_on_all() -> None:
    encoder = Encoder("mixed").eval()
    base = SimpleNamespace(get_encoder=lambda modality: encoder, base_model=None)
    pixels = torch.randn(2, 4).repeat(COPIES, 1)
    expected = encoder(pixels)
    for seen in ([4, 6], [6]):  # the first call tries two copies
        encoder.seen.clear()
        with encoded_once(base, COPIES):
            assert torch.equal(encoder(pixels), expected)
        assert encoder.seen == seen
    encoder = Encoder("by picture")
    other = torch.randn(6, 4)  # no copies of one another
    with encoded_once(base, COPIES):
        assert torch.equal(encoder(other), torch.stack([other.cos(), other.sin()], 1))
    assert encoder.seen == [6]
