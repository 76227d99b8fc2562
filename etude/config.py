"""The run configuration: one pydantic tree, from YAML plus ``key=value`` overrides, saved resolved beside the run.

`RunConfig` = task + robot + recipe (seven axes, see docs/architecture.md §2) + everything about this run. Unknown keys are errors
that carry the key's path and the nearest known key. Units are in the names.
"""

from __future__ import annotations

import difflib
import types
import typing
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from etude.specs import PHASES

M = typing.TypeVar("M", bound=BaseModel)
REPOSITORY = Path(__file__).resolve().parent.parent
CONFIG_ROOT = REPOSITORY / "robot_configs"


class ConfigError(ValueError):
    """A configuration cannot be used; the message names the file or override, the key's path and the remedy."""


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


# --- robot and task -------------------------------------------------------------------------------------------------


class SafetyLimits(Model):
    """Limits of the safety filter (actor/safety.py). Base frame, metres, radians."""

    workspace_min_m: tuple[float, float, float] | None = None
    workspace_max_m: tuple[float, float, float] | None = None
    max_translation_per_step_m: float = Field(0.05, gt=0)
    max_rotation_per_step_rad: float = Field(0.3, gt=0)
    max_reading_age_s: float = Field(0.3, gt=0, description="An older observation means hold.")


class RobotConfig(Model):
    name: str
    kind: Literal["mujoco", "gymnasium"] = "mujoco"
    environment_id: str | None = Field(None, description="Gymnasium id, for kind gymnasium.")
    environment_options: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments of gymnasium.make.")
    control_rate_hz: float = Field(10.0, gt=0)
    pace: Literal["realtime", "learner", "free"] = Field(
        "realtime",
        description="realtime: hold the control rate. learner: simulation time runs as fast as the learner keeps its UTD ratio. "
        "free: as fast as possible.",
    )
    safety: SafetyLimits = SafetyLimits()


class DirectionConfig(Model):
    """One direction (forward or backward) of a task pair."""

    instruction: str
    max_steps: int = Field(40, gt=0, description="Control steps after which the phase times out.")


class TaskConfig(Model):
    name: str
    scene: str = Field("", description="simulation scene, e.g. drawer, relocate, peg, slide.")
    forward: DirectionConfig
    backward: DirectionConfig
    cameras: tuple[str, ...] = ("front", "wrist")
    image_size_px: int = Field(64, gt=0)
    demonstrations_per_direction: int = Field(20, ge=0)
    demonstration_starts: Literal["alternating", "random"] = Field(
        "alternating",
        description="alternating: every other demonstration begins where the other direction's ended; random: every one at a "
        "random start.",
    )
    expert_noise: float = Field(0.3, ge=0, description="Scale of the scripted expert's action noise.")
    options: dict[str, float] = Field(
        default_factory=dict, description="Scene parameters; unknown ones are refused by the scene."
    )


# --- recipe: the seven axes -----------------------------------------------------------------------------------------


class CriticConfig(Model):
    kind: Literal["td", "cql", "cal_ql", "iql", "none"] = "td"
    ensemble: int = Field(2, ge=1)
    subset_min: int = Field(2, ge=1, description="Members whose minimum makes the target (REDQ).")
    subset_with_replacement: bool = Field(False, description="Draw the subset with replacement, as PA-RL does.")
    hidden: tuple[int, ...] = (256, 256)
    layer_norm: bool = True
    discount: float = Field(0.96, gt=0, lt=1)
    tau: float = Field(0.005, gt=0, le=1)
    learning_rate: float = Field(5e-4, gt=0)
    backup_entropy: bool = False
    bound_targets: bool = Field(
        False, description="Clip targets to the returns that the recipe's rewards allow; stops values from growing without end."
    )
    pessimistic_reward: float | None = Field(
        None, le=0, description="PAINT: reward per step for ever after an irreversible state (R_min); None leaves targets alone."
    )
    head: Literal["scalar", "hl_gauss"] = Field(
        "scalar", description="hl_gauss: a histogram of returns, trained by cross-entropy."
    )
    value_min: float = Field(-100.0, description="Lowest return of the histogram.")
    value_max: float = Field(0.0, description="Highest return of the histogram.")
    value_bins: int = Field(128, ge=2)
    value_sigma_bins: float = Field(
        0.75, gt=0, description="Width of the target's Gaussian in bins; 1.06 is what PA-RL's release computes (0.75 times √2)."
    )
    # cql and cal_ql only (specs: Cal-QL §1.1)
    cql_weight: float = Field(1.0, ge=0)
    cql_samples: int = Field(10, ge=1)
    cql_importance_sampling: bool = True
    cql_max_target_backup: bool = True
    cql_temperature: float = Field(1.0, gt=0)
    cql_lagrange_gap: float | None = None
    # iql only
    expectile: float = Field(0.7, gt=0, lt=1)


