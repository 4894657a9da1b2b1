"""What single architectures do differently: their caches, their buffers, their routers, their configurations."""

from pathlib import Path
from typing import Any

import pytest
import torch
from models import AXES, BOS, EOS, PAD, SPECIAL, VOCAB, random_ids, related, wrap
from transformers import (
    AutoModelForCausalLM,
    FalconMambaConfig,
    Mamba2Config,
    MambaConfig,
    PreTrainedConfig,
    PreTrainedModel,
)

from equilm import EquiLMForCausalLM
from equilm._compat import cache_of
from equilm._self_check import definition, relative_error

_SIZES: dict[str, Any] = {"vocab_size": VOCAB, "hidden_size": 32, "num_hidden_layers": 2, **SPECIAL}
_STATES: dict[str, Any] = {"state_size": 8, "time_step_rank": 4}
_CONFIGS: dict[str, PreTrainedConfig] = {
    "mamba": MambaConfig(**_SIZES, **_STATES),
    "mamba2": Mamba2Config(**_SIZES, num_heads=8, head_dim=8, n_groups=1, state_size=8, chunk_size=8),
    "falcon-mamba": FalconMambaConfig(**_SIZES, **_STATES),
}


def tiny(architecture: str) -> PreTrainedModel:
    """A random model in evaluation mode, its weights large enough that an error shows."""
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_config(_CONFIGS[architecture], dtype=torch.float32).eval()
    with torch.no_grad():
        for name, parameter in base.named_parameters():
            if parameter.ndim >= 2 and "A_log" not in name:
                parameter.normal_(std=0.3)
    return base


def generate(model: EquiLMForCausalLM, ids: torch.Tensor, **kwargs: Any) -> Any:
    torch.manual_seed(0)
    return model.generate(ids, **{"max_new_tokens": 6, "eos_token_id": None, "do_sample": False, **kwargs})


@pytest.mark.parametrize("architecture", ["mamba", "mamba2", "falcon-mamba"])
def test_states_without_a_length_are_continued(architecture: str) -> None:
    model = wrap(tiny(architecture), AXES["d3"])
    ids = random_ids(3, 6)
    first = generate(model, ids, max_new_tokens=4, return_dict_in_generate=True)
    longer = torch.cat([first.sequences, random_ids(3, 2, seed=9)], 1)
    assert cache_of(first).get_seq_length() == 9, "all but the last of ten tokens"
    expected = generate(model, longer, use_cache=False)
    continued = generate(model, longer, cache=cache_of(first))
    for row, prompt in enumerate(longer):
        assert related(model, prompt[None], expected[row, None], continued[row, None], 0)
