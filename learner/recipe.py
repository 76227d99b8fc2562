"""Composes the axes of a recipe into one agent: pure functions on a pytree, jitted by the caller.

Two policies practise at once, forward and backward (axis `reset`); everything that belongs to one of them carries a leading
axis of 2 in the order of
`etude.specs.PHASES`. The observation encoder is shared: it is trained by the critics of both, and each frame is encoded once
per update.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from etude.config import RecipeConfig
from etude.specs import PHASES, ActionSpec, ObservationSpec
from learner.critics import cal_ql, td
from learner.improvement import gradient
from learner.networks.encoders import ObservationEncoder
from learner.networks.mlp import init_stacked
from learner.policies import gaussian

Params = Any
Batch = dict[str, Any]
Metrics = dict[str, jax.Array]


@flax.struct.dataclass
class AgentState:
    """Everything that training changes. `critic` leaves are ``(2, E, …)``, `policy` leaves ``(2, …)``.

    `policy_average` is the moving average of `policy` that acts: single updates move a policy back and forth around a good one.
    """

    encoder: Params
    statistics: Params
    critic: Params
    target_critic: Params
    policy: Params
    policy_average: Params
    log_temperature: jax.Array
    log_alpha: jax.Array
    critic_optimiser: optax.OptState
    policy_optimiser: optax.OptState
    dual_optimiser: optax.OptState
    key: jax.Array
    updates: jax.Array


class Agent:
    """The functions of one recipe for one robot; holds no arrays.

    A batch has leaves ``(2, B, …)``: ``observation`` and ``next_observation`` (dicts), ``action``, ``reward``, ``terminal``,
    ``demonstration`` (1 for rows of demonstrations) and ``monte_carlo_return``.
    """

    def __init__(self, recipe: RecipeConfig, observation_spec: ObservationSpec, action_spec: ActionSpec) -> None:
        self.recipe = recipe
        self.observation_spec = observation_spec
        self.action_spec = action_spec
        self.encoder = ObservationEncoder(observation_spec, recipe.encoder)
        self.critic_head = td.make(recipe.critic)
        self.policy_head = gaussian.make(recipe.policy, action_spec.dim)
        self.critic_optimiser = optax.adam(recipe.critic.learning_rate)
        self.policy_optimiser = optax.adam(recipe.policy.learning_rate)
        self.dual_optimiser = optax.adam(recipe.critic.learning_rate)

    # --- creation -------------------------------------------------------------------------------------------------

    def init(self, key: jax.Array, state_mean: jax.Array, state_std: jax.Array) -> AgentState:
        """A fresh agent; `state_mean`, `state_std` ``(state_dim,)`` normalise the state for ever."""
        key, encoder_key, critic_key, policy_key = jax.random.split(key, 4)
        example = {name: jnp.zeros((1, *shape), dtype) for name, (shape, dtype) in self.observation_spec.shapes().items()}
        variables = self.encoder.init(encoder_key, example)
        statistics = {"mean": jnp.asarray(state_mean, jnp.float32), "std": jnp.asarray(state_std, jnp.float32)}
        features = self.encoder.apply({"params": variables.get("params", {}), "statistics": statistics}, example)
        action = jnp.zeros((1, self.action_spec.dim))
        critic_input = jnp.concatenate([features, action], axis=-1)
        critic = jax.vmap(lambda k: init_stacked(self.critic_head, k, self.recipe.critic.ensemble, critic_input))(
            jax.random.split(critic_key, len(PHASES))
        )
        policy = init_stacked(self.policy_head, policy_key, len(PHASES), features)
        encoder = variables.get("params", {})
        log_temperature = jnp.full(len(PHASES), jnp.log(self.recipe.improvement.initial_temperature), jnp.float32)
        log_alpha = jnp.ones(len(PHASES))
        state = AgentState(
            encoder=encoder,
            statistics=statistics,
            critic=critic,
            target_critic=jax.tree.map(jnp.copy, critic),
            policy=policy,
            policy_average=jax.tree.map(jnp.copy, policy),
            log_temperature=log_temperature,
            log_alpha=log_alpha,
            critic_optimiser=self.critic_optimiser.init((encoder, critic)),
            policy_optimiser=self.policy_optimiser.init(policy),
            dual_optimiser=self.dual_optimiser.init((log_temperature, log_alpha)),
            key=key,
            updates=jnp.zeros((), jnp.int32),
        )
        # strong types everywhere: a weakly typed leaf would compile the update a second time
        return jax.tree.map(lambda leaf: jax.lax.convert_element_type(leaf, leaf.dtype), state)

    def reset_optimisers(self, state: AgentState) -> AgentState:
        """Fresh optimiser state (offline → online switch); parameters stay, and the average begins anew at the policy."""
        return dataclasses.replace(
            state,
            policy_average=jax.tree.map(jnp.copy, state.policy),
            critic_optimiser=self.critic_optimiser.init((state.encoder, state.critic)),
            policy_optimiser=self.policy_optimiser.init(state.policy),
            dual_optimiser=self.dual_optimiser.init((state.log_temperature, state.log_alpha)),
        )

    # --- one update -----------------------------------------------------------------------------------------------

    def encode(self, encoder: Params, statistics: Params, observation: dict[str, jax.Array]) -> jax.Array:
        """``(..., *shape)`` observation arrays → ``(..., f)`` features."""
        lead = observation["state"].shape[:-1]
        flat = {name: array.reshape(-1, *array.shape[len(lead) :]) for name, array in observation.items()}
        features = self.encoder.apply({"params": encoder, "statistics": statistics}, flat)
        return features.reshape(*lead, features.shape[-1])

    def update(self, state: AgentState, batch: Batch, *, pretrain: bool = False) -> tuple[AgentState, Metrics]:
        """One gradient step of critics, encoder, policies and dual variables.

        With `pretrain` the policy's loss is behaviour cloning alone and its gradient reaches the encoder too; the critics
        learn from the
        demonstrations beside it, so that practice starts with features that both know.
        """
        key, loss_key = jax.random.split(state.key)
        phase_keys = jax.random.split(loss_key, len(PHASES))
        trained = (state.encoder, state.critic, state.policy, (state.log_temperature, state.log_alpha))

        def total_loss(trained: Params) -> tuple[jax.Array, Metrics]:
            encoder, critic, policy, (log_temperature, log_alpha) = trained
            z = self.encode(encoder, state.statistics, batch["observation"])
            z_next = jax.lax.stop_gradient(self.encode(encoder, state.statistics, batch["next_observation"]))
            rows = {name: batch[name] for name in ("action", "reward", "terminal", "demonstration", "monte_carlo_return")}
            losses, metrics = jax.vmap(lambda *arguments: self._phase_loss(*arguments, pretrain=pretrain))(
                critic, state.target_critic, policy, log_temperature, log_alpha, z, z_next, rows, phase_keys
            )
            return losses.sum(), metrics

        gradients, metrics = jax.grad(total_loss, has_aux=True)(trained)
        encoder_gradient, critic_gradient, policy_gradient, dual_gradient = gradients
        (encoder, critic), critic_optimiser = _apply(
            self.critic_optimiser, (encoder_gradient, critic_gradient), state.critic_optimiser, (state.encoder, state.critic)
        )
        policy, policy_optimiser = _apply(self.policy_optimiser, policy_gradient, state.policy_optimiser, state.policy)
        (log_temperature, log_alpha), dual_optimiser = (state.log_temperature, state.log_alpha), state.dual_optimiser
        if not pretrain:
            (log_temperature, log_alpha), dual_optimiser = _apply(
                self.dual_optimiser, dual_gradient, dual_optimiser, (log_temperature, log_alpha)
            )
        tau, rate = self.recipe.critic.tau, self.recipe.policy.average_rate
        state = dataclasses.replace(
            state,
            encoder=encoder,
            critic=critic,
            target_critic=jax.tree.map(lambda t, c: t + tau * (c - t), state.target_critic, critic),
            policy=policy,
            policy_average=jax.tree.map(lambda a, p: a + rate * (p - a), state.policy_average, policy),
            log_temperature=log_temperature,
            log_alpha=log_alpha,
            critic_optimiser=critic_optimiser,
            policy_optimiser=policy_optimiser,
            dual_optimiser=dual_optimiser,
            key=key,
            updates=state.updates + 1,
        )
        return state, metrics

    def _phase_loss(
        self,
        critic: Params,
        target_critic: Params,
        policy: Params,
        log_temperature: jax.Array,
        log_alpha: jax.Array,
        z: jax.Array,
        z_next: jax.Array,
        rows: Batch,
        key: jax.Array,
        *,
        pretrain: bool,
    ) -> tuple[jax.Array, Metrics]:
        """Loss of one direction: features ``(B, f)``, rows ``(B, …)``."""
        recipe = self.recipe
        config = recipe.critic
        target_key, subset_key, policy_key, cql_key = jax.random.split(key, 4)
        frozen_policy = jax.lax.stop_gradient(policy)
        temperature = jnp.exp(log_temperature)

        # critic
        calibrated = config.kind == "cal_ql"
        samples = config.cql_samples if calibrated and config.cql_max_target_backup else 1
        next_action, next_log_prob = gaussian.sample(recipe.policy, self.policy_head, frozen_policy, z_next, target_key, samples)
        z_repeated = jnp.broadcast_to(z_next, (samples, *z_next.shape))
        next_q = td.subset_minimum(
            td.values(self.critic_head, target_critic, z_repeated, next_action), subset_key, config.subset_min
        )
        if config.backup_entropy:
            next_q = next_q - temperature * next_log_prob
        y = jax.lax.stop_gradient(td.target(config, rows["reward"], rows["terminal"], next_q.max(0)))
        if config.bound_targets:
            y = jnp.clip(y, *td.return_bounds(config, recipe.reward))
        q = td.values(self.critic_head, critic, z, rows["action"])
        critic_loss = td.loss(q, y)
        dual_loss = jnp.zeros(())
        metrics = {"critic/td_loss": critic_loss, "critic/q_mean": q.mean(), "critic/target_mean": y.mean()}
        if calibrated:
            conservative, dual_loss = self._conservative(critic, frozen_policy, log_alpha, z, z_next, rows, q, cql_key)
            critic_loss = critic_loss + conservative
            metrics["critic/conservative_loss"] = conservative

        # policy and temperature
        z_policy = z if pretrain else jax.lax.stop_gradient(z)
        bc_loss = gaussian.supervised_loss(
            recipe.policy, self.policy_head, policy, z_policy, rows["action"], rows["demonstration"]
        )
        metrics["policy/bc_loss"] = bc_loss
        if pretrain:
            return critic_loss + bc_loss + dual_loss, metrics
        action, log_prob = gaussian.sample(recipe.policy, self.policy_head, policy, z_policy, policy_key, 1)
        frozen_critic = jax.lax.stop_gradient(critic)
        q_policy = td.values(self.critic_head, frozen_critic, z_policy, action[0])
        policy_loss = gradient.policy_loss(recipe.improvement, temperature, log_prob[0], q_policy, bc_loss)
        temperature_loss = gradient.temperature_loss(recipe.improvement, log_temperature, log_prob[0], self.action_spec.dim)
        metrics |= {"policy/entropy": -log_prob.mean(), "policy/q": q_policy.mean(), "policy/temperature": temperature}
        return critic_loss + policy_loss + temperature_loss + dual_loss, metrics

    def _conservative(
        self,
        critic: Params,
        policy: Params,
        log_alpha: jax.Array,
        z: jax.Array,
        z_next: jax.Array,
        rows: Batch,
        q: jax.Array,
        key: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        config, n, dim = self.recipe.critic, self.recipe.critic.cql_samples, self.action_spec.dim
        random_key, current_key, next_key = jax.random.split(key, 3)
        z_data = jnp.broadcast_to(z, (n, *z.shape))
        uniform = jax.random.uniform(random_key, (n, z.shape[0], dim), minval=-1.0, maxval=1.0)
        current, log_prob_current = gaussian.sample(
            self.recipe.policy, self.policy_head, policy, jax.lax.stop_gradient(z), current_key, n
        )
        following, log_prob_next = gaussian.sample(self.recipe.policy, self.policy_head, policy, z_next, next_key, n)
        # one wide evaluation for all candidates; the next-state actions are scored at s (specification §1.1)
        candidates = jax.lax.stop_gradient(jnp.concatenate([uniform, current, following]))
        values = td.values(self.critic_head, critic, jnp.concatenate([z_data] * 3), candidates)
        ood = cal_ql.out_of_distribution_value(
            config,
            values[:, :n],
            values[:, n : 2 * n],
            values[:, 2 * n :],
            log_prob_current,
            log_prob_next,
            q,
            rows["monte_carlo_return"],
            dim,
        )
        return cal_ql.conservative_loss(config, ood, q, log_alpha)

    def update_block(self, pretrain: bool) -> Any:
        """A jitted ``(state, batches) -> (state, metrics)`` that does K updates in one call.

        Batch leaves are ``(K, 2, B, …)``; the metrics are those of the last update.
        Rolled (`lax.scan`) except for convolutions on a CPU, whose gradients XLA runs many times slower inside a loop.
        """
        unroll = self.encoder.uses_convolutions() and jax.default_backend() == "cpu"

        def block(state: AgentState, batches: Batch) -> tuple[AgentState, Metrics]:
            length = batches["reward"].shape[0]
            state, metrics = jax.lax.scan(
                lambda carry, batch: self.update(carry, batch, pretrain=pretrain), state, batches, unroll=length if unroll else 1
            )
            return state, jax.tree.map(lambda x: x[-1], metrics)

        return jax.jit(block, donate_argnums=0)

    # --- acting ---------------------------------------------------------------------------------------------------

    def policy_parameters(self, state: AgentState) -> Params:
        """What the policy program needs and nothing else (no critics, no optimisers)."""
        return {"encoder": state.encoder, "statistics": state.statistics, "policy": state.policy_average}

    def act(self, parameters: Params, observation: dict[str, jax.Array], key: jax.Array, explore: jax.Array) -> jax.Array:
        """Action ``(d,)`` for one unbatched observation whose ``phase`` entry is the one-hot direction. Exported as the policy
        program."""
        phase = jnp.argmax(observation["phase"])
        head = jax.tree.map(lambda leaf: leaf[phase], parameters["policy"])
        batched = {name: observation[name][None] for name in self.observation_spec.shapes()}
        features = self.encode(parameters["encoder"], parameters["statistics"], batched)
        return gaussian.act(self.recipe.policy, self.policy_head, head, features, key, explore)[0]


def _apply(
    optimiser: optax.GradientTransformation, gradients: Params, state: optax.OptState, params: Params
) -> tuple[Params, optax.OptState]:
    updates, state = optimiser.update(gradients, state, params)
    return optax.apply_updates(params, updates), state
