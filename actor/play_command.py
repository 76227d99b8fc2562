"""The command `etude classifier collect`: labelled play into an episode store that only the success classifier learns from.

Here and not among the classifier's commands, because it moves a robot.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from actor.commands import CommandError, task_config
from etude.run_folder import classifier_frames_store


def collect_command(argv: Sequence[str]) -> int:
    """`etude classifier collect`: the scripted expert plays around both goals; ground truth presses the button."""
    parser = argparse.ArgumentParser(
        prog="etude classifier collect",
        description="Record labelled play around both goals for the success classifier. In simulation the expert plays and the "
        "ground truth stands for a person's button.",
        epilog="examples:\n  etude classifier collect --task slide\n"
        "  etude classifier collect --task slide --seed 7 --frames 400 --out test-play --lighting dim",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--task", required=True, help="name of a file in robot_configs/tasks")
    parser.add_argument("--robot", default="sim_panda_fast", help="name of a file in robot_configs/robots (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=1500, help="per direction (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="folder of the new store (default: the task's)")
    parser.add_argument("--lighting", default="", help="a word for the light; tests of classifiers tell lights apart by it")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    from actor.play import record_play
    from actor.robots import make_robot
    from etude.episodes.store import EpisodeStore

    if arguments.frames < 2:
        raise CommandError(f"--frames is {arguments.frames}: play needs at least 2 per direction")
    config = task_config(arguments.task, "pixels", arguments.robot)
    out = arguments.out or classifier_frames_store(config.task.name)
    if out.exists():
        raise CommandError(f"{out} is there already: name another folder with --out, or move it aside")
    robot = make_robot(config, arguments.seed)
    metadata = {"task": config.task.name, "kind": "play", "lighting": arguments.lighting}
    try:
        with EpisodeStore.create(out, robot.observation_spec, robot.action_spec, metadata) as store:
            record_play(config, robot, store, arguments.seed, arguments.frames)
    finally:
        robot.close()
    print(f"{arguments.frames} frames of labelled play per direction of {config.task.name} in {out}")
    return 0
