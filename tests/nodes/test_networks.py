"""The middleware settings that docs/networks.md recommends work between two real processes."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

from etude.config import REPOSITORY

TALK = """
import sys, time
import rclpy
from array import array
from rclpy.node import Node
from sensor_msgs.msg import Image
from etude_nodes import qos
from etude_nodes.process import middleware

with middleware():
    node = Node("camera")
    publisher = node.create_publisher(Image, "/picture", qos.SENSOR)
    image = Image(height=480, width=640, step=1920, encoding="rgb8")
    image.data = array("B", bytes(921600))
    end = time.monotonic() + float(sys.argv[1])
    while time.monotonic() < end:
        publisher.publish(image)
        rclpy.spin_once(node, timeout_sec=0.05)
"""
HEAR = """
import sys, time
import rclpy
from rclpy.node import Node
from sensor_msgs.msg import Image
from etude_nodes import qos
from etude_nodes.process import middleware

with middleware():
    node, heard = Node("viewer"), []
    node.create_subscription(Image, "/picture", lambda m: heard.append(len(m.data)), qos.SENSOR)
    end = time.monotonic() + float(sys.argv[1])
    while time.monotonic() < end and len(heard) < 5:
        rclpy.spin_once(node, timeout_sec=0.1)
    print(len(heard), set(heard))
"""


def heard(talker: dict[str, str], listener: dict[str, str], seconds: float = 25.0) -> int:
    """Pictures of 921,600 bytes that one process got of another, up to 5."""
    talking = subprocess.Popen([sys.executable, "-c", TALK, str(seconds)], env={**os.environ, **talker})
    try:
        words = [sys.executable, "-c", HEAR, str(seconds)]
        printed = subprocess.run(words, env={**os.environ, **listener}, capture_output=True, text=True, check=True).stdout
    finally:
        talking.kill()
        talking.wait()
    count = int(printed.split()[0])
    assert count == 0 or "{921600}" in printed
    return count


@pytest.mark.parametrize("profile", ["fastdds_profile.xml", "fastdds_udp_profile.xml"])
def test_a_large_picture_arrives_under_every_profile(profile: str, domain: int) -> None:
    chosen = {"FASTRTPS_DEFAULT_PROFILES_FILE": str(REPOSITORY / "config" / profile)}
    assert heard(chosen, chosen) == 5


def test_with_a_discovery_server_only_those_who_know_it_meet(domain: int) -> None:
    server_program = Path(sys.prefix) / "bin" / "fast-discovery-server"
    if not server_program.is_file():
        found = shutil.which("fast-discovery-server")
        if found is None:
            pytest.skip("this ROS 2 has no fast-discovery-server")
        server_program = Path(found)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([str(server_program), "-i", "0", "-l", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL)
    try:
        knows = {"ROS_DISCOVERY_SERVER": f"127.0.0.1:{port}"}
        assert heard(knows, knows) == 5
        assert heard(knows, {}, seconds=6.0) == 0
    finally:
        server.terminate()
        server.wait()
