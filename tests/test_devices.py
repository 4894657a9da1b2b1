"""Beyond one device and one process: a device map with disk offload, and `accelerate launch`."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from models import ARCHITECTURES, AXES, random_ids, tiny_model, wrap
from safetensors.torch import load_file
from transformers import set_seed

from equilm import EquiLMForCausalLM
from equilm.testing import assert_equivariant

accelerate = pytest.importorskip("accelerate", reason="needs accelerate")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    wrap(tiny_model("llama"), AXES["2x3"]).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("layer", ["lm_head", "model.layers.1"])
def test_disk_offload(folder: Path, tmp_path: Path, layer: str) -> None:
    whole = EquiLMForCausalLM.from_pretrained(folder)
    names = ("model.embed_tokens", "model.layers.0", "model.layers.1", "model.norm", "model.rotary_emb", "lm_head")
    device_map: dict[str, Any] = {f"language_model.{name}": "disk" if name == layer else "cpu" for name in names}

    model = EquiLMForCausalLM.from_pretrained(folder, device_map=device_map, offload_folder=tmp_path / "offload")
    assert any(parameter.is_meta for parameter in model.parameters()), "some weights must be on disk"
    ids = random_ids(2, 7)
    with torch.no_grad():
        torch.testing.assert_close(model(input_ids=ids).logits, whole(input_ids=ids).logits, atol=1e-5, rtol=0)
    assert_equivariant(model, ids)
    mask = torch.ones_like(ids)
    ids[:, 0], ids[:, 1] = 10, 21  # no ties
    texts = [m.generate(ids, attention_mask=mask, max_new_tokens=5) for m in (model, whole)]
    assert torch.equal(*texts)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
class TestOnAGpu:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
    @pytest.mark.parametrize("axes", AXES)
    @pytest.mark.parametrize("architecture", ARCHITECTURES)
    def test_equivariance(self, architecture: str, axes: str, dtype: torch.dtype) -> None:
        model: Any = wrap(tiny_model(architecture), AXES[axes])
        model.to("cuda", dtype)
        assert str(model.self_check()).startswith("passed")
        assert_equivariant(model, random_ids(3, 9).cuda())

    # What the compiler says of itself.
    @pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning", "ignore:TensorFloat32:UserWarning")
    @pytest.mark.parametrize("cache", ["dynamic", "static"])  # a static cache is compiled
    @pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma3"])
    def test_one_seed(self, architecture: str, cache: str) -> None:
        model: Any = wrap(tiny_model(architecture), AXES["2x3"])
        model.cuda()
        ids = random_ids(3, 9).cuda()
        ids[:, 0], ids[:, 1] = 10, 21  # no ties
        texts = []
        for g in model.group.elements:
            set_seed(0)
            given, mask = model.action.act(ids, g), torch.ones_like(ids)
            settings = {"do_sample": True, "max_new_tokens": 8, "cache_implementation": cache}
            texts.append(
                model.action.act(model.generate(given, attention_mask=mask, **settings), model.group.inverse(g))
            )
        assert all(torch.equal(text, texts[0]) for text in texts)


SCRIPT = """
import json, sys
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from equilm import EquiLMForCausalLM

accelerator = Accelerator(cpu=True)
model = accelerator.prepare(EquiLMForCausalLM.from_pretrained(sys.argv[1]))
ids = torch.tensor(json.loads(sys.argv[2]))
with accelerator.split_between_processes(list(range(len(ids)))) as mine:
    rows = []
    for row in mine:
        torch.manual_seed(row)
        prompt = ids[row, None]
        with torch.no_grad():
            logits = model(input_ids=prompt).logits[0, -1].tolist()
        text = accelerator.unwrap_model(model).generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=5, do_sample=True
        )
        rows.append((row, accelerator.process_index, logits, text[0].tolist()))
rows = gather_object(rows)
if accelerator.is_main_process:
    open(sys.argv[3], "w").write(json.dumps(sorted(rows)))
