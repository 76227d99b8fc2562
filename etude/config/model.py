"""What every part of the configuration is made of: a frozen pydantic model that refuses unknown keys."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class ConfigError(ValueError):
    """A configuration cannot be used; the message names the file or override, the key's path and the remedy."""


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
