#!/usr/bin/env bash
# Makes .venv-bench, for Meta-World alone: it needs MuJoCo 3.3.0 exactly. Everything else is taken from .venv, which must be built.
# usage: tools/make_bench_env.sh
set -euo pipefail
cd "$(dirname "$0")/.."

# imageio: gymnasium imports it for the MuJoCo environments
packages=(metaworld==3.1.1 mujoco==3.3.0 imageio==2.37.0)
rm -rf .venv-bench
.venv/bin/python -m venv .venv-bench
# its own packages come first on the path, those of .venv after them
.venv-bench/bin/python - <<'PYTHON'
import pathlib
import sysconfig

here = pathlib.Path(sysconfig.get_path("purelib"))
base = pathlib.Path(str(here).replace("/.venv-bench/", "/.venv/"))
(here / "etude-base.pth").write_text(f"import site; site.addsitedir({str(base)!r})\n", encoding="utf-8")
PYTHON
echo "Installing ${packages[*]} into .venv-bench ..."
PIP_DISABLE_PIP_VERSION_CHECK=1 .venv-bench/bin/python -m pip install --quiet --no-deps "${packages[@]}"
.venv-bench/bin/python -c 'import metaworld, mujoco; print("Meta-World with MuJoCo", mujoco.__version__, "is ready.")'
