"""The success classifier of `reward.kind: classifier`: which backend, and how it is adapted (docs/rewards.md)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from etude.config.model import Model


class ClassifierConfig(Model):
    backend: Literal["cnn", "probe", "zero_shot", "vlm", "vice"] = Field(
        "cnn",
        description="cnn: small networks trained from nothing. probe: heads on the embeddings of a frozen encoder. zero_shot: "
        "CLIP and two sentences. vlm: a vision-language model and a question. These two learn temperature and threshold only. "
        "vice: as cnn, but the ends of demonstrations against whatever was visited, nobody labels; for policies that seldom "
        "succeed, because successes that were visited count as failures.",
    )
    network: Literal["blocks", "points"] = Field(
        "blocks",
        description="Of cnn and vice. blocks: quick, for a scene that always looks the same. points: convolutions that find "
        "where things are, for scenes whose light, colours and clutter change; training takes several times as long.",
    )
    encoder: str = Field(
        "hog",
        pattern=r"^(hog|efficientnet_lite0|open_clip:[^:]+:.+)$",
        description="Of probe and zero_shot. hog: edges and colours on a grid, no weights. efficientnet_lite0: pretrained, its "
        "weights are a package (extra backbone). open_clip:<model>:<weights>: an image tower, weights by tag or as a file.",
    )
    head: Literal["linear", "mlp", "attention"] = Field("mlp", description="attention: over the views and the last frames.")
    frames: int = Field(
        1,
        ge=1,
        le=16,
        description="Last frames that cnn, vice and the head of a probe look at; one frame does not show whether a thing rests.",
    )
    heads: int = Field(16, ge=1, description="Members of the ensemble; they share the embeddings.")
    prior_scale: float = Field(
        1.0, ge=0, description="Weight of the fixed random function in every head, which keeps them different off the data."
    )
    augmented_copies: int = Field(2, ge=0, description="Shifted and relit copies of every training frame.")
    updates: int = Field(300, ge=1)
    learning_rate: float = Field(2e-3, gt=0)
    weight_decay: float = Field(1e-2, ge=0)
    mislabelled_share: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="For experiments: this share of the successes is labelled as failures before training.",
    )
    # vice
    vice_last_frames: int = Field(
        1,
        ge=1,
        description="So many frames at the end of every demonstration are successes. Those before the last may not show it yet.",
    )
    vice_visited_frames: int = Field(
        3000, ge=1, description="Newest visited frames of each direction and store that are failures."
    )
    # vlm
    model: str = Field(
        "", description="Image-text-to-text model: name on the Hugging Face hub, folder, or the endpoint's name for it."
    )
    endpoint: str = Field(
        "",
        description="Address of an OpenAI-compatible server, e.g. http://127.0.0.1:8000; empty: the model runs in this process.",
    )
    vlm_batch: int = Field(8, ge=1, description="Frames per question at once.")
    calibration_frames: int = Field(100, ge=10, description="Labelled frames of each kind and direction that are asked about.")
    tuning_updates: int = Field(
        0, ge=0, description="LoRA updates on half of the segments before calibration; not with an endpoint."
    )
    tuning_batch: int = Field(2, ge=2, description="Pictures per update, half of them successes.")
    tuning_modules: str = Field(
        "all-linear", description="Layers that get LoRA: all-linear, or a regular expression, e.g. of the projector alone."
    )
    # while practising
    service: str = Field(
        "",
        pattern=r"^[A-Za-z0-9_/]*$",
        description="Name of a reward node (`etude classifier serve`) in another process or on another machine, which judges "
        "instead of this one; empty: the actor judges by itself.",
    )
    deadline_s: float | None = Field(
        None,
        gt=0,
        description="The judge works beside the control loop, and answers about frames older than this do not count; None: it is "
        "asked in the loop, which a vlm never is.",
    )
    missed: Literal["no_vote", "failure"] = Field("no_vote", description="What a frame without an answer counts as.")

    @model_validator(mode="after")
    def _vlm_fits(self) -> "ClassifierConfig":
        if self.backend == "vlm" and not self.model:
            raise ValueError("classifier.backend 'vlm' needs classifier.model, and classifier.endpoint where a server has it")
        if self.backend == "vlm" and self.deadline_s is None:
            raise ValueError("a vlm is too slow for the control loop: set classifier.deadline_s, e.g. 2.0")
        if self.service and self.deadline_s is None:
            raise ValueError("a reward node answers when it can: set classifier.deadline_s beside classifier.service, e.g. 0.5")
        if self.tuning_updates and (self.backend != "vlm" or self.endpoint):
            raise ValueError(
                "classifier.tuning_updates tunes a vlm in this process: leave classifier.endpoint empty, or set it to 0"
            )
        if self.frames > 1 and self.backend in ("zero_shot", "vlm"):
            raise ValueError(
                f"classifier.frames {self.frames} is for cnn, vice and probe; {self.backend} looks at one: set it to 1"
            )
        if self.backend == "zero_shot" and not self.encoder.startswith("open_clip:"):
            raise ValueError(
                "classifier.backend 'zero_shot' compares pictures with sentences: set classifier.encoder to open_clip:…"
            )
        return self
