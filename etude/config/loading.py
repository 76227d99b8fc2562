"""Configurations from YAML plus ``key=value`` overrides; unknown keys are errors with their path and the nearest known key."""

from __future__ import annotations

import difflib
import types
import typing
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from etude.config.model import ConfigError
from etude.config.run import RunConfig

M = typing.TypeVar("M", bound=BaseModel)
REPOSITORY = Path(__file__).resolve().parent.parent.parent
CONFIG_ROOT = REPOSITORY / "robot_configs"


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
            data[part] = merged(read_named(folder, value["base"]), inner)
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
    """The content of `named_file`."""
    return read_yaml(named_file(folder, name))


def named_file(folder: str, name: str) -> Path:
    """``robot_configs/<folder>/<name>.yaml``, or the file at `name` when it ends in .yaml."""
    return Path(name) if name.endswith(".yaml") else CONFIG_ROOT / folder / f"{name}.yaml"


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


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with `changes` in place of the same keys, mappings inside mappings alike."""
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


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
