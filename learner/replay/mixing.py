"""What a batch is made of: equal rows of every phase, each half demonstrations and half practice (RLPD §4.1), randomly
shifted images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import cv2
import numpy as np

from etude.config import EncoderConfig, RecipeConfig
from etude.specs import IMAGE_PREFIX, PHASES
from etude.text_embedding import embed
from learner.replay.candidates import Candidates, Drawn
from learner.replay.contrast import Contrast
from learner.replay.ring import IndexSet, Ring


def shift_into(out: np.ndarray, image: np.ndarray, pad: int, dy: int, dx: int) -> None:
    """Random-shift augmentation (DrQ, Kostrikov et al. 2021): replicate `pad` border pixels, crop at ``(dy, dx)`` in [0,
    2·pad]."""
    height, width = image.shape[:2]
    out[:] = cv2.copyMakeBorder(image, pad, pad, pad, pad, cv2.BORDER_REPLICATE)[dy : dy + height, dx : dx + width]


class BatchSampler:
    """Draws batches with leaves ``(K, D, B, …)`` for D sets of parameters from a demonstration ring and an online ring.

    Every practised phase has the same number of rows, and the sets of parameters share the phases in this order: with one set
    its rows are of all phases. Demonstrations are `demonstration_share` of each phase's rows exactly, in every mini-batch; with
    nothing online yet, all of them. Distillation in proportion to the data (PA-RL, Mark et al. 2024) does not draw rows of its
    own: the batch's rows are weighed by how rarely they were drawn, which has the same expectation and encodes nothing twice.
    Where the recipe's encoder reads instructions, observations have ``instruction``: the embedding of the text that was stored
    with the row. `candidates` are those of an external policy. `lock` guards the rings; the policy server is asked without it.
    With help rule `paint` there is ``stuck``: the label of the next observation (`Ring.stuck`).
    """

    def __init__(
        self,
        recipe: RecipeConfig,
        demonstrations: Ring,
        online: Ring,
        seed: int,
        candidates: Candidates | None = None,
        lock: AbstractContextManager[Any] | None = None,
    ) -> None:
        self.config, self.phases, self.discount = recipe.data, recipe.phases, recipe.critic.discount
        self.demonstrations, self.online = demonstrations, online
        self.candidates, self._lock = candidates, lock or nullcontext()
        self.rng = np.random.default_rng(seed)
        self._directions, self._encoder = recipe.directions, recipe.encoder
        self._contrast = Contrast(recipe.learned_rewards, demonstrations, online, self.rng, self._shifted)
        self._stuck = recipe.help.kind == "paint"

    def sample(self, updates: int, demonstrations_only: bool = False) -> dict[str, Any]:
        """Batches for `updates` updates; ``config.batch_size`` rows per update, shared equally by the phases.

        ``contrast`` is for the discriminators, once for all updates (`learner.replay.contrast`; empty without any).
        """
        batch = self._by_phase(updates)
        drawn: list[Drawn] = []
        with self._lock:
            for k in range(updates):
                for p, phase in enumerate(self.phases):
                    self._fill(batch, (k, p), phase, batch["reward"].shape[-1], demonstrations_only, drawn)
            plan = self.candidates.plan(drawn) if self.candidates else None
            beside = self._beside_rows(updates)
        if self.candidates and plan:
            self.candidates.fill(batch, plan)
        return self._by_direction(batch) | beside

    def example(self, updates: int) -> dict[str, Any]:
        """An unfilled batch: the shapes and dtypes that `sample` returns, to compile against."""
        with self._lock:
            beside = self._beside_rows(updates)
        return self._by_direction(self._by_phase(updates)) | beside

    def _beside_rows(self, updates: int) -> dict[str, Any]:
        """``contrast``, and where only the acting direction is trained ``trained`` ``(K, D)``, 1 for the one that acted last."""
        contrast = self._contrast.sample(updates)
        if not self.config.train_only_acting:
            return {"contrast": contrast}
        newest = PHASES[self.online.row_phase[self.online.cursor - 1]] if self.online.steps else None
        trained = np.array([newest in (None, direction) for direction in self._directions], np.float32)
        return {"contrast": contrast, "trained": np.tile(trained, (updates, 1))}

    def _by_direction(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Leaves ``(K, P, R, …)`` of P phases as ``(K, D, P / D · R, …)``."""
        return {
            name: self._by_direction(leaf)
            if isinstance(leaf, dict)
            else leaf.reshape(leaf.shape[0], len(self._directions), -1, *leaf.shape[3:])
            for name, leaf in batch.items()
        }

    def _by_phase(self, updates: int) -> dict[str, Any]:
        lead = (updates, len(self.phases), self.config.batch_size // len(self.phases))
        observation = {name: np.empty((*lead, *a.shape[1:]), a.dtype) for name, a in self.online.observation.items()}
        if self._encoder.instruction != "none":
            observation["instruction"] = np.empty((*lead, self._encoder.instruction_dim), np.float32)
        following = {name: np.empty_like(array) for name, array in observation.items()}
        batch: dict[str, Any] = {
            "observation": observation,
            "next_observation": following,
            "action": np.empty((*lead, self.online.chunk * self.online.action.shape[1]), np.float32),
        }
        for name in ("reward", "terminal", "discount", "demonstration", "monte_carlo_return", "weight", *["stuck"] * self._stuck):
            batch[name] = np.empty(lead, np.float32)
        if self.candidates:
            for name in ("candidates", "next_candidates"):
                batch[name] = np.empty((*lead, self.candidates.count, self.online.action.shape[1]), np.float32)
            batch["text"] = np.empty(lead, np.int32)
        return batch

    def _fill(
        self,
        batch: dict[str, Any],
        where: tuple[int, int],
        phase: str,
        rows: int,
        demonstrations_only: bool,
        drawn: list[Drawn],
    ) -> None:
        start = 0
        for ring, chosen, is_demonstration in self._chosen(phase, rows, demonstrations_only):
            count = len(chosen)
            part = slice(start, start + count)
            start += count
            drawn.append(Drawn(ring, where, part, chosen))
            transitions = ring.transitions_of(chosen, self.discount)
            last = transitions.last
            self._copy_observation(ring, chosen, batch["observation"], where, part)
            self._copy_observation(ring, ring.next_row[last], batch["next_observation"], where, part)
            batch["action"][where][part] = transitions.action
            batch["reward"][where][part] = transitions.reward
            batch["terminal"][where][part] = (ring.terminal if self.config.bootstrap_through_timeouts else ring.ended)[last]
            batch["discount"][where][part] = transitions.discount
            batch["monte_carlo_return"][where][part] = ring.monte_carlo_return[chosen]
            batch["weight"][where][part] = ring.weight[chosen]
            if self.config.distillation_share == "proportional" and count < rows:
                batch["weight"][where][part] *= self._share_of_all(ring, phase) * rows / count
            batch["demonstration"][where][part] = is_demonstration
            if self._stuck:
                batch["stuck"][where][part] = ring.stuck[ring.next_row[last]]

    def _chosen(self, phase: str, rows: int, only: bool) -> Iterator[tuple[Ring, np.ndarray, float]]:
        """What `rows` rows of a batch are made of: (ring, its rows, 1 if they count as demonstrations).

        Practice that counts as demonstrations is drawn in proportion to its number among these; it stays online rows too.
        """
        share = shown = self._demonstrations(phase, rows, only)
        practised = [] if only else [(own, own.count) for own in self._practised_demonstrations(phase) if own.count]
        among = self.demonstrations.transitions(phase) + sum(count for _, count in practised)
        drawn = []
        for own, count in practised:
            taken = min(shown, int(share * count / among + self.rng.random()))  # at random, or a few would never be drawn
            shown -= taken
            drawn.append((own, taken))
        success_share = self.config.success_share
        if shown:
            yield self.demonstrations, self.demonstrations.sample_rows(phase, shown, self.rng, success_share), 1.0
        for own, taken in drawn:
            if taken:
                yield self.online, own.sample(taken, self.rng), 1.0
        if online := rows - share:
            yield self.online, self.online.sample_rows(phase, online, self.rng, success_share), 0.0

    def _practised_demonstrations(self, phase: str) -> list[IndexSet]:
        """Rows of practice that count as demonstrations."""
        sets = []
        if self.config.corrections_are_demonstrations:
            sets.append(self.online.corrections[phase])
        if self.config.successes_are_demonstrations:
            sets.append(self.online.successful_attempts[phase])
        return sets

    def _demonstrations(self, phase: str, rows: int, only: bool) -> int:
        """How many of `rows` are demonstrations."""
        if self.demonstrations.transitions(phase) == 0:
            return 0
        if only or self.online.transitions(phase) == 0:
            return rows
        share = self.config.demonstration_share
        return round(rows * (self._share_of_all(self.demonstrations, phase) if share == "proportional" else share))

    def _share_of_all(self, ring: Ring, phase: str) -> float:
        """Of all transitions of `phase`, those in `ring`."""
        return ring.transitions(phase) / (self.demonstrations.transitions(phase) + self.online.transitions(phase))

    def _copy_observation(
        self, ring: Ring, rows: np.ndarray, out: dict[str, np.ndarray], where: tuple[int, int], part: slice
    ) -> None:
        pad = self.config.random_shift_px
        if self._encoder.instruction != "none":
            out["instruction"][where][part] = embeddings(self._encoder, ring, rows)
        for name, source in ring.observation.items():
            target = out[name][where][part]
            if not name.startswith(IMAGE_PREFIX) or pad == 0:
                target[:] = source[rows]
                continue
            shifts = self.rng.integers(0, 2 * pad + 1, size=(len(rows), 2))
            for i, row in enumerate(rows):
                shift_into(target[i], source[row], pad, int(shifts[i, 0]), int(shifts[i, 1]))

    def _shifted(self, images: np.ndarray) -> np.ndarray:
        """A copy of images ``(n, h, w, 3)``, each randomly shifted."""
        pad, out = self.config.random_shift_px, np.empty_like(images)
        for i, (dy, dx) in enumerate(self.rng.integers(0, 2 * pad + 1, size=(len(images), 2))):
            shift_into(out[i], images[i], pad, int(dy), int(dx))
        return out


def embeddings(encoder: EncoderConfig, ring: Ring, rows: np.ndarray) -> np.ndarray:
    """Embedded instructions ``(n, instruction_dim)`` of `rows` ``(n,)``."""
    table = np.stack([embed(encoder.instruction, text, encoder.instruction_dim) for text in ring.texts])
    return table[ring.instruction[rows]]
