"""Policy-agnostic improvement (PA-RL, Mark et al. 2024, arXiv 2412.06685): the critic improves sampled actions in action space,
and the policy imitates them by its own supervised loss. Works for every policy class that samples and imitates.

The optimised actions are also what the robot executes and what the critic's own target uses. All of them come from the averaged
policy parameters; scores are the ensemble's mean, or with `q_reduction` its minimum (not in the paper).
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from learner.improvement.bc import cloning_loss
from learner.improvement.gradient import combine
from learner.parts import Improver, Metrics, Params, Rows

ACTS_WITH_CRITIC = True
LEARNS_OFFLINE = False


def optimise(
    improver: Improver,
    policy: Params,
    features: jax.Array,
    key: jax.Array,
    *,
    stored: jax.Array | None = None,
    softmax: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """The action that the critic prefers among improved samples of the policy.

    Samples `candidates` actions, keeps the `keep` with the highest Q, takes `ascent_steps` of gradient ascent on each,
    ``a ← clip(a + step · ∂Q/∂a, −1, 1)``, and of each candidate the iterate with the highest Q, the start included. The answer
    never scores below the best sample.

    Args:
        features: ``(B, f)``.
        stored: ``(B, d)`` actions of the batch; each replaces the worst kept candidate of its row (distillation only).
        softmax: draw the winner with probability softmax(Q), temperature 1, instead of taking the best one.

    Returns:
        Actions ``(B, d)`` and their Q ``(B,)``, without gradient.
    """
    config = improver.recipe.improvement
    sample_key, choice_key = jax.random.split(key)
    candidates, _ = improver.policy.sample(improver.recipe, policy, features, improver.action_dim, sample_key, config.candidates)
    candidates, features = jax.lax.stop_gradient((candidates, features))

    def score(actions: jax.Array) -> jax.Array:
        """Mean (or minimum) over the ensemble, of ``(n, B, d)`` actions in one critic call: ``(n, B)``."""
        q = improver.critic(features, actions)
        return q.min(0) if config.q_reduction == "min" else q.mean(0)

    def value_and_ascent(actions: jax.Array) -> tuple[jax.Array, jax.Array]:
        q, gradient_of = jax.vjp(score, actions)
        return q, gradient_of(jnp.ones_like(q))[0]  # of the sum, so each candidate gets its own gradient unscaled

    actions = _best(candidates, score(candidates), min(config.keep, config.candidates))
    if stored is not None:
        actions = actions.at[-1].set(jax.lax.stop_gradient(stored))  # sorted: the last one is the worst

    def ascend(carry: tuple[jax.Array, jax.Array, jax.Array], _: None) -> tuple[tuple[jax.Array, jax.Array, jax.Array], None]:
        actions, best, best_q = carry
        q, ascent = value_and_ascent(actions)
        best, best_q = _better(actions, q, best, best_q)
        return (jnp.clip(actions + config.ascent_step_size * ascent, -1.0, 1.0), best, best_q), None

    start = (actions, actions, jnp.full(actions.shape[:-1], -jnp.inf))
    (actions, best, best_q), _ = jax.lax.scan(ascend, start, None, length=config.ascent_steps)
    best, best_q = _better(actions, score(actions), best, best_q)
    winner = jax.random.categorical(choice_key, best_q, axis=0) if softmax else best_q.argmax(0)
    chosen = jnp.take_along_axis(best, winner[None, :, None], axis=0)[0]
    return jax.lax.stop_gradient((chosen, jnp.take_along_axis(best_q, winner[None], axis=0)[0]))


def _best(actions: jax.Array, q: jax.Array, count: int) -> jax.Array:
    """The `count` actions of each row with the highest q, best first: ``(n, B, d)``, ``(n, B)`` → ``(count, B, d)``."""
    _, order = jax.lax.top_k(q.T, count)
    return jnp.take_along_axis(actions, order.T[..., None], axis=0)


def _better(actions: jax.Array, q: jax.Array, best: jax.Array, best_q: jax.Array) -> tuple[jax.Array, jax.Array]:
    better = q > best_q
    return jnp.where(better[..., None], actions, best), jnp.where(better, q, best_q)


def propose(
    improver: Improver, policy: Params, features: jax.Array, key: jax.Array, n: int
) -> tuple[jax.Array, jax.Array | None]:
    """One optimised action ``(1, B, d)``, whatever `n`, and no densities: all n would be the same action (argmax variant)."""
    return optimise(improver, policy, features, key)[0][None], None


def act(improver: Improver, policy: Params, features: jax.Array, key: jax.Array, explore: jax.Array) -> jax.Array:
    """The optimised action (argmax variant), ``(B, d)``, both for collecting and for evaluation.

    Candidates are sampled whatever `explore` says, so the action depends on `key` even at 0: that is how PA-RL acts.
    """
    return optimise(improver, policy, features, key)[0]


def targets(improver: Improver, policy: Params, features: jax.Array, action: jax.Array, key: jax.Array) -> jax.Array:
    """What an external policy imitates, ``(B, d)``: optimised actions, the stored `action` ``(B, d)`` among the candidates."""
    softmax = improver.recipe.improvement.distil == "softmax"
    return optimise(improver, policy, features, key, stored=action, softmax=softmax)[0]


def loss(
    improver: Improver,
    policy: Params,
    average: Params,
    rows: Rows,
    log_temperature: jax.Array,
    advantage: Callable[[jax.Array], jax.Array],
    step: jax.Array,
    key: jax.Array,
) -> tuple[jax.Array, Metrics]:
    """Distillation: mean supervised loss of `policy` towards optimised actions of `average`, the stored action among the
    candidates; each row by its weight (``data.distillation_share``). With ``bc_weight``, plus the cloning term on demonstration
    rows, as for the gradient: not in the paper."""
    optimise_key, cloning_key, demonstration_key = jax.random.split(key, 3)
    softmax = improver.recipe.improvement.distil == "softmax"
    target, q = optimise(improver, average, rows.z, optimise_key, stored=rows.action, softmax=softmax)
    distillation = improver.policy.supervised_loss(improver.recipe, policy, rows.z, target, cloning_key)
    distillation = (rows.weight * distillation).mean()
    metrics = {"policy/distillation_loss": distillation, "policy/q": q.mean()}
    config = improver.recipe.improvement
    if config.bc_weight == 0.0 and config.bc_schedule != "annealed":
        return distillation, metrics
    cloning = cloning_loss(improver, policy, rows, rows.demonstration * rows.weight, demonstration_key)
    return combine(config, distillation, cloning, step), {**metrics, "policy/bc_loss": cloning}