class PolicyConfig(Model):
    kind: Literal["gaussian", "diffusion", "flow", "autoregressive", "external"] = "gaussian"
    hidden: tuple[int, ...] = (256, 256)
    layer_norm: bool = True
    learning_rate: float = Field(5e-4, gt=0)
    average_rate: float = Field(
        1.0, gt=0, le=1, description="Rate of the moving average of the parameters that acts; 1 acts with the newest ones."
    )
    # gaussian
    log_std_min: float = -5.0
    log_std_max: float = 0.7
    cloning: Literal["squared_error", "log_likelihood"] = "squared_error"
    # diffusion and flow
    sampling_steps: int = Field(5, ge=1, description="Denoising steps (diffusion) or Euler steps (flow).")
    width: int = Field(256, ge=8, description="Width of the residual blocks, or of the transformer.")
    blocks: int = Field(3, ge=1, description="Residual blocks, or transformer layers.")
    dropout: float = Field(0.0, ge=0, lt=1)
    # autoregressive
    bins: int = Field(128, ge=2, description="Action tokens per dimension.")
    heads: int = Field(8, ge=1)


class ImprovementConfig(Model):
    kind: Literal["gradient", "pa_rl", "awr", "bc"] = "gradient"
    # gradient
    initial_temperature: float = Field(0.01, gt=0)
    learn_temperature: bool = True
    target_entropy_per_dim: float = -0.5
    q_reduction: Literal["mean", "min"] = "mean"
    bc_weight: float = Field(0.0, ge=0, description="Weight of the behaviour-cloning term on demonstration rows.")
    bc_schedule: Literal["constant", "annealed", "balanced"] = Field(
        "constant",
        description="annealed: (1 − λ)·L_RL + λ·L_BC, λ from bc_weight to bc_end_weight (MEDAL++); balanced: scaled to "
        "the size of the other one (RoboFuME).",
    )
    bc_end_weight: float = Field(0.1, ge=0)
    bc_anneal_start: int = Field(10_000, ge=0, description="Updates before λ begins to fall.")
    bc_anneal_end: int = Field(50_000, ge=1, description="Updates after which λ stays.")
    # pa_rl
    candidates: int = Field(32, ge=1, description="Actions sampled from the policy.")
    keep: int = Field(10, ge=1, description="Best of them that are improved.")
    ascent_steps: int = Field(10, ge=0)
    ascent_step_size: float = Field(3e-4, gt=0)
    distil: Literal["softmax", "argmax"] = "softmax"
    # awr
    inverse_temperature: float = Field(3.0, ge=0, description="β: weights are exp(β · advantage).")
    max_weight: float = Field(100.0, gt=0)


class RewardConfig(Model):
    kind: Literal["environment", "classifier", "intervention"] = "classifier"
    success: float = 1.0
    step: float = 0.0
    success_is_terminal: bool = True
    consecutive_frames: int = Field(2, ge=1, description="k consecutive frames above the threshold make a success (hysteresis).")
    max_false_positive_rate: float = Field(0.01, gt=0, lt=1)


class ResetConfig(Model):
    kind: Literal["human", "backward_policy"] = Field(
        "backward_policy", description="backward_policy: a second policy with the backward task's own reward (FBRL)."
    )
    wander_steps: int = Field(
        0,
        ge=0,
        description="Between attempts the arm moves at random for up to so many steps, so that starts vary; not recorded.",
    )


class HelpConfig(Model):
    kind: Literal["never", "timeout"] = "timeout"
    timeouts_before_help: int = Field(
        8, ge=1, description="Consecutive timed-out attempts of one direction after which a person is asked."
    )
    scripted_answer_delay_s: float | None = Field(
        None,
        ge=0,
        description="In headless simulation a scripted helper resets the scene after this delay; every answer is counted.",
    )


class DataConfig(Model):
    batch_size: int = Field(64, ge=2)
    demonstration_share: float = Field(0.5, ge=0, le=1)
    utd: float = Field(
        4.0, gt=0, description="Gradient updates per environment step, an upper bound that the learner never exceeds."
    )
    min_online_steps: int = Field(100, ge=0, description="Online steps before updates start.")
    replay_capacity_steps: int = Field(100_000, ge=100)
    random_shift_px: int = Field(4, ge=0)
    pretrain_bc_steps: int = Field(
        1000,
        ge=0,
        description="Updates on the demonstrations before practice: policies by behaviour cloning, critics by their own loss.",
    )
    offline_steps: int = Field(
        0, ge=0, description="Updates of the whole recipe on prior data, after cloning and before practice (offline → online)."
    )
    bootstrap_through_timeouts: bool = Field(
        True,
        description="false: for the critic the end of an attempt ends the task too (MEDAL), so failing is worth nothing.",
    )
    reset_optimisers: bool = Field(True, description="Fresh optimiser state when practice begins.")
    success_share: float = Field(
        0.0, ge=0, lt=1, description="Share of the rows that are drawn among transitions with the success reward (OOO)."
    )
    rnd_coefficient: float = Field(
        0.0, ge=0, description="Weight of the random-network-distillation bonus while practising (OOO)."
    )
    intervention_weights: bool = Field(False, description="Weigh rows in supervised losses by who acted and when (Sirius).")


