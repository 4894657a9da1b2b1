"""Trains the packaged regard classifier and measures it.

    python examples/regard_classifier/train.py ../shared/data/regard     # to equilm/metrics/regard_adapter

The folder contains the data sets of Sheng et al. (2019) as ``label<TAB>text`` files, train_other.tsv, dev.tsv and
test.tsv, and dialogpt.tsv, whose overlap with them is counted. The classifier is trained first on the sentences in
`SENTENCES`, which were written for this purpose, and then on train_other.tsv. Writes the adapter, the numbers of its
card, and `results.json` here. The settings below were chosen by the accuracy on train_other.tsv, before training on it
and by cross-validation.
"""

import argparse
import copy
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from sets import Rows, load_sets, read, rewords
from sklearn.model_selection import StratifiedKFold
from torch import nn
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase, get_linear_schedule_with_warmup

from equilm.metrics import LABELS, ModelClassifier, RegardClassifier
from equilm.metrics.regard_packaged import ADAPTER, load_encoder

SENTENCES = [Path(__file__).with_name(f"{task}.tsv") for task in ("respect", "occupation")]
FIRST_EPOCHS, EPOCHS = 3, 4
LEARNING_RATE, BATCH_SIZE, SEED = 4e-4, 16, 0
AVERAGED = 3  # trainings on train_other, each in another order, whose weights are averaged
LORA = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.1}
LAYERS = ["query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"]

SUBJECTS = (
    "XYZ",
    *("The man", "The woman", "The Black person", "The White person", "The gay person", "The straight person"),
)


def new_model() -> tuple[PeftModel, PreTrainedTokenizerBase]:
    """The encoder with a new adapter and head."""
    torch.manual_seed(SEED)
    encoder, tokenizer = load_encoder()
    config = LoraConfig(target_modules=LAYERS, modules_to_save=["classifier"], **LORA)
    return get_peft_model(encoder, config), tokenizer  # type: ignore[arg-type,return-value]


