"""The episode store keeps every step once, in order, and only ever shows whole segments."""

from __future__ import annotations

import errno
import json
import threading
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import etude.episodes.store as store_module
from etude.episodes.store import Appended, EpisodeStore, StoreError
from etude.specs import ActionSpec, ObservationSpec
from etude.step import UNKNOWN, Source, Step

OBSERVATION = ObservationSpec(("x_m", "y_m", "z_m"), {"front": (8, 6), "wrist": (4, 4)})
STATE_ONLY = ObservationSpec(("x_m",))
ACTION = ActionSpec(("x", "gripper"), (0.05, 1.0))


def make_step(
    sequence: int, index: int, last: bool = False, actor: str = "robot-1", spec: ObservationSpec = OBSERVATION, **changes
) -> Step:
    """A step whose content follows from its sequence number. `index` 0 is first."""
    rng = np.random.default_rng(sequence)
    values = {
        "actor_id": actor,
        "sequence": sequence,
        "segment": 1,
        "index": index,
        "stamp_ns": 1_700_000_000_000_000_000 + sequence,
        "phase": "forward",
        "task": "slide",
        "instruction": "push the post",
        "observation": {
            key: rng.integers(0, 255, shape, np.uint8) if dtype == "uint8" else rng.normal(size=shape).astype(dtype)
            for key, (shape, dtype) in spec.shapes().items()
        },
        "action": np.zeros(2, np.float32) if last else rng.uniform(-1, 1, 2).astype(np.float32),
        "policy_action": np.zeros(2, np.float32) if last else rng.uniform(-1, 1, 2).astype(np.float32),
        "reward": 0.0 if last else 0.25 * (sequence % 3),
        "is_first": index == 0,
        "is_last": last,
        "is_terminal": False,
        "source": Source.POLICY,
        "policy_version": sequence // 10,
    }
    return Step(**{**values, **changes})


def make_segment(first_sequence: int, length: int, segment: int = 1, **changes) -> list[Step]:
    return [make_step(first_sequence + i, i, last=i == length - 1, segment=segment, **changes) for i in range(length)]


def assert_same(left: Step, right: Step) -> None:
    for field in fields(Step):
        a, b = getattr(left, field.name), getattr(right, field.name)
        if field.name == "observation":
            assert a.keys() == b.keys()
            for key in a:
                assert a[key].dtype == b[key].dtype
                np.testing.assert_array_equal(a[key], b[key])
        else:
            np.testing.assert_array_equal(a, b, err_msg=field.name)


def append_all(store: EpisodeStore, steps: list[Step]) -> None:
    for step in steps:
        assert store.append(step) is Appended.ACCEPTED


@pytest.fixture
def store(tmp_path: Path):
    with EpisodeStore.create(tmp_path / "episodes", OBSERVATION, ACTION, {"task": "slide"}) as store:
        yield store


# --- content ------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_what_is_read_is_what_was_appended(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    spec = data.draw(st.sampled_from([OBSERVATION, STATE_ONLY]))
    path = tmp_path_factory.mktemp("store") / "episodes"
    steps: list[Step] = []
    for segment, length in enumerate(data.draw(st.lists(st.integers(1, 7), min_size=1, max_size=3)), 1):
        for index in range(length):
            last = index == length - 1
            changes = {
                "segment": segment,
                "phase": "forward" if segment % 2 else "backward",
                "source": data.draw(st.sampled_from(Source)),
                "policy_version": data.draw(st.integers(0, 2**40)),
                "success": data.draw(st.sampled_from([1, 0, UNKNOWN])),
                "success_truth": data.draw(st.sampled_from([1, 0, UNKNOWN])),
                "success_probability": data.draw(st.one_of(st.just(float("nan")), st.floats(0, 1, width=32))),
                "judged_by": data.draw(st.sampled_from(["", "environment", "cnn:3f2a", "human"])),
                "is_terminal": last and data.draw(st.booleans()),
                "reward": 0.0 if last else data.draw(st.floats(-5, 5, width=32)),
            }
            steps.append(make_step(len(steps) + 1, index, last=last, spec=spec, **changes))
    with EpisodeStore.create(path, spec, ACTION) as store:
        append_all(store, steps)
        written = [step for info in store.segments() for step in store.read(info).steps()]
    reader = EpisodeStore.open(path)
    read = [step for info in reader.segments() for step in reader.read(info).steps()]
    assert len(written) == len(read) == len(steps)
    for original, one, other in zip(steps, written, read, strict=True):
        assert_same(original, one)
        assert_same(original, other)


