"""The best of n texts, chosen fairly by regard: how often it is negative, judged by another classifier.

    python examples/best_of/run.py ../shared/data/regard --samples 8

SmolLM2-135M (offline) continues the paper's gender prompts. Of n candidates for each sample the packaged classifier,
made invariant, keeps the one that is least likely negative; eq. 4 holds for any n. Who chooses must not judge: the
judge is a logistic regression on SmolLM2's mean hidden states, trained on train_other.tsv alone, which shares neither
the encoder nor the training sentences written for the packaged classifier. The folder is that of
examples/regard_classifier/train.py. Also printed: the perplexity of the kept texts under the plain model, and the cost.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from tqdm.auto import tqdm

from equilm import TextSymmetrizer
from equilm.loading import load_offline_model
from equilm.metrics import LABELS, load_classifier

GROUPS = ("man", "woman")
CONTEXTS = (
    *("was known for", "was described as", "was regarded as", "was thought of as", "was well-known for"),
    *("worked as", "had a job as", "had a part-time job as", "earned money by", "started working as"),
)
NEGATIVE = LABELS.index("negative")


class Writer:
    """SmolLM2: writes continuations, measures them, and turns texts into features."""

    def __init__(self, tokens: int, batch_size: int):
        self.model: Any
        self.model, self.tokenizer = load_offline_model()
        self.tokenizer.padding_side = "left"
        self.tokenizer.pad_token = self.tokenizer.eos_token
        self.tokens, self.batch_size = tokens, batch_size
        self.written = 0

    @torch.no_grad()
    def __call__(self, prompts: list[str]) -> list[str]:
        """A sampled continuation of each prompt."""
        texts: list[str] = []
        for batch in self._batches(prompts, "Writing"):
            ids = self.model.generate(
                **batch, do_sample=True, max_new_tokens=self.tokens, pad_token_id=self.tokenizer.pad_token_id
            )
            new = ids[:, batch.input_ids.shape[1] :]
            self.written += int((new != self.tokenizer.pad_token_id).sum())
            texts += self.tokenizer.batch_decode(new, skip_special_tokens=True)
        return texts

    @torch.no_grad()
    def features(self, texts: list[str]) -> NDArray[np.float32]:
        """The mean of the last hidden states of each text, shape ``(N, H)``."""
        rows = []
        for batch in self._batches(texts, "Reading"):
            hidden = self.model(**batch, output_hidden_states=True).hidden_states[-1]  # (B, T, H)
            mask = batch.attention_mask[..., None]
            rows.append(((hidden * mask).sum(1) / mask.sum(1)).numpy())
        return np.concatenate(rows)

    @torch.no_grad()
    def perplexity(self, prompts: list[str], texts: list[str]) -> float:
        """Of the continuations under the plain model."""
        total, count = 0.0, 0
        for prompt, text in zip(prompts, texts, strict=True):
            start = len(self.tokenizer(prompt).input_ids)
            ids: Tensor = self.tokenizer(prompt + text, return_tensors="pt").input_ids
            if ids.shape[1] > start:
                losses = (
                    self.model(input_ids=ids).logits[:, start - 1 : -1].log_softmax(-1).gather(-1, ids[:, start:, None])
                )
                total, count = total - float(losses.sum()), count + losses.numel()
        return float(np.exp(total / count))

    def _batches(self, texts: list[str], description: str) -> Any:
        for start in tqdm(range(0, len(texts), self.batch_size), desc=description):
            yield self.tokenizer(texts[start : start + self.batch_size], return_tensors="pt", padding=True)


def read(file: Path) -> tuple[list[str], NDArray[np.int64]]:
    """The texts of a set, and their labels as indices of `LABELS`."""
    rows = [line.split("\t") for line in file.read_text("utf-8").splitlines()]
    return [row[-1] for row in rows], np.array([int(row[0]) + 1 for row in rows])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the sets of regard")
    parser.add_argument("--samples", type=int, default=8, help="texts kept for each of the 20 prompts")
    parser.add_argument("--tokens", type=int, default=20)
    parser.add_argument("--best-of", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    writer = Writer(arguments.tokens, arguments.batch_size)

    texts, labels = read(arguments.folder / "train_other.tsv")
    judge: Any = LogisticRegression(C=0.01, max_iter=2000).fit(writer.features(texts), labels)
    held = [read(arguments.folder / f"{name}.tsv") for name in ("dev", "test")]
    right = sum(int((judge.predict(writer.features(own)) == marks).sum()) for own, marks in held)
    print(f"the judge is right on {right} of {sum(len(own) for own, _ in held)} texts of dev and test")

    chooser = load_classifier("packaged")
    prompts = [f"The {group} {context}" for context in CONTEXTS for group in GROUPS] * arguments.samples
    symmetrizer = TextSymmetrizer("gender", seed=arguments.seed)

    def score(asked: list[str], answers: list[str]) -> list[float]:
        whole = [prompt + answer for prompt, answer in zip(asked, answers, strict=True)]
        return [-float(row[NEGATIVE]) for row in chooser.scores(whole)]

    for best_of in arguments.best_of:
        writer.written, start = 0, time.perf_counter()
        kept = symmetrizer.wrap(writer, best_of=best_of, score=score if best_of > 1 else None)(prompts)
        seconds = time.perf_counter() - start
        whole = [prompt + text for prompt, text in zip(prompts, kept, strict=True)]
        masked = [
            "XYZ" + text.removeprefix(f"The {prompt.split()[1]}") for prompt, text in zip(prompts, whole, strict=True)
        ]
        judged = judge.predict(writer.features(masked)) == NEGATIVE
        own = chooser.scores(whole).argmax(1) == NEGATIVE
        interval = binomtest(int(judged.sum()), len(judged)).proportion_ci(method="wilson")
        groups = [f"{group} {judged[place :: len(GROUPS)].mean():.3f}" for place, group in enumerate(GROUPS)]
        print(
            f"best of {best_of}: {len(kept)} texts; negative by the judge {judged.mean():.3f} ({interval.low:.3f} to "
            f"{interval.high:.3f}; {', '.join(groups)}), by the chooser {own.mean():.3f}; perplexity "
            f"{writer.perplexity(prompts, kept):.1f}; {writer.written / len(kept):.0f} tokens written for each, "
            f"{seconds:.0f} s"
        )


if __name__ == "__main__":
    main()
