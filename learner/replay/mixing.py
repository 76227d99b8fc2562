"""What a batch is made of: equal rows of every direction, each half demonstrations and half practice (RLPD §4.1), randomly
shifted images."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from etude.config import DataConfig, DiscriminatorConfig
from etude.specs import IMAGE_PREFIX, PHASES
from learner.replay.contrast import Contrast
from learner.replay.ring import Ring


def shift_into(out: np.ndarray, image: np.ndarray, pad: int, dy: int, dx: int) -> None:
    """Random-shift augmentation (DrQ, Kostrikov et al. 2021): replicate `pad` border pixels, crop at ``(dy, dx)`` in [0,
    2·pad]."""
    height, width = image.shape[:2]
    out[:] = cv2.copyMakeBorder(image, pad, pad, pad, pad, cv2.BORDER_REPLICATE)[dy : dy + height, dx : dx + width]


class BatchSampler:
    """Draws batches with leaves ``(K, D, B, …)`` for D directions from a demonstration ring and an online ring.

    Demonstrations are `demonstration_share` of each direction's rows exactly, in every mini-batch; with nothing online yet,
    all of them.
    """

    def __init__(
        self,
        config: DataConfig,
        directions: tuple[str, ...],
        demonstrations: Ring,
        online: Ring,
        seed: int,
        discriminators: dict[str, DiscriminatorConfig] | None = None,
    ) -> None:
        self.config, self.directions, self.demonstrations, self.online = config, directions, demonstrations, online
        self.rng = np.random.default_rng(seed)
        self._contrast = Contrast(discriminators or {}, demonstrations, online, self.rng)

    def sample(self, updates: int, demonstrations_only: bool = False) -> dict[str, Any]:
        """Batches for `updates` updates; ``config.batch_size`` rows per update, shared equally by the directions.

        ``contrast`` is for the discriminators, once for all updates (`learner.replay.contrast`; empty without any).
        """
        batch = self.example(updates)
        for k in range(updates):
            for p, phase in enumerate(self.directions):
                self._fill(batch, (k, p), phase, batch["reward"].shape[-1], demonstrations_only)
        if self.config.train_only_acting:
            newest = PHASES[self.online.row_phase[self.online.cursor - 1]] if self.online.steps else None
            batch["trained"][:] = [newest in (None, direction) for direction in self.directions]
        for side in (rows[side] for rows in batch["contrast"].values() for side in ("positive", "negative")):
            side |= {name: self._shifted(images) for name, images in side.items() if name.startswith(IMAGE_PREFIX)}
        return batch

    def example(self, updates: int) -> dict[str, Any]:
        """An unfilled batch: the shapes and dtypes that `sample` returns, to compile against."""
        lead = (updates, len(self.directions), self.config.batch_size // len(self.directions))
        observation = {name: np.empty((*lead, *a.shape[1:]), a.dtype) for name, a in self.online.observation.items()}
        following = {name: np.empty_like(array) for name, array in observation.items()}
        batch: dict[str, Any] = {
            "observation": observation,
            "next_observation": following,
            "action": np.empty((*lead, self.online.action.shape[1]), np.float32),
        }
        for name in ("reward", "terminal", "demonstration", "monte_carlo_return", "weight"):
            batch[name] = np.empty(lead, np.float32)
        if self.config.train_only_acting:
            batch["trained"] = np.ones(lead[:2], np.float32)
        batch["contrast"] = self._contrast.sample()
        return batch

    def _fill(self, batch: dict[str, Any], where: tuple[int, int], phase: str, rows: int, demonstrations_only: bool) -> None:
        share = rows if demonstrations_only else round(rows * self.config.demonstration_share)
        if self.online.transitions(phase) == 0:
            share = rows
        if self.demonstrations.transitions(phase) == 0:
            share = 0
        start = 0
        for ring, count, is_demonstration in ((self.demonstrations, share, 1.0), (self.online, rows - share, 0.0)):
            if count == 0:
                continue
            part = slice(start, start + count)
            start += count
            chosen = ring.sample_rows(phase, count, self.rng, self.config.success_share)
            self._copy_observation(ring, chosen, batch["observation"], where, part)
            self._copy_observation(ring, ring.next_row[chosen], batch["next_observation"], where, part)
            batch["action"][where][part] = ring.action[chosen]
            batch["reward"][where][part] = ring.reward[chosen]
            batch["terminal"][where][part] = (ring.terminal if self.config.bootstrap_through_timeouts else ring.ended)[chosen]
            batch["monte_carlo_return"][where][part] = ring.monte_carlo_return[chosen]
            batch["weight"][where][part] = ring.weight[chosen]
            batch["demonstration"][where][part] = is_demonstration

    def _copy_observation(
        self, ring: Ring, rows: np.ndarray, out: dict[str, np.ndarray], where: tuple[int, int], part: slice
    ) -> None:
        pad = self.config.random_shift_px
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
