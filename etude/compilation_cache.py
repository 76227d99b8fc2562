"""Where JAX keeps the programs that it compiled, so that a learner or actor that starts again does not compile them again.

Compiled code is for one kind of processor, and home folders are often shared between machines; so every kind has a folder of its
own. JAX writes plain object code there, nothing that is unpickled. The folder may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Mapping
from pathlib import Path

SHORTEST_S = "0.3"
"""Programs that compile faster than this are not kept: reading them takes as long."""


def compilation_cache(environ: Mapping[str, str]) -> dict[str, str]:
    """Environment variables that turn JAX's cache on, or none where there is no folder that can be written.

    The folder is ``$XDG_CACHE_HOME/etude/compiled-<processor>``, by default below ``~/.cache``.
    """
    home = environ.get("XDG_CACHE_HOME") or (f"{environ['HOME']}/.cache" if environ.get("HOME") else None)
    if home is None:
        return {}
    folder = Path(home) / "etude" / f"compiled-{processor()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return {}
    if not os.access(folder, os.W_OK):
        return {}
    return {"JAX_COMPILATION_CACHE_DIR": str(folder), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": SHORTEST_S}


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """A short name for this kind of processor: its architecture and a digest of its model and instruction sets."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    telling = {line.strip() for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))}
    return f"{platform.machine()}-{hashlib.sha256(chr(10).join(sorted(telling)).encode()).hexdigest()[:8]}"
