"""`etude policy serve-openvla`: options of the reference server; torch is imported only when it starts."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from etude.policy_server import TOKEN_VARIABLE
from policy_servers.http_server import PolicyServer


def serve_openvla(argv: Sequence[str]) -> int:
    """Serve until interrupted; the LoRA weights are kept when --adapter names a folder."""
    parser = argparse.ArgumentParser(
        prog="etude policy serve-openvla",
        description="Serve OpenVLA, or a model of its layout, as an external policy (docs/external_policy.md).",
        epilog="example:\n  etude policy serve-openvla --model openvla/openvla-7b --trust-remote-code --unnorm-key bridge_orig "
        "--dims 0,1,2,5,6 --scale 0.03,0.03,0.03,0.15,0.5 --offset 0,0,0,0,0.5",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", required=True, help="name on the Hugging Face hub, or a folder")
    parser.add_argument("--revision", help="commit of the hub's repository (default: its newest)")
    parser.add_argument(
        "--trust-remote-code", action="store_true", help="run the Python files that come with the model; OpenVLA needs it"
    )
    parser.add_argument("--unnorm-key", required=True, help="data set whose action statistics are used, e.g. bridge_orig")
    parser.add_argument(
        "--scale",
        required=True,
        type=_floats,
        help="per robot dimension: data set units of a robot action of 1 (ActionSpec.scale)",
    )
    parser.add_argument("--dims", type=_ints, help="per robot dimension: its number in the data set (default: all, in order)")
    parser.add_argument("--offset", type=_floats, help="per robot dimension: data set units of a robot action of 0 (default: 0)")
    parser.add_argument("--camera", default="front", help="the robot's camera that it sees (default: %(default)s)")
    parser.add_argument("--temperature", type=float, default=1.0, help="of sampling (default: %(default)s)")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--adapter", type=Path, help="folder that keeps the LoRA weights over a restart")
    parser.add_argument("--rows-at-once", type=int, default=16, help="sequences per forward pass (default: %(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help=f"beyond loopback {TOKEN_VARIABLE} must be set")
    parser.add_argument("--port", type=int, default=8600)
    options = vars(parser.parse_args(argv))
    host, port = options.pop("host"), options.pop("port")

    from policy_servers.openvla import OpenVLA, Settings

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    model = OpenVLA(Settings(**options))
    server = PolicyServer(model, host, port, os.environ.get(TOKEN_VARIABLE, ""))
    print(f"{model.info().name} answers at {server.address}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print("stopped")
    finally:
        server.close()
        model.save()
    return 0


def _floats(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


def _ints(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))
