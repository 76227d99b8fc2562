"""Follows a JSON-lines file that another process appends to.

Apart from those who follow (the page, the sinks) because files appear late, grow, are cut off and are written anew, which is
worth testing alone.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

log = logging.getLogger("etude")


class JsonLines:
    """Each call of `new` returns the objects of the complete lines that were added since the last one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def new(self) -> list[dict[str, Any]]:
        """New objects, oldest first. A missing file has none; a line that is not a JSON object is logged and skipped."""
        try:
            size = self._path.stat().st_size
            if size < self._offset:
                self._offset = 0  # written anew
            if size == self._offset:
                return []
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        except OSError as error:
            log.warning("%s cannot be read now: %s", self._path, error)
            return []
        complete = data.rfind(b"\n") + 1
        self._offset += complete
        objects = []
        for line in data[:complete].splitlines():
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except ValueError:
                value = None
            if isinstance(value, dict):
                objects.append(value)
            else:
                log.warning("%s has a line that is not a JSON object; skipped: %.80r", self._path, line)
        return objects
