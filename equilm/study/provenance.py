"""The versions, the machine and the date that a study was made with, which are saved with its results."""

import platform
from datetime import datetime, timezone
from importlib.metadata import version

import torch


def provenance(device: torch.device | str = "cpu") -> dict[str, str]:
    """The versions, the machine and today's date, for readers; cells made with other versions are not refused.

    Args:
        device: the device that the model ran on.
    """
    packages = {name: version(name) for name in ("equilm", "torch", "transformers")}
    threads = f", threads: {torch.get_num_threads()}" if torch.device(device).type == "cpu" else ""
    machine = {"python": platform.python_version(), "machine": f"{platform.system()} {platform.machine()}"}
    today = datetime.now(timezone.utc).date().isoformat()
    return {**packages, **machine, "device": f"{device}{threads}", "date": today}
