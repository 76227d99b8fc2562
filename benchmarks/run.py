"""`etude bench`: runs the measurements and prints one JSON object per line: name, value, unit, config.

The table of measurements is here; each lives in the module that knows its subject and is imported only when it runs.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from collections.abc import Sequence

from benchmarks.result import Result

BENCHMARKS = {
    "steps_per_s_durable": "benchmarks.transport:steps_per_s_durable",
    "weights_latency_ms": "benchmarks.transport:weights_latency_ms",
    "publish_blocks_training_ms": "benchmarks.transport:publish_blocks_training_ms",
    "loop_rate": "benchmarks.loop:loop_rate",
    "replay": "benchmarks.learning:replay",
    "updates_per_s": "benchmarks.learning:updates_per_s",
    "action_latency_ms": "benchmarks.learning:action_latency_ms",
    "click_to_hold": "benchmarks.console:click_to_hold",
    "watchers": "benchmarks.watchers:watchers",
}
ALSO = {
    "loop_rate_hz": "loop_rate",
    "loop_period_p99_ms": "loop_rate",
    "replay_mb_per_10k_steps_ram": "replay",
    "replay_mb_per_10k_steps_disk": "replay",
    "replay_samples_per_s": "replay",
    "click_to_hold_p50_ms": "click_to_hold",
    "click_to_hold_p99_ms": "click_to_hold",
    "watched_loop_period_p99_ms": "watchers",
}
"""Names of results that come out of a measurement with another name."""


def main(argv: Sequence[str]) -> int:
    """Run all or the named measurements. Returns 0, or 1 when one failed (the others still run)."""
    parser = argparse.ArgumentParser(
        prog="etude bench",
        description="Measure speeds and latencies on this machine; one JSON object per line on stdout, remarks on stderr.",
        epilog="examples:\n  etude bench\n  etude bench --only steps_per_s_durable --only loop_rate_hz",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only", action="append", metavar="NAME", choices=[*BENCHMARKS, *ALSO], help="one measurement; may be repeated"
    )
    arguments = parser.parse_args(list(argv))
    wanted = list(dict.fromkeys(ALSO.get(name, name) for name in arguments.only or BENCHMARKS))
    failed = 0
    for name in wanted:
        print(f"measuring {name} …", file=sys.stderr, flush=True)
        began = time.monotonic()
        try:
            for result in _function(BENCHMARKS[name])():
                print(result.to_json(), flush=True)
        except Exception as error:  # one broken measurement must not hide the others
            failed += 1
            print(json.dumps({"name": name, "error": f"{type(error).__name__}: {error}"}), flush=True)
        print(f"  {name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return 1 if failed else 0


def _function(target: str):
    module, _, function = target.partition(":")
    return getattr(importlib.import_module(module), function)


__all__ = ["BENCHMARKS", "Result", "main"]

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
