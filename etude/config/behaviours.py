"""Single-life learning from a library of behaviours (ROAM): no phases, no resets, no attempts, so not a `RecipeConfig`."""

from __future__ import annotations

from pydantic import Field

from etude.config.model import Model


class BehavioursConfig(Model):
    """How behaviours are valued, chosen and adapted (Chen et al. 2023, Adapt On-the-Go, arXiv 2311.01059)."""

    name: str
    summary: str = Field("", description="What it does, in a sentence.")
    paper: str = Field("", description="Where it was published.")
    hidden: tuple[int, ...] = (64, 64)
    discount: float = Field(0.95, gt=0, lt=1)
    tau: float = Field(0.05, gt=0, le=1)
    learning_rate: float = Field(1e-3, gt=0)
    cross_entropy: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="β: before the life, share of the term that makes each behaviour's value the highest on its own states.",
    )
    inverse_temperature: float = Field(
        4.0, gt=0, description="Behaviour i is chosen with probability softmax(inverse_temperature · V_i); values are in rewards."
    )
    dwell_steps: int = Field(20, ge=1, description="Control steps for which a chosen behaviour acts before the next choice.")
    batch_size: int = Field(32, ge=2, description="Rows per behaviour and update.")
    pretraining_updates: int = Field(1000, ge=0)
    updates_per_step: int = Field(1, ge=0, description="While living; 0 chooses by the values of before, without adaptation.")
    life_share: float = Field(
        0.5, ge=0, le=1, description="Share of a behaviour's rows that come from this life, once it has acted in it."
    )
    life_window_steps: int = Field(
        400, ge=1, description="Newest own steps of this life that rows are drawn from: the world may have changed before."
    )
