"""Commands of the learner: ``etude policy export`` and ``etude recipe list|show|validate``."""

from __future__ import annotations

import argparse
from pathlib import Path

import yaml

from etude.config import CONFIG_ROOT, ConfigError, RecipeConfig, RunConfig, build, read_named, read_yaml
from etude.run_folder import RunFolder


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

    store = EpisodeStore.open(folder.episodes, "r")
    agent = Agent(config.recipe, store.observation_spec, store.action_spec)
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
    """One line per recipe in robot_configs/recipes."""
    argparse.ArgumentParser(prog="etude recipe list", description="List the recipes with a sentence each.").parse_args(argv)
    for path in sorted((CONFIG_ROOT / "recipes").glob("*.yaml")):
        recipe = build(RecipeConfig, read_yaml(path), str(path))
        print(f"{recipe.name:<14} {recipe.summary}")
    return 0


def recipe_show(argv: list[str]) -> int:
    """The resolved recipe, every default filled in."""
    parser = argparse.ArgumentParser(prog="etude recipe show", description="Print a recipe with every default filled in.")
    parser.add_argument("name", help="name in robot_configs/recipes, or a path to a YAML file")
    recipe = _read(parser.parse_args(argv).name)
    print(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False), end="")
    return 0


def recipe_validate(argv: list[str]) -> int:
    """Check recipes; an unknown key or a bad value is an error with its path."""
    parser = argparse.ArgumentParser(prog="etude recipe validate", description="Check recipe files.")
    parser.add_argument("names", nargs="+", help="names in robot_configs/recipes, or paths to YAML files")
    for name in parser.parse_args(argv).names:
        recipe = _read(name)
        if recipe.critic.subset_min > recipe.critic.ensemble:
            raise ConfigError(
                f"recipe {recipe.name}: critic.subset_min is {recipe.critic.subset_min} but critic.ensemble has "
                f"only {recipe.critic.ensemble} members"
            )
        print(f"{recipe.name}: ok")
    return 0


def _read(name: str) -> RecipeConfig:
    return build(RecipeConfig, read_named("recipes", name), name)
