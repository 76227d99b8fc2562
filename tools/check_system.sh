#!/usr/bin/env bash
# Checks what pip cannot install: compiler, CMake, Python headers and venv, an OpenGL library for rendering without a screen.
# What is missing is installed when this is root on a machine with apt; otherwise the exact line to run is printed.
# ETUDE_SKIP_SYSTEM_CHECK=1 goes on regardless.
set -euo pipefail
cd "$(dirname "$0")/.."

python="$(tools/find_python.sh)"
version="$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"

missing=()   # what, for people
packages=()  # Debian and Ubuntu packages
need() {
  missing+=("$1")
  shift
  packages+=("$@")
}

find_missing() {
  missing=() packages=()
  command -v g++ >/dev/null || need "a C++ compiler (builds the ROS interfaces)" g++
  command -v cmake >/dev/null || need "CMake (builds the ROS interfaces)" cmake
  "$python" - <<'PY' || need "the headers of Python $version (Python.h)" "python$version-dev"
import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")))
PY
  "$python" -c 'import venv, ensurepip' 2>/dev/null || need "the venv module of Python $version" "python$version-venv"
  libraries="$(ldconfig -p 2>/dev/null || /sbin/ldconfig -p 2>/dev/null || true)"
  if ! grep -q 'libEGL\.so\.1' <<<"$libraries" && ! grep -q 'libOSMesa\.so' <<<"$libraries"; then
    need "an OpenGL library for rendering without a screen (EGL or OSMesa)" libegl1 libgl1 libopengl0 libgl1-mesa-dri
  fi
}

find_missing
[ ${#missing[@]} -eq 0 ] && exit 0

echo "This machine lacks:"
printf '  - %s\n' "${missing[@]}"
line="apt-get install -y --no-install-recommends ${packages[*]}"
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "Installing: $line"
  export DEBIAN_FRONTEND=noninteractive
  { $line || { apt-get update && $line; }; } >.make/apt.log 2>&1 || tail -n 5 .make/apt.log >&2
  find_missing
  [ ${#missing[@]} -eq 0 ] && exit 0
  echo "error: still missing: ${missing[*]}. The log is .make/apt.log." >&2
else
  echo "Install it with:"
  echo "  sudo $line"
  echo "(on another distribution: the packages that provide the same), then run make again."
fi
if [ -n "${ETUDE_SKIP_SYSTEM_CHECK:-}" ]; then
  echo "ETUDE_SKIP_SYSTEM_CHECK is set: going on without."
  exit 0
fi
exit 1
