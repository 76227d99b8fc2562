"""Makes a run folder ready for the nodes: configuration, demonstrations, classifier. The first process of every launch file.

`etude practice run` does the same and then watches the processes itself; under `ros2 launch` the launch system watches them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from etude.cli import clear_message
from etude.config import load_run_config, save_config
from etude.run_folder import RunFolder


def prepare_run(root: Path, config_file: Path, overrides: Sequence[str] = ()) -> int:
    """Create `root` from `config_file`, or keep the run that it already holds; then prepare what is missing.

    Returns the exit status of the preparation. Raises ConfigError.
    """
    from etude_nodes import prepare

    folder = RunFolder(root.resolve())
    if folder.config.is_file():
        print(f"continuing the run in {folder.root} with its own configuration")
    else:
        config = load_run_config(config_file, overrides)
        folder.create()
        save_config(config, folder.config)
    return prepare.main(["--run", str(folder.root)])


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Make a run folder ready for the nodes.")
    parser.add_argument("--run", type=Path, required=True, help="the run folder, made when it is not there")
    parser.add_argument("--config", type=Path, required=True, help="run YAML, e.g. robot_configs/runs/demo.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="any setting, e.g. recipe.data.utd=2")
    arguments = parser.parse_args(argv)
    try:
        return prepare_run(arguments.run, arguments.config, arguments.overrides)
    except Exception as error:
        message = clear_message(error)
        if message is None:
            raise
        print(f"prepare_run: {message}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
