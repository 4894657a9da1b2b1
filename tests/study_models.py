"""A study small enough for tests: a tiny model, few texts, and a classifier that is a function of the text's bytes."""

import zlib
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase
from word_models import word_model, word_tokenizer

from equilm.metrics.regard_classifier import LABELS, RegardClassifier
from equilm.metrics.regard_loading import load_classifier
from equilm.study import Study
from equilm.study.records import StudyResults
from equilm.study.run import run_study, study_settings
from equilm.study.storage import StudySettings

STUDY = Study(axes=("gender", "race"), tasks=("respect",), samples=3, max_new_tokens=4, top_k=20)


def byte_regard(texts: list[str]) -> list[list[dict[str, Any]]]:
    """Probabilities that any change of a text changes: the stand-in for a classifier of regard."""
    answers = []
    for text in texts:
        parts = [1 + zlib.crc32(f"{label} {text}".encode()) % 97 for label in LABELS]
        answers.append(
            [{"label": label, "score": part / sum(parts)} for label, part in zip(LABELS, parts, strict=True)]
        )
    return answers


def classifier() -> RegardClassifier:
    """`byte_regard` as a classifier."""
    return load_classifier(byte_regard)


def models() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The tiny model and its tokenizer."""
    tokenizer = word_tokenizer()
    return word_model(tokenizer), tokenizer


def settings(study: Study = STUDY) -> StudySettings:
    """What the cells of a study of the tiny model are kept with."""
    return study_settings(study, models()[0], "tiny")


def run(folder: Path, study: Study = STUDY, **arguments: Any) -> StudyResults:
    """A whole study of the tiny model."""
    results = run_study(study, *models(), folder, classifier(), name="tiny", **arguments)
    assert results is not None
    return results
