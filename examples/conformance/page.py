"""The table of architectures as a page of the documentation."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

VERDICTS = {
    "right": "every comparison agrees with the definition",
    "refused": "an `EquiLMError` says what cannot be fair; nothing unfair is given out",
    "as its base": "the base model contradicts itself there, or fails as well, so there is nothing to agree with",
    "not built": "the base model alone could not be built, or does not run",
    "wrong": "a comparison differs, and nothing said so",
    "crashed": "an error that is not a refusal",
}
_TITLES = {"causal": "Causal language models", "seq2seq": "Encoder-decoders", "image_text": "Image-text models"}


def write_page(page: Path, results: Mapping[str, Sequence[Mapping[str, Any]]], version: str) -> None:
    """Write the page, or the sections of these mappings anew in a page that is there."""
    found = page.read_text("utf-8").split("\n## ")[1:] if page.exists() else []
    sections = {text.partition("\n")[0]: text.partition("\n")[2].strip("\n") for text in found}
    sections |= {_TITLES[mapping]: _section(rows) for mapping, rows in results.items()}
    parts = [f"## {title}\n\n{sections[title]}\n" for title in _TITLES.values() if title in sections]
    page.write_text("\n".join([_INTRODUCTION.format(version=version), *parts]), encoding="utf-8")


def _section(rows: Sequence[Mapping[str, Any]]) -> str:
    """How many of each verdict, and the table."""
    counts = Counter(row["verdict"] for row in rows)
    parts = ["| | architectures | |\n|---|---:|---|"]
    parts += [f"| {verdict} | {counts[verdict]} | {meaning} |" for verdict, meaning in VERDICTS.items()]
    parts.append(f"| all | {len(rows)} | |\n")
    parts.append("| architecture | | |\n|---|---|---|")
    order = list(VERDICTS)
    for row in sorted(rows, key=lambda row: (-order.index(row["verdict"]), row["name"])):
        parts.append(f"| `{row['name']}` | {row['verdict']} | {plain_text(row['words'])} |")
    return "\n".join(parts)


def plain_text(words: str) -> str:
    """These words in a cell of a table, without markup."""
    text = " ".join(words.split())
    for sign in "\\|<>*_`[]$#":
        text = text.replace(sign, f"\\{sign}")
    return text


_INTRODUCTION = """# Architectures

Made by `python examples/conformance/run.py` with transformers {version}: do not edit.

Of every architecture in transformers' mappings a tiny model with random weights is built, wrapped with one list of
three tokens, and compared with the definition, φ(x)[v] = 1/|G| Σ_g M(g·x)[g·v], computed with the base model alone: the
forward pass, cached steps, `generate`, one seed for X and gX, beam search, save and load; on prompts of 7 and 24
tokens, one of two padded on the left. A model that keeps a state of another kind than transformers' caches, such as
RWKV, has no cached steps: EquiLM runs its texts anew at each token.

For models that see, the forward pass, `generate`, one seed, equation 4, save and load are compared on two texts of
unequal length, in three layouts: pictures in front, pictures between words, and text alone where the base model runs on
it. The definition gives each permuted copy the pictures anew. Other pictures must change the logits wherever they
change the base model's.
"""
