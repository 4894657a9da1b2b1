"""How much faster are mini-batches than one sentence at a time, as in the original code, for the same model?

    python examples/scan/batch1.py
    python examples/scan/batch1.py --model group --group verb --batch-size 128

Trains copies of one model in turns, and prints the sentences per second of each, and their ratio.
"""

import argparse
import copy
import time
from collections.abc import Iterator

import torch
from datasets import Dataset
from recipes import PRETRAINING

from equilm.scan import (
    EquiScanSeq2Seq,
    GroupScanSeq2Seq,
    LengthSampler,
    ScanPreTrainedModel,
    ScanSeq2Seq,
    collate,
    load_split,
)


def batches(pairs: Dataset, batch_size: int) -> Iterator[list[dict[str, str]]]:
    """Batches without end, drawn as in training."""
    lengths = torch.tensor([actions.count(" ") for actions in pairs["actions"]])
    sampler = LengthSampler(lengths, batch_size, seed=0)
    while True:
        places = torch.tensor(list(sampler)).view(-1, batch_size)
        for batch in places.tolist():
            yield [pairs[place] for place in batch]
        sampler.set_epoch(sampler.epoch + 1)


def train(model: ScanPreTrainedModel, data: Iterator[list[dict[str, str]]], seconds: float) -> tuple[int, float]:
    """Take gradient steps for about ``seconds``; returns the number of sentences and the seconds they took."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    model.train()
    seen, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        batch = next(data)
        model(**collate(batch)).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad()
        seen += len(batch)
    return seen, time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=("add_jump", "around_right"), default="add_jump")
    parser.add_argument("--model", choices=("plain", "equi", "group"), default="plain")
    parser.add_argument("--cell", choices=("rnn", "gru", "lstm"), default="lstm")
    parser.add_argument("--group", default="jump_run", help="group, for the models that have one")
    parser.add_argument("--batch-size", type=int, default=PRETRAINING.batch_size)
    parser.add_argument("--seconds", type=float, default=10, help="of each turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    pairs = load_split(arguments.task)["train"]
    model: ScanPreTrainedModel = ScanSeq2Seq(cell=arguments.cell)
    if arguments.model == "equi":
        model = EquiScanSeq2Seq.from_base(model, arguments.group)  # type: ignore[arg-type]
    elif arguments.model == "group":
        model = GroupScanSeq2Seq(cell=arguments.cell, group=arguments.group)
    sizes = (1, arguments.batch_size)
    models = {size: copy.deepcopy(model) for size in sizes}
    data = {size: batches(pairs, size) for size in sizes}
    for size in sizes:
        train(models[size], data[size], seconds=1)  # warm up
    found = {size: [0.0, 0.0] for size in sizes}
    for _ in range(arguments.turns):  # in turns, so that other work of the machine slows down both
        for size in sizes:
            seen, seconds = train(models[size], data[size], arguments.seconds)
            found[size][0] += seen
            found[size][1] += seconds
    speeds = {size: seen / seconds for size, (seen, seconds) in found.items()}
    for size, speed in speeds.items():
        print(f"batch size {size:4}: {speed:8.1f} sentences/s")
    print(f"{speeds[sizes[1]] / speeds[1]:.1f} times as fast, {arguments.threads} thread(s)")


if __name__ == "__main__":
    main()
