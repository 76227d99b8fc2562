"""Schema of robot_configs/phrases.yaml: which words mean which motion of the tool."""

from __future__ import annotations

from pydantic import Field, field_validator, model_validator

from etude.config.model import Model


class Phrase(Model):
    """Words that mean the same, and what they do. Directions are the operator's: x forwards, y to the left, z up."""

    say: tuple[str, ...] = Field(min_length=1, description="Ways to say it, in small letters.")
    move_m: tuple[float, float, float] = Field((0.0, 0.0, 0.0), description="Displacement of the tool, metres.")
    turn_deg: float = Field(0.0, ge=-90, le=90, description="Turn about the vertical, degrees; to the left is positive.")
    gripper: float | None = Field(None, ge=-1, le=1, description="Absolute opening, -1 closed to +1 open; empty: as it is.")

    @field_validator("move_m")
    @classmethod
    def _near(cls, move_m: tuple[float, float, float]) -> tuple[float, float, float]:
        if max(map(abs, move_m)) > 0.3:
            raise ValueError(f"{move_m} is farther than 0.3 m: metres are meant")
        return move_m

    @model_validator(mode="after")
    def _does_something(self) -> "Phrase":
        if not any(self.move_m) and not self.turn_deg and self.gripper is None:
            raise ValueError(f"{self.say[0]!r} does nothing: give move_m, turn_deg or gripper")
        return self


class PhraseTable(Model):
    """All phrases, and the words that say how much."""

    phrases: tuple[Phrase, ...] = Field(min_length=1)
    scales: dict[str, float] = Field(
        default_factory=dict, description="Words that multiply displacements and turns, e.g. a bit: 0.4."
    )
    fillers: tuple[str, ...] = Field((), description="Words that mean nothing here, e.g. please.")
    linear_m_s: float = Field(0.05, gt=0, le=0.25, description="Speed of the tool while it carries out words.")
    angular_deg_s: float = Field(20.0, gt=0, le=90, description="Turning speed, degrees per second.")
    gripper_s: float = Field(0.6, gt=0, le=5, description="How long the gripper is told to open or close, seconds.")
    forward_yaw_deg: float = Field(
        0.0, description="Which way is forward for the operator: how far to turn left from the robot's own x axis, degrees."
    )

    @field_validator("scales")
    @classmethod
    def _sensible(cls, scales: dict[str, float]) -> dict[str, float]:
        for words, factor in scales.items():
            if not 0.05 <= factor <= 4.0:
                raise ValueError(f"{words!r} multiplies by {factor:g}: use 0.05 to 4")
        return scales

    @model_validator(mode="after")
    def _unambiguous(self) -> "PhraseTable":
        said: set[str] = set()
        for phrase in self.phrases:
            for words in phrase.say:
                if words in said:
                    raise ValueError(f"{words!r} is said for two motions: keep it in one of them")
                said.add(words)
        return self
