"""Weights in chunks: whatever order, repetition, loss and corruption, only complete, checked and ever newer blobs come out."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etude_nodes.weights import Chunk, WeightsAssembler, split


def chunks_of(version: int, blob: bytes, learner: str = "a", size: int = 4) -> list[Chunk]:
    return split(blob, run_id="run", learner_id=learner, version=version, program_digest="d" * 64, chunk_bytes=size)


def feed(assembler: WeightsAssembler, chunks: list[Chunk]) -> list[bytes]:
    return [blob for chunk in chunks if (blob := assembler.add(chunk)) is not None]


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def assembler(said: list[str]) -> WeightsAssembler:
    return WeightsAssembler(said.append)


@given(st.binary(max_size=40), st.integers(1, 9), st.randoms())
def test_any_order_with_repeats_gives_the_blob_once(blob: bytes, size: int, random) -> None:
    chunks = chunks_of(1, blob, size=size)
    assert all(len(chunk.data) <= size for chunk in chunks)
    mixed = chunks + random.choices(chunks, k=5)
    random.shuffle(mixed)
    assert feed(WeightsAssembler(), mixed) == [blob]


@settings(max_examples=60)
@given(st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=5), st.randoms())
def test_shuffled_versions_come_out_only_newer_and_newer(blobs: list[bytes], random) -> None:
    blobs = [bytes([version]) + blob for version, blob in enumerate(blobs)]
    mixed = [chunk for version, blob in enumerate(blobs) for chunk in chunks_of(version, blob)]
    random.shuffle(mixed)
    versions = [blob[0] for blob in feed(WeightsAssembler(), mixed)]
    assert versions == sorted(set(versions))


def test_a_new_version_midway_wins_and_the_old_rest_is_ignored(assembler: WeightsAssembler, said: list[str]) -> None:
    old, new = chunks_of(1, b"0123456789"), chunks_of(2, b"abcdefghij")
    assert feed(assembler, [old[0], *new, *old[1:]]) == [b"abcdefghij"]
    assert not said


def test_a_corrupted_chunk_is_refused_with_the_version_and_a_second_sending_repairs_it(
    assembler: WeightsAssembler, said: list[str]
) -> None:
    chunks = chunks_of(3, b"0123456789")
    bad = dataclasses.replace(chunks[1], data=b"XXXX")
    assert feed(assembler, [chunks[0], bad, chunks[2]]) == []
    assert len(said) == 1 and "version 3" in said[0] and "corrupted" in said[0]
    assert feed(assembler, chunks) == [b"0123456789"]


@settings(max_examples=100)
@given(st.data())
def test_any_damage_never_lets_a_wrong_blob_through_and_the_next_version_arrives(data) -> None:
    said: list[str] = []
    assembler = WeightsAssembler(said.append)
    blob = data.draw(st.binary(min_size=5, max_size=20))
    chunks = chunks_of(1, blob)
    victim = data.draw(st.integers(0, len(chunks) - 1))
    damage = data.draw(
        st.one_of(
            st.binary(max_size=30).map(lambda d: {"data": d}),
            st.integers(-2, 99).map(lambda i: {"index": i}),
            st.integers(-2, 99).map(lambda c: {"count": c}),
            st.integers(0, 2**63).map(lambda v: {"version": v}),
            st.text(max_size=70).map(lambda t: {"blob_sha256": t}),
            st.integers(-1, 2**63).map(lambda t: {"total_bytes": t}),
            st.just({"program_digest": "e" * 64}),
        )
    )
    chunks[victim] = dataclasses.replace(chunks[victim], **damage)
    assert feed(assembler, chunks) in ([], [blob])
    following = chunks_of(2, b"the next version")
    assert feed(assembler, following) == [b"the next version"]


def test_a_restarted_learner_may_step_back_and_its_predecessor_is_ignored(assembler: WeightsAssembler) -> None:
    before, after = chunks_of(50, b"before the kill", "a"), chunks_of(46, b"from checkpoint", "b")
    assert feed(assembler, before) == [b"before the kill"]
    assert feed(assembler, after) == [b"from checkpoint"]
    assert feed(assembler, chunks_of(51, b"late traffic", "a")) == []
    assert feed(assembler, chunks_of(47, b"and on", "b")) == [b"and on"]


def test_a_late_chunk_of_a_dead_learner_silences_the_living_one_only_for_a_moment() -> None:
    now = [0.0]
    assembler = WeightsAssembler(clock=lambda: now[0])
    assert feed(assembler, chunks_of(46, b"from the living", "b")) == [b"from the living"]
    now[0] = 1.0
    assert feed(assembler, chunks_of(51, b"late traffic", "a")[:1]) == []  # the dead one is heard for the first time
    arrived = []
    for second in range(2, 60, 3):
        now[0] = float(second)
        arrived += feed(assembler, chunks_of(46 + second, b"version %d" % second, "b"))
    assert arrived[0] == b"version 11" and arrived[-1] == b"version 59" and len(arrived) == 17
    assert feed(assembler, chunks_of(52, b"late again", "a")) == []


def test_chunks_that_disagree_about_their_version_are_refused(assembler: WeightsAssembler, said: list[str]) -> None:
    chunks = chunks_of(1, b"0123456789")
    mixed = dataclasses.replace(chunks[1], count=4)
    assert feed(assembler, [chunks[0], mixed, *chunks[1:]]) == [b"0123456789"]
    assert "others of this version" in said[0] and assembler.refused == 1
