"""The keystore holds what SROS 2 reads, signed by its own authority; its permissions cover the documented interface."""

from __future__ import annotations

import fnmatch
import re
import shutil
import stat
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from etude.config import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "tools"))

import make_enclaves

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")

ARM = ("/target_pose", "/current_pose", "/joint_states", "/gripper/*", "/camera/*")


@pytest.fixture(scope="module")
def keystore(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("security") / "keystore"
    of_the_arm = [word for name in ARM for word in ("--also", name)]
    assert make_enclaves.main([str(folder), "--domain", "42", "--robot", "arm_a", *of_the_arm]) == 0
    return folder


def openssl(*words: str) -> str:
    return subprocess.run(["openssl", *words], capture_output=True, text=True, check=True).stdout


def test_the_enclave_is_whole_and_its_keys_are_its_owners_alone(keystore: Path) -> None:
    enclave = keystore / "enclaves" / "etude"
    names = {path.name for path in enclave.iterdir()}
    certificates = {"identity_ca.cert.pem", "permissions_ca.cert.pem", "cert.pem", "key.pem"}
    assert certificates | {"governance.p7s", "permissions.p7s"} <= names
    for key in (enclave / "key.pem", keystore / "private" / "ca.key.pem"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert "OK" in openssl("verify", "-CAfile", str(enclave / "identity_ca.cert.pem"), str(enclave / "cert.pem"))
    assert (
        openssl("x509", "-in", str(enclave / "cert.pem"), "-noout", "-subject", "-nameopt", "RFC2253").strip()
        == "subject=CN=/etude"
    )


@pytest.mark.parametrize("document", ["governance", "permissions"])
def test_what_it_allows_is_signed(keystore: Path, document: str) -> None:
    enclave = keystore / "enclaves" / "etude"
    authority = str(enclave / "permissions_ca.cert.pem")
    signed = str(enclave / f"{document}.p7s")
    text = openssl("smime", "-verify", "-text", "-in", signed, "-CAfile", authority)
    assert ElementTree.fromstring(text.strip()).tag == "dds"
    spoiled = enclave / "spoiled.p7s"
    spoiled.write_text(Path(signed).read_text(encoding="utf-8").replace("<id>42</id>", "<id>43</id>"), encoding="utf-8")
    with pytest.raises(subprocess.CalledProcessError):
        openssl("smime", "-verify", "-text", "-in", str(spoiled), "-CAfile", authority)
    spoiled.unlink()


def documented() -> list[str]:
    """DDS names of every topic and service in docs/ros_interface.md, for a robot called arm_a."""
    text = (REPOSITORY / "docs" / "ros_interface.md").read_text(encoding="utf-8")
    names = []
    for name, kind in re.findall(r"^\| `(/[^`]+)` \| `([^`]+)`", text, re.MULTILINE):
        name = name.replace("<robot>", "arm_a").replace("/<name>/judge", "/reward/judge").replace("<name>", "front").strip("/")
        service = kind.startswith(("etude_msgs/", "std_srvs/")) and not re.search(rf"`{kind}`", text.split("| service |")[0])
        names += [f"rq/{name}Request", f"rr/{name}Reply"] if service else [f"rt/{name}"]
    return names


def test_the_permissions_cover_every_documented_topic_and_service_and_no_others(keystore: Path) -> None:
    root = ElementTree.parse(keystore / "enclaves" / "etude" / "permissions.xml").getroot()
    names = documented()
    assert len(names) > 15 and "rt/arm_a/steps" in names and "rq/arm_a/set_modeRequest" in names
    for verb in ("publish", "subscribe"):
        allowed = [topic.text for topic in root.iter(verb) for topic in topic.iter("topic")]

        def may(name: str, allowed: list[str] = allowed) -> bool:
            return any(fnmatch.fnmatchcase(name, pattern) for pattern in allowed)

        refused = [name for name in names if not may(name)]
        assert not refused, f"{verb}: {refused}"
        assert may("rt/target_pose") and may("rq/arm_a/actor/get_parametersRequest") and may("ros_discovery_info")
        assert not may("rt/cmd_vel") and not may("rt/arm_b/steps") and not may("rq/arm_b/set_modeRequest")
    assert root.find(".//default").text == "DENY"


def test_keys_are_never_replaced(keystore: Path) -> None:
    with pytest.raises(SystemExit, match="keys are not replaced"):
        make_enclaves.main([str(keystore), "--domain", "42"])