accelerator.end_training()  # closes the process group: a process that exits before it is closed may abort
"""


def launch(script: Path, *arguments: str) -> None:
    """Run a script in two processes."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    # accelerate starts several processes with this flag only; the script itself asks for the CPU.
    command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", str(script)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, *arguments], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_accelerate_launch_with_two_processes(folder: Path, tmp_path: Path) -> None:
    script, out = tmp_path / "shard.py", tmp_path / "out.json"
    script.write_text(SCRIPT)
    ids = random_ids(4, 6)
    launch(script, str(folder), json.dumps(ids.tolist()), str(out))
    rows = json.loads(out.read_text())
    model = EquiLMForCausalLM.from_pretrained(folder)
    assert [row for row, *_ in rows] == [0, 1, 2, 3] and {process for _, process, *_ in rows} == {0, 1}
    for row, _, logits, text in rows:
        torch.manual_seed(row)
        prompt = ids[row, None]
        with torch.no_grad():
            expected = model(input_ids=prompt).logits[0, -1]
        torch.testing.assert_close(torch.tensor(logits), expected, atol=1e-5, rtol=0)
        again: Any = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=5, do_sample=True)
        assert again[0].tolist() == text


TRAINING = """
import json, sys
from pathlib import Path
import torch
from datasets import Dataset
from safetensors.torch import save_file
from transformers import Trainer, TrainingArguments
from equilm import EquiLMForCausalLM

folder, rows, out = sys.argv[1:]
data = Dataset.from_dict(json.loads(rows))
for find_unused in (False, True):
    arguments = TrainingArguments(
        out, use_cpu=True, report_to="none", save_strategy="no", logging_steps=1, disable_tqdm=True,
        max_steps=3, optim="sgd", learning_rate=0.1, max_grad_norm=0.0, gradient_accumulation_steps=2,
        ddp_find_unused_parameters=find_unused,
    )
    arguments.per_device_train_batch_size = arguments.per_device_eval_batch_size = 4 // arguments.world_size
    model = EquiLMForCausalLM.from_pretrained(folder)
    gathered = {}
    trainer = Trainer(
        model, arguments, train_dataset=data, eval_dataset=data,
        compute_metrics=lambda result: gathered.update(logits=torch.tensor(result.predictions)) or {},
    )
    trainer.train()
    loss = trainer.evaluate()["eval_loss"]
    if trainer.is_world_process_zero():
        name = f"{out}/{find_unused}-{arguments.world_size}"
        save_file({**gathered, **dict(model.named_parameters())}, name + ".safetensors")
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        Path(name + ".json").write_text(json.dumps([*losses, loss]))
trainer.accelerator.end_training()  # closes the process group: a process that exits before it is closed may abort
"""


@pytest.mark.slow
def test_training_with_two_processes(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same losses, weights and gathered logits as one process has, for the same batches of four texts."""
    pytest.importorskip("datasets", reason="needs datasets")
    script, out = tmp_path / "train.py", tmp_path / "out"
    script.write_text(TRAINING)
    out.mkdir()
    ids = random_ids(8, 10)
    # The processes' halves of a batch differ in how many tokens count.
    labels = ids.masked_fill(torch.rand(ids.shape, generator=torch.Generator().manual_seed(1)) < 0.6, -100)
    arguments = [str(folder), json.dumps({"input_ids": ids.tolist(), "labels": labels.tolist()}), str(out)]
    launch(script, *arguments)
    monkeypatch.setattr(sys, "argv", [str(script), *arguments])
    runpy.run_path(str(script))
    before = EquiLMForCausalLM.from_pretrained(folder)
    for find_unused in (False, True):
        losses = [json.loads((out / f"{find_unused}-{processes}.json").read_text()) for processes in (1, 2)]
        assert losses[1] == pytest.approx(losses[0], abs=1e-4) and len(losses[0]) == 4
        one, two = (load_file(out / f"{find_unused}-{processes}.safetensors") for processes in (1, 2))
        assert one["logits"].shape == (8, 10, 61)
        for name, tensor in one.items():
            torch.testing.assert_close(two[name], tensor, atol=1e-4 if name == "logits" else 1e-5, rtol=0, msg=name)
        assert max(float((one[name] - p).detach().abs().max()) for name, p in before.named_parameters()) > 1e-3
