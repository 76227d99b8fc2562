"""The scripted expert's demonstrations that a proof begins with. Separate because several proofs make them alike."""

from __future__ import annotations

from pathlib import Path

from etude.config import RunConfig

DEMONSTRATION_SEED = 0
"""All recipes and seeds of a proof learn from the same demonstrations."""


def demonstrate(config: RunConfig, path: Path, count: int | None = None) -> None:
    """Make the store of `count` demonstrations per direction at `path`; None: as many as the task asks for."""
    from actor.demonstrations import record_demonstrations
    from actor.robots import make_robot
    from etude.episodes.store import EpisodeStore

    count = config.task.demonstrations_per_direction if count is None else count
    robot = make_robot(config, DEMONSTRATION_SEED)
    try:
        with EpisodeStore.create(path, robot.observation_spec, robot.action_spec, {"kind": "demonstrations"}) as store:
            record_demonstrations(config, robot, store, count, DEMONSTRATION_SEED)
    finally:
        robot.close()