def test_a_segment_has_the_shapes_and_dtypes_that_its_docstring_says(store: EpisodeStore) -> None:
    append_all(store, make_segment(1, 5))
    segment = store.read(store.segments()[0])
    assert len(segment) == 5
    assert segment.observation["image/front"].shape == (5, 8, 6, 3) and segment.observation["image/front"].dtype == np.uint8
    assert segment.observation["state"].shape == (5, 3) and segment.observation["state"].dtype == np.float32
    assert segment.action.shape == segment.policy_action.shape == (5, 2) and segment.action.dtype == np.float32
    assert segment.reward.dtype == segment.success_probability.dtype == np.float32
    assert segment.is_first.tolist() == [True] + [False] * 4 and segment.is_last.tolist() == [False] * 4 + [True]
    assert segment.source.dtype == np.uint8 and segment.success.dtype == segment.success_truth.dtype == np.int8
    assert segment.sequence.tolist() == [1, 2, 3, 4, 5] and segment.judged_by == [""] * 5


def test_a_listing_tells_what_a_segment_is_without_reading_it(store: EpisodeStore) -> None:
    steps = make_segment(1, 4, segment=7, phase="backward", source=Source.HUMAN)
    steps[-1] = make_step(4, 3, last=True, segment=7, phase="backward", success=1, success_truth=0, is_terminal=True)
    append_all(store, steps)
    (info,) = store.segments()
    assert (info.actor_id, info.segment, info.phase, info.task, info.instruction) == (
        "robot-1",
        7,
        "backward",
        "slide",
        "push the post",
    )
    assert (info.first_sequence, info.last_sequence, info.length) == (1, 4, 4)
    assert (info.success, info.success_truth, info.is_terminal, info.cut) == (1, 0, True, False)
    assert info.sources == {"human": 3} and info.reward_sum == pytest.approx(0.25 + 0.5)


def test_the_whole_store_opens_with_plain_zarr(store: EpisodeStore) -> None:
    steps = make_segment(1, 6)
    append_all(store, steps)
    info = store.segments()[0]
    root = zarr.open_group(str(store.path), mode="r")
    assert list(root["segments"].group_keys()) == ["robot-1"]
    group = root[f"segments/robot-1/{info.path.name}"]
    np.testing.assert_array_equal(group["image/front"][2], steps[2].observation["image/front"])
    columns = group.attrs["columns"]
    assert group["integers"][3, columns["integers"].index("sequence")] == 4
    np.testing.assert_array_equal(group["floats"][1, columns["floats"].index("action.x")], np.float32(steps[1].action[0]))


def test_a_segment_longer_than_a_chunk_is_whole(store: EpisodeStore) -> None:
    steps = make_segment(1, 230)
    append_all(store, steps)
    info = store.segments()[0]
    for original, read in zip(steps, store.read(info).steps(), strict=True):
        assert_same(original, read)
    assert zarr.open_array(str(info.path / "image/front"), mode="r").chunks[0] == 100
    np.testing.assert_array_equal(
        zarr.open_array(str(info.path / "image/front"), mode="r")[229], steps[-1].observation["image/front"]
    )


