"""Commands of the learner: ``etude train offline``, ``etude policy export`` and ``etude recipe list|show|validate``."""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from etude.config import (
    CONFIG_ROOT,
    ConfigError,
    RecipeConfig,
    RunConfig,
    build,
    load_run_config,
    read_named,
    read_yaml,
    save_config,
)
from etude.config.behaviours import BehavioursConfig
from etude.run_folder import RunFolder, demonstrations_store, runs_root

if TYPE_CHECKING:
    from learner.offline import Progress


def train_offline(argv: Sequence[str]) -> int:
    """`etude train offline`: the whole recipe on stored data, into a run folder that practice can go on from."""
    parser = argparse.ArgumentParser(
        prog="etude train offline",
        description="Train a recipe on demonstrations, or on all that a run collected, without a robot. The result is a run "
        "folder: evaluate it, or go on practising from it. Ctrl-C keeps what was trained; --resume goes on.",
        epilog="examples:\n  etude train offline --recipe cal_ql --task relocate\n"
        "  etude train offline --recipe iql --task drawer --data my-demonstrations recipe.data.offline_steps=20000\n"
        "  etude train offline --recipe robofume --task drawer --data drawer-demonstrations --data slide-demonstrations\n"
        "  etude train offline --recipe iql --from runs/latest   (a fresh policy from what that run saw)\n"
        "  etude train offline --resume runs/offline-cal_ql-relocate-s0\n"
        "then: etude evaluate --policy runs/<name>/policy, or etude practice run --from runs/<name> (with its configuration)",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--recipe", help="name in robot_configs/recipes, or a path to a YAML file")
    parser.add_argument("--task", help="name in robot_configs/tasks")
    parser.add_argument("--robot", default="sim_panda_fast", help="name in robot_configs/robots (default: %(default)s)")
    parser.add_argument("--observation", choices=("pixels", "state"), default="state")
    parser.add_argument(
        "--data",
        type=Path,
        action="append",
        help="episode store of the task's demonstrations (default: those that `etude demo record` made); given again: of further "
        "ones, of other tasks too (prior data), each row with its own instruction",
    )
    parser.add_argument(
        "--from",
        dest="origin",
        type=Path,
        metavar="RUN",
        help="learn anew from this practice run's steps, beside its demonstrations",
    )
    parser.add_argument("--resume", type=Path, metavar="RUN", help="continue an interrupted offline training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", help="name of the run folder")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="any setting, e.g. recipe.data.offline_steps=5000")
    arguments = parser.parse_args(list(argv))
    folder, config, practice = _resumed(arguments) if arguments.resume else _begun(arguments)
    from etude.episodes.store import StoreError
    from learner.offline import train
    from learner.replay.demonstrations import DemonstrationError

    demonstrations = config.demonstrations or demonstrations_store(config.task.name, config.observation)
    further = "".join(f", {path}" for path in config.prior_data) + (f" and the steps of {practice.parent}" if practice else "")
    print(f"{config.recipe.name} on {demonstrations}{further}", flush=True)
    try:
        train(config, folder, demonstrations, practice, _say)
    except (StoreError, DemonstrationError) as error:
        raise ConfigError(
            f"{error}; record demonstrations with: etude demo record --task {config.task.name} --observation {config.observation}"
        ) from None
    except KeyboardInterrupt:
        print(f"\nstopped and kept; go on with: etude train offline --resume {folder.root}")
        return 130
    if practice is not None:
        (folder.root / PRACTICE_OF).write_text(f"{practice}\n{FINISHED}\n", encoding="utf-8")
    print(f"trained: {folder.root}\n  etude evaluate --policy {folder.policy}\n  etude practice run --from {folder.root}")
    return 0