class EncoderConfig(Model):
    kind: Literal["patch", "conv"] = "patch"
    features: int = Field(128, gt=0, description="Output features of all cameras together.")
    patch_px: int = Field(8, gt=0)


class RecipeConfig(Model):
    name: str
    summary: str = Field("", description="What it does, in a sentence.")
    paper: str = Field("", description="Where it was published.")
    critic: CriticConfig = CriticConfig()
    policy: PolicyConfig = PolicyConfig()
    improvement: ImprovementConfig = ImprovementConfig()
    reward: RewardConfig = RewardConfig()
    reset: ResetConfig = ResetConfig()
    help: HelpConfig = HelpConfig()
    data: DataConfig = DataConfig()
    encoder: EncoderConfig = EncoderConfig()

    @property
    def directions(self) -> tuple[str, ...]:
        """The directions of practice that have a policy of their own."""
        return PHASES if self.reset.kind == "backward_policy" else PHASES[:1]

    @property
    def return_bounds(self) -> tuple[float, float]:
        """Lowest and highest discounted return that rewards of `reward.step` per step and `reward.success` once can make."""
        reward, horizon = self.reward, 1.0 / (1.0 - self.critic.discount)
        for_ever = reward.step * horizon
        success = reward.success if reward.success_is_terminal else reward.success * horizon
        return min(for_ever, reward.step, success), max(for_ever, success)

    @model_validator(mode="after")
    def _parts_fit(self) -> "RecipeConfig":
        """Combinations that cannot work, refused with the reason."""
        critic, policy, improvement = self.critic, self.policy.kind, self.improvement
        if critic.subset_min > critic.ensemble and not critic.subset_with_replacement:
            raise ValueError(f"critic.subset_min is {critic.subset_min} but critic.ensemble has only {critic.ensemble} members")
        if critic.kind == "none" and improvement.kind != "bc":
            raise ValueError(
                f"improvement.kind {improvement.kind!r} asks a critic, and critic.kind is 'none': use bc, or a critic"
            )
        if improvement.kind == "gradient" and policy != "gaussian":
            raise ValueError(
                f"improvement.kind 'gradient' differentiates the action's log density, which a {policy} policy lacks: use "
                "pa_rl or awr"
            )
        if policy != "gaussian" and critic.kind in ("cql", "cal_ql") and critic.cql_importance_sampling:
            raise ValueError(
                f"critic.cql_importance_sampling needs log densities, which a {policy} policy does not have: set it to false"
            )
        if improvement.kind == "pa_rl" and critic.kind in ("cql", "cal_ql") and critic.cql_importance_sampling:
            raise ValueError("improved actions (pa_rl) have no log density: set critic.cql_importance_sampling to false")
        if critic.backup_entropy and (policy != "gaussian" or improvement.kind != "gradient"):
            raise ValueError("critic.backup_entropy needs the entropy of a gaussian policy improved by gradient: set it to false")
        if improvement.keep > improvement.candidates:
            raise ValueError(f"improvement.keep is {improvement.keep}, more than the {improvement.candidates} candidates")
        if critic.head == "hl_gauss":
            lowest, highest = self.return_bounds
            if not critic.value_min < critic.value_max or lowest < critic.value_min or highest > critic.value_max:
                raise ValueError(
                    f"critic.value_min {critic.value_min:g} and critic.value_max {critic.value_max:g} do not hold the returns "
                    f"that the rewards allow, {lowest:g} to {highest:g}: set them to these, or use critic.head scalar"
                )
        return self


# --- run ------------------------------------------------------------------------------------------------------------


class EvaluationConfig(Model):
    episodes: int = Field(50, ge=0, description="Evaluation episodes before and after practice, each from a random start.")
    interval_s: float = Field(90.0, gt=0, description="Seconds of practice between the short evaluations of the learning curve.")
    interval_episodes: int = Field(20, ge=0, description="0 switches the short evaluations off.")


class DashboardConfig(Model):
    enabled: bool = True
    host: str = "127.0.0.1"
    port: int = Field(8420, ge=0, le=65535, description="0 picks a free port.")


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


# --- loading --------------------------------------------------------------------------------------------------------


