#!/usr/bin/env bash
# The first process of every image: ROS's environment, then one part of a run (RUN_FOLDER) or any `etude` command.
#   actor | learner | dashboard | safety | teleop | sim_franka   that node
#   prepare [key=value ...]                                       make the run folder ready from RUN_CONFIG
#   build                                                         the ROS interfaces, when an image is made
#   anything else                                                 etude <anything else>
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -f /opt/ros/jazzy/setup.bash ]; then # the robot computer's image; the others take ROS 2 from wheels
  set +u
  . /opt/ros/jazzy/setup.bash
  [ ! -f /opt/controllers/setup.bash ] || . /opt/controllers/setup.bash
  set -u
fi
mkdir -p .make
if [ "${1:-}" = build ]; then
  exec tools/build_interfaces.sh
fi
. tools/ros_env.sh
export PYTHONPATH="$PWD:$PWD/ros2_ws/src/etude_nodes:$PWD/ros2_ws/src/etude_bringup${PYTHONPATH:+:$PYTHONPATH}"

run="${RUN_FOLDER:-runs/docker}"
part="${1:-actor}"
[ $# -eq 0 ] || shift
case "$part" in
  prepare) exec .venv/bin/python -m etude_bringup.prepare_run --run "$run" --config "${RUN_CONFIG:-robot_configs/runs/demo_state.yaml}" "$@" ;;
  actor | learner | dashboard | safety | teleop) exec .venv/bin/python -m "etude_nodes.${part}_node" --run "$run" "$@" ;;
  sim_franka) exec .venv/bin/python -m etude_nodes.sim_franka_node "$@" ;;
  *) exec .venv/bin/python -m etude "$part" "$@" ;;
esac
