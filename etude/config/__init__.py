"""The run configuration: one pydantic tree, from YAML plus ``key=value`` overrides, saved resolved beside the run.

`RunConfig` = task + robot + recipe (seven axes, see docs/architecture.md §2) + everything about this run. Unknown keys are errors
that carry the key's path and the nearest known key. Units are in the names.
"""

from etude.config.axes import (
    CriticConfig,
    DataConfig,
    DiscriminatorConfig,
    EncoderConfig,
    HelpConfig,
    ImprovementConfig,
    PolicyConfig,
    ResetConfig,
    RewardConfig,
)
from etude.config.classifier import ClassifierConfig
from etude.config.loading import (
    CONFIG_ROOT,
    REPOSITORY,
    build,
    load_run_config,
    named_file,
    read_named,
    read_yaml,
    save_config,
)
from etude.config.model import ConfigError, Model
from etude.config.parts import DirectionConfig, RobotConfig, SafetyLimits, TaskConfig
from etude.config.recipe import RecipeConfig
from etude.config.run import DashboardConfig, EvaluationConfig, NotifyConfig, PublishConfig, RunConfig
from etude.config.teleop import TeleopMapping

__all__ = [
    "CONFIG_ROOT",
    "ClassifierConfig",
    "ConfigError",
    "CriticConfig",
    "DashboardConfig",
    "DataConfig",
    "DirectionConfig",
    "DiscriminatorConfig",
    "EncoderConfig",
    "EvaluationConfig",
    "HelpConfig",
    "ImprovementConfig",
    "Model",
    "NotifyConfig",
    "PolicyConfig",
    "PublishConfig",
    "REPOSITORY",
    "RecipeConfig",
    "ResetConfig",
    "RewardConfig",
    "RobotConfig",
    "RunConfig",
    "SafetyLimits",
    "TaskConfig",
    "TeleopMapping",
    "build",
    "load_run_config",
    "named_file",
    "read_named",
    "read_yaml",
    "save_config",
]