def _begun(arguments: argparse.Namespace) -> tuple[RunFolder, RunConfig, Path | None]:
    """A new run folder with its configuration."""
    practice = None
    if arguments.origin is not None:
        origin = RunFolder(arguments.origin.resolve())
        earlier = build(RunConfig, read_yaml(origin.config), str(origin.config))
        practice = origin.episodes
        base = earlier.model_dump(mode="json")
        if arguments.recipe:
            base["recipe"] = read_named("recipes", arguments.recipe)
    else:
        if not arguments.task or not arguments.recipe:
            raise ConfigError("etude train offline needs --recipe and --task, or --from RUN, or --resume RUN")
        base = {
            "task": arguments.task,
            "robot": arguments.robot,
            "recipe": arguments.recipe,
            "observation": arguments.observation,
        }
    folder_name = arguments.name or "-".join(
        [
            "offline",
            arguments.recipe or base["recipe"]["name"],
            base["task"] if isinstance(base["task"], str) else base["task"]["name"],
            f"s{arguments.seed}",
        ]
    )
    folder = RunFolder(runs_root() / Path(folder_name).name)
    if folder.config.exists():
        raise ConfigError(f"{folder.root} exists already: go on with --resume {folder.root}, or choose another --name")
    base |= {"name": "offline", "seed": arguments.seed}
    if arguments.data:
        own, *prior = [path.resolve() for path in arguments.data]
        base |= {"demonstrations": str(own), "prior_data": [str(path) for path in prior]}
    config = load_run_config(base, arguments.overrides, truth_without_images=True)
    _check_order(config)
    if practice is not None:
        _check_retraining(config.recipe)
    folder.create()
    save_config(config, folder.config)
    if practice is not None:
        (folder.root / PRACTICE_OF).write_text(f"{practice}\n", encoding="utf-8")
    return folder, config, practice


def _check_retraining(recipe: RecipeConfig) -> None:
    """Whether `recipe` would learn from the steps of another run at all, and as OOO does. Raises ConfigError."""
    if recipe.data.offline_steps == 0:
        raise ConfigError(
            f"recipe {recipe.name!r} only clones demonstrations before practice (recipe.data.offline_steps is 0), so it would "
            "learn nothing from that run's steps: give it e.g. recipe.data.offline_steps=20000, or use --recipe iql"
        )
    if recipe.critic.kind == "cal_ql":
        raise ConfigError(
            "critic.kind cal_ql calibrates by the returns of whoever collected the steps, and a run's are of many policies: "
            "add recipe.critic.kind=cql, or use --recipe iql"
        )


def _check_order(config: RunConfig) -> None:
    """With prior data the first store must be the task's own: practice goes on with it. Raises ConfigError."""
    if not config.prior_data or config.demonstrations is None:
        return
    from etude.episodes.store import EpisodeStore, StoreError

    try:
        tasks = {info.task for info in EpisodeStore.open(config.demonstrations, "r").segments()}
    except StoreError as error:
        raise ConfigError(str(error)) from None
    if config.task.name not in tasks:
        raise ConfigError(
            f"the first --data, {config.demonstrations}, shows {', '.join(sorted(tasks)) or 'nothing'} and not the task "
            f"{config.task.name!r}: name the task's own demonstrations first, prior data of other tasks after it"
        )


def _resumed(arguments: argparse.Namespace) -> tuple[RunFolder, RunConfig, Path | None]:
    folder = RunFolder(arguments.resume.resolve())
    if arguments.overrides:
        raise ConfigError("--resume goes on with the configuration saved in the run folder; overrides are not possible")
    note = folder.root / PRACTICE_OF
    practice = Path(note.read_text(encoding="utf-8").splitlines()[0]) if note.exists() else None
    return folder, build(RunConfig, read_yaml(folder.config), str(folder.config)), practice


PRACTICE_OF = "practice_of.txt"
"""In the run folder of offline retraining: the episode store that was learnt from, and a second line when it has ended."""
FINISHED = "finished"


def refuse_unfinished_retraining(folder: RunFolder) -> None:
    """A practice run that begins from `folder` does the updates that are missing there, but on demonstrations alone: offline
    retraining on another run's steps must have ended.

    Raises:
        ConfigError: it has not.
    """
    note = folder.root / PRACTICE_OF
    if note.exists() and FINISHED not in note.read_text(encoding="utf-8").splitlines()[1:]:
        raise ConfigError(
            f"{folder.root} is an offline retraining that has not ended, and practice has not the steps that it learns from: "
            f"finish it with `etude train offline --resume {folder.root}`, then practise from it"
        )


def _say(progress: "Progress") -> None:
    left_s = (progress.total - progress.done) / max(1e-9, progress.updates_per_s)
    numbers = "  ".join(f"{name} {value:.3f}" for name, value in progress.metrics.items() if "loss" in name)
    clock = time.strftime("%H:%M:%S", time.gmtime(left_s))
    print(
        f"{progress.done} of {progress.total} updates | {progress.updates_per_s:.0f}/s | {clock} left | {numbers}",
        file=sys.stderr,
        flush=True,
    )


