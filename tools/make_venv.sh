#!/usr/bin/env bash
# Makes .venv (kept when it fits) and installs the given requirement files into it, with progress; with base.txt also the ROS 2
# wheels (unless a system ROS 2 is sourced) and this repository.
# usage: tools/make_venv.sh requirements/base.txt ...
set -euo pipefail
cd "$(dirname "$0")/.."

mode="$([ -n "${ROS_DISTRO:-}" ] && echo system || echo wheels)"
python="$(tools/find_python.sh)"

# An environment that holds the wheels must not be used with a system ROS 2, nor the other way round.
if [ -x .venv/bin/python ] && ! .venv/bin/python -c '' 2>/dev/null; then
  echo "The interpreter of .venv is gone: making it anew."
  rm -rf .venv
elif [ -d .venv ] && [ "$(cat .venv/etude-ros-mode 2>/dev/null || echo wheels)" != "$mode" ]; then
  echo "ROS 2 now comes from $([ $mode = system ] && echo "the system" || echo "wheels"): making .venv anew."
  rm -rf .venv
fi
if [ ! -x .venv/bin/pip ]; then
  echo "Making .venv with $("$python" -V) ..."
  # a system rclpy, colcon and launch stand on system Python packages (lark, empy, catkin_pkg)
  "$python" -m venv $([ "$mode" = system ] && echo --system-site-packages) .venv
fi
echo "$mode" >.venv/etude-ros-mode

requirements=(-c requirements/base.txt)
repository=
for file in "$@"; do
  requirements+=(-r "$file")
  [ "$file" = requirements/base.txt ] && repository=yes
done
if [ -n "$repository" ] && [ "$mode" = wheels ]; then
  requirements+=(-r requirements/ros-jazzy.txt)
fi

log=.make/pip.log
echo "Installing Python packages into .venv ($*; log: $log) ..."
(
  export _ROS_WHEELS_BOOTSTRAP_COMPLETE=1 PIP_DISABLE_PIP_VERSION_CHECK=1
  .venv/bin/python -m pip install --progress-bar off "${requirements[@]}"
  if [ -n "$repository" ]; then
    .venv/bin/python -m pip install --progress-bar off --no-build-isolation --no-deps -e .
  fi
) >"$log" 2>&1 &
pid=$!
trap 'kill $pid 2>/dev/null || true' INT TERM
started=$SECONDS
while kill -0 $pid 2>/dev/null; do
  sleep 1
  if (((SECONDS - started) % 10 == 0)); then
    echo "  $((SECONDS - started)) s: $(grep -c '^Collecting' "$log" || true) packages found$(grep -q '^Installing collected' "$log" && echo ', installing' || true)"
  fi
done
if ! wait $pid; then
  grep -iE '^ *error' "$log" >&2 || tail -n 15 "$log" >&2
  echo "error: installing the Python packages failed; the whole log is $log" >&2
  exit 1
fi
echo "Python packages are installed ($((SECONDS - started)) s)."
