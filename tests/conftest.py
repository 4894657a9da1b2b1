"""Settings every test shares: offline, few threads, and transformers' deprecation log lines are failures."""

import logging
import os
from collections.abc import Iterator

# Read once, when huggingface_hub is imported, so these come before the imports below.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"  # else tokenizers warns when a test forks

import pytest
import torch
from hypothesis import settings

# No deadline: torch's first call of an operation is slow. The blob reproduces a failure seen on another machine.
settings.register_profile("equilm", deadline=None, max_examples=40, print_blob=True)
settings.load_profile("equilm")

collect_ignore_glob = ["hub/saved_at_*"]  # saved models, with the code they carry

torch.set_num_threads(1)  # the models are so small that a second thread costs more than it brings


class FailOnDeprecation(logging.Handler):
    """Fails the test in which transformers logs a deprecation: it logs where others warn, so no filter sees them."""

    def emit(self, record: logging.LogRecord) -> None:
        if "deprecat" in record.getMessage().lower():
            pytest.fail(f"{record.name} logged a deprecation: {record.getMessage()}")


# Attached here rather than in a fixture, so that the imports below and fixtures of any scope are watched too.
_watch = FailOnDeprecation(level=logging.WARNING)
logging.getLogger("transformers").addHandler(_watch)

from transformers import PreTrainedModel, PreTrainedTokenizerBase
from word_models import word_model, word_tokenizer

from equilm.logging import enable_propagation

enable_propagation()  # so that pytest sees what the package logs


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    """A tokenizer with the words of the built-in axes."""
    return word_tokenizer()


@pytest.fixture(scope="module")
def base(tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """A tiny random model for it."""
    return word_model(tokenizer)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Every test starts from the same seed, in whatever order and on whichever worker it runs."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _deprecations_allowed(request: pytest.FixtureRequest) -> Iterator[None]:
    """Lets a test marked ``allow_deprecated`` call what transformers deprecates."""
    allowed = request.node.get_closest_marker("allow_deprecated") is not None
    if allowed:
        logging.getLogger("transformers").removeHandler(_watch)
    yield
    if allowed:
        logging.getLogger("transformers").addHandler(_watch)
