#!/usr/bin/env bash
# The whole test suite on this machine's cores: what only computes runs in parallel, a file per core at a time; what keeps real time,
# talks between processes or drives a browser runs alone afterwards, since a busy core would look like a late robot.
set -euo pipefail
cd "$(dirname "$0")/.."

parallel=(tests/benchmarks tests/etude tests/learner tests/reward_classifiers tests/simulation tests/tools tests/test_extending.py)
jobs=$(nproc)
[ "$jobs" -le 8 ] || jobs=8 # every worker compiles and holds some gigabytes

ignored=()
for path in "${parallel[@]}"; do ignored+=("--ignore=$path"); done
status=0
.venv/bin/python -m pytest -n "$jobs" --dist loadfile "${parallel[@]}" "$@" || status=$?
.venv/bin/python -m pytest "${ignored[@]}" tests "$@" || status=$?
exit "$status"
