"""Training before practice: how many updates of which stage. The learner process and `etude train offline` share it."""

from __future__ import annotations

from etude.config import RecipeConfig
from learner.recipe import Stage
from learner.replay.ring import Ring

BLOCK = 10
"""Updates per jitted call. Always full blocks: another length would compile the update anew."""


def _whole_blocks(updates: int) -> int:
    return -(-updates // BLOCK) * BLOCK


def total_updates(recipe: RecipeConfig, prior: Ring) -> int:
    """Updates before practice, of both stages; 0 when a phase has no prior data to learn from."""
    if any(prior.transitions(phase) == 0 for phase in recipe.phases):
        return 0
    return _whole_blocks(recipe.data.pretrain_bc_steps) + _whole_blocks(recipe.data.offline_steps)


def stage(recipe: RecipeConfig, done: int) -> Stage:
    """The stage of the update after `done` ones."""
    return "clone" if done < _whole_blocks(recipe.data.pretrain_bc_steps) else "offline"
