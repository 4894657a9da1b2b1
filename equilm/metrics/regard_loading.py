"""Loading a regard classifier from the Hub, a folder, this package or the user's own code."""

import warnings
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import LocalEntryNotFoundError
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    Pipeline,
    PreTrainedModel,
    TextClassificationPipeline,
)

from ..errors import EquiLMError, EquiLMWarning
from .regard_classifier import FunctionClassifier, ModelClassifier, Pipelined, RegardClassifier

HUB_CLASSIFIER = "sasha/regardv3"
PACKAGED = "packaged"


def load_classifier(
    classifier: str | Pipelined | Pipeline | RegardClassifier | None = None, device: torch.device | str | None = None
) -> RegardClassifier:
    """The classifier to score regard with.

    Args:
        classifier: one of the following. None loads ``sasha/regardv3`` from the Hub or its cache, or else, with an
            `EquiLMWarning`, the packaged classifier. "packaged" loads the packaged classifier, and another text is a
            Hub id or a folder. A loaded ``text-classification`` pipeline and a function of the form of `Pipelined` are
            used as they are, and a `RegardClassifier` is returned. Labels are matched by name, in upper or lower case.
        device: where to load a model to, by default the CPU; not for a classifier that is already loaded.

    Raises:
        EquiLMError: if a named classifier cannot be loaded, if its labels are not those of regard, or if ``device`` is
            given for a classifier that is already loaded.
    """
    if classifier is None:
        if _is_within_reach(HUB_CLASSIFIER):
            return _load_named(HUB_CLASSIFIER, device)
        warnings.warn(
            f"The Hub does not answer and {HUB_CLASSIFIER} is not in the cache, so the packaged classifier scores "
            'regard; its scores differ. Pass classifier="packaged" to choose it without this warning, or a Hub id, a '
            "folder or a pipeline to choose another.",
            EquiLMWarning,
            stacklevel=2,
        )
        classifier = PACKAGED
    if classifier == PACKAGED:
        from .regard_packaged import load_packaged  # needs peft, an optional dependency

        return load_packaged(device)
    if isinstance(classifier, str):
        return _load_named(classifier, device)
    if device is not None:
        raise EquiLMError(
            f"device={device!r} is for loading a classifier by name, but this one is already loaded. Leave device out."
        )
    if isinstance(classifier, RegardClassifier):
        return classifier
    if isinstance(classifier, TextClassificationPipeline):
        return _from_model(classifier.model, classifier.tokenizer, classifier.model.config.name_or_path)
    if callable(classifier) and not isinstance(classifier, Pipeline):
        return FunctionClassifier(getattr(classifier, "__name__", type(classifier).__name__), classifier)
    raise EquiLMError(
        f"{type(classifier).__name__} is not a regard classifier. Pass a Hub id, a folder, {PACKAGED!r}, a "
        "text-classification pipeline, or a function from texts to lists of labels and scores."
    )


def _is_within_reach(name: str) -> bool:
    try:
        hf_hub_download(name, "config.json")
    except LocalEntryNotFoundError:  # neither an answer nor a cached copy; the user should see any other error
        return False
    return True


def _load_named(name: str, device: torch.device | str | None) -> RegardClassifier:
    try:
        model = AutoModelForSequenceClassification.from_pretrained(name, use_safetensors=True)
        tokenizer = AutoTokenizer.from_pretrained(name)
    except OSError as error:
        raise EquiLMError(
            f"The classifier {name!r} cannot be loaded: {error} Check the Hub id or folder, or pass "
            f"classifier={PACKAGED!r}, which does not need the Hub."
        ) from error
    return _from_model(model.to(device or "cpu"), tokenizer, name)


def _from_model(model: PreTrainedModel, tokenizer: Any, name: str | None) -> ModelClassifier:
    id2label: Any = model.config.id2label  # ids are integers once a config is loaded
    labels = [id2label[column] for column in range(len(id2label))]
    return ModelClassifier(name or type(model).__name__, model, tokenizer, labels)