def test_arrays_that_another_zarr_version_has_written_are_read_too(store: EpisodeStore) -> None:
    append_all(store, make_segment(1, 3))
    info = store.segments()[0]
    before = store.read(info)
    for metadata in info.path.rglob("zarr.json"):
        metadata.write_text(json.dumps(json.loads(metadata.read_text())))
    np.testing.assert_array_equal(store.read(info).observation["image/wrist"], before.observation["image/wrist"])
    np.testing.assert_array_equal(store.read(info).action, before.action)


# --- numbering ----------------------------------------------------------------------------------------------------


def test_a_step_already_taken_is_a_duplicate_and_one_too_far_is_a_gap(store: EpisodeStore) -> None:
    first, second, third = make_segment(1, 3)
    assert store.append(second) is Appended.GAP
    assert store.append(first) is Appended.ACCEPTED
    assert store.append(first) is Appended.DUPLICATE
    assert store.append(third) is Appended.GAP
    append_all(store, [second, third])
    assert store.append(second) is Appended.DUPLICATE
    assert store.received("robot-1") == 3


def test_only_finished_segments_count_as_stored(store: EpisodeStore) -> None:
    append_all(store, [*make_segment(1, 3), *make_segment(4, 5, segment=2)[:2]])
    store.flush()
    assert (store.received("robot-1"), store.stored("robot-1")) == (5, 3)


