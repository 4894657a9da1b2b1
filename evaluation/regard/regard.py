"""The `evaluate` measurement of regard: a wrapper of `equilm.metrics.regard`, called like Hugging Face's own."""

from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import evaluate
import numpy as np

from equilm import EquiLMError
from equilm.metrics import LABELS, RegardClassifier, check_text_lists, load_classifier, mask_group, regard

CONFIGS = {"default": ("data",), "compare": ("data", "references"), "groups": ("data", "groups")}
AGGREGATIONS = {"average": ("average", np.mean), "maximum": ("max", np.max)}

_CITATION = """\
@inproceedings{sheng-etal-2019-woman,
    title = {The Woman Worked as a Babysitter: On Biases in Language Generation},
    author = {Sheng, Emily and Chang, Kai-Wei and Natarajan, Premkumar and Peng, Nanyun},
    booktitle = {Proceedings of EMNLP-IJCNLP 2019},
    year = {2019},
    url = {https://arxiv.org/abs/1909.01326}
}
"""

_DESCRIPTION = """\
Regard: how a text makes readers think of the person it is about (negative, neutral, positive or a mixture), compared
between the texts of any number of demographic groups.
"""

_KWARGS_DESCRIPTION = """
Args:
    data (list of str): texts.
    references (list of str): texts of another group; config "compare" only.
    groups (list of str): the group of each text in data; config "groups" only.
    aggregation (str, optional): "average" or "maximum" over the texts; configs "default" and "compare".
    classifier (optional): None for sasha/regardv3, or the packaged classifier if the Hub does not answer; "packaged";
        a Hub id or folder; a text-classification pipeline; a function that is called and answers like one.
    phrases (dict, optional): the phrase to mask as XYZ, for each group in config "groups", and for each input ("data",
        "references") in the others.
    paired (bool, optional): whether texts at the same position in each group belong together; config "groups".
    bootstrap, confidence, seed (optional): the number of draws, the confidence level and the seed of the intervals and
        tests; config "groups".
    batch_size (int, optional): the number of texts to score at once.
    progress (bool, optional): whether to show a progress bar.
Returns:
    "default": "regard", with aggregation "average_regard" or "max_regard".
    "compare": "regard_difference", with aggregation "average_data_regard" and "average_references_regard", or
        "max_data_regard" and "max_references_regard".
    "groups": "by_group", "disparities", and the settings they were measured with.
    All: "classifier", the name of the classifier.
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class Regard(evaluate.Measurement):  # type: ignore[misc]
    """Regard of texts, of two lists of texts, or of the texts of many groups."""

    def _info(self) -> evaluate.MeasurementInfo:
        if self.config_name not in CONFIGS:
            raise EquiLMError(f"regard has no configuration {self.config_name!r}: expected one of {list(CONFIGS)}.")
        return evaluate.MeasurementInfo(
            module_type="measurement",
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features(
                {name: datasets.Value("string", id="sequence") for name in CONFIGS[self.config_name]}
            ),
            reference_urls=["https://arxiv.org/abs/1909.01326", "https://arxiv.org/abs/2210.06475"],
        )

    def _download_and_prepare(self, dl_manager: Any) -> None:
        self._loaded: dict[str | None, RegardClassifier] = {}  # by name; each is loaded when it is first used

    def add_batch(self, **inputs: Any) -> None:
        """Add a list of texts, with their groups in config "groups", to be measured later."""
        check_text_lists(**inputs)
        super().add_batch(**inputs)

    def _scorer(self, classifier: Any) -> RegardClassifier:
        if classifier is not None and not isinstance(classifier, str):
            return load_classifier(classifier)
        if classifier not in self._loaded:
            self._loaded[classifier] = load_classifier(classifier)
        return self._loaded[classifier]

    def _compute(
        self,
        data: Sequence[str],
        references: Sequence[str] | None = None,
        groups: Sequence[str] | None = None,
        aggregation: str | None = None,
        classifier: Any = None,
        phrases: Mapping[str, str] | None = None,
        batch_size: int = 32,
        progress: bool = False,
        **settings: Any,
    ) -> dict[str, Any]:
        scorer = self._scorer(classifier)
        if groups is not None:
            if aggregation is not None:
                raise EquiLMError(f'The config "groups" has no aggregation: leave out aggregation={aggregation!r}.')
            texts: dict[str, list[str]] = {}
            for text, group in zip(data, groups, strict=True):
                texts.setdefault(group, []).append(text)
            result = regard(texts, scorer, phrases, batch_size=batch_size, progress=progress, **settings)
            return result.to_dict()

        if settings:
            raise EquiLMError(
                f'{sorted(settings)} can only be used with the config "groups", not {self.config_name!r}.'
            )
        if aggregation is not None and aggregation not in AGGREGATIONS:
            raise EquiLMError(f"aggregation={aggregation!r} is unknown: expected None or one of {list(AGGREGATIONS)}.")
        inputs = {"data": list(data)} if references is None else {"data": list(data), "references": list(references)}
        for name, phrase in (phrases or {}).items():
            if name not in inputs:
                raise EquiLMError(f"There is a phrase to mask in {name!r}: expected one of {list(inputs)}.")
            inputs[name] = [mask_group(text, phrase) for text in inputs[name]]
        # All are scored together, so that a text gets the same score in both lists.
        pooled = scorer.scores([text for several in inputs.values() for text in several], batch_size, progress)
        scores = {"data": pooled[: len(data)], "references": pooled[len(data) :]}
        result: dict[str, Any]
        if aggregation is not None:
            prefix, reduce = AGGREGATIONS[aggregation]
            result = {
                f"{prefix}_regard" if references is None else f"{prefix}_{name}_regard": _by_label(
                    reduce(scores[name], 0)
                )
                for name in inputs
            }
        elif references is not None:
            result = {"regard_difference": _by_label(scores["data"].mean(0) - scores["references"].mean(0))}
        else:
            result = {"regard": [_sorted_labels(row) for row in pooled]}
        return {**result, "classifier": scorer.name}


def _by_label(row: np.ndarray) -> dict[str, float]:
    return dict(zip(LABELS, row.tolist(), strict=True))


def _sorted_labels(row: np.ndarray) -> list[dict[str, Any]]:
    """The labels as a pipeline returns them, the most probable first."""
    return [{"label": LABELS[column], "score": float(row[column])} for column in np.argsort(-row, kind="stable")]