def policy_export(argv: list[str]) -> int:
    """Write the newest checkpoint's policy as program + weights, the two files that an actor or `etude evaluate` runs."""
    parser = argparse.ArgumentParser(
        prog="etude policy export",
        description="Write the newest checkpoint of a run as policy.program and policy.safetensors.",
        epilog="example: etude policy export runs/latest --out my_policy",
    )
    parser.add_argument("run", type=Path, help="run folder, e.g. runs/latest")
    parser.add_argument("--out", type=Path, default=None, help="folder for the two files (default: <run>/policy)")
    arguments = parser.parse_args(argv)
    folder = RunFolder(arguments.run.resolve())
    config = build(RunConfig, read_yaml(folder.config), str(folder.config))
    # imported late: this is the only part of the command that needs JAX
    import jax
    import numpy as np

    from etude.episodes.store import EpisodeStore
    from etude.policy_file import save_policy
    from learner import export
    from learner.checkpoint import Checkpoints
    from learner.recipe import Agent

    # a run that was trained offline has no episodes of its own
    demonstrations = config.demonstrations or demonstrations_store(config.task.name, config.observation)
    store = EpisodeStore.open(folder.episodes if folder.episodes.is_dir() else demonstrations, "r")
    agent = Agent(config.recipe, store.observation_spec, store.action_spec, config.task.instructions)
    dim = store.observation_spec.state_dim
    like = agent.init(jax.random.key_data(jax.random.key(0)), np.zeros(dim), np.ones(dim))
    checkpoints = Checkpoints(folder.checkpoints)
    state, counters = checkpoints.restore(like)
    checkpoints.close()
    program = export.export_program(agent, state)
    weights = export.weights(folder.root.name, int(counters["version"]), program, export.host_parameters(agent, state))
    out = arguments.out or folder.policy
    save_policy(out, program, weights)
    size = sum(array.nbytes for array in weights.parameters.values()) / 1e6
    print(
        f"wrote {out}: {program.description}, version {weights.version}, {size:.1f} MB of weights, digest {program.digest[:12]}"
    )
    return 0


def recipe_list(argv: list[str]) -> int:
    """One paragraph per recipe in robot_configs/recipes: its axes, its sentence, its paper."""
    argparse.ArgumentParser(prog="etude recipe list", description="List the recipes with a sentence each.").parse_args(argv)
    for path in sorted((CONFIG_ROOT / "recipes").glob("*.yaml")):
        recipe = build(RecipeConfig, read_yaml(path), str(path))
        axes = f"{recipe.critic.kind} + {recipe.policy.kind} + {recipe.improvement.kind}"
        print(f"{recipe.name:<22} {axes:<34} {recipe.summary}" + (f" [{recipe.paper}]" if recipe.paper else ""))
    for path in sorted((CONFIG_ROOT / "behaviours").glob("*.yaml")):
        library = build(BehavioursConfig, read_yaml(path), str(path))
        print(f"{library.name:<22} {'single life: library of behaviours':<34} {library.summary} [{library.paper}]")
    return 0


def recipe_show(argv: list[str]) -> int:
    """The resolved recipe, every default filled in, after the comments at the head of its file, which explain its choices."""
    parser = argparse.ArgumentParser(
        prog="etude recipe show", description="Explain a recipe's choices and print it with every default filled in."
    )
    parser.add_argument("name", help="name in robot_configs/recipes or robot_configs/behaviours, or a path to a YAML file")
    recipe, path = _read(parser.parse_args(argv).name)
    lines = path.read_text(encoding="utf-8").splitlines()
    for line in itertools.takewhile(lambda line: line.startswith("#"), lines):
        print(line)
    print(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False), end="")
    return 0


def recipe_validate(argv: list[str]) -> int:
    """Check recipes; an unknown key or a bad value is an error with its path."""
    parser = argparse.ArgumentParser(prog="etude recipe validate", description="Check recipe files.")
    parser.add_argument("names", nargs="+", help="names of recipes and of behaviours, or paths to YAML files")
    for name in parser.parse_args(argv).names:
        recipe, _ = _read(name)
        print(f"{recipe.name}: ok")
    return 0


def _read(name: str) -> tuple[RecipeConfig | BehavioursConfig, Path]:
    """The recipe, or the library of behaviours of a single life, and its file; files in a folder `behaviours` are the latter."""
    library = CONFIG_ROOT / "behaviours" / f"{name}.yaml"
    path = Path(name) if name.endswith(".yaml") else library if library.is_file() else CONFIG_ROOT / "recipes" / f"{name}.yaml"
    if path.resolve().parent.name == "behaviours":
        return build(BehavioursConfig, read_yaml(path), name), path
    return build(RecipeConfig, read_yaml(path), name), path
