"""Reader of the demonstrations of EARL (Sharma et al. 2022; github.com/architsharma97/earl_benchmark, Apache-2.0) as steps.

Their pickles, converted to ``.npz``, hold flat arrays over all transitions: ``observations (N, d)``, ``actions (N, a)``,
``rewards (N, 1)``, ``terminals (N, 1)`` and ``next_observations (N, d)``. One transition per episode is terminal: its last.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from etude.episodes.store import EpisodeStore
from etude.step import Source, Step

ACTOR = "earl-demonstrations"
SUCCESS_REWARD = 1.0
"""Stored reward of the transition that succeeds; the learner gives demonstrations its own recipe's rewards."""
ARRAYS = ("observations", "actions", "rewards", "terminals", "next_observations")


class EarlError(ValueError):
    """A file does not hold EARL demonstrations; the message names the file and what is wrong."""


class Demonstration(NamedTuple):
    """One successful episode of T transitions: observations float32 ``(T + 1, d)``, actions float32 ``(T, a)`` in [-1, 1]."""

    observations: np.ndarray
    actions: np.ndarray


def read_earl(path: Path) -> list[Demonstration]:
    """The episodes of one file, e.g. ``forward.npz`` of the tabletop task: 12 of 90 to 121 steps.

    Raises:
        EarlError: unreadable, an array is missing or of another length, or an episode does not hang together.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in ARRAYS if name not in file.files]
            if missing:
                raise EarlError(f"{path} lacks {', '.join(missing)}; EARL demonstrations have {', '.join(ARRAYS)}")
            arrays = {name: np.asarray(file[name], np.float32) for name in ARRAYS}
    except (OSError, EOFError) as error:
        raise EarlError(f"EARL demonstrations {path} cannot be read: {error}") from error
    except ValueError as error:
        if isinstance(error, EarlError):
            raise
        raise EarlError(f"{path} is no .npz of plain arrays ({error}): convert EARL's pickles first") from error
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) != 1:
        raise EarlError(f"the arrays of {path} have different lengths: {lengths}")
    ends = np.flatnonzero(arrays["terminals"].reshape(-1)) + 1
    if len(ends) == 0 or ends[-1] != lengths["terminals"]:
        raise EarlError(f"{path} does not end with a terminal transition: its last episode is not whole")
    return [_episode(arrays, start, end, path) for start, end in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True)]


def write_demonstrations(episodes: list[Demonstration], store: EpisodeStore, task: str, phase: str, instruction: str) -> None:
    """Append `episodes` to `store` as demonstrations of `phase`: each one segment that ends in success.

    Raises:
        StoreError: an episode does not fit the specs of the store.
    """
    sequence = store.received(ACTOR)
    first_segment = 1 + max((info.segment for info in store.segments() if info.actor_id == ACTOR), default=0)
    for number, episode in enumerate(episodes, start=first_segment):
        steps = len(episode.actions)
        for index, observation in enumerate(episode.observations):
            last = index == steps
            action = np.zeros_like(episode.actions[0]) if last else episode.actions[index]
            sequence += 1
            store.append(
                Step(
                    actor_id=ACTOR,
                    sequence=sequence,
                    segment=number,
                    index=index,
                    stamp_ns=sequence,  # the files hold no times; this keeps the order
                    phase=phase,
                    task=task,
                    instruction=instruction,
                    observation={"state": observation},
                    action=action,
                    policy_action=action,
                    reward=SUCCESS_REWARD if index == steps - 1 else 0.0,
                    is_first=index == 0,
                    is_last=last,
                    is_terminal=last,
                    source=Source.HUMAN,
                    policy_version=0,
                    success=int(last),
                    success_truth=int(last),
                    judged_by="environment",
                )
            )
    store.flush()


def _episode(arrays: dict[str, np.ndarray], start: int, end: int, path: Path) -> Demonstration:
    here = slice(start, end)
    if not arrays["rewards"].reshape(-1)[end - 1] > 0.0:
        raise EarlError(f"the episode of {path} that ends at transition {end - 1} is terminal without its reward")
    following = arrays["next_observations"][here]
    if not np.array_equal(following[:-1], arrays["observations"][start + 1 : end]):
        raise EarlError(f"transitions {start} to {end - 1} of {path} do not follow one another")
    observations = np.concatenate([arrays["observations"][start : start + 1], following])
    return Demonstration(observations, np.clip(arrays["actions"][here], -1.0, 1.0))