def test_a_step_is_not_stored_before_it_is_on_disk(store: EpisodeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    disk_is_free = threading.Event()
    write = store_module.write_trees
    monkeypatch.setattr(store_module, "write_trees", lambda trees: (disk_is_free.wait(10), write(trees)))
    append_all(store, make_segment(1, 3))
    assert (store.received("robot-1"), store.stored("robot-1")) == (3, 0)
    disk_is_free.set()
    store.flush()
    assert store.stored("robot-1") == 3


def test_actors_are_numbered_and_listed_apart(store: EpisodeStore) -> None:
    for a, b in zip(make_segment(1, 3, actor="b"), make_segment(1, 3, actor="a"), strict=True):
        append_all(store, [a, b])
    assert store.actors() == ["a", "b"]
    assert [(info.actor_id, info.first_sequence) for info in store.segments()] == [("a", 1), ("b", 1)]
    assert store.stored("a") == store.stored("b") == 3 and store.stored("c") == 0


def test_a_first_step_cuts_the_segment_that_a_killed_actor_left_open(store: EpisodeStore) -> None:
    append_all(store, [*make_segment(1, 9)[:4], *make_segment(5, 2, segment=2)])
    cut, whole = store.segments()
    assert cut.cut and cut.length == 4 and not cut.is_terminal and not whole.cut
    segment = store.read(cut)
    assert segment.is_last.tolist() == [False, False, False, True]
    assert not segment.action[-1].any() and segment.reward[-1] == 0


def test_the_rest_of_a_segment_that_was_closed_early_is_kept(store: EpisodeStore) -> None:
    steps = make_segment(1, 6)
    append_all(store, steps[:2])
    store.close_segment("robot-1")
    store.close_segment("robot-1")  # nothing is open now
    append_all(store, steps[2:])
    head, tail = store.segments()
    assert (head.length, tail.length, tail.first_index, tail.segment) == (2, 4, 2, 1)
    assert [step.index for step in store.read(tail).steps()] == [2, 3, 4, 5]
    assert store.read(tail).is_first.tolist() == [True, False, False, False]


def test_a_restarted_learner_expects_what_follows_the_stored_steps(tmp_path: Path) -> None:
    path = tmp_path / "episodes"
    steps = [*make_segment(1, 3), *make_segment(4, 4, segment=2)]
    with EpisodeStore.create(path, OBSERVATION, ACTION) as store:
        append_all(store, steps[:5])
    with EpisodeStore.open(path, "a") as store:
        assert store.received("robot-1") == store.stored("robot-1") == 3
        append_all(store, steps[3:])
        assert [info.length for info in store.segments()] == [3, 4]


def test_a_reader_sees_segments_as_they_are_finished(store: EpisodeStore) -> None:
    reader = EpisodeStore.open(store.path)
    assert reader.segments() == [] and reader.metadata == {"task": "slide"}
    for number in range(3):
        append_all(store, make_segment(1 + 3 * number, 3, segment=number + 1))
        store.flush()
        assert len(reader.segments()) == number + 1
    assert reader.segments() == store.segments() and reader.stored("robot-1") == 9
    with pytest.raises(StoreError, match="not open for append"):
        reader.append(make_step(10, 0))


BAD_STEPS = {
    "an image is missing": ({"observation": {"state": np.zeros(3, np.float32)}}, "image/front"),
    "the state is not finite": ({"observation": {**OBSERVATION.zeros(), "state": np.full(3, np.nan, np.float32)}}, "x_m"),
    "the action is too long": ({"action": np.zeros(3, np.float32)}, "action is"),
    "the action is too large": ({"action": np.full(2, 2, np.float32)}, "outside"),
    "the reward is not finite": ({"reward": float("inf")}, "reward"),
    "it is terminal but not last": ({"is_terminal": True}, "terminal"),
    "the actor id is a path": ({"actor_id": "../evil"}, "actor id"),
}


@pytest.mark.parametrize("name", BAD_STEPS)
def test_a_step_that_does_not_fit_is_refused_and_changes_nothing(name: str, store: EpisodeStore) -> None:
    changes, message = BAD_STEPS[name]
    with pytest.raises(StoreError, match=message):
        store.append(make_step(1, 0, **changes))
    append_all(store, make_segment(1, 2))
    assert store.segments()[0].length == 2


# --- damage, disks and other writers ------------------------------------------------------------------------------


def test_a_full_disk_refuses_steps_and_loses_none(store: EpisodeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_RETRY_S", 0.02)
    write = store_module.write_trees

    def full(_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store_module, "write_trees", full)
    append_all(store, make_segment(1, 3))
    with pytest.raises(StoreError, match=r"No space left.*make room"):
        store.flush()
    with pytest.raises(StoreError, match="make room"):
        store.append(make_step(4, 0, segment=2))
    assert store.stored("robot-1") == 0
    monkeypatch.setattr(store_module, "write_trees", write)
    deadline = threading.Event()
    for _ in range(200):
        if store.stored("robot-1") == 3:
            break
        deadline.wait(0.02)
    append_all(store, make_segment(4, 2, segment=2))
    assert [info.length for info in store.segments()] == [3, 2]


def test_only_one_writer_at_a_time(store: EpisodeStore) -> None:
    with pytest.raises(StoreError, match="being written by another process"):
        EpisodeStore.open(store.path, "a")
    with pytest.raises(StoreError, match="already holds an episode store"):
        EpisodeStore.create(store.path, OBSERVATION, ACTION)
    store.close()
    EpisodeStore.open(store.path, "a").close()


def test_what_a_killed_writer_left_unfinished_is_ignored_and_removed(store: EpisodeStore) -> None:
    append_all(store, make_segment(1, 3))
    store.close()
    leftover = store.path / ".writing" / "0" / "image"
    leftover.mkdir(parents=True)
    (leftover / "c.0.0.0.0").write_bytes(b"half")
    assert len(EpisodeStore.open(store.path).segments()) == 1
    assert leftover.exists()
    EpisodeStore.open(store.path, "a").close()
    assert not leftover.exists()


def test_a_damaged_segment_is_named_and_the_others_are_readable(store: EpisodeStore) -> None:
    for number in range(3):
        append_all(store, make_segment(1 + 3 * number, 3, segment=number + 1))
    _, second, third = store.segments()
    store.close()
    (second.path / "zarr.json").write_text("{")
    (third.path / "image/front/c.0.0.0.0").write_bytes(b"torn")
    with EpisodeStore.open(store.path, "a") as reopened:
        assert reopened.received("robot-1") == 9  # they were acknowledged: the actor must not be asked again
        assert [info.first_sequence for info in reopened.segments()] == [1, 7]
        assert [path for path, _ in reopened.damaged] == [second.path]
        reopened.read(reopened.segments()[0])
        with pytest.raises(StoreError, match=r"000000000007-000003 cannot be read.*move that folder"):
            reopened.read(reopened.segments()[1])


def test_a_missing_chunk_is_an_error_and_not_black_images(store: EpisodeStore) -> None:
    append_all(store, make_segment(1, 3))
    info = store.segments()[0]
    (info.path / "image/wrist/c.0.0.0.0").unlink()
    with pytest.raises(StoreError, match="image/wrist lacks its chunk file"):
        store.read(info)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (None, "no episode store"),
        ("{", "cannot be read"),
        ("[]", "not the header"),
        ('{"format": "other"}', "not the header"),
        ('{"format": "etude-episodes", "version": 99}', "version 99"),
        ('{"format": "etude-episodes", "version": 1}', "damaged"),
    ],
)
def test_an_unreadable_store_is_one_clear_error(header: str | None, message: str, tmp_path: Path) -> None:
    if header is not None:
        (tmp_path / "store.json").write_text(header)
    for mode in ("r", "a"):
        with pytest.raises(StoreError, match=message):
            EpisodeStore.open(tmp_path, mode)


