"""Scripted experts of Gymnasium environments: the environment's own, or Meta-World's scripted policies.

Separate from the robot, so that the only place that knows Meta-World by name is here; it is imported when such a task is made.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np

from etude.config import ConfigError

Expert = Callable[[np.ndarray, str, np.random.Generator], np.ndarray]
"""(the environment's observation, phase, rng) -> an action in the environment's units, without noise."""

META_WORLD = "Meta-World/"
"""Namespace of the ids that Meta-World registers."""


def find_expert(environment: gymnasium.Env, environment_id: str, options: Mapping[str, Any]) -> Expert | None:
    """The scripted expert of `environment`, or None.

    An environment brings its own as a method ``expert_action(phase, rng)``. A Meta-World task is found by the ``env_name`` in
    `options`, e.g. ``door-open-v3``; its policy knows the forward direction only.

    Raises:
        ConfigError: a Meta-World environment whose options name no task with a scripted policy.
    """
    own = getattr(environment.unwrapped, "expert_action", None)
    if callable(own):
        return lambda observation, phase, rng: own(phase, rng)
    if META_WORLD in environment_id:
        return _meta_world(str(options.get("env_name", "")))
    return None


def _meta_world(name: str) -> Expert:
    from metaworld.policies import ENV_POLICY_MAP

    # its proportional controllers overshoot the action range on purpose, and say so at every step
    warnings.filterwarnings("ignore", message=r"Constant\(s\) may be too high", module=r"metaworld\.")
    if name not in ENV_POLICY_MAP:
        raise ConfigError(f"Meta-World has no scripted policy for robot.environment_options.env_name={name!r}, e.g. door-open-v3")
    policy = ENV_POLICY_MAP[name]()

    def act(observation: np.ndarray, phase: str, rng: np.random.Generator) -> np.ndarray:
        if phase != "forward":
            raise NotImplementedError(f"Meta-World's scripted policy of {name!r} knows the forward direction only")
        return policy.get_action(observation)

    return act
