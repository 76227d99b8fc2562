"""How `open_clip` is imported beside any torch, CPU builds included. It comes with the extras ``vision`` and ``rewards``."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

_schemas: list[Any] = []  # torch forgets the operators with the object that declared them


def import_open_clip() -> ModuleType:
    """The module. Raises ImportError (not installed) or RuntimeError (torch and torchvision do not fit)."""
    mend_torchvision()
    return importlib.import_module("open_clip")


def mend_torchvision() -> None:
    """Make ``import torchvision`` work beside a CPU build of torch; whoever imports it, open_clip or transformers, comes after.

    torchvision's wheel expects CUDA; without it the import misses two operators that image models never call, so they are
    declared and the import is tried again. Raises ImportError or RuntimeError.
    """
    import torch

    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error) or torch.version.cuda is not None:
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _schemas.append(library)
        importlib.import_module("torchvision")
