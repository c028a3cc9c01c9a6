"""Where results come from: code, versions, and what decides the last digits of a number."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import torch

PACKAGES = ("torch", "torchvision", "avalanche-lib", "mlflow", "numpy")

CPU_FACTS = {
    "hardware": "model name",
    "cpu_vendor": "vendor_id",
    "cpu_family": "cpu family",
    "cpu_model": "model",
    "cpu_stepping": "stepping",
}
"""Tag -> line of Linux's /proc/cpuinfo."""


def provenance(device: str = "cpu") -> dict[str, str]:
    """Commit, a hash of uncommitted changes, versions, and the hardware of ``device``; tags without their prefix.

    Sums are split differently among threads and vector units: the last digits of a result need the same instruction
    set (``cpu_capability``), number of threads and versions, not the same machine.
    """
    commit, changes = _git("rev-parse", "HEAD"), _uncommitted()
    cpu = cpu_facts()
    hardware = cpu.pop("hardware", "") or platform.processor() or sys.platform
    tags = {
        "commit": commit.decode().strip() if commit else "unknown",
        "dirty": sha256(changes).hexdigest()[:12] if changes else "clean" if commit else "unknown",
        "python": platform.python_version(),
        "hardware": torch.cuda.get_device_name(device) if device.startswith("cuda") else hardware,
        **cpu,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": str(torch.get_num_threads()),
        "platform": f"{platform.system()} {platform.machine()}",
    }
    return {**tags, **library_versions()}


@cache
def library_versions() -> Mapping[str, str]:
    """Tag, without prefix -> version of a library that results depend on."""
    return {f"version.{package}": version(package) for package in PACKAGES}


def cpu_facts() -> dict[str, str]:
    """What Linux says of the first processor; nothing on other systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    except OSError:
        return {}
    said = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return {tag: said[line] for tag, line in CPU_FACTS.items() if said.get(line)}


def _uncommitted() -> bytes:
    """Changes to tracked files, and new files of the packages with their contents."""
    changes = _git("diff", "HEAD") or b""
    for name in (_git("ls-files", "--others", "--exclude-standard", "-z", "--", "*.py") or b"").split(b"\0"):
        path = Path(__file__).parent / name.decode()
        if name and path.is_file():
            changes += name + path.read_bytes()
    return changes


def _git(*arguments: str) -> bytes | None:
    folder = Path(__file__).parent
    try:
        return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
