"""One measured number with its unit and the settings it holds for."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Result:
    name: str
    value: float
    unit: str
    config: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """The line that `etude bench` prints; the host's cores are part of the configuration, its load is a warning sign."""
        host = {"cores": os.cpu_count(), "machine": platform.machine(), "load_1min": round(os.getloadavg()[0], 2)}
        value = float(f"{self.value:.5g}")
        return json.dumps({"name": self.name, "value": value, "unit": self.unit, "config": {**self.config, **host}})
