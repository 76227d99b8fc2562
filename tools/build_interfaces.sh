#!/usr/bin/env bash
# Builds ros2_ws with colcon: against the system ROS 2 when one is sourced, else against the wheels in .venv.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -n "${ROS_DISTRO:-}" ]; then mode=system; else mode=wheels; fi
built_for="$mode $(.venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])') $PWD"
if [ -d ros2_ws/build ] && [ "$(cat ros2_ws/build/built-for 2>/dev/null)" != "$built_for" ]; then
  # CMake's cache holds absolute paths of the other interpreter or place
  rm -rf ros2_ws/build ros2_ws/install ros2_ws/log
fi
mkdir -p ros2_ws/build
echo "$built_for" >ros2_ws/build/built-for

cmake_args=(-DCMAKE_BUILD_TYPE=Release -DBUILD_TESTING=OFF)
if [ "$mode" = wheels ]; then
  . tools/ros_env.sh
  cmake_args+=(-GNinja "-DCMAKE_PROJECT_INCLUDE=$PWD/ros2_ws/cmake/without_wheel_builder_paths.cmake")
fi
# colcon runs in .venv's interpreter, so that the nodes' scripts name it; a system colcon comes from the system's packages
if ! .venv/bin/python -c 'import colcon_core, colcon_ros' 2>/dev/null; then
  echo "error: ROS 2 $mode is used but colcon is not there: sudo apt-get install python3-colcon-common-extensions" >&2
  exit 1
fi

echo "Building the ROS interfaces (about 40 s the first time; log: .make/colcon.log) ..."
started=$SECONDS
if ! (cd ros2_ws && ../.venv/bin/python -m colcon build --merge-install --symlink-install --cmake-args "${cmake_args[@]}") >.make/colcon.log 2>&1; then
  tail -n 40 .make/colcon.log >&2
  echo "error: building ros2_ws failed; the whole log is .make/colcon.log" >&2
  exit 1
fi
echo "The ROS interfaces are built ($((SECONDS - started)) s)."
