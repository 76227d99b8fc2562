"""Robots and tasks. Units are in the names."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from etude.config.arms import ArmBase, Side, collision, expanded
from etude.config.go1 import Go1Config
from etude.config.hardware import FrankaConfig
from etude.config.model import Model


class SafetyLimits(Model):
    """Limits of the safety filter (actor/safety.py). Base frame, metres, radians."""

    workspace_min_m: tuple[float, float, float] | None = None
    workspace_max_m: tuple[float, float, float] | None = None
    max_translation_per_step_m: float = Field(0.05, gt=0)
    max_rotation_per_step_rad: float = Field(0.3, gt=0)
    max_joint_change_per_step_rad: float | None = Field(
        None,
        gt=0,
        description="Of each joint target (actions named ..._joint) from one control step to the next; none: no limit.",
    )
    max_reading_age_s: float = Field(0.3, gt=0, description="An older observation means hold.")


class RobotConfig(Model):
    name: str
    kind: Literal["mujoco", "gymnasium", "go1", "franka"] = "mujoco"
    environment_id: str | None = Field(None, description="Gymnasium id, for kind gymnasium.")
    environment_options: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments of gymnasium.make.")
    relative_positions: dict[str, tuple[int, int]] = Field(
        default_factory=dict,
        description="For kind gymnasium: name -> (i, j). The state also has its elements j to j + 2 less i to i + 2: where one "
        "thing is as seen from another.",
    )
    control_rate_hz: float = Field(10.0, gt=0)
    pace: Literal["realtime", "learner", "free"] = Field(
        "realtime",
        description="realtime: hold the control rate. learner: simulation time runs as fast as the learner keeps its UTD ratio. "
        "free: as fast as possible.",
    )
    safety: SafetyLimits = SafetyLimits()
    franka: FrankaConfig | None = Field(None, description="The arm behind ROS 2, for kind franka.")
    arms: dict[Side, FrankaConfig] = Field(
        default_factory=dict,
        description="Instead of franka: two of them. Each by its own settings, or by `robot`, `prefix` and `changes` "
        "(etude/config/arms.py).",
    )
    arm_bases: dict[Side, ArmBase] = Field(
        default_factory=dict, description="Of two arms: where their bases stand, by which their boxes are known not to meet."
    )
    go1: Go1Config | None = Field(None, description="For kind go1: a real one, over the network; none: the simulated one.")

    @model_validator(mode="after")
    def _kind_fits(self) -> "RobotConfig":
        if self.arms and (self.franka is not None or len(self.arms) != 2):
            raise ValueError("arms are a left and a right one, instead of franka: see robot_configs/robots/franka_fr3_dual.yaml")
        if self.relative_positions and self.kind != "gymnasium":
            raise ValueError(f"relative_positions is for kind gymnasium, and kind is {self.kind!r}: leave it out")
        if (self.kind == "franka") != bool(self.frankas):
            raise ValueError(
                "kind franka needs the key franka, or arms, and no other kind takes them: see robot_configs/robots/"
                "franka_fr3.yaml"
            )
        shared = [name for name in self.arms["left"].cameras if name in self.arms["right"].cameras] if self.arms else []
        if shared:
            raise ValueError(f"cameras {', '.join(shared)} belong to both arms: a camera is listed with one of them")
        if self.arms and (self.safety.workspace_min_m or self.safety.workspace_max_m):
            raise ValueError("safety.workspace_* is not for two arms: each has its own box, arms.<side>.limits.workspace_*")
        if self.arms and (problem := collision(self.arms, self.arm_bases)):
            raise ValueError(problem)
        if self.go1 is not None and self.kind != "go1":
            raise ValueError("the key go1 is for kind go1: see robot_configs/robots/go1.yaml")
        if self.real and self.pace != "realtime":
            raise ValueError("a real robot moves in real time: set pace to realtime")
        return self

    @field_validator("arms", mode="before")
    @classmethod
    def _expand(cls, arms: Any) -> Any:
        return {side: expanded(side, data) for side, data in arms.items()} if isinstance(arms, dict) else arms

    @property
    def frankas(self) -> dict[str, FrankaConfig]:
        """The arms by side; one arm alone has none (the empty name)."""
        return {"": self.franka} if self.franka is not None else {str(side): arm for side, arm in self.arms.items()}

    @property
    def real(self) -> bool:
        """It is reached over a network, has a safety node, and neither an expert nor a second scene."""
        return bool(self.frankas) or self.go1 is not None


class DirectionConfig(Model):
    """One direction (forward or backward) of a task pair."""

    instruction: str
    question: str = Field(
        "",
        description="For a vision-language model; yes means that this direction has succeeded. Empty: made of the instruction.",
    )
    done_text: str = Field("", description="A sentence that is true of a picture of success; empty: made of the instruction.")
    undone_text: str = Field("", description="A sentence that is true of a picture before success.")
    max_steps: int = Field(40, gt=0, description="Control steps after which the phase times out.")
    needs: tuple[str, ...] = Field((), description="Conditions of the scene under which it is possible, e.g. drawer_open.")
    undoes: tuple[str, ...] = Field((), description="Conditions that no longer hold after it succeeded.")
    leads_to: tuple[str, ...] = Field(
        (),
        description="Conditions that hold after it succeeded. A pair whose directions name none alternates; naming them joins "
        "several task files to one graph (actor/task_graph.py).",
    )


class TaskConfig(Model):
    name: str
    scene: str = Field("", description="simulation scene, e.g. drawer, relocate, peg, slide.")
    forward: DirectionConfig
    backward: DirectionConfig
    actions: tuple[str, ...] = Field(
        ("x", "y", "z", "gripper"),
        description="What the task moves of a real arm: x, y, z, roll, pitch, yaw, gripper. A simulated scene knows it.",
    )
    cameras: tuple[str, ...] = ("front", "wrist")
    image_size_px: int = Field(64, gt=0)
    demonstrations_per_direction: int = Field(20, ge=0)
    demonstration_starts: Literal["alternating", "random"] = Field(
        "alternating",
        description="alternating: every other demonstration begins where the other direction's ended; random: every one at a "
        "random start.",
    )
    expert_noise: float = Field(0.3, ge=0, description="Scale of the scripted expert's action noise.")
    tool_start_min_m: tuple[float, float, float] | None = Field(
        None,
        description="Lowest corner of the box of tool centre points (base frame) to which the arm goes between attempts, at a "
        "random point of it; none: it wanders, as reset.wander_steps says. The box must be clear of everything.",
    )
    tool_start_max_m: tuple[float, float, float] | None = Field(None, description="Highest corner of that box.")
    options: dict[str, float] = Field(
        default_factory=dict, description="Scene parameters; unknown ones are refused by the scene."
    )

    @model_validator(mode="after")
    def _start_box_fits(self) -> "TaskConfig":
        low, high = self.tool_start_min_m, self.tool_start_max_m
        if (low is None) != (high is None) or (low and high and any(a > b for a, b in zip(low, high, strict=True))):
            raise ValueError(
                f"tool_start_min_m is {low} and tool_start_max_m {high}: give both corners of the box, each coordinate of the "
                "first at most that of the second, or neither"
            )
        return self

    @property
    def instructions(self) -> dict[str, str]:
        """Phase -> instruction."""
        return {"forward": self.forward.instruction, "backward": self.backward.instruction}
