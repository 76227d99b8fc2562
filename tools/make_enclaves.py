"""Make a keystore with which ROS 2 refuses strangers and encrypts everything (SROS 2): one enclave, `/etude`, for all of a run.

The layout is that of `ros2 security create_keystore`; only openssl is needed. Who has the enclave's folder is one of us: copy it,
without `private/`, to the other machine. Nothing else may publish, read or call the topics and services of the project; those of
the arm's own controllers are given with --also. Then, on both machines, for every command:

    export ROS_SECURITY_ENABLE=true ROS_SECURITY_STRATEGY=Enforce
    export ROS_SECURITY_KEYSTORE=$PWD/keystore ROS_SECURITY_ENCLAVE_OVERRIDE=/etude

    python tools/make_enclaves.py keystore --robot robot --domain 42 --also target_pose --also current_pose
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

ENCLAVE = "etude"
CURVE = "prime256v1"
TOPICS = ("learner/*", "diagnostics", "rosout", "parameter_events")
"""Beside those of the robot's own namespace. Patterns as DDS has them (fnmatch)."""
NODES = ("learner", "dashboard", "teleop", "reward", "correct", "etude_judge_client")
"""Nodes outside the robot's namespace, for their parameter services."""
DISCOVERY = "ros_discovery_info"
VALID = ("2020-01-01T00:00:00", "2040-01-01T00:00:00")
DAYS = 3650


def dds_names(robot: str, also: Sequence[str]) -> list[str]:
    """What may be published and read: topics (``rt/``), requests (``rq/``) and replies (``rr/``), as DDS names them."""
    spaces = [f"{robot}/*", *(f"{node}/*" for node in NODES), *(name.strip("/") for name in also)]
    topics = [f"rt/{name}" for name in (*TOPICS, *spaces)]
    services = [f"{kind}/{name}" for kind in ("rq", "rr") for name in (f"{name}*" for name in spaces)]
    return [DISCOVERY, *topics, *services]


def permissions(robot: str, domain: int, also: Sequence[str]) -> str:
    """What the enclave may do, as the DDS Security specification's XML."""
    names = "\n".join(f"            <topic>{escape(name)}</topic>" for name in dds_names(robot, also))
    rules = "\n".join(
        f"        <{verb}>\n          <topics>\n{names}\n          </topics>\n        </{verb}>"
        for verb in ("publish", "subscribe")
    )
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<dds xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
  <permissions>
    <grant name="/{ENCLAVE}">
      <subject_name>CN=/{ENCLAVE}</subject_name>
      <validity><not_before>{VALID[0]}</not_before><not_after>{VALID[1]}</not_after></validity>
      <allow_rule>
        <domains><id>{domain}</id></domains>
{rules}
      </allow_rule>
      <default>DENY</default>
    </grant>
  </permissions>
</dds>
"""


def governance(domain: int) -> str:
    """That nobody takes part without a certificate, and that all is encrypted."""
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<dds xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
  <domain_access_rules>
    <domain_rule>
      <domains><id>{domain}</id></domains>
      <allow_unauthenticated_participants>false</allow_unauthenticated_participants>
      <enable_join_access_control>true</enable_join_access_control>
      <discovery_protection_kind>ENCRYPT</discovery_protection_kind>
      <liveliness_protection_kind>ENCRYPT</liveliness_protection_kind>
      <rtps_protection_kind>SIGN</rtps_protection_kind>
      <topic_access_rules>
        <topic_rule>
          <topic_expression>*</topic_expression>
          <enable_discovery_protection>true</enable_discovery_protection>
          <enable_liveliness_protection>true</enable_liveliness_protection>
          <enable_read_access_control>true</enable_read_access_control>
          <enable_write_access_control>true</enable_write_access_control>
          <metadata_protection_kind>ENCRYPT</metadata_protection_kind>
          <data_protection_kind>ENCRYPT</data_protection_kind>
        </topic_rule>
      </topic_access_rules>
    </domain_rule>
  </domain_access_rules>
</dds>
"""


def make(folder: Path, robot: str, domain: int, also: Sequence[str]) -> Path:
    """Write the keystore at `folder`, which must not exist; the enclave's folder.

    Raises:
        SystemExit: something is there already, or openssl is missing or refuses; the message says which.
    """
    if folder.exists():
        raise SystemExit(f"{folder} exists: keys are not replaced. Give another folder, or move that one aside")
    if shutil.which("openssl") is None:
        raise SystemExit("openssl is not installed: apt-get install openssl")
    public, private, enclave = folder / "public", folder / "private", folder / "enclaves" / ENCLAVE
    for path in (public, private, enclave):
        path.mkdir(parents=True)
    private.chmod(0o700)
    enclave.chmod(0o700)
    authority, authority_key = public / "ca.cert.pem", private / "ca.key.pem"
    _openssl("ecparam", "-name", CURVE, "-genkey", "-noout", "-out", str(authority_key))
    subject = f"/CN={ENCLAVE}-authority"
    _openssl("req", "-x509", "-new", "-key", str(authority_key), "-days", str(DAYS), "-subj", subject, "-out", str(authority))
    for role in ("identity_ca", "permissions_ca"):
        shutil.copy(authority, public / f"{role}.cert.pem")
        shutil.copy(authority, enclave / f"{role}.cert.pem")
        shutil.copy(authority_key, private / f"{role}.key.pem")
    _openssl("ecparam", "-name", CURVE, "-genkey", "-noout", "-out", str(enclave / "key.pem"))
    # openssl reads a slash in a subject as the end of a part, so the one of the enclave's name is escaped
    wanted = folder / "request.pem"
    _openssl("req", "-new", "-key", str(enclave / "key.pem"), "-subj", rf"/CN=\/{ENCLAVE}", "-out", str(wanted))
    signer = ("-CA", str(authority), "-CAkey", str(authority_key))
    _openssl(
        "x509", "-req", "-in", str(wanted), *signer, "-set_serial", "1", "-days", str(DAYS), "-out", str(enclave / "cert.pem")
    )
    wanted.unlink()
    for name, content in (("governance", governance(domain)), ("permissions", permissions(robot, domain, also))):
        document = enclave / f"{name}.xml"
        document.write_text(content, encoding="utf-8")
        by = ("-signer", str(authority), "-inkey", str(authority_key))
        _openssl("smime", "-sign", "-text", "-in", str(document), *by, "-out", str(document.with_suffix(".p7s")))
    for key in (*private.glob("*.pem"), enclave / "key.pem"):
        key.chmod(0o600)
    return enclave


def _openssl(*words: str) -> None:
    done = subprocess.run(["openssl", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"openssl {words[0]} failed: {done.stderr.strip()}")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="new folder of the keystore")
    parser.add_argument("--robot", default="robot", help="robot_namespace of the run (default: %(default)s)")
    parser.add_argument("--domain", type=int, required=True, help="ROS_DOMAIN_ID that the keystore is for")
    parser.add_argument("--also", action="append", default=[], metavar="NAME", help="a topic or service of the arm's controllers")
    arguments = parser.parse_args(argv)
    enclave = make(arguments.folder, arguments.robot, arguments.domain, arguments.also)
    print(f"{enclave} is ready for domain {arguments.domain}; keep {arguments.folder / 'private'} off the robot")
    return 0


if __name__ == "__main__":
    sys.exit(main())
