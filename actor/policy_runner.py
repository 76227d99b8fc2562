"""Runs an exported policy: a StableHLO program plus the newest good weights, with jaxlib alone.

It is separate from the control loop so that everything that arrives over a network is checked here, in the receiving thread, and
the loop only ever sees a compiled, warm, complete policy. Refused weights change nothing: the last good version flies on.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.export
import numpy as np

from actor.candidates import CandidateFeed
from actor.chunks import ChunkPlayer
from etude.policy_file import PolicyFileError, PolicyProgram, PolicyWeights
from etude.specs import PHASES, ActionSpec, Observation, ObservationSpec, SpecError, specs_from_json


class PolicyRefused(ValueError):
    """A program or weights cannot be used; the message says why. The policy that flew before still flies."""


class PolicyNotReady(RuntimeError):
    """`act` was called before a program and fitting weights had arrived."""


@dataclass(frozen=True)
class _Compiled:
    program: PolicyProgram
    observation_spec: ObservationSpec
    action_spec: ActionSpec
    call: Callable[..., Any]


@dataclass(frozen=True)
class _Flight:
    """What `act` uses, swapped as one."""

    compiled: _Compiled
    parameters: dict[str, jax.Array]
    version: int
    run_id: str


class PolicyRunner:
    """`load_program` and `load_weights` from any thread, in any order; `begin` and `act` from the control loop.

    Attributes of the policy that is flying: `ready`, `version` (0 before), `weight_age_s` (infinite before), and `irreversible`:
    probability that the observation of the newest plan cannot be undone (PAINT), NaN where the program does not tell.
    """

    def __init__(self, seed: int = 0, feed: CandidateFeed | None = None) -> None:
        """`seed` makes the sequence of exploration keys; two actors of one run should have different ones. `feed` is of the run's
        policy server, for programs of external policies."""
        self._seed = seed & 0xFFFFFFFF
        self._feed = feed
        self._counter = itertools.count(1)
        self._loading = threading.Lock()
        self._compiled: _Compiled | None = None
        self._flight: _Flight | None = None
        self._chunks = ChunkPlayer()
        self._waiting: bytes | None = None
        self._loaded_s = float("-inf")
        self.irreversible = float("nan")

    @property
    def ready(self) -> bool:
        return self._flight is not None

    @property
    def version(self) -> int:
        flight = self._flight
        return flight.version if flight else 0

    @property
    def weight_age_s(self) -> float:
        """Seconds since the newest good weights were loaded."""
        return time.monotonic() - self._loaded_s

    @property
    def program(self) -> PolicyProgram | None:
        """The newest program that was accepted."""
        return self._compiled.program if self._compiled else None

    def load_program(self, data: bytes) -> None:
        """Check, compile and warm up a program. An older policy flies on until weights for the new program arrive.

        Raises:
            PolicyRefused: the bytes are damaged, or the program does not do what its header says.
        """
        with self._loading:
            try:
                program = PolicyProgram.from_bytes(data)
            except PolicyFileError as error:
                raise PolicyRefused(str(error)) from error
            if program.candidates and self._feed is None:
                raise PolicyRefused(
                    "the policy program is of an external policy and wants candidates, but this recipe names no policy server: "
                    "set recipe.policy.kind=external and recipe.policy.server"
                )
            if self._compiled is None or self._compiled.program.digest != program.digest:
                self._compiled = _compile(program)
            waiting, self._waiting = self._waiting, None
            if waiting is not None:
                self._load_weights(waiting)

    def load_weights(self, data: bytes) -> None:
        """Check `data` and let it fly. Weights of a program that is still to come are kept and tried again then.

        Raises:
            PolicyRefused: no such program yet, bad checksum, wrong leaves, shape or dtype, or a value that is not finite.
        """
        with self._loading:
            self._load_weights(data)

    def begin(self) -> None:
        """An attempt begins: the next action is planned from what is seen then."""
        self._chunks.begin()

    def prepare(self, observation: Observation, phase: str) -> bool:
        """Whether `act` can answer for `phase` now. Only a policy server may still owe candidates: this waits for them, a
        fraction of a control step, and can be called again."""
        flight = self._flight
        if flight is None or not flight.compiled.program.candidates or self._feed is None:
            return True
        return self._feed.wait(observation, phase, _candidates_shape(flight.compiled))

    def act(self, observation: Observation, phase: str, explore: bool) -> np.ndarray:
        """The policy's action, float32 ``(action_dim,)`` in [-1, 1]. With `explore` false it is deterministic.

        A program that plans a chunk of actions is asked once per chunk, and anew after `begin`, in another phase, and with newer
        weights (`actor.chunks`). An external policy acts on the candidates that the last `prepare` got.

        Raises:
            PolicyNotReady: no program or no weights yet, or no candidates for `phase`.
        """
        flight = self._flight
        if flight is None:
            raise PolicyNotReady("the policy has no program or no weights yet: wait for the learner")

        def plan() -> np.ndarray:
            inputs: dict[str, np.ndarray] = {key: observation[key] for key in flight.compiled.observation_spec.shapes()}
            inputs["phase"] = _ONE_HOT[phase]
            key = np.array([self._seed, next(self._counter) & 0xFFFFFFFF], np.uint32)
            arguments: tuple[Any, ...] = (flight.parameters, inputs, key, np.float32(explore))
            if flight.compiled.program.candidates:
                candidates = self._feed.take(phase, _candidates_shape(flight.compiled)) if self._feed else None
                if candidates is None:
                    raise PolicyNotReady(f"the policy server has given no candidates for {phase} yet")
                arguments = (*arguments, candidates)
            action, self.irreversible = _outputs(flight.compiled.call(*arguments))
            return action

        return self._chunks.next((flight.run_id, flight.version, phase, explore), plan)

    def _load_weights(self, data: bytes) -> None:
        try:
            weights = PolicyWeights.from_bytes(data)
        except PolicyFileError as error:
            raise PolicyRefused(str(error)) from error
        compiled = self._compiled
        if compiled is None or weights.program_digest != compiled.program.digest:
            self._waiting = data
            have = f"this actor has {compiled.program.digest[:12]}" if compiled else "this actor has none yet"
            raise PolicyRefused(
                f"policy weights version {weights.version} are for the program {weights.program_digest[:12]}, {have}: "
                "they are kept until that program arrives"
            )
        _check_leaves(weights, compiled.program)
        parameters = {name: jax.device_put(array) for name, array in weights.parameters.items()}
        jax.block_until_ready(parameters)
        self._flight = _Flight(compiled, parameters, weights.version, weights.run_id)
        self._loaded_s = time.monotonic()


def _candidates_shape(compiled: _Compiled) -> tuple[int, int]:
    return compiled.program.candidates, compiled.action_spec.dim


_ONE_HOT = {phase: np.eye(len(PHASES), dtype=np.float32)[i] for i, phase in enumerate(PHASES)}


def _compile(program: PolicyProgram) -> _Compiled:
    """Compile for exactly the shapes of the program's header, and run it once with zeros."""
    try:
        observation_spec, action_spec = specs_from_json(program.specs_json)
        exported = jax.export.deserialize(bytearray(program.serialized))
        zeros = {name: np.zeros(shape, dtype) for name, (shape, dtype) in program.parameters.items()}
        inputs = {**observation_spec.zeros(), "phase": _ONE_HOT[PHASES[0]]}
        arguments: tuple[Any, ...] = (jax.device_put(zeros), inputs, np.zeros(2, np.uint32), np.float32(0))
        if program.candidates:
            arguments = (*arguments, np.zeros((program.candidates, action_spec.dim), np.float32))
        call = jax.jit(exported.call).lower(*arguments).compile()
        action, _ = _outputs(call(*arguments))
    except SpecError as error:
        raise PolicyRefused(f"the policy program's specifications are not readable: {error}") from error
    except Exception as error:  # jax raises many types on a foreign or damaged program
        first_line = (str(error).splitlines() or [""])[0]
        raise PolicyRefused(
            f"the policy program {program.digest[:12]} does not compile here: {type(error).__name__}: {first_line}"
        ) from error
    if action.ndim not in (1, 2) or not action.size or action.shape[-1] != action_spec.dim or action.dtype != np.float32:
        raise PolicyRefused(
            f"the policy program gives {action.dtype}{action.shape}, its specification says float32({action_spec.dim},), or with "
            f"action chunks float32(h, {action_spec.dim})"
        )
    return _Compiled(program, observation_spec, action_spec, call)


def _outputs(result: Any) -> tuple[np.ndarray, float]:
    """What a program gives: an action, or an action and the probability that the scene cannot be undone (else NaN)."""
    action, irreversible = result if isinstance(result, tuple | list) else (result, np.nan)
    return np.asarray(action), float(irreversible)


def _check_leaves(weights: PolicyWeights, program: PolicyProgram) -> None:
    what = f"policy weights version {weights.version}"
    if weights.version < 1:
        raise PolicyRefused(f"{what}: versions begin at 1")
    missing, extra = program.parameters.keys() - weights.parameters.keys(), weights.parameters.keys() - program.parameters.keys()
    if missing or extra:
        raise PolicyRefused(
            f"{what} do not have the program's leaves: missing {sorted(missing)[:5]}, unknown {sorted(extra)[:5]}"
        )
    for name, (shape, dtype) in program.parameters.items():
        array = weights.parameters[name]
        if array.shape != shape or array.dtype != np.dtype(dtype):
            raise PolicyRefused(f"{what}: leaf {name!r} is {array.dtype}{array.shape}, expected {dtype}{shape}")
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            raise PolicyRefused(f"{what}: leaf {name!r} has values that are not finite; the last good version flies on")
