"""Composes the axes of a recipe into one agent: pure functions on a pytree, jitted by the caller.

One policy per direction of practice, or one for both that reads instructions (axis `reset`); everything that belongs to a
policy carries a leading axis in the order of `RecipeConfig.directions`. The observation encoder is shared: it is trained by the
critics of all directions, and each frame is encoded once per update. The parts do not know each other; they meet in
`learner.parts`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from etude.config import RecipeConfig
from etude.specs import PHASES, ActionSpec, Observation, ObservationSpec
from etude.text_embedding import embed
from learner import optimisers
from learner.directions import map_directions, only
from learner.exploration import rnd
from learner.help import irreversibility
from learner.networks.encoders import ObservationEncoder
from learner.parts import Improver, Metrics, Params, Rows, candidate_features, part
from learner.replay.ring import UNLABELLED
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
    irreversibility: Params
    critic_optimiser: optax.OptState
    policy_optimiser: optax.OptState
    temperature_optimiser: optax.OptState
    key: jax.Array
    updates: jax.Array


class Agent:
    """The functions of one recipe for one robot; holds no arrays but the embedded instructions of its task, where the recipe
    reads them.

    A batch has leaves ``(D, B, …)``: ``observation`` and ``next_observation`` (dicts), ``action``, ``reward``, ``terminal``,
    ``discount``, ``demonstration`` (1 for rows of demonstrations), ``monte_carlo_return`` and ``weight`` (of supervised losses).
    For an external policy also ``candidates`` and ``next_candidates`` ``(D, B, K, d)``, what its server would do at either
    observation. With `data.train_only_acting` there is ``trained`` ``(D,)``, 1 for the direction that is trained. A block of
    batches may carry ``contrast``, what discriminators learn from (`learner.replay.contrast`). `action_dim` is that of a whole
    action chunk; for critic and policy the chunk is one action.
    """

    def __init__(
        self,
        recipe: RecipeConfig,
        observation_spec: ObservationSpec,
        action_spec: ActionSpec,
        instructions: Mapping[str, str] | None = None,
    ) -> None:
        """`instructions`: phase -> text, what the exported policy is told in each phase; needed where the recipe reads them.

        Raises:
            TextEmbeddingError: the texts cannot be embedded as the recipe says.
        """
        self.recipe = recipe
        self.instructions = None if recipe.encoder.instruction == "none" else _embedded(recipe, instructions)
        self.observation_spec = observation_spec
        self.action_spec = action_spec
        self.directions = recipe.directions
        self.action_dim = action_spec.dim * recipe.policy.chunk
        self.encoder = ObservationEncoder(observation_spec, recipe.encoder)
        self.critic = part("critics", recipe.critic.kind)
        self.policy = part("policies", recipe.policy.kind)
        self.improvement = part("improvement", recipe.improvement.kind)
        self.learned_rewards = LearnedRewards(recipe, observation_spec)
        self.critic_optimiser = optimisers.adam(recipe.critic.learning_rate)
        policy = recipe.policy
        self.policy_optimiser = optimisers.adam(policy.learning_rate, policy.warmup_steps)
        self.online_policy_optimiser = optimisers.adam(policy.online_learning_rate or policy.learning_rate, policy.warmup_steps)
        self.temperature_optimiser = optimisers.adam(recipe.critic.learning_rate)

    # --- creation -------------------------------------------------------------------------------------------------

    def init(self, key: jax.Array, state_mean: jax.Array, state_std: jax.Array) -> AgentState:
        """A fresh agent; `state_mean`, `state_std` ``(state_dim,)`` normalise the state for ever."""
        key, encoder_key, critic_key, policy_key, novelty_key = jax.random.split(key, 5)
        example = {name: jnp.zeros((1, *shape), dtype) for name, (shape, dtype) in self.observation_spec.shapes().items()}
        if self.instructions is not None:
            example["instruction"] = jnp.asarray(self.instructions[:1])
        variables = self.encoder.init(encoder_key, example)
        encoder = variables.get("params", {})
        statistics = {"mean": jnp.asarray(state_mean, jnp.float32), "std": jnp.asarray(state_std, jnp.float32)}
        features = self.encode(encoder, statistics, example)
        dim, count = self.action_dim, len(self.directions)
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
            irreversibility=irreversibility.init(novelty_key, features.shape[-1]) if self.learns_irreversible else {},
            critic_optimiser=self.critic_optimiser.init((encoder, critic)),
            policy_optimiser=self.policy_optimiser.init(policy),
            temperature_optimiser=self.temperature_optimiser.init(log_temperature),
            key=key,
            updates=jnp.zeros((), jnp.int32),
        )
        # strong types everywhere: a weakly typed leaf would compile the update a second time
        return jax.tree.map(lambda leaf: jax.lax.convert_element_type(leaf, leaf.dtype), state)

    def begin_practice(self, state: AgentState) -> AgentState:
        """The switch from prior data to practice: the update counter that schedules read begins anew, and optimiser state unless
        the recipe keeps it. Parameters stay."""
        prior = {"encoder": state.encoder, "critic": state.critic}
        discriminators = self.learned_rewards.begin_practice(state.discriminators, prior)
        state = dataclasses.replace(state, updates=jnp.zeros_like(state.updates), discriminators=discriminators)
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

    def update(
        self, state: AgentState, batch: Batch, *, stage: Stage = "online", improve: bool = True
    ) -> tuple[AgentState, Metrics]:
        """One gradient step of encoder, critics, policies and temperatures. What a stage does not train does not move.

        Without `improve` only encoder and critics make a step: policies, their average, temperatures and the optimisers of both
        stay, and there are no ``policy/…`` metrics.
        """
        key, loss_key, novelty_key = jax.random.split(state.key, 3)
        direction_keys = jax.random.split(loss_key, len(self.directions))
        only_acting = self.recipe.data.train_only_acting and stage == "online"
        reward, terminal = batch["reward"], batch["terminal"]
        if self.learned_rewards and stage == "online":
            reward, terminal = self.learned_rewards.relabel(state.discriminators, state.statistics, batch)
            batch = batch | {"reward": reward}
        encoder_rate = self._encoder_rate(stage)

        def total_loss(trained: Params) -> tuple[jax.Array, tuple[Metrics, Params]]:
            encoder, critic, policy, log_temperature = trained
            z = self.encode(encoder, state.statistics, batch["observation"])
            z = z if encoder_rate else jax.lax.stop_gradient(z)
            z_next = jax.lax.stop_gradient(self.encode(encoder, state.statistics, batch["next_observation"]))
            bonus, novelty = self._novelty(state, z_next, novelty_key, stage)
            rows = Rows(
                z=z,
                z_next=z_next,
                action=batch["action"],
                reward=reward + bonus,
                terminal=terminal,
                discount=batch["discount"],
                monte_carlo_return=batch["monte_carlo_return"],
                demonstration=batch["demonstration"],
                weight=batch["weight"],
                irreversible=self._irreversible_next(state, batch, z_next),
                temperature=jax.lax.stop_gradient(jnp.exp(log_temperature)),
            )
            losses, metrics = map_directions(
                lambda *arguments: self._direction_loss(*arguments, step=state.updates, stage=stage, improve=improve),
                critic,
                state.target_critic,
                policy,
                state.policy_average,
                log_temperature,
                rows,
                (batch.get("candidates"), batch.get("next_candidates")),
                direction_keys,
            )
            if only_acting:
                losses = losses * batch["trained"]
            return losses.sum(), (metrics, novelty)

        trained = (state.encoder, state.critic, state.policy, state.log_temperature)
        gradients, (metrics, novelty) = jax.grad(total_loss, has_aux=True)(trained)
        step = partial(optimisers.apply, trained=batch["trained"] if only_acting else None)
        (encoder, critic), critic_optimiser = step(
            self.critic_optimiser, gradients[:2], state.critic_optimiser, (state.encoder, state.critic), directed=(False, True)
        )
        encoder = encoder if encoder_rate == 1.0 else _towards(state.encoder, encoder, encoder_rate)
        policy, average, policy_optimiser = state.policy, state.policy_average, state.policy_optimiser
        if improve and (stage != "offline" or self._policy_learns_offline):
            optimiser = self.online_policy_optimiser if stage == "online" else self.policy_optimiser
            policy, policy_optimiser = step(optimiser, gradients[2], policy_optimiser, policy)
            average = _towards(average, policy, self._average_rate(state.updates, stage))
        log_temperature, temperature_optimiser = state.log_temperature, state.temperature_optimiser
        if improve and stage != "clone":
            log_temperature, temperature_optimiser = step(
                self.temperature_optimiser, gradients[3], temperature_optimiser, log_temperature
            )
        target = _towards(state.target_critic, critic, self.recipe.critic.tau)
        if only_acting:
            target, average = only(batch["trained"], (target, average), (state.target_critic, state.policy_average))
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

    @property
    def learns_irreversible(self) -> bool:
        return self.recipe.help.kind == "paint"

    def _irreversible_next(self, state: AgentState, batch: Batch, z_next: jax.Array) -> jax.Array:
        """``(D, B)``: whether the next states are irreversible, as labelled, or else the probability (PAINT, §4)."""
        if not self.learns_irreversible:
            return jnp.zeros_like(batch["reward"])
        predicted = irreversibility.probability(state.irreversibility, z_next)
        return jnp.where(batch["stuck"] == UNLABELLED, predicted, batch["stuck"])

    def learn_irreversible(
        self, state: AgentState, stuck: Observation, free: Observation, rng: np.random.Generator
    ) -> AgentState:
        """A classifier trained from scratch on observations ``(n, …)`` that people labelled.

        The rest of `state` stays, and all of it where one of the two classes is empty.
        """
        if not len(stuck["state"]) or not len(free["state"]):
            return state
        encode = partial(jax.jit(self.encode), state.encoder, state.statistics)
        updates = self.recipe.help.classifier_updates
        return dataclasses.replace(state, irreversibility=irreversibility.learn(encode, stuck, free, updates, rng))

    def _direction_loss(
        self,
        critic: Params,
        target_critic: Params,
        policy: Params,
        average: Params,
        log_temperature: jax.Array,
        rows: Rows,
        candidates: tuple[jax.Array | None, jax.Array | None],
        key: jax.Array,
        *,
        step: jax.Array,
        stage: Stage,
        improve: bool,
    ) -> tuple[jax.Array, Metrics]:
        """Loss of one direction: features ``(B, f)``, rows ``(B, …)``, candidates ``(B, K, d)`` of an external policy."""
        recipe = _while_practising(self.recipe) if stage == "online" else self.recipe
        critic_key, policy_key = jax.random.split(key)
        frozen = jax.lax.stop_gradient(critic)
        improver = self._improver(frozen)
        now = jax.lax.stop_gradient(candidate_features(rows.z, candidates[0]))
        following = jax.lax.stop_gradient(candidate_features(rows.z_next, candidates[1]))

        def propose(place: Literal["now", "next"], key: jax.Array, n: int) -> tuple[jax.Array, jax.Array | None]:
            features = now if place == "now" else following
            return jax.lax.stop_gradient(self.improvement.propose(improver, average, features, key, n))

        critic_loss, metrics = self.critic.loss(recipe, critic, target_critic, rows, propose, critic_key)
        if not improve or (stage == "offline" and not self._policy_learns_offline):
            return critic_loss, metrics
        if stage != "clone":
            rows = rows._replace(z=jax.lax.stop_gradient(rows.z))
        if stage == "clone" or (stage == "offline" and not self.improvement.LEARNS_OFFLINE):
            per_row = self.policy.supervised_loss(recipe, policy, rows.z, rows.action, policy_key)
            weight = rows.demonstration * rows.weight
            bc_loss = (weight * per_row).sum() / jnp.maximum(weight.sum(), 1.0)
            return critic_loss + bc_loss, metrics | {"policy/bc_loss": bc_loss}

        def advantage(key: jax.Array) -> jax.Array:
            return jax.lax.stop_gradient(self.critic.advantage(recipe, frozen, target_critic, rows, propose, key))

        policy_loss, policy_metrics = self.improvement.loss(
            improver, policy, average, rows._replace(z=now), log_temperature, advantage, step, policy_key
        )
        return critic_loss + policy_loss, metrics | policy_metrics

    @property
    def _policy_learns_offline(self) -> bool:
        """Policies that rest while offline (PA-RL) go on cloning where cameras make the encoder move under them."""
        return self.improvement.LEARNS_OFFLINE or bool(self.observation_spec.cameras)

    def _average_rate(self, updates: jax.Array, stage: Stage) -> jax.Array | float:
        """Rate of the moving average; larger in the first updates of all, so that it soon forgets the random start."""
        rate = self.recipe.policy.average_rate
        data = self.recipe.data
        first = "clone" if data.pretrain_bc_steps else "offline" if data.offline_steps else "online"
        return jnp.maximum(rate, 1.0 / (1.0 + updates / 10.0)) if stage == first else rate

    def _encoder_rate(self, stage: Stage) -> float:
        """How far the encoder goes of a step of the critic's optimiser, which it shares."""
        rate = self.recipe.encoder.online_learning_rate
        return 1.0 if rate is None or stage != "online" else rate / self.recipe.critic.learning_rate

    def _improver(self, critic: Params) -> Improver:
        appended = self.recipe.candidates_per_frame * self.action_dim  # which the critic does not see

        def values(features: jax.Array, action: jax.Array) -> jax.Array:
            value: jax.Array = self.critic.values(self.recipe, critic, features[..., : features.shape[-1] - appended], action)
            return value

        return Improver(self.recipe, self.policy, values, self.action_dim)  # type: ignore[arg-type]

    def distillation_targets(self, state: AgentState, batch: Batch, key: jax.Array) -> jax.Array:
        """Actions ``(D, B, d)`` that an external policy is to imitate, by the recipe's improvement.

        `batch` needs ``observation``, ``action`` and ``candidates`` only.
        """
        z = self.encode(state.encoder, state.statistics, batch["observation"])

        def targets(
            critic: Params, policy: Params, z: jax.Array, action: jax.Array, candidates: jax.Array, key: jax.Array
        ) -> Any:
            return self.improvement.targets(self._improver(critic), policy, candidate_features(z, candidates), action, key)

        keys = jax.random.split(key, len(self.directions))
        targets_of = map_directions(targets, state.critic, state.policy_average, z, batch["action"], batch["candidates"], keys)
        return jnp.asarray(targets_of)

    def _novelty(self, state: AgentState, z_next: jax.Array, key: jax.Array, stage: Stage) -> tuple[jax.Array | float, Params]:
        """The novelty bonus ``(D, B)`` of the next features ``(D, B, f)``, and the novelty networks after them."""
        coefficient = self.recipe.data.rnd_coefficient
        if not coefficient or stage != "online":
            return 0.0, state.novelty
        flat = z_next.reshape(-1, z_next.shape[-1])
        return coefficient * rnd.bonus(state.novelty, flat).reshape(z_next.shape[:-1]), rnd.update(state.novelty, flat, key)

    def update_block(self, stage: Stage) -> Any:
        """A jitted ``(state, batches) -> (state, metrics)`` that does K updates in one call.

        Batch leaves are ``(K, D, B, …)``; the metrics are those of the last update. With ``improvement.every`` N the policies
        make a step in every N-th update of the block, on its batch (Ball et al. 2023, algorithm 1); cloning is not thinned.
        Rolled (`lax.scan`) except for convolutions on a CPU, whose gradients XLA runs many times slower inside a loop.

        Raises (when it is traced):
            ValueError: K is not a multiple of ``improvement.every``.
        """
        unroll = self.encoder.uses_convolutions() and jax.default_backend() == "cpu"
        every = 1 if stage == "clone" else self.recipe.improvement.every

        def scan(update: Callable[..., Any], state: AgentState, batches: Batch) -> tuple[AgentState, Metrics]:
            length = batches["reward"].shape[0]
            state, metrics = jax.lax.scan(update, state, batches, unroll=length if unroll else 1)
            return state, jax.tree.map(lambda x: x[-1], metrics)

        def thinned(state: AgentState, batches: Batch) -> tuple[AgentState, Metrics]:
            before, last = jax.tree.map(lambda x: x[:-1], batches), jax.tree.map(lambda x: x[-1], batches)
            state, _ = scan(partial(self.update, stage=stage, improve=False), state, before)
            return self.update(state, last, stage=stage)

        def block(state: AgentState, batches: Batch) -> tuple[AgentState, Metrics]:
            length = batches["reward"].shape[0]
            batches, contrast = {name: leaf for name, leaf in batches.items() if name != "contrast"}, batches.get("contrast")
            if every == 1:
                state, metrics = scan(partial(self.update, stage=stage), state, batches)
            elif length % every:
                raise ValueError(f"a block of {length} updates is not made of whole turns of improvement.every, {every}")
            else:
                turns = jax.tree.map(lambda x: x.reshape(length // every, every, *x.shape[1:]), batches)
                state, metrics = scan(thinned, state, turns)
            if self.learned_rewards and stage == "online" and contrast:
                state, losses = self._discriminate(state, contrast, length)
                metrics |= {"reward/discriminator_loss": jnp.stack([losses.get(d, jnp.zeros(())) for d in self.directions])}
            return state, metrics

        return jax.jit(block, donate_argnums=0)

    def _discriminate(self, state: AgentState, contrast: Batch, length: int) -> tuple[AgentState, Metrics]:
        """The state after the discriminators' share of a block of `length` updates, and their losses by direction."""

        def value(prior: Params, observation: Batch, action: jax.Array) -> jax.Array:
            critic = jax.tree.map(lambda leaf: leaf[0], prior["critic"])
            if self.instructions is not None:
                told = jnp.broadcast_to(jnp.asarray(self.instructions[0]), (len(action), self.recipe.encoder.instruction_dim))
                observation = observation | {"instruction": told}
            features = self.encode(prior["encoder"], state.statistics, observation)
            return self.critic.values(self.recipe, critic, features, action).mean(0)

        key, step_key = jax.random.split(state.key)
        discriminators, losses = self.learned_rewards.learn(
            state.discriminators, state.statistics, contrast, value, state.updates, length, step_key
        )
        return dataclasses.replace(state, discriminators=discriminators, key=key), losses

    # --- acting ---------------------------------------------------------------------------------------------------

    def policy_parameters(self, state: AgentState) -> Params:
        """What the policy program needs and nothing else: no optimisers, and critics only when actions are improved by them.

        The embedded instruction of each phase travels with the weights, so a robot needs no text model.
        """
        parameters = {"encoder": state.encoder, "statistics": state.statistics, "policy": state.policy_average}
        if self.instructions is not None:
            parameters["instructions"] = jnp.asarray(self.instructions)
        if self.learns_irreversible:
            parameters["irreversibility"] = state.irreversibility
        acting = state.target_critic if self.recipe.critic.acting == "target" else state.critic
        return parameters | ({"critic": acting} if self.improvement.ACTS_WITH_CRITIC else {})

    def act(
        self,
        parameters: Params,
        observation: dict[str, jax.Array],
        key: jax.Array,
        explore: jax.Array,
        candidates: jax.Array | None = None,
    ) -> jax.Array:
        """Action ``(d,)`` for one unbatched observation whose ``phase`` entry is the one-hot direction, and ``(K, d)`` candidates
        of an external policy; with ``policy.chunk`` h above 1 the next h actions ``(h, d)``. Exported as the policy program."""
        phase = jnp.argmax(observation["phase"])
        index = jnp.minimum(phase, len(self.directions) - 1)
        policy, critic = jax.tree.map(lambda leaf: leaf[index], (parameters["policy"], parameters.get("critic", {})))
        batched = {name: observation[name][None] for name in self.observation_spec.shapes()}
        if self.instructions is not None:
            batched["instruction"] = parameters["instructions"][phase][None]
        features = self.encode(parameters["encoder"], parameters["statistics"], batched)
        features = candidate_features(features, None if candidates is None else candidates[None])
        action = self.improvement.act(self._improver(critic), policy, features, key, explore)[0]
        return action if self.recipe.policy.chunk == 1 else action.reshape(-1, self.action_spec.dim)

    def irreversible(self, parameters: Params, observation: dict[str, jax.Array]) -> jax.Array:
        """Probability, scalar, that one unbatched observation cannot be undone. Exported beside the action with help `paint`."""
        batched = {name: observation[name][None] for name in self.observation_spec.shapes()}
        features = self.encode(parameters["encoder"], parameters["statistics"], batched)
        return irreversibility.probability(parameters["irreversibility"], features)[0]


def _while_practising(recipe: RecipeConfig) -> RecipeConfig:
    """The recipe with the settings that practice replaces. Returns with a novelty bonus have no bounds."""
    critic = recipe.critic
    weight = critic.cql_weight if critic.cql_online_weight is None else critic.cql_online_weight
    bound = critic.bound_targets and not recipe.data.rnd_coefficient
    return recipe.model_copy(update={"critic": critic.model_copy(update={"cql_weight": weight, "bound_targets": bound})})


def _embedded(recipe: RecipeConfig, instructions: Mapping[str, str] | None) -> np.ndarray:
    """The instruction of every phase ``(P, instruction_dim)``, in the order of `PHASES`."""
    if instructions is None:
        raise ValueError(f"recipe {recipe.name!r} reads instructions: give Agent those of the task (TaskConfig.instructions)")
    encoder = recipe.encoder
    return np.stack([embed(encoder.instruction, instructions[phase], encoder.instruction_dim) for phase in PHASES])


def _towards(slow: Params, fast: Params, rate: float) -> Params:
    return jax.tree.map(lambda s, f: s + rate * (f - s), slow, fast)
