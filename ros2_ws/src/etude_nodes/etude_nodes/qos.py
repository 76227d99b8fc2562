"""Every quality-of-service profile and topic name of the project in one place, so that both ends always agree.

A publisher and a subscription whose durability differs do not talk, without an error; hence nobody writes a profile elsewhere.
"""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

POLICY_PROGRAM_TOPIC = "/learner/policy_program"
POLICY_WEIGHTS_TOPIC = "/learner/policy_weights"
METRICS_TOPIC = "/learner/metrics"
DIAGNOSTICS_TOPIC = "/diagnostics"
CAMERA_DEPTH = 1


def _profile(depth: int, reliability: ReliabilityPolicy, durability: DurabilityPolicy) -> QoSProfile:
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=reliability, durability=durability)


def _reliable(depth: int) -> QoSProfile:
    return _profile(depth, ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE)


def latched(depth: int = 1) -> QoSProfile:
    """Reliable and transient local: who joins late gets the last `depth` messages at once."""
    return _profile(depth, ReliabilityPolicy.RELIABLE, DurabilityPolicy.TRANSIENT_LOCAL)


def weights(chunks: int) -> QoSProfile:
    """Latched, with room for exactly the `chunks` of one version: a late joiner gets the newest complete, and no older one."""
    return latched(max(1, chunks))


STUCK_LABELS = latched(1000)
"""All that a run's people labelled: a learner that was restarted gets them again."""
STEPS = _reliable(512)
"""Deep enough for the sender's window. Loss under overload is expected here and repaired by the acknowledgement."""
STEPS_ACK = _reliable(10)
METRICS = _reliable(10)
DIAGNOSTICS = _reliable(10)
SOFTWARE_STOP = latched(1)
SENSOR = _profile(CAMERA_DEPTH, ReliabilityPolicy.BEST_EFFORT, DurabilityPolicy.VOLATILE)
"""Cameras: the newest frame or none."""
COMMAND = _reliable(1)
"""Set points of a controller: only the newest counts."""
TELEOP = _profile(4, ReliabilityPolicy.BEST_EFFORT, DurabilityPolicy.VOLATILE)
"""An operator's commands: what is lost is not sent again, the next one is already there. A few are kept, so that a button that
was down for one of them is seen."""
TELEOP_TOPIC = "teleop/command"


def robot_topic(namespace: str, name: str) -> str:
    """``/<robot>/<name>``."""
    return f"/{namespace}/{name}"


def camera_topic(namespace: str, camera: str) -> str:
    """Where the JPEG pictures of a camera go (sensor_msgs/CompressedImage)."""
    return f"/{namespace}/camera/{camera}/image_raw/compressed"
