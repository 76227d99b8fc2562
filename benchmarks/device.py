"""What a number was measured on, in words: ``gpu: NVIDIA H200`` or ``cpu: AMD EPYC``. Imports no library before it is asked."""

from __future__ import annotations

import platform
from pathlib import Path


def jax_device() -> str:
    """Where JAX computes."""
    import jax

    device = jax.devices()[0]
    return cpu_name() if device.platform == "cpu" else f"{device.platform}: {device.device_kind}"


def torch_device() -> str:
    """Where torch models of this project compute."""
    import torch

    return f"gpu: {torch.cuda.get_device_name(0)}" if torch.cuda.is_available() else cpu_name()


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return f"cpu: {model}"
