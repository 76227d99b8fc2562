"""Whether a run's configuration, its robot and its judge fit together, before anything moves."""

from __future__ import annotations

from actor.task_graph import from_tasks
from etude.config import ConfigError, RunConfig
from etude.robot import Judge, Robot


def require_fit(config: RunConfig, robot: Robot, judge: Judge | None) -> None:
    """Raises ConfigError when a reward has no judge, a pace is not the robot's, or practice would come to an end."""
    if config.recipe.reward.kind == "classifier" and judge is None:
        raise ConfigError(
            "recipe.reward.kind is 'classifier' but there is no success classifier: train one with "
            f"`etude classifier train --task {config.task.name}`, or use recipe.reward.kind=environment"
        )
    if config.robot.pace != "realtime" and not robot.advances_on_act:
        raise ConfigError(f"robot.pace is {config.robot.pace!r} but this robot moves in real time: use robot.pace=realtime")
    from_tasks({f"task {config.task.name}": config.task})  # refuses conditions between which practice would come to an end
