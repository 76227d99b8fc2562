"""Composes the axes of a recipe into one agent: pure functions on a pytree, jitted by the caller.

One policy per direction of practice (axis `reset`); everything that belongs to a direction carries a leading axis in the order of
`RecipeConfig.directions`. The observation encoder is shared: it is trained by the critics of all directions, and each frame is
encoded once per update. The parts do not know each other; they meet in `learner.parts`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import flax.struct
import jax
import jax.numpy as jnp
import optax

from etude.config import RecipeConfig
from etude.specs import ActionSpec, ObservationSpec
from learner.exploration import rnd
from learner.networks.encoders import ObservationEncoder
from learner.parts import Improver, Metrics, Params, Rows, part
from learner.rewards.learned import LearnedRewards

Batch = dict[str, Any]
Stage = Literal["clone", "offline", "online"]
"""What an update is for. ``clone``: policies imitate the demonstrations (the encoder too), critics learn beside.
``offline``: the whole recipe on prior data. ``online``: the whole recipe while practising."""


@flax.struct.dataclass
class AgentState:
    """Everything that training changes. `critic` leaves are ``(D, …)``, `policy` leaves ``(D, …)`` for D directions.

    `policy_average` is the moving average of `policy` that acts: single updates move a policy back and forth around a good one.
    """

    encoder: Params
    statistics: Params
    critic: Params
    target_critic: Params
    policy: Params
    policy_average: Params
    log_temperature: jax.Array
    novelty: Params
    discriminators: Params
    critic_optimiser: optax.OptState
    policy_optimiser: optax.OptState
    temperature_optimiser: optax.OptState
    key: jax.Array
    updates: jax.Array


class Agent:
    """The functions of one recipe for one robot; holds no arrays.

    A batch has leaves ``(D, B, …)``: ``observation`` and ``next_observation`` (dicts), ``action``, ``reward``, ``terminal``,
    ``demonstration`` (1 for rows of demonstrations), ``monte_carlo_return`` and ``weight`` (of supervised losses). A block of
    them may carry ``contrast``, what discriminators learn from (`learner.replay.contrast`). With `data.train_only_acting`
    there is ``trained`` ``(D,)``, 1 for the direction that is trained.
    """

    def __init__(self, recipe: RecipeConfig, observation_spec: ObservationSpec, action_spec: ActionSpec) -> None:
        self.recipe = recipe
        self.observation_spec = observation_spec
        self.action_spec = action_spec
        self.directions = recipe.directions
        self.encoder = ObservationEncoder(observation_spec, recipe.encoder)
        self.critic = part("critics", recipe.critic.kind)
        self.policy = part("policies", recipe.policy.kind)
        self.improvement = part("improvement", recipe.improvement.kind)
        self.learned_rewards = LearnedRewards(recipe, observation_spec)
        self.critic_optimiser = optax.adam(recipe.critic.learning_rate)
        self.policy_optimiser = optax.adam(recipe.policy.learning_rate)
        self.temperature_optimiser = optax.adam(recipe.critic.learning_rate)

    # --- creation -------------------------------------------------------------------------------------------------

    def init(self, key: jax.Array, state_mean: jax.Array, state_std: jax.Array) -> AgentState:
        """A fresh agent; `state_mean`, `state_std` ``(state_dim,)`` normalise the state for ever."""
        key, encoder_key, critic_key, policy_key, novelty_key = jax.random.split(key, 5)
        example = {name: jnp.zeros((1, *shape), dtype) for name, (shape, dtype) in self.observation_spec.shapes().items()}
        variables = self.encoder.init(encoder_key, example)
        encoder = variables.get("params", {})
        statistics = {"mean": jnp.asarray(state_mean, jnp.float32), "std": jnp.asarray(state_std, jnp.float32)}
        features = self.encode(encoder, statistics, example)
        dim, count = self.action_spec.dim, len(self.directions)
        critic = jax.vmap(lambda k: self.critic.init(self.recipe, k, features, jnp.zeros((1, dim))))(
            jax.random.split(critic_key, count)
        )
        policy = jax.vmap(lambda k: self.policy.init(self.recipe, k, features, dim))(jax.random.split(policy_key, count))
        log_temperature = jnp.full(count, jnp.log(self.recipe.improvement.initial_temperature), jnp.float32)
        state = AgentState(
            encoder=encoder,
            statistics=statistics,
            critic=critic,
            target_critic=jax.tree.map(jnp.copy, critic),
            policy=policy,
            policy_average=jax.tree.map(jnp.copy, policy),
            log_temperature=log_temperature,
            novelty=rnd.init(novelty_key, features.shape[-1]) if self.recipe.data.rnd_coefficient > 0 else {},
            discriminators=self.learned_rewards.init(
                jax.random.fold_in(novelty_key, 1), statistics, {"encoder": encoder, "critic": critic}
            ),
            critic_optimiser=self.critic_optimiser.init((encoder, critic)),
            policy_optimiser=self.policy_optimiser.init(policy),
            temperature_optimiser=self.temperature_optimiser.init(log_temperature),
            key=key,
            updates=jnp.zeros((), jnp.int32),
        )
        # strong types everywhere: a weakly typed leaf would compile the update a second time
        return jax.tree.map(lambda leaf: jax.lax.convert_element_type(leaf, leaf.dtype), state)

    def begin_practice(self, state: AgentState) -> AgentState:
        """The switch from prior data to practice: the policy's average begins anew, and the update counter that schedules read;
        optimiser state is fresh unless the recipe keeps it. Parameters stay."""
        prior = jax.tree.map(jnp.copy, {"encoder": state.encoder, "critic": state.critic})
        state = dataclasses.replace(
            state,
            policy_average=jax.tree.map(jnp.copy, state.policy),
            updates=jnp.zeros_like(state.updates),
            discriminators=self.learned_rewards.begin_practice(state.discriminators, prior),
        )
        if not self.recipe.data.reset_optimisers:
            return state
        return dataclasses.replace(
            state,
            critic_optimiser=self.critic_optimiser.init((state.encoder, state.critic)),
            policy_optimiser=self.policy_optimiser.init(state.policy),
            temperature_optimiser=self.temperature_optimiser.init(state.log_temperature),
        )

    # --- one update -----------------------------------------------------------------------------------------------

    def encode(self, encoder: Params, statistics: Params, observation: dict[str, jax.Array]) -> jax.Array:
        """``(..., *shape)`` observation arrays → ``(..., f)`` features."""
        lead = observation["state"].shape[:-1]
        flat = {name: array.reshape(-1, *array.shape[len(lead) :]) for name, array in observation.items()}
        features = self.encoder.apply({"params": encoder, "statistics": statistics}, flat)
        return features.reshape(*lead, features.shape[-1])

    def update(self, state: AgentState, batch: Batch, *, stage: Stage = "online") -> tuple[AgentState, Metrics]:
        """One gradient step of encoder, critics, policies and temperatures. What a stage does not train does not move."""
        key, loss_key, novelty_key = jax.random.split(state.key, 3)
        direction_keys = jax.random.split(loss_key, len(self.directions))
        only_acting = self.recipe.data.train_only_acting and stage == "online"
        reward, terminal, novelty = batch["reward"], batch["terminal"], state.novelty
        if self.learned_rewards and stage == "online":
            reward, terminal = self.learned_rewards.relabel(state.discriminators, state.statistics, batch)
            batch = batch | {"reward": reward}
        if self.recipe.data.rnd_coefficient > 0 and stage == "online":
            reward, novelty = self._with_bonus(state, batch, novelty_key)

        def total_loss(trained: Params) -> tuple[jax.Array, Metrics]:
            encoder, critic, policy, log_temperature = trained
            z = self.encode(encoder, state.statistics, batch["observation"])
            z_next = jax.lax.stop_gradient(self.encode(encoder, state.statistics, batch["next_observation"]))
            rows = Rows(
                z=z,
                z_next=z_next,
                action=batch["action"],
                reward=reward,
                terminal=terminal,
                monte_carlo_return=batch["monte_carlo_return"],
                demonstration=batch["demonstration"],
                weight=batch["weight"],
                irreversible=jnp.zeros_like(reward),
                temperature=jax.lax.stop_gradient(jnp.exp(log_temperature)),
            )
            losses, metrics = _map_directions(
                lambda *arguments: self._direction_loss(*arguments, step=state.updates, stage=stage),
                critic,
                state.target_critic,
                policy,
                state.policy_average,
                log_temperature,
                rows,
                direction_keys,
            )
            if only_acting:
                losses = losses * batch["trained"]
            return losses.sum(), metrics

        trained = (state.encoder, state.critic, state.policy, state.log_temperature)
        gradients, metrics = jax.grad(total_loss, has_aux=True)(trained)
        (encoder, critic), critic_optimiser = _apply(
            self.critic_optimiser, gradients[:2], state.critic_optimiser, (state.encoder, state.critic)
        )
        policy, policy_optimiser = state.policy, state.policy_optimiser
        if stage != "offline" or self.improvement.LEARNS_OFFLINE:
            policy, policy_optimiser = _apply(self.policy_optimiser, gradients[2], policy_optimiser, policy)
        log_temperature, temperature_optimiser = state.log_temperature, state.temperature_optimiser
        if stage != "clone":
            log_temperature, temperature_optimiser = _apply(
                self.temperature_optimiser, gradients[3], temperature_optimiser, log_temperature
            )
        tau, rate = self.recipe.critic.tau, self.recipe.policy.average_rate
        target, average = _towards(state.target_critic, critic, tau), _towards(state.policy_average, policy, rate)
        if only_acting:
            before = (state.critic, state.target_critic, state.policy, state.policy_average, state.log_temperature)
            critic, target, policy, average, log_temperature = _only(
                batch["trained"], (critic, target, policy, average, log_temperature), before
            )
        state = dataclasses.replace(
            state,
            encoder=encoder,
            critic=critic,
            target_critic=target,
            policy=policy,
            policy_average=average,
            log_temperature=log_temperature,
            novelty=novelty,
            critic_optimiser=critic_optimiser,
            policy_optimiser=policy_optimiser,
            temperature_optimiser=temperature_optimiser,
            key=key,
            updates=state.updates + 1,
        )
        return state, metrics

    def _direction_loss(
        self,
        critic: Params,
        target_critic: Params,
        policy: Params,
        average: Params,
        log_temperature: jax.Array,
        rows: Rows,
        key: jax.Array,
        *,
        step: jax.Array,
        stage: Stage,
    ) -> tuple[jax.Array, Metrics]:
        """Loss of one direction: features ``(B, f)``, rows ``(B, …)``."""
        recipe = self.recipe
        critic_key, policy_key = jax.random.split(key)
        frozen = jax.lax.stop_gradient(critic)
        improver = self._improver(frozen)

        def propose(features: jax.Array, key: jax.Array, n: int) -> tuple[jax.Array, jax.Array | None]:
            return jax.lax.stop_gradient(self.improvement.propose(improver, average, jax.lax.stop_gradient(features), key, n))

        critic_loss, metrics = self.critic.loss(recipe, critic, target_critic, rows, propose, critic_key)
        if stage == "clone":
            per_row = self.policy.supervised_loss(recipe, policy, rows.z, rows.action, policy_key)
            weight = rows.demonstration * rows.weight
            bc_loss = (weight * per_row).sum() / jnp.maximum(weight.sum(), 1.0)
            return critic_loss + bc_loss, metrics | {"policy/bc_loss": bc_loss}
        if stage == "offline" and not self.improvement.LEARNS_OFFLINE:
            return critic_loss, metrics
        rows = rows._replace(z=jax.lax.stop_gradient(rows.z))

        def advantage(key: jax.Array) -> jax.Array:
            return jax.lax.stop_gradient(self.critic.advantage(recipe, frozen, target_critic, rows, propose, key))

        policy_loss, policy_metrics = self.improvement.loss(
            improver, policy, average, rows, log_temperature, advantage, step, policy_key
        )
        return critic_loss + policy_loss, metrics | policy_metrics

    def _improver(self, critic: Params) -> Improver:
        return Improver(
            self.recipe,
            self.policy,  # type: ignore[arg-type]
            lambda features, action: self.critic.values(self.recipe, critic, features, action),
            self.action_spec.dim,
        )

    def _with_bonus(self, state: AgentState, batch: Batch, key: jax.Array) -> tuple[jax.Array, Params]:
        """The batch's rewards ``(D, B)`` with the novelty bonus of the next observations, and the updated novelty networks."""
        z = self.encode(state.encoder, state.statistics, batch["next_observation"])
        flat = z.reshape(-1, z.shape[-1])
        bonus = rnd.bonus(state.novelty, flat).reshape(batch["reward"].shape)
        return batch["reward"] + self.recipe.data.rnd_coefficient * bonus, rnd.update(state.novelty, flat, key)

    def update_block(self, stage: Stage) -> Any:
        """A jitted ``(state, batches) -> (state, metrics)`` that does K updates in one call.

        Batch leaves are ``(K, D, B, …)``; the metrics are those of the last update.
        Rolled (`lax.scan`) except for convolutions on a CPU, whose gradients XLA runs many times slower inside a loop.
        """
        unroll = self.encoder.uses_convolutions() and jax.default_backend() == "cpu"

        def block(state: AgentState, batches: Batch) -> tuple[AgentState, Metrics]:
            length = batches["reward"].shape[0]
            batches, contrast = {name: leaf for name, leaf in batches.items() if name != "contrast"}, batches.get("contrast")
            state, metrics = jax.lax.scan(
                lambda carry, batch: self.update(carry, batch, stage=stage), state, batches, unroll=length if unroll else 1
            )
            metrics = jax.tree.map(lambda x: x[-1], metrics)
            if self.learned_rewards and stage == "online" and contrast:
                state, losses = self._discriminate(state, contrast, length)
                metrics |= {"reward/discriminator_loss": jnp.stack([losses.get(d, jnp.zeros(())) for d in self.directions])}
            return state, metrics

        return jax.jit(block, donate_argnums=0)

    def _discriminate(self, state: AgentState, contrast: Batch, length: int) -> tuple[AgentState, Metrics]:
        """The state after the discriminators' share of a block of `length` updates, and their losses by direction."""

        def value(prior: Params, observation: Batch, action: jax.Array) -> jax.Array:
            critic = jax.tree.map(lambda leaf: leaf[0], prior["critic"])
            features = self.encode(prior["encoder"], state.statistics, observation)
            return self.critic.values(self.recipe, critic, features, action).mean(0)

        key, step_key = jax.random.split(state.key)
        discriminators, losses = self.learned_rewards.learn(
            state.discriminators, state.statistics, contrast, value, state.updates, length, step_key
        )
        return dataclasses.replace(state, discriminators=discriminators, key=key), losses

    # --- acting ---------------------------------------------------------------------------------------------------

    def policy_parameters(self, state: AgentState) -> Params:
        """What the policy program needs and nothing else: no optimisers, and critics only when actions are improved by them."""
        parameters = {"encoder": state.encoder, "statistics": state.statistics, "policy": state.policy_average}
        return parameters | ({"critic": state.critic} if self.improvement.ACTS_WITH_CRITIC else {})

    def act(self, parameters: Params, observation: dict[str, jax.Array], key: jax.Array, explore: jax.Array) -> jax.Array:
        """Action ``(d,)`` for one unbatched observation whose ``phase`` entry is the one-hot direction. Exported as the policy
        program."""
        index = jnp.minimum(jnp.argmax(observation["phase"]), len(self.directions) - 1)
        policy, critic = jax.tree.map(lambda leaf: leaf[index], (parameters["policy"], parameters.get("critic", {})))
        batched = {name: observation[name][None] for name in self.observation_spec.shapes()}
        features = self.encode(parameters["encoder"], parameters["statistics"], batched)
        return self.improvement.act(self._improver(critic), policy, features, key, explore)[0]


def _map_directions(function: Callable[..., Any], *arguments: Any) -> Any:
    """`function` for every direction, the leading axis of each leaf of `arguments`.

    A single direction is not mapped: XLA reduces arrays with a leading axis of 1 several times slower on a CPU.
    """
    if jax.tree.leaves(arguments)[0].shape[0] > 1:
        return jax.vmap(function)(*arguments)
    only = jax.tree.map(lambda leaf: leaf[0], arguments)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], function(*only))


def _only(trained: jax.Array, after: Params, before: Params) -> Params:
    """`after` for directions whose entry in `trained` ``(D,)`` is 1, `before` for the others; leaves ``(D, …)``."""
    return jax.tree.map(lambda a, b: jnp.where(trained.reshape(-1, *(1 for _ in a.shape[1:])) > 0, a, b), after, before)


def _towards(slow: Params, fast: Params, rate: float) -> Params:
    return jax.tree.map(lambda s, f: s + rate * (f - s), slow, fast)


def _apply(
    optimiser: optax.GradientTransformation, gradients: Params, state: optax.OptState, params: Params
) -> tuple[Params, optax.OptState]:
    updates, state = optimiser.update(gradients, state, params)
    return optax.apply_updates(params, updates), state
