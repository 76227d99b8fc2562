"""The policy-server protocol: how learner and actor talk to a model that lives in a process (or on a machine) of its own.

Three requests over HTTP: ``GET /version``, ``POST /sample``, ``POST /distil``. Bodies are safetensors with text metadata, the
answer of ``/version`` is JSON. Both sides' encoding and the client are here; the server is in policy_servers/. Nothing here
executes what it reads. docs/external_policy.md shows an own server.
"""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from urllib.parse import urlsplit

import numpy as np

from etude.tensors import TensorsError, pack_tensors, unpack_tensors

TOKEN_HEADER = "X-Etude-Token"
TOKEN_VARIABLE = "ETUDE_POLICY_SERVER_TOKEN"
"""Environment variable with the secret that servers beyond loopback ask for; the same on both sides."""
MAX_BODY_BYTES = 512 << 20
MAX_ANSWER_BYTES = 64 << 20
MAX_ROWS = 16_384
MAX_SAMPLES = 1024
_PREFIX = "observation/"


class PolicyServerError(RuntimeError):
    """A policy server is not there, refused a request or answered nonsense; the message names the address and the remedy."""


class RequestError(ValueError):
    """A request cannot be read or does not fit the model; the server answers 400 with this text."""


@dataclass(frozen=True)
class ServerInfo:
    """What a server says about itself.

    Attributes:
        name: of the model, for people.
        version: of its weights. It grows when they change, also over a restart: begin with the seconds since the epoch, say.
        action_dim: d of its actions.
        observations: keys of the observation that it reads, e.g. ``("image/front",)``; nothing else is sent.
    """

    name: str
    version: int
    action_dim: int
    observations: tuple[str, ...]


@dataclass(frozen=True)
class Request:
    """The content of ``/sample`` and ``/distil``.

    Attributes:
        observation: arrays ``(B, …)``; images are uint8 RGB ``(B, h, w, 3)``, ``state`` float32 ``(B, s)``.
        instructions: B texts.
        n, seed: of ``/sample``; how many actions per row, and the seed of the draw.
        action: of ``/distil``; float32 ``(B, d)`` in [-1, 1], what to imitate.
    """

    observation: dict[str, np.ndarray]
    instructions: tuple[str, ...]
    n: int = 1
    seed: int = 0
    action: np.ndarray | None = None

    def to_bytes(self) -> bytes:
        tensors = {_PREFIX + name: array for name, array in self.observation.items()}
        if self.action is not None:
            tensors["action"] = self.action
        metadata = {"instructions": json.dumps(self.instructions), "n": str(self.n), "seed": str(self.seed)}
        return pack_tensors(tensors, metadata)

    @classmethod
    def from_bytes(cls, data: bytes, info: ServerInfo) -> Request:
        """Read and check a request for the model described by `info`. Raises RequestError."""
        try:
            tensors, metadata = unpack_tensors(data)
            action = tensors.pop("action", None)
            instructions = json.loads(metadata["instructions"])
            n, seed = int(metadata["n"]), int(metadata["seed"])
        except (TensorsError, ValueError, KeyError, TypeError) as error:
            raise RequestError(f"the request is not readable: {error}") from error
        if not isinstance(instructions, list) or not all(isinstance(text, str) for text in instructions):
            raise RequestError("the metadata 'instructions' is not a list of texts")
        rows = len(instructions)
        if not 1 <= rows <= MAX_ROWS:
            raise RequestError(f"the request has {rows} rows: send 1 to {MAX_ROWS}")
        if not 1 <= n <= MAX_SAMPLES or not 0 <= seed < 1 << 32:
            raise RequestError(f"n is {n} and seed {seed}: n must be 1 to {MAX_SAMPLES}, seed an unsigned number of 32 bits")
        observation = {name.removeprefix(_PREFIX): array for name, array in tensors.items() if name.startswith(_PREFIX)}
        for name in info.observations:
            if name not in observation:
                raise RequestError(f"{info.name} needs the observation {name!r}; the request has {sorted(observation)}")
        for name, array in observation.items():
            image = name.startswith("image/")
            if array.ndim != (4 if image else 2) or len(array) != rows or (image and array.shape[-1] != 3):
                raise RequestError(f"observation {name!r} has the shape {array.shape}, with {rows} instructions")
            if array.dtype != (np.uint8 if image else np.float32) or not np.isfinite(array).all():
                raise RequestError(f"observation {name!r} is {array.dtype} or not finite: images are uint8, the state float32")
        if action is not None:
            if action.shape != (rows, info.action_dim) or action.dtype != np.float32:
                raise RequestError(f"actions are {action.dtype}{action.shape}, expected float32{(rows, info.action_dim)}")
            if not np.isfinite(action).all() or np.abs(action).max() > 1.0 + 1e-6:
                raise RequestError("actions are not finite or outside [-1, 1]: send normalised actions")
        return cls(observation, tuple(instructions), n, seed, action)


@dataclass(frozen=True)
class Samples:
    """Actions ``(n, B, d)`` float32 in [-1, 1], and the version of the weights that made them."""

    action: np.ndarray
    version: int

    def to_bytes(self) -> bytes:
        return pack_tensors({"action": self.action}, {"version": str(self.version)})


