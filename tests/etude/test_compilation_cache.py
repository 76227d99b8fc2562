"""Compiled programs are kept between starts: in a folder of this kind of processor, and never at the cost of a start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from etude.compilation_cache import compilation_cache, processor
from etude.ros_environment import ros_environment

PROGRAM = """
import jax, jax.numpy as jnp

def slow_to_compile(x):
    for i in range(60):
        x = jnp.sin(x @ x.T) @ jnp.cos(x) + i
    return x.sum()

print(float(jax.jit(jax.grad(slow_to_compile))(jnp.ones((8, 8))).sum()))
"""


def test_a_second_start_reads_what_the_first_compiled_and_computes_the_same(tmp_path: Path):
    environ = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "JAX_PLATFORMS": "cpu"}
    for name in ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"):
        environ.pop(name, None)
    environ = ros_environment(environ)
    outputs = [
        subprocess.run([sys.executable, "-c", PROGRAM], env=environ, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    kept = list(Path(environ["JAX_COMPILATION_CACHE_DIR"]).glob("jit_slow_to_compile-*-cache"))
    assert len(kept) == 1, "the second start compiled the program again"
    assert outputs[0] == outputs[1]


def test_kinds_of_processors_have_folders_of_their_own(tmp_path: Path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("processor : 0\nmodel name : A\nflags : fpu sse2\nprocessor : 1\nmodel name : A\nflags : fpu sse2\n")
    new.write_text("processor : 0\nmodel name : A\nflags : fpu sse2 avx2\n")
    assert processor(old) != processor(new)
    fewer_cores = tmp_path / "fewer"
    fewer_cores.write_text("processor : 0\nmodel name : A\nflags : fpu sse2\n")
    assert processor(old) == processor(fewer_cores)
    assert processor(tmp_path / "absent") == processor(tmp_path / "absent")


def test_without_a_folder_to_write_to_there_is_no_cache(tmp_path: Path):
    (tmp_path / "file").write_text("")
    assert compilation_cache({}) == {}
    assert compilation_cache({"XDG_CACHE_HOME": str(tmp_path / "file")}) == {}


def test_the_callers_own_folder_is_kept(tmp_path: Path):
    assert ros_environment({"JAX_COMPILATION_CACHE_DIR": "/mine", "HOME": str(tmp_path)})["JAX_COMPILATION_CACHE_DIR"] == "/mine"