def test_a_folder_with_something_else_is_not_made_a_store(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(StoreError, match="not empty"):
        EpisodeStore.create(tmp_path, OBSERVATION, ACTION)


# --- words of a person ------------------------------------------------------------------------------------------------


def test_words_are_stored_with_the_steps_that_carried_them_out(tmp_path: Path) -> None:
    """One segment, whose goal stays its instruction, although the first step already was a correction."""
    steps = make_segment(1, 8)
    for index, words in {0: "up", 3: "a bit to the left", 4: "a bit to the left", 5: "open the gripper"}.items():
        steps[index] = replace(steps[index], instruction=words, source=Source.HUMAN)
    with EpisodeStore.create(tmp_path / "store", OBSERVATION, ACTION) as store:
        append_all(store, steps)
    store = EpisodeStore.open(tmp_path / "store")
    (info,) = store.segments()
    assert info.instruction == "push the post" and info.sources == {"policy": 3, "human": 4}
    assert [(one.first, one.last, one.instruction) for one in info.corrections] == [
        (0, 0, "up"),
        (3, 4, "a bit to the left"),
        (5, 5, "open the gripper"),
    ]
    for read, written in zip(store.read(info).steps(), steps, strict=True):
        assert_same(read, written)


def test_a_segment_cut_while_words_were_carried_out_keeps_its_goal(tmp_path: Path) -> None:
    steps = make_segment(1, 4)[:3]
    steps[2] = replace(steps[2], instruction="down", source=Source.HUMAN)
    with EpisodeStore.create(tmp_path / "store", OBSERVATION, ACTION) as store:
        append_all(store, steps)
        store.close_segment("robot-1")
    (info,) = EpisodeStore.open(tmp_path / "store").segments()
    assert info.cut and info.instruction == "push the post" and info.corrections == ()


def test_segments_written_before_there_were_corrections_are_read(tmp_path: Path) -> None:
    with EpisodeStore.create(tmp_path / "store", OBSERVATION, ACTION) as store:
        append_all(store, make_segment(1, 4))
        (info,) = store.segments()
    group = info.path / "zarr.json"
    content = json.loads(group.read_text(encoding="utf-8"))
    del content["attributes"]["info"]["corrections"]
    group.write_text(json.dumps(content), encoding="utf-8")
    (old,) = EpisodeStore.open(tmp_path / "store").segments()
    assert old == info and old.corrections == ()
