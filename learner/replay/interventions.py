"""What a person's taking over says about the steps around it: rewards for RLIF, weights for Sirius.

Pure functions on arrays over the steps of one actor in the order of their sequence numbers, one row per step. The transition of
row i leads from its observation to that of row i + 1; a row that ends a segment (`is_last`) begins none. A take-over happens
within a segment (etude/step.py), or between two, where the person's first step follows the last, merely observed step of a
policy's segment. An intervention *burst* starts where the policy acted in a transition and a person acts on the state that it
led to; it lasts until somebody else acts or the task ends.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from etude.step import Source

INTERVENTION_SHARE = 0.5
"""Share of the total weight that interventions get (Sirius release)."""
PRE_INTERVENTION_SHARE = 0.002
"""Share of the total weight that is left to the steps before interventions (Sirius release)."""

_NOBODY = -1


class Kind(IntEnum):
    """Sirius' classes of transitions, and the rows that begin none."""

    NONE = 0
    ROBOT = 1
    PRE_INTERVENTION = 2
    INTERVENTION = 3
    DEMONSTRATION = 4


def rlif_rewards(source: np.ndarray, is_last: np.ndarray, is_terminal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rewards of RLIF (Luo et al. 2024): the transition that made a person take over costs 1, every other one 0.

    Args:
        source, is_last, is_terminal: ``(T,)`` fields of the steps (`etude.step.Step`).

    Returns:
        reward: float32 ``(T,)``, −1 on the one transition that each burst starts after.
        keep: bool ``(T,)``. False where nothing is learnt: on rows that begin no transition, and on a person's transitions
            while the burst goes on. The last transition of a burst stays, with reward 0.
    """
    actor, following = _actors(source, is_last, is_terminal)
    reward = np.where(_starts(actor, following), -1.0, 0.0).astype(np.float32)
    continues = (actor == Source.HUMAN) & (following == Source.HUMAN)
    return reward, (actor != _NOBODY) & ~continues


def sirius_kinds(source: np.ndarray, is_last: np.ndarray, is_terminal: np.ndarray, lookback: int) -> np.ndarray:
    """The class of every transition, int8 ``(T,)`` of `Kind`.

    A person's transitions are interventions. The policy's last `lookback` transitions before a burst, within their segment,
    are pre-interventions. Arguments as in `rlif_rewards`.
    """
    actor, following = _actors(source, is_last, is_terminal)
    kinds = np.full(len(actor), Kind.ROBOT, np.int8)
    rows = np.arange(len(actor))
    starts = np.flatnonzero(_starts(actor, following))
    if len(starts):
        segment = np.cumsum(np.concatenate([[0], is_last[:-1]]).astype(np.int64))
        nearest = starts[np.minimum(np.searchsorted(starts, rows), len(starts) - 1)]  # the next burst's, else the last one's
        before = (rows <= nearest) & (nearest - rows < lookback) & (segment == segment[nearest])
        kinds[before] = Kind.PRE_INTERVENTION
    kinds[actor == Source.HUMAN] = Kind.INTERVENTION
    kinds[actor == _NOBODY] = Kind.NONE
    return kinds


def sirius_class_weights(amounts: np.ndarray) -> np.ndarray:
    """Weight of a transition of each class, float32, indexed by `Kind`.

    Sirius (Liu et al. 2023) weighs a class by ``P*(class) / P(class)``: interventions make up half of the total weight, the steps
    before them 0.002 (constants of the release), demonstrations keep their share, so weigh 1, and the robot's own steps get the
    rest. With no intervention every class weighs 1. When demonstrations leave the robot nothing, its steps weigh 0: draw
    demonstrations by their share of the data, not half and half.

    Args:
        amounts: ``(len(Kind),)`` how many transitions of each class there are, or how often each is drawn.
    """
    weights = np.ones(len(Kind), np.float32)
    weights[Kind.NONE] = 0.0
    shares = np.array(amounts, np.float64)
    shares[Kind.NONE] = 0.0
    if shares[Kind.INTERVENTION] <= 0.0:
        return weights
    shares = shares / shares.sum()
    weights[Kind.INTERVENTION] = INTERVENTION_SHARE / shares[Kind.INTERVENTION]
    # the steps before it are never weighed up, however rare they are
    before = min(PRE_INTERVENTION_SHARE, shares[Kind.PRE_INTERVENTION])
    weights[Kind.PRE_INTERVENTION] = before / shares[Kind.PRE_INTERVENTION] if before > 0.0 else 0.0
    rest = max(0.0, 1.0 - INTERVENTION_SHARE - shares[Kind.DEMONSTRATION] - before)
    weights[Kind.ROBOT] = rest / shares[Kind.ROBOT] if shares[Kind.ROBOT] > 0.0 else 0.0
    return weights


def sirius_weights(
    source: np.ndarray,
    is_last: np.ndarray,
    is_terminal: np.ndarray,
    lookback: int,
    demonstrations: int = 0,
) -> np.ndarray:
    """Weight of every transition of this sequence in weighted cloning, float32 ``(T,)``, 0 on rows that begin none.

    `demonstrations` transitions, stored elsewhere with weight 1, count for the shares. Other arguments as in `sirius_kinds`.
    """
    kinds = sirius_kinds(source, is_last, is_terminal, lookback)
    amounts = np.bincount(kinds, minlength=len(Kind))
    amounts[Kind.DEMONSTRATION] += demonstrations
    return sirius_class_weights(amounts)[kinds]


def _actors(source: np.ndarray, is_last: np.ndarray, is_terminal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Who acted in the transition of each row, and who acts next on the state that it led to; `_NOBODY` where nobody did.

    Over the end of a segment that is not terminal, the next one is who acts in the following segment; after a terminal
    state the task is over and nobody is next.
    """
    actor = np.where(is_last, _NOBODY, source).astype(np.int64)
    padded = np.concatenate([actor, [_NOBODY, _NOBODY]])
    last, terminal = (np.concatenate([np.asarray(flag, bool), [False, False]]) for flag in (is_last, is_terminal))
    one, two = slice(1, -1), slice(2, None)
    following = np.where(last[one], np.where(terminal[one], _NOBODY, padded[two]), padded[one])
    following[actor == _NOBODY] = _NOBODY
    return actor, following


def _starts(actor: np.ndarray, following: np.ndarray) -> np.ndarray:
    return (actor == Source.POLICY) & (following == Source.HUMAN)
