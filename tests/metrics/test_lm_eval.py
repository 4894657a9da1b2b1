"""lm-evaluation-harness on a wrapped model: both kinds of tasks, offline; swapped documents get the same results."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel
from word_models import word_model, word_tokenizer

from equilm import EquiLMForCausalLM

pytest.importorskip("lm_eval", reason="needs lm_eval")

pytestmark = [
    # The harness stops at strings by a criterion of its own; those of the task below name no one.
    pytest.mark.filterwarnings("ignore:The stopping criterion MultiTokenEOSCriteria:equilm.EquiLMWarning"),
]

DOCUMENTS: list[dict[str, Any]] = [
    {"text": "The man worked as", "choices": ["a doctor", "a nurse", "the queen"], "label": 0},
    {"text": "The queen was known for", "choices": ["the man", "his job", "a king and a prince"], "label": 2},
    {"text": "The doctor was late because he", "choices": ["works", "worked as a nurse", "was a woman"], "label": 1},
]
TASK: dict[str, Any] = {"dataset_path": "json", "test_split": "test", "doc_to_text": "{{text}}"}
CHOICE = {
    "output_type": "multiple_choice",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "{{label}}",
    "metric_list": [{"metric": "acc"}],
}
GENERATION = {
    "output_type": "generate_until",
    "doc_to_target": "{{choices[label]}}",
    "generation_kwargs": {"until": ["\n\n"], "max_gen_toks": 8, "do_sample": False},
    "metric_list": [{"metric": "bypass"}],
}


@pytest.fixture(scope="module")
def model() -> EquiLMForCausalLM:
    tokenizer = word_tokenizer()
    model = EquiLMForCausalLM.from_base(word_model(tokenizer), tokenizer)
    # Whole words only, so that texts can be tokenized again: a random model would also write bytes and run words on.
    texts = tokenizer.batch_decode([[token] for token in range(model.action.vocab_size)])
    model.generation_config.suppress_tokens = [token for token, text in enumerate(texts) if not text.startswith(" ")]
    return model


def swap(model: EquiLMForCausalLM, text: str) -> str:
    tokenizer: Any = word_tokenizer()
    return tokenizer.decode(model.action.act(tokenizer(text, return_tensors="pt").input_ids, 1)[0])


def evaluate(model: PreTrainedModel, documents: list[dict[str, Any]], task: dict[str, Any], folder: Path) -> Any:
    """What the harness has for each document: a text, or for each choice its log-probability and if it is greedy."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    folder.mkdir()
    file = folder / "documents.jsonl"
    file.write_text("\n".join(json.dumps(document) for document in documents))
    data = {"dataset_kwargs": {"data_files": {"test": str(file)}, "cache_dir": str(folder / "cache")}}
    result = simple_evaluate(
        model=HFLM(pretrained=model, tokenizer=word_tokenizer(), batch_size=2),
        tasks=[{"task": "local", **TASK, **task, **data}],
        task_manager=TaskManager(include_defaults=False),
        bootstrap_iters=0,
    )
    samples = sorted(result["samples"]["local"], key=lambda sample: sample["doc_id"])
    return [sample["filtered_resps"] for sample in samples]


def images(model: EquiLMForCausalLM) -> list[dict[str, Any]]:
    """The documents with the other gender's words."""
    # A choice is swapped as it will stand: after a space.
    swapped = [
        {
            "text": swap(model, document["text"]),
            "choices": [swap(model, f" {choice}")[1:] for choice in document["choices"]],
            "label": document["label"],
        }
        for document in DOCUMENTS
    ]
    assert swapped[0]["text"] == "The woman worked as" and swapped[1]["choices"][2] == "a queen and a princess"
    return swapped


def test_log_likelihoods(model: EquiLMForCausalLM, tmp_path: Path) -> None:
    one = torch.tensor(evaluate(model, DOCUMENTS, CHOICE, tmp_path / "one"))  # (documents, choices, 2)
    other = torch.tensor(evaluate(model, images(model), CHOICE, tmp_path / "other"))
    torch.testing.assert_close(one, other, atol=1e-4, rtol=0)
    plain = torch.tensor(evaluate(model.language_model, images(model), CHOICE, tmp_path / "plain"))
    assert (plain - one).abs().max() > 0.1

    tokenizer, document = word_tokenizer(), DOCUMENTS[1]
    prompt = tokenizer(document["text"], return_tensors="pt").input_ids
    for choice, (log_prob, _) in zip(document["choices"], one[1], strict=True):
        ids = tokenizer(f"{document['text']} {choice}", return_tensors="pt").input_ids
        with torch.no_grad():
            log_probs = model(input_ids=ids).logits[0, prompt.shape[1] - 1 : -1].log_softmax(-1)
        expected = log_probs.gather(-1, ids[0, prompt.shape[1] :, None]).sum()
        torch.testing.assert_close(log_prob, expected, atol=1e-4, rtol=0)


def test_generation(model: EquiLMForCausalLM, tmp_path: Path) -> None:
    one = evaluate(model, DOCUMENTS, GENERATION, tmp_path / "one")
    other = evaluate(model, images(model), GENERATION, tmp_path / "other")
    assert other == [[swap(model, text) for text in texts] for texts in one]
    assert other != one, "some text must hold a word that is swapped"
