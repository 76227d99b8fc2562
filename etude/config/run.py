"""A run: task + robot + recipe, and everything about this one run. Units are in the names."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from etude.config.model import Model
from etude.config.parts import RobotConfig, TaskConfig
from etude.config.recipe import RecipeConfig


class EvaluationConfig(Model):
    episodes: int = Field(50, ge=0, description="Evaluation episodes before and after practice, each from a random start.")
    interval_s: float = Field(90.0, gt=0, description="Seconds of practice between the short evaluations of the learning curve.")
    interval_episodes: int = Field(20, ge=0, description="0 switches the short evaluations off.")


class NotifyConfig(Model):
    """Where a request for help is told to somebody who does not look at the page (dashboard/notify.py)."""

    url: str = Field(
        "", pattern=r"^(https?://.+)?$", description="A webhook that requests for help are posted to; empty: nobody is told."
    )
    format: Literal["ntfy", "slack", "json"] = Field(
        "ntfy", description="ntfy: a topic's address; slack: an incoming webhook, or any that takes its JSON; json: everything."
    )
    link: str = Field(
        "",
        pattern=r"^(https?://.+)?$",
        description="Address under which the receiver reaches this page; empty: messages have no link to answer by.",
    )
    link_minutes: float = Field(120.0, gt=0, description="How long a link is good, for one answer to its request.")


class DashboardConfig(Model):
    enabled: bool = True
    host: str = "127.0.0.1"
    token: str = Field(
        "",
        description="What a browser must know when host is not loopback; empty: a new one per start, printed with the address.",
    )
    port: int = Field(8420, ge=0, le=65535, description="0 picks a free port.")
    notify: NotifyConfig = NotifyConfig()


class PublishConfig(Model):
    weights_interval_s: float = Field(2.0, gt=0)
    chunk_bytes: int = Field(512 * 1024, ge=1024)
    checkpoint_interval_s: float = Field(60.0, gt=0)


class RunConfig(Model):
    name: str = "practice"
    task: TaskConfig
    robot: RobotConfig
    recipe: RecipeConfig
    observation: Literal["pixels", "state"] = "pixels"
    seed: int = Field(0, ge=0)
    minutes: float | None = Field(
        None, gt=0, description="Practice ends and is evaluated after this time; None runs until stopped."
    )
    headless: bool = False
    demonstrations: Path | None = Field(
        None, description="Episode store of the demonstrations; None: the task's own, recorded when missing."
    )
    prior_data: tuple[Path, ...] = Field(
        (),
        description="Episode stores of further demonstrations, of other tasks too; learnt beside the task's own, each row with "
        "its own instruction.",
    )
    robot_namespace: str = Field("robot", pattern=r"^[a-z][a-z0-9_]*$")
    evaluation: EvaluationConfig = EvaluationConfig()
    dashboard: DashboardConfig = DashboardConfig()
    publish: PublishConfig = PublishConfig()

    @model_validator(mode="after")
    def _state_has_no_classifier(self) -> "RunConfig":
        if self.observation == "state" and self.recipe.reward.kind == "classifier":
            raise ValueError(
                "recipe.reward.kind is 'classifier' but observation is 'state' (no images): use "
                "observation=pixels or recipe.reward.kind=environment"
            )
        return self

    @model_validator(mode="after")
    def _a_real_arm_knows_no_truth(self) -> "RunConfig":
        if self.robot.kind == "franka" and self.recipe.reward.kind == "environment":
            raise ValueError(
                "recipe.reward.kind is 'environment', the ground truth of a simulation, and robot "
                f"{self.robot.name!r} is a real arm: use recipe.reward.kind=classifier"
            )
        return self

    @model_validator(mode="after")
    def _instructions_differ(self) -> "RunConfig":
        forward, backward = (text.strip().lower() for text in self.task.instructions.values())
        if self.recipe.reset.kind == "instruction" and forward == backward:
            raise ValueError(
                f"recipe.reset.kind is 'instruction', but both instructions of task {self.task.name!r} are {forward!r}, so the "
                "one policy cannot tell the phases apart: word task.forward.instruction and task.backward.instruction differently"
            )
        return self
