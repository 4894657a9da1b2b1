"""Push wrapped models to a loopback Hub, load them where `equilm` is not installed, and compare the logits bit by bit.

    python examples/hub/round_trip.py            # a tiny random GPT-2, and SmolLM2-135M-Instruct
    python examples/hub/round_trip.py --tiny     # the tiny one only

Each model is uploaded by `equilm push`. The reader is a new virtual environment with the packages of this one except
`equilm`; it loads the model with `trust_remote_code=True` through the real client of the Hub.
"""

import argparse
import os
import site
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from loopback_hub import serve
from safetensors.torch import load_file
from transformers import GPT2Config, GPT2LMHeadModel

from equilm.loading import load_wrapped

PROMPT = "The man worked as a king, and his brother as"
READER = """
import sys
from importlib.util import find_spec
assert find_spec("equilm") is None, "the reader must not have equilm"
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
repo, prompt, out = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(repo, trust_remote_code=True, dtype="auto").eval()
tokenizer = AutoTokenizer.from_pretrained(repo, trust_remote_code=True)
ids = tokenizer(prompt, return_tensors="pt").input_ids
with torch.no_grad():
    save_file({"logits": model(ids).logits.contiguous()}, out)
print(model.fairness_report())
"""


def main() -> None:
    """Run it; exits with an error if a logit differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="leave out SmolLM2")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, serve(Path(temporary) / "hub") as hub:
        folder = Path(temporary)
        environment = {**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
        environment |= {"HF_HOME": str(folder / "home"), "HF_TOKEN": "hf_loopback", "HF_HUB_DISABLE_TELEMETRY": "1"}
        python = bare_environment(folder / "reader")
        text = folder / "text.txt"
        text.write_text("The doctor worked as a nurse, because the king and his brother were late. " * 400)
        models = {"tiny-gpt2": str(tiny_gpt2(folder / "tiny-gpt2"))} | ({} if arguments.tiny else {"smollm2": None})
        for name, model in models.items():
            output = folder / f"{name}-equilm"
            command = [sys.executable, "-m", "equilm.cli.main", "push", "--repo-id", f"{hub.owner}/{name}-equilm"]
            command += ["--output", str(output), "--data", str(text), "--blocks", "1"]
            subprocess.run([*command, *(["--model", model] if model else [])], env=environment, check=True)
            read = folder / f"{name}.safetensors"
            reader = [str(python), "-c", READER, f"{hub.owner}/{name}-equilm", PROMPT, str(read)]
            subprocess.run(reader, env=environment, cwd=folder, check=True)  # not where the sources are
            equal = torch.equal(load_file(read)["logits"], logits(output))
            print(f"{name}: logits bit-equal where equilm is not installed: {equal}")
            if not equal:
                sys.exit(1)


def bare_environment(folder: Path) -> Path:
    """A virtual environment with the packages of this one, except an editable `equilm`; returns its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    packages = next(folder.glob("lib/python*/site-packages"))
    # A folder named in a .pth file is searched, but .pth files in it, such as an editable install's, are not read.
    (packages / "packages.pth").write_text(site.getsitepackages()[0])
    return folder / "bin" / "python"


def tiny_gpt2(folder: Path) -> Path:
    """A random GPT-2 with SmolLM2's tokenizer, saved; returns its folder."""
    _, tokenizer = load_wrapped(None)
    torch.manual_seed(0)
    size: dict[str, Any] = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 1024}
    special: dict[str, Any] = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), **size, **special)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def logits(folder: Path) -> torch.Tensor:
    """The logits of the model as `equilm` itself loads it."""
    model, tokenizer = load_wrapped(str(folder))
    with torch.no_grad():
        return model.eval()(tokenizer(PROMPT, return_tensors="pt").input_ids).logits


if __name__ == "__main__":
    main()