def fit(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    rows: Rows,
    epochs: int,
    seed: int,
    learning_rate: float = LEARNING_RATE,
) -> None:
    """Train the weights that require a gradient, in bfloat16 where this is safe."""
    torch.manual_seed(seed)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=learning_rate, weight_decay=0.01)
    batches = [batch for _ in range(epochs) for batch in _batches(rows)]
    schedule = get_linear_schedule_with_warmup(optimizer, len(batches) // 10, len(batches))
    model.train()
    for batch in tqdm(batches, desc="Training", unit="batch", leave=False):
        inputs = tokenizer([text for text, _ in batch], padding=True, return_tensors="pt")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(**inputs).logits
        nn.functional.cross_entropy(logits.float(), torch.tensor([label for _, label in batch])).backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    model.eval()


def fit_averaged(base: PeftModel, tokenizer: PreTrainedTokenizerBase, rows: Rows, seed: int) -> PeftModel:
    """The mean weights of `AVERAGED` trainings on the labeled sentences, which all start from the same weights.

    The order of so few sentences adds noise to each training, which averages out (Wortsman et al., 2022).
    """
    averaged = copy.deepcopy(base)
    mean = {name: torch.zeros_like(weight) for name, weight in base.named_parameters() if weight.requires_grad}
    for training in range(AVERAGED):
        model = copy.deepcopy(base)
        fit(model, tokenizer, rows, EPOCHS, seed * AVERAGED + training)
        for name, weight in model.named_parameters():
            if name in mean:
                mean[name] += weight.detach() / AVERAGED
    averaged.load_state_dict(mean, strict=False)
    return averaged.eval()


def _batches(rows: Rows, pool: int = 8) -> list[Rows]:
    """One epoch in random order; each pool of eight batches is sorted by length, which saves padding."""
    order = torch.randperm(len(rows)).tolist()
    batches = []
    for start in range(0, len(order), pool * BATCH_SIZE):
        near = sorted(order[start : start + pool * BATCH_SIZE], key=lambda row: len(rows[row][0]))
        batches += [[rows[row] for row in near[at : at + BATCH_SIZE]] for at in range(0, len(near), BATCH_SIZE)]
    return [batches[at] for at in torch.randperm(len(batches)).tolist()]


def accuracy(scores: np.ndarray, rows: Rows) -> float:
    """The fraction of texts whose most probable label is correct."""
    return float((scores.argmax(1) == [label for _, label in rows]).mean())


def cross_validate(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase, rows: Rows, folds: int, splits: int
) -> dict[str, Any]:
    """Mean and standard deviation over ``splits`` seeds, each for both the split and the training."""
    labels = np.array([label for _, label in rows])
    plain = labels < LABELS.index("other")  # dev and test have no "other"
    found: dict[str, list[float]] = {"accuracy": [], 'accuracy without "other"': []}
    for seed in tqdm(range(splits), desc="Cross-validation", unit="split"):
        scores = np.empty((len(rows), len(LABELS)))
        for train, held in StratifiedKFold(folds, shuffle=True, random_state=seed).split(rows, labels):
            candidate = fit_averaged(model, tokenizer, [rows[row] for row in train], seed)
            scores[held] = ModelClassifier("fold", candidate, tokenizer, LABELS).scores([rows[row][0] for row in held])
        right = scores.argmax(1) == labels
        found["accuracy"].append(float(right.mean()))
        found['accuracy without "other"'].append(float(right[plain].mean()))
    return {name: {"mean": float(np.mean(values)), "std": float(np.std(values))} for name, values in found.items()}


def bias(classifier: RegardClassifier, sentences: Sequence[str]) -> dict[str, dict[str, float]]:
    """For each group, the mean probabilities over the same sentences with the group's name in place of XYZ."""
    return {
        group: dict(
            zip(LABELS, classifier.scores([text.replace("XYZ", group) for text in sentences]).mean(0), strict=True)
        )
        for group in SUBJECTS
    }


def card(results: dict[str, Any]) -> str:
    """The part of the model card with numbers, in Markdown."""
    cross, overlap = results["cross_validation"], results["dialogpt"]
    lines = ["| set | texts | this classifier | regard2 of Sheng et al. |", "|---|---|---|---|"]
    for name, theirs in (("dev", ".92"), ("test", ".80")):
        lines.append(f"| {name} | {results[name]['texts']} | {results[name]['accuracy']:.3f} | {theirs} |")
    lines += ["", f"{results['folds']}-fold cross-validation on the {results['train']} training sentences, over "]
    lines[-1] += f"{results['splits']} seeds (mean ± standard deviation): " + "; ".join(
        f"{name} {value['mean']:.3f} ± {value['std']:.3f}" for name, value in cross.items()
    )
    lines[-1] += "."
    lines += [
        "",
        f"After the first training, on the {results['written']} sentences written for it: "
        f"{results['accuracy on train before training on it']:.3f} on these training sentences.",
        "",
        f"Of dialogpt.tsv's {overlap['texts']} answers, {overlap['held out']} reword a sentence of dev or test ",
    ]
    lines[-1] += f"and {overlap['train']} one of train_other: none is used."
    lines += ["", "Mean probabilities over the sentences of dev and test, with each group's name in place of XYZ:", ""]
    lines += [f"| group | {' | '.join(LABELS)} |", "|---" * (len(LABELS) + 1) + "|"]
    for group, means in results["bias"].items():
        lines.append(f"| {group} | {' | '.join(f'{means[label]:.3f}' for label in LABELS)} |")
    return "\n".join(lines) + "\n"


def write_card(folder: Path, numbers: str) -> None:
    """Put the numbers between the two marks in the card."""
    file, begin, end = (
        folder / "README.md",
        "<!-- begin: numbers of train.py -->\n",
        "<!-- end: numbers of train.py -->",
    )
    before, _, rest = file.read_text("utf-8").partition(begin)
    file.write_text(before + begin + numbers + end + rest.partition(end)[2], "utf-8")


def main() -> None:
    """Train, measure, and write the files for the package."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of train_other.tsv, dev.tsv, test.tsv and dialogpt.tsv")
    parser.add_argument("--out", type=Path, default=ADAPTER, help="folder for the adapter, with its README.md")
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--splits", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    rows, held, answers = load_sets(arguments.data)
    held_texts = [text for texts in held.values() for text, _ in texts]

    base, tokenizer = new_model()
    written = [row for file in SENTENCES for row in read(file)]
    fit(base, tokenizer, written, FIRST_EPOCHS, SEED)
    before = ModelClassifier("first", base, tokenizer, LABELS).scores([text for text, _ in rows])
    model = fit_averaged(base, tokenizer, rows, SEED)
    with TemporaryDirectory() as folder:  # peft would also rewrite the card
        model.save_pretrained(folder)
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            shutil.copyfile(Path(folder) / name, arguments.out / name)

    classifier = ModelClassifier("trained", model, tokenizer, LABELS)
    results: dict[str, Any] = {
        "written": len(written),
        "train": len(rows),
        "accuracy on train before training on it": accuracy(before, rows),
        "folds": arguments.folds,
        "splits": arguments.splits,
        "cross_validation": cross_validate(base, tokenizer, rows, arguments.folds, arguments.splits),
        "dialogpt": {
            "texts": len(answers),
            "held out": sum(rewords(answer, held_texts) for answer, _ in answers),
            "train": sum(rewords(answer, [text for text, _ in rows]) for answer, _ in answers),
        },
        "bias": bias(classifier, held_texts),
    }
    for name, texts in held.items():
        scores = classifier.scores([text for text, _ in texts])
        results[name] = {"texts": len(texts), "accuracy": accuracy(scores, texts)}
    Path(__file__).with_name("results.json").write_text(json.dumps(results, indent=2) + "\n", "utf-8")
    write_card(arguments.out, card(results))
    print(card(results))


if __name__ == "__main__":
    main()
