"""Values of behaviours against the equations of ROAM, and against returns that are known."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from etude.config import ConfigError
from etude.config.behaviours import BehavioursConfig
from learner import behaviours
from learner.behaviours import OwnRows
from learner.commands import recipe_list, recipe_show, recipe_validate

D, N, B = 3, 4, 16


def config(**changes: object) -> BehavioursConfig:
    return BehavioursConfig(**({"name": "test", "hidden": (32, 32), "discount": 0.8} | changes))


def fresh(settings: BehavioursConfig, count: int = N) -> behaviours.BehaviourValues:
    return behaviours.init(settings, jax.random.key(0), count, jnp.zeros(D), jnp.ones(D))


def some_rows(seed: int = 0) -> OwnRows:
    rng = np.random.default_rng(seed)
    state, after = rng.normal(size=(2, N, B, D)).astype(np.float32)
    return OwnRows(state, after, rng.uniform(size=(N, B)).astype(np.float32), (rng.uniform(size=(N, B)) < 0.2).astype(np.float32))


def test_the_loss_is_the_papers():
    """(1 − β) · L_TD + β · CE, computed row by row from the values alone."""
    settings = config(cross_entropy=0.3, inverse_temperature=1.7)
    learned, rows = fresh(settings), some_rows()
    rng = np.random.default_rng(1)
    target = jax.tree.map(lambda leaf: leaf + 0.1 * rng.normal(size=leaf.shape), learned.params)
    learned = learned.replace(target=target)
    ask = jax.jit(partial(behaviours.values, settings))
    now = np.asarray(ask(learned, rows.state), np.float64)  # (N values, N buffers, B)
    after = np.asarray(ask(learned.replace(params=target), rows.next_state), np.float64)
    td, cross_entropy = [], []
    for i in range(N):
        for b in range(B):
            y = rows.reward[i, b] + 0.8 * (1 - rows.terminal[i, b]) * after[i, i, b]
            td.append((now[i, i, b] - y) ** 2)
            cross_entropy.append(-(now[i, i, b] - np.log(np.exp(now[:, i, b]).sum())))
    found, metrics = jax.jit(partial(behaviours.loss, settings))(learned, learned.params, rows)
    assert float(found) == pytest.approx(0.7 * np.mean(td) + 0.3 * np.mean(cross_entropy), rel=1e-4)
    assert float(metrics["values/cross_entropy"]) == pytest.approx(np.mean(cross_entropy), rel=1e-4)


def test_targets_carry_no_gradient():
    settings = config(cross_entropy=0.0)
    learned, rows = fresh(settings), some_rows()
    through_target = jax.grad(lambda t: behaviours.loss(settings, learned.replace(target=t), learned.params, rows)[0])(
        learned.target
    )
    assert all(float(jnp.abs(leaf).max()) == 0.0 for leaf in jax.tree.leaves(through_target))


def test_choices_follow_the_softmax():
    settings = config(inverse_temperature=3.0)
    learned, state = fresh(settings), np.ones(D, np.float32)
    v = np.asarray(behaviours.values(settings, learned, state), np.float64)
    expected = np.exp(3 * v) / np.exp(3 * v).sum()
    np.testing.assert_allclose(behaviours.probabilities(settings, learned, state), expected, rtol=1e-4)


def learn(settings: BehavioursConfig, rows: OwnRows, updates: int) -> behaviours.BehaviourValues:
    step = partial(behaviours.update, settings)
    return jax.jit(lambda learned: jax.lax.fori_loop(0, updates, lambda _, now: step(now, rows)[0], learned))(fresh(settings))


def test_values_become_the_returns_of_each_behaviour():
    """Behaviour i earns i at every step for ever: its value is i / (1 − discount)."""
    rows = some_rows()
    rows = rows._replace(
        next_state=rows.state,
        reward=np.tile(np.arange(N, dtype=np.float32)[:, None], (1, B)),
        terminal=np.zeros((N, B), np.float32),
    )
    settings = config(cross_entropy=0.0, tau=0.1, learning_rate=3e-3)
    learned = learn(settings, rows, 600)
    for i in range(N):
        found = np.asarray(behaviours.values(settings, learned, rows.state[i]))[i]
        np.testing.assert_allclose(found, i / 0.2, atol=0.4)


def test_a_terminal_step_is_worth_its_reward():
    rows = some_rows()._replace(reward=np.full((N, B), 2.0, np.float32), terminal=np.ones((N, B), np.float32))
    settings = config(cross_entropy=0.0, learning_rate=3e-3)
    learned = learn(settings, rows, 400)
    np.testing.assert_allclose(np.asarray(behaviours.values(settings, learned, rows.state[2]))[2], 2.0, atol=0.2)


def test_cross_entropy_prefers_the_behaviour_that_knows_the_states():
    """All behaviours earn the same; only with the term is each the favourite on states of its own."""
    rows = some_rows()
    centre = np.eye(N, D, dtype=np.float32)[:, None] * 4.0
    state = 0.3 * rows.state + centre
    rows = rows._replace(state=state, next_state=state, reward=np.ones((N, B), np.float32), terminal=np.zeros((N, B), np.float32))

    def chance_of_own(share: float) -> float:
        settings = config(cross_entropy=share, tau=0.1, learning_rate=3e-3, inverse_temperature=1.0)
        learned = learn(settings, rows, 300)
        everyone = jax.nn.softmax(settings.inverse_temperature * behaviours.values(settings, learned, rows.state), axis=0)
        return float(jnp.einsum("iib->ib", everyone).mean())

    assert chance_of_own(0.5) > 0.7 > chance_of_own(0.0)


def test_roam_is_explained_beside_the_recipes(capsys):
    assert recipe_show(["roam"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("# ROAM") and "inverse_temperature: 4.0" in shown
    assert recipe_list([]) == 0 and "roam " in capsys.readouterr().out
    assert recipe_validate(["roam", "qwale"]) == 0
    with pytest.raises(ConfigError, match="romm"):
        recipe_show(["romm"])
