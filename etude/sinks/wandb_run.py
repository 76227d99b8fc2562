"""A run's curves, evaluations, settings and summary as one run of Weights & Biases.

Sent from the run's folder by a process of its own, so that no process that practises waits for a network, and a run can be sent
later, or again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import wandb

from etude.config import read_yaml
from etude.run_folder import RunFolder
from etude.runs import flat
from etude.sinks.curves import Curves, why_over
from etude.sinks.errors import ExportError
from etude.summary import read_json

POLL_S = 2.0
X = "env_steps"


def send_to_wandb(
    folder: RunFolder, project: str, follow: bool = False, say: Callable[[str], None] = print, poll_s: float = POLL_S
) -> None:
    """Make a new run in `project`, named like the folder. With `follow`, go on until the run is over or Ctrl-C.

    W&B's own variables hold: ``WANDB_MODE=offline`` writes a folder for ``wandb sync`` and needs neither network nor account.

    Raises:
        ExportError: nothing was measured yet (without `follow`), or W&B refuses.
    """
    curves = Curves(folder)
    points = curves.new()
    if not points and not follow:
        raise ExportError(f"{folder.root} has no measurements yet: wait until it practises, or send them as they come: --follow")
    # the computer that exports is not the one that trained: its load, packages and source say nothing of the run
    settings = wandb.Settings(
        console="off", disable_git=True, save_code=False, x_disable_stats=True, x_disable_meta=True, x_save_requirements=False
    )
    # the page's settings hold secrets (its token, where messages are posted) and say nothing of what was learned
    config = {key: value for key, value in read_yaml(folder.config).items() if key != "dashboard"}
    try:
        with wandb.init(project=project, name=folder.root.resolve().name, config=config, settings=settings) as run:
            run.define_metric(X, hidden=True)
            run.define_metric("*", step_metric=X)
            sent = 0
            try:
                while True:
                    over = why_over(folder) if follow else "all is sent"  # before reading: what was written before it is read
                    points += curves.new()
                    for point in points:
                        run.log({**point.values, X: point.env_steps})
                    sent, points = sent + len(points), []
                    if over:
                        break
                    time.sleep(poll_s)
            except KeyboardInterrupt:
                if not follow:
                    raise
                over = "interrupted; the run itself goes on"
            run.summary.update(_summary(folder))
        say(f"{folder.root.name}: {sent} measurements sent to W&B project {project} ({over})")
    except wandb.Error as error:
        raise ExportError(
            f"W&B does not take the run: {error} (`wandb login` once, or keep the run on this computer with WANDB_MODE=offline)"
        ) from error


def _summary(folder: RunFolder) -> dict[str, Any]:
    """What ``summary.json`` says by dotted key; its list of evaluations is among the curves."""
    values = flat(read_json(folder.summary))
    return {key: value for key, value in values.items() if key and value is not None and not isinstance(value, list)}
