"""Beyond one device and one process: a device map with disk offload, and `accelerate launch`."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from models import AXES, random_ids, tiny_model, wrap

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


@pytest.mark.slow
def test_accelerate_launch_with_two_processes(folder: Path, tmp_path: Path) -> None:
    script, out = tmp_path / "shard.py", tmp_path / "out.json"
    script.write_text(SCRIPT)
    ids = random_ids(4, 6)
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    # accelerate starts several processes with this flag only; the script itself asks for the CPU.
    command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", str(script)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(folder), json.dumps(ids.tolist()), str(out)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
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
