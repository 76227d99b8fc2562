"""Scripts of faults: what is on when."""

from __future__ import annotations

import pytest

from etude.config import ConfigError
from simulation.faults import FaultScript


def test_a_script_says_what_is_on_when():
    script = FaultScript("reflex@5 camera_frozen=front@10+3 packet_loss=0.8")
    assert script.on("reflex", 4.9) is None and script.on("reflex", 5.0) is not None and script.on("reflex", 500.0) is not None
    assert script.on("camera_frozen", 12.9).value == "front" and script.on("camera_frozen", 13.0) is None
    assert script.value("packet_loss", 0.0) == 0.8 and script.value("clock_skew", 0.0) == 0.0


def test_faults_come_on_demand_and_are_mended():
    script = FaultScript()
    script.add("reflex state_late+2", 10.0)
    assert script.on("reflex", 10.0) and script.on("state_late", 11.9) and not script.on("state_late", 12.0)
    script.mend("reflex", 11.0)
    assert not script.on("reflex", 11.0)
    script.add("clear", 11.0)
    assert not script.on("state_late", 11.0)


@pytest.mark.parametrize("text", ["explode", "reflex@soon", "@5"])
def test_what_is_no_fault_is_refused(text):
    with pytest.raises(ConfigError, match="is not known"):
        FaultScript(text)
