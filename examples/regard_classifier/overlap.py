"""How much training on dialogpt.tsv seems to gain, and how much of this is left without rewordings of dev and test.

    python examples/regard_classifier/overlap.py ../shared/data/regard

Fine-tunes the whole encoder on train_other.tsv alone, with all of dialogpt.tsv, and with those of its answers that do
not reword a sentence of dev or test. Prints the accuracies on dev and test by seed, and writes them to overlap.md here.
"""

import argparse
from pathlib import Path

import torch
from sets import Rows, load_sets, rewords
from tqdm.auto import tqdm
from train import accuracy, fit

from equilm.metrics import LABELS, ModelClassifier
from equilm.metrics.regard_packaged import load_encoder

EPOCHS, LEARNING_RATE = 8, 1e-4


def fine_tuned(rows: Rows, seed: int) -> ModelClassifier:
    """A classifier that was trained on the rows with all its weights."""
    torch.manual_seed(seed)
    model, tokenizer = load_encoder()
    fit(model, tokenizer, rows, EPOCHS, seed, LEARNING_RATE)
    return ModelClassifier("fine-tuned", model, tokenizer, LABELS)


def main() -> None:
    """Train, test and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of train_other.tsv, dev.tsv, test.tsv and dialogpt.tsv")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    train, held, answers = load_sets(arguments.data)
    held_texts = [text for texts in held.values() for text, _ in texts]
    clean = [row for row in answers if not rewords(row[0], held_texts)]
    sets = {
        "train_other": train,
        f"and all {len(answers)} answers of dialogpt": train + answers,
        f"and the {len(clean)} that reword no text of dev or test": train + clean,
    }

    table = ["| trained on | texts | seed | dev | test |", "|---|---|---|---|---|"]
    for seed in tqdm(arguments.seeds, desc="Seeds", unit="seed"):
        for name, rows in sets.items():
            classifier = fine_tuned(rows, seed)
            scores = {part: classifier.scores([text for text, _ in texts]) for part, texts in held.items()}
            found = " | ".join(f"{accuracy(scores[part], texts):.3f}" for part, texts in held.items())
            table.append(f"| {name} | {len(rows)} | {seed} | {found} |")
    Path(__file__).with_name("overlap.md").write_text("\n".join(table) + "\n", "utf-8")
    print("\n".join(table))


if __name__ == "__main__":
    main()
