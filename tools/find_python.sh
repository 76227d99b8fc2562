#!/usr/bin/env bash
# Prints the Python interpreter that the virtual environment is made from, or says clearly which one is needed.
# PYTHON (a name or path) overrides the search. With a system ROS 2 sourced, the interpreter must be the one that its rclpy
# was built for; the wheels exist for 3.11 and 3.12.
set -euo pipefail

version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true; }

wanted="3.11 3.12"
if [ -n "${ROS_DISTRO:-}" ]; then
  for folder in $(echo "${PYTHONPATH:-}:${AMENT_PREFIX_PATH:-}" | tr ':' ' '); do
    for rclpy in "$folder"/rclpy "$folder"/lib/python3.*/site-packages/rclpy; do
      if [ -d "$rclpy" ]; then
        wanted="$(echo "$rclpy" | sed -n 's|.*/python\(3\.[0-9]*\)/.*|\1|p')"
        break 2
      fi
    done
  done
fi

for candidate in ${PYTHON:-$(for v in $wanted; do echo "python$v"; done) python3}; do
  version="$(version_of "$candidate")"
  for v in $wanted; do
    if [ "$version" = "$v" ]; then
      "$candidate" -c 'import sys; print(sys.executable)'
      exit 0
    fi
  done
done

if [ -n "${PYTHON:-}" ]; then
  echo "error: PYTHON=$PYTHON is Python '$(version_of "$PYTHON")', but one of these is needed: $wanted" >&2
else
  echo "error: no Python of version ${wanted// / or } was found. Install one (Debian 12: apt-get install python3.11 python3.11-venv" >&2
  echo "python3.11-dev; Ubuntu 24.04: apt-get install python3.12 python3.12-venv python3.12-dev), or say make PYTHON=/path/to/python3.11" >&2
fi
exit 1