def load_run_config(
    source: str | Path | dict[str, Any], overrides: typing.Sequence[str] = (), *, truth_without_images: bool = False
) -> RunConfig:
    """Read a run YAML (or take such a mapping) and apply ``key.path=value`` overrides (values are YAML).

    ``task``, ``robot`` and ``recipe`` may be names: they load ``robot_configs/{tasks,robots,recipes}/<name>.yaml``. An
    override may name another part (``recipe=rlpd``) and may reach inside one (``recipe.critic.ensemble=10``). With
    `truth_without_images` a recipe whose reward is a classifier of images gets the ground truth when observations are states,
    unless an override asks for the classifier.

    Raises:
        ConfigError: unreadable file, unknown key (with its path and a suggestion), wrong value.
    """
    data = dict(source) if isinstance(source, dict) else read_yaml(Path(source))
    parsed = [_parse_override(text) for text in overrides]
    for keys, value in parsed:
        if len(keys) == 1:
            data[keys[0]] = value
    for part, folder in (("task", "tasks"), ("robot", "robots"), ("recipe", "recipes")):
        value = data.get(part)
        if isinstance(value, str):
            data[part] = read_named(folder, value)
        elif isinstance(value, dict) and isinstance(value.get("base"), str):
            inner = {key: item for key, item in value.items() if key != "base"}
            data[part] = _merge(read_named(folder, value["base"]), inner)
    for keys, value in parsed:
        if len(keys) > 1:
            _set(data, keys, value)
    recipe = data.get("recipe")
    if truth_without_images and data.get("observation") == "state" and isinstance(recipe, dict):
        reward = recipe.setdefault("reward", {})
        asked = ["recipe", "reward", "kind"] in [keys for keys, _ in parsed]
        if isinstance(reward, dict) and reward.get("kind", "classifier") == "classifier" and not asked:
            reward["kind"] = "environment"
    return build(RunConfig, data, "the configuration" if isinstance(source, dict) else str(source))


def save_config(config: BaseModel, path: Path) -> None:
    """Write the resolved configuration as YAML that `load_run_config` reads back to an equal value."""
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    path.write_text(text, encoding="utf-8")


def build(model: type[M], data: dict[str, Any], where: str) -> M:
    """Validate `data` into `model`; every problem becomes one line of a ConfigError."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        lines = [f"  {_explain(model, item)}" for item in error.errors()]
        raise ConfigError(f"{where} is not a valid {model.__name__}:\n" + "\n".join(lines)) from None


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping from `path`. Raises ConfigError naming the file and, for bad syntax, the line."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = sorted(p.stem for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        raise ConfigError(f"there is no configuration file {path}.{_suggest(path.stem, known)}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"configuration file {path} cannot be read: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"configuration file {path} must hold a mapping, not {type(data).__name__}")
    return data


def read_named(folder: str, name: str) -> dict[str, Any]:
    """``robot_configs/<folder>/<name>.yaml``, or the file at `name` when it ends in .yaml."""
    path = Path(name) if name.endswith(".yaml") else CONFIG_ROOT / folder / f"{name}.yaml"
    return read_yaml(path)


def _parse_override(text: str) -> tuple[list[str], Any]:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise ConfigError(f"override {text!r} is not of the form key.path=value, e.g. recipe.critic.ensemble=10")
    try:
        return key.strip().split("."), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"the value of override {text!r} is not YAML: {error}") from error


def _set(data: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        child = data.setdefault(key, {})
        if not isinstance(child, dict):
            raise ConfigError(f"override {'.'.join(keys)}: {key!r} is a plain value, it has no keys inside")
        data = child
    data[keys[-1]] = value


def _merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _explain(model: type[BaseModel], item: Any) -> str:
    location = [str(part) for part in item["loc"]]
    path = ".".join(location) or "(whole file)"
    if item["type"] == "extra_forbidden":
        return f"unknown key {path!r}.{_suggest(location[-1], _fields_at(model, location[:-1]))}"
    if item["type"] == "missing":
        return f"key {path!r} is missing"
    message = item["msg"].removeprefix("Value error, ")
    return f"{path}: {message} (got {item['input']!r})" if len(repr(item["input"])) < 80 else f"{path}: {message}"


def _fields_at(model: type[BaseModel], location: list[str]) -> list[str]:
    """Field names of the model found by walking `location` down from `model`."""
    current: Any = model
    for key in location:
        field = getattr(current, "model_fields", {}).get(key)
        if field is None:
            return []
        annotation = field.annotation
        if typing.get_origin(annotation) in (typing.Union, types.UnionType):
            annotation = next((a for a in typing.get_args(annotation) if hasattr(a, "model_fields")), None)
        current = annotation
    return list(getattr(current, "model_fields", {}))


def _suggest(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if close:
        return f" Did you mean {close[0]!r}?"
    return f" Known: {', '.join(known)}." if known else ""