@dataclass(frozen=True)
class Distilled:
    """Loss of one distillation step, before it, and the version that it made."""

    loss: float
    version: int


def info_to_json(info: ServerInfo) -> bytes:
    return json.dumps(asdict(info)).encode()


class PolicyServerClient:
    """Asks one server; may be used by several threads. Each request has a connection of its own, and fails after `timeout_s`."""

    def __init__(self, address: str, timeout_s: float) -> None:
        """Raises PolicyServerError when `address` is not like ``http://127.0.0.1:8600``."""
        self.address, self._timeout_s = address, timeout_s
        try:
            parts = urlsplit(address)
            self._host, self._port = parts.hostname or "", parts.port or 80
        except ValueError:
            parts, self._host = urlsplit(""), ""
        if parts.scheme != "http" or not self._host or parts.path not in ("", "/"):
            raise PolicyServerError(f"policy.server is {address!r}: write it like http://127.0.0.1:8600")

    def info(self) -> ServerInfo:
        """Ask ``/version``."""
        data = self._ask("GET", "/version")
        try:
            answer = json.loads(data)
            return ServerInfo(
                str(answer["name"]), int(answer["version"]), int(answer["action_dim"]), tuple(answer["observations"])
            )
        except (ValueError, KeyError, TypeError) as error:
            raise self._nonsense("/version", error) from error

    def require(self, observation_keys: Sequence[str], action_dim: int) -> ServerInfo:
        """`info` of a server that fits this robot.

        Raises:
            PolicyServerError: not there, other actions, or it reads what the robot does not observe.
        """
        info = self.info()
        if info.action_dim != action_dim:
            raise PolicyServerError(
                f"the policy server {info.name} at {self.address} has actions of {info.action_dim} dimensions, the robot has "
                f"{action_dim}: serve a model for this robot"
            )
        missing = [name for name in info.observations if name not in observation_keys]
        if missing:
            raise PolicyServerError(
                f"the policy server {info.name} at {self.address} reads {missing}, the robot observes "
                f"{sorted(observation_keys)}: choose another camera where the server is started, or observation=pixels"
            )
        return info

    def sample(
        self, info: ServerInfo, observation: Mapping[str, np.ndarray], instructions: Sequence[str], n: int, seed: int
    ) -> Samples:
        """`n` actions for each of B rows; `observation` has arrays ``(B, …)`` and may have more keys than the server reads."""
        request = Request({name: observation[name] for name in info.observations}, tuple(instructions), n, seed)
        answer, metadata = self._exchange("/sample", request)
        try:
            action, version = answer["action"], int(metadata["version"])
            if action.shape != (n, len(instructions), info.action_dim) or action.dtype != np.float32:
                raise ValueError(f"actions are {action.dtype}{action.shape}")
            if not np.isfinite(action).all() or np.abs(action).max() > 1.0 + 1e-6:
                raise ValueError("actions are not finite or outside [-1, 1]")
        except (KeyError, ValueError) as error:
            raise self._nonsense("/sample", error) from error
        return Samples(action, version)

    def distil(
        self, info: ServerInfo, observation: Mapping[str, np.ndarray], instructions: Sequence[str], action: np.ndarray
    ) -> Distilled:
        """One step of imitating `action` ``(B, d)``."""
        request = Request({name: observation[name] for name in info.observations}, tuple(instructions), action=action)
        _, metadata = self._exchange("/distil", request)
        try:
            return Distilled(float(metadata["loss"]), int(metadata["version"]))
        except (KeyError, ValueError) as error:
            raise self._nonsense("/distil", error) from error

    def _exchange(self, path: str, request: Request) -> tuple[dict[str, np.ndarray], dict[str, str]]:
        data = self._ask("POST", path, request.to_bytes())
        try:
            return unpack_tensors(data)
        except TensorsError as error:
            raise self._nonsense(path, error) from error

    def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        if body is not None and len(body) > MAX_BODY_BYTES:
            raise PolicyServerError(
                f"a request of {len(body)} bytes for {self.address}{path} is over {MAX_BODY_BYTES}: lower data.batch_size or "
                "the cameras' resolution"
            )
        headers = {"Content-Type": "application/octet-stream"}
        token = os.environ.get(TOKEN_VARIABLE)
        if token:
            headers[TOKEN_HEADER] = token
        connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            data = response.read(MAX_ANSWER_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            raise PolicyServerError(
                f"the policy server at {self.address} does not answer ({error or type(error).__name__}): start it, for example "
                "with `etude policy serve-openvla`, or correct recipe.policy.server"
            ) from error
        finally:
            connection.close()
        if len(data) > MAX_ANSWER_BYTES:
            raise PolicyServerError(f"the policy server at {self.address} answers {path} with over {MAX_ANSWER_BYTES} bytes")
        if response.status != 200:
            text = data[:500].decode(errors="replace").strip()
            remedy = f"; set {TOKEN_VARIABLE} to its token" if response.status == 401 else ""
            raise PolicyServerError(f"the policy server at {self.address} refused {path} ({response.status}): {text}{remedy}")
        return data

    def _nonsense(self, path: str, error: Exception) -> PolicyServerError:
        return PolicyServerError(
            f"the answer of {self.address}{path} is not of this protocol ({error}): is recipe.policy.server a policy server?"
        )
