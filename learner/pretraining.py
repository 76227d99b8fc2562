"""Training before practice: how many updates of which stage. The learner process and `etude train offline` share it."""

from __future__ import annotations

from etude.config import RecipeConfig
from learner.recipe import Stage
from learner.replay.ring import Ring

BLOCK = 10
"""Updates per jitted call, at least. Always full blocks: another length would compile the update anew."""


def block(recipe: RecipeConfig, at_least: int = BLOCK) -> int:
    """Updates per jitted call: whole turns of ``improvement.every``, so that every call ends with a step of the policy."""
    return _multiple(at_least, recipe.improvement.every)


def _multiple(updates: int, of: int) -> int:
    return -(-updates // of) * of


def total_updates(recipe: RecipeConfig, prior: Ring) -> int:
    """Updates before practice, of both stages; 0 when a phase has no prior data to learn from."""
    if any(prior.transitions(phase) == 0 for phase in recipe.phases):
        return 0
    return sum(_multiple(updates, block(recipe)) for updates in (recipe.data.pretrain_bc_steps, recipe.data.offline_steps))


def stage(recipe: RecipeConfig, done: int) -> Stage:
    """The stage of the update after `done` ones."""
    return "clone" if done < _multiple(recipe.data.pretrain_bc_steps, block(recipe)) else "offline"
