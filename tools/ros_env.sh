# Source this (bash) to get the ROS 2 environment of this repository: interfaces, nodes, middleware settings.
#
# With a system ROS 2 sourced before (ROS_DISTRO is set), only the workspace overlay and the middleware settings are added
# and nothing is taken from wheels. Otherwise ROS 2 comes from the wheels in .venv.
# etude/ros_environment.py does the same for `.venv/bin/etude`, which needs nothing sourced; keep the two in step.

_etude_root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
_etude_install="$_etude_root/ros2_ws/install"

if [ -z "${ROS_DISTRO:-}" ]; then
  if [ ! -x "$_etude_root/.venv/bin/python" ]; then
    echo "ros_env.sh: there is no .venv yet; run 'make build' first" >&2
    return 1
  fi
  export VIRTUAL_ENV="$_etude_root/.venv"
  _etude_site="$(echo "$VIRTUAL_ENV"/lib/python3.*/site-packages)"
  case ":$PATH:" in *":$VIRTUAL_ENV/bin:"*) ;; *) export PATH="$VIRTUAL_ENV/bin:$PATH" ;; esac
  export AMENT_PREFIX_PATH="$VIRTUAL_ENV"
  export CMAKE_PREFIX_PATH="$VIRTUAL_ENV"
  export LD_LIBRARY_PATH="$VIRTUAL_ENV/lib:$(printf '%s:' "$_etude_site"/ros_*.libs)${LD_LIBRARY_PATH:-}"
  # the wheels' own start-up hook would start every interpreter twice to set the library path
  export _ROS_WHEELS_BOOTSTRAP_COMPLETE=1
  # the wheels hold one middleware only; any other choice from the caller's shell would abort
  unset RMW_IMPLEMENTATION
fi

export ROS_AUTOMATIC_DISCOVERY_RANGE="${ROS_AUTOMATIC_DISCOVERY_RANGE:-LOCALHOST}"
export FASTRTPS_DEFAULT_PROFILES_FILE="${FASTRTPS_DEFAULT_PROFILES_FILE:-$_etude_root/config/fastdds_profile.xml}"

if [ -f "$_etude_install/setup.bash" ]; then
  case $- in *u*) _etude_strict=1 ;; *) _etude_strict= ;; esac
  set +u # colcon's setup file reads unset variables
  # shellcheck source=/dev/null
  . "$_etude_install/setup.bash"
  [ -z "$_etude_strict" ] || set -u
  unset _etude_strict
fi
unset _etude_root _etude_install _etude_site
true
