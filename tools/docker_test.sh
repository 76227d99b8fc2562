#!/usr/bin/env bash
# Builds the images that need no GPU and no robot, and lets the simulated robot practise in them for a minute.
# usage: tools/docker_test.sh   (needs a running container engine: docker, or podman with docker's command)
set -euo pipefail
cd "$(dirname "$0")/.."

if ! docker info >/dev/null 2>&1; then
  echo "docker-test is skipped: no container engine answers here (docker info)"
  exit 0
fi
compose() { RUN="test-$$" PORT=8420 docker compose -p etude-test -f docker/compose.yaml "$@"; }
trap 'compose down --volumes --timeout 30' EXIT
compose build prepare
compose up -d learner-cpu actor-sim dashboard
echo "waiting for practice (the first start records demonstrations) ..."
for ((waited = 0; waited < 600; waited += 5)); do
  steps=$(curl -fsS http://127.0.0.1:8420/api/snapshot 2>/dev/null | python3 -c 'import json,sys; print(json.load(sys.stdin).get("status", {}).get("env_steps", 0))' 2>/dev/null || echo 0)
  if [ "$steps" -ge 200 ]; then
    echo "the simulated robot has practised $steps steps in containers"
    exit 0
  fi
  sleep 5
done
compose logs --tail 40
echo "error: no 200 steps of practice within 10 minutes" >&2
exit 1
