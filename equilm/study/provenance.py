"""What a study was made with: the versions, the machine and the day, kept beside what was made."""

import platform
from datetime import datetime, timezone
from importlib.metadata import version

import torch


def provenance(device: torch.device | str = "cpu") -> dict[str, str]:
    """For readers; cells that were made with other versions are not refused.

    Args:
        device: where the model ran.
    """
    packages = {name: version(name) for name in ("equilm", "torch", "transformers")}
    threads = f", threads: {torch.get_num_threads()}" if torch.device(device).type == "cpu" else ""
    machine = {"python": platform.python_version(), "machine": f"{platform.system()} {platform.machine()}"}
    today = datetime.now(timezone.utc).date().isoformat()
    return {**packages, **machine, "device": f"{device}{threads}", "date": today}
