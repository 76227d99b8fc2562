"""kill -9 at any moment: every finished segment is readable, nothing acknowledged is lost, and writing goes on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from etude.episodes.store import EpisodeStore
from etude.episodes.validate import validate_store
from etude.specs import ActionSpec, ObservationSpec

KILLS = 12
ENOUGH = 100
OBSERVATION = ObservationSpec(("x_m",), {"front": (64, 64)})
ACTION = ActionSpec(("x",), (0.05,))

# Imports once and forks a writer per line of stdin, so that twelve kills take seconds
SPAWNER = """
import os, sys
import numpy as np
from etude.episodes.store import Appended, EpisodeStore
from etude.step import Source, Step

def write_for_ever(path, pipe):
    rng = np.random.default_rng(os.getpid())
    store = EpisodeStore.open(path, "a")
    sequence, segment, zero = store.received("robot"), 0, np.zeros(1, np.float32)
    os.write(pipe, b"opened %d\\n" % sequence)
    while True:
        segment += 1
        length = int(rng.integers(1, 12))
        for index in range(length):
            sequence += 1
            image = np.full((64, 64, 3), sequence % 251, np.uint8)
            image[:32] = rng.integers(0, 255, (32, 64, 3), np.uint8)
            observation = {"state": np.array([sequence], np.float32), "image/front": image}
            last = index == length - 1
            step = Step("robot", sequence, segment, index, sequence, "forward", "t", "", observation, zero, zero, 0.0,
                        index == 0, last, False, Source.POLICY, 1)
            assert store.append(step) is Appended.ACCEPTED
        os.write(pipe, b"stored %d\\n" % store.stored("robot"))

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        write_for_ever(line.strip(), 1)
    os.write(1, b"child %d\\n" % child)
    os.waitpid(child, 0)
    os.write(1, b"dead 0\\n")
"""


def test_kill_at_random_moments_leaves_whole_segments_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "episodes"
    EpisodeStore.create(path, OBSERVATION, ACTION).close()
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    torn_rounds = 0
    with subprocess.Popen([sys.executable, "-c", SPAWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as spawner:
        assert spawner.stdin is not None and spawner.stdout is not None
        rounds = stored = 0
        while rounds < KILLS or stored <= ENOUGH:  # a busy machine stores little between two kills
            rounds += 1
            spawner.stdin.write(f"{path}\n")
            spawner.stdin.flush()
            child = resumed = -1
            while child < 0 or resumed < 0:
                word, number = spawner.stdout.readline().split()
                child = int(number) if word == "child" else child
                resumed = int(number) if word == "opened" else resumed
            time.sleep(rng.uniform(0.0, 0.25))
            os.kill(child, signal.SIGKILL)
            acknowledged = resumed
            while (line := spawner.stdout.readline().split())[0] != "dead":
                acknowledged = int(line[1])
            torn_rounds += any((path / ".writing").iterdir()) if (path / ".writing").exists() else 0
            reader = EpisodeStore.open(path)
            stored = sum(info.length for info in reader.segments())
            assert stored >= acknowledged, f"seed {seed}: {acknowledged} were acknowledged, {stored} are stored"
            assert reader.stored("robot") == stored
        spawner.stdin.close()
        assert spawner.wait(10) == 0
    store = EpisodeStore.open(path)
    assert store.stored("robot") > ENOUGH
    assert [str(problem) for problem in validate_store(store)] == [], f"seed {seed}, {torn_rounds} kills during a write"
    values = [float(x) for info in store.segments() for x in store.read(info).observation["state"][:, 0]]
    assert values == [float(i) for i in range(1, len(values) + 1)]
