"""The success classifier of `reward.kind: classifier`: which backend, and how it is adapted (docs/rewards.md)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from etude.config.model import Model


class ClassifierConfig(Model):
    backend: Literal["cnn", "probe", "zero_shot"] = Field(
        "cnn",
        description="cnn: small networks trained from nothing. probe: heads on the embeddings of a frozen encoder. zero_shot: "
        "CLIP and two sentences, nothing trained but temperature and threshold.",
    )
    encoder: str = Field(
        "hog",
        pattern=r"^(hog|open_clip:[^:]+:.+)$",
        description="Of probe and zero_shot. hog: edges and colours on a grid, no weights. open_clip:<model>:<weights>: an image "
        "tower, weights by tag or as a file.",
    )
    head: Literal["linear", "mlp", "attention"] = Field("mlp", description="attention: over the views and the last frames.")
    frames: int = Field(1, ge=1, le=16, description="Last frames that a head looks at.")
    heads: int = Field(16, ge=1, description="Members of the ensemble; they share the embeddings.")
    prior_scale: float = Field(
        1.0, ge=0, description="Weight of the fixed random function in every head, which keeps them different off the data."
    )
    augmented_copies: int = Field(2, ge=0, description="Shifted and relit copies of every training frame.")
    updates: int = Field(300, ge=1)
    learning_rate: float = Field(2e-3, gt=0)
    weight_decay: float = Field(1e-2, ge=0)
