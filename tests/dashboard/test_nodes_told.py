"""What nodes say of themselves, as the page keeps it."""

from __future__ import annotations

from dashboard.nodes import LONGEST_TEXT, MOST_NODES, MOST_VALUES, SILENT_AFTER_S, Nodes


def test_the_newest_word_of_each_node_is_kept_by_name() -> None:
    nodes = Nodes()
    nodes.tell("learner", "ok", "pretraining", {}, 1.0)
    nodes.tell("actor", "warn", "held", {"mode": "forward"}, 2.0)
    nodes.tell("learner", "ok", "training", {"updates": "7"}, 3.0)
    actor, learner = nodes.snapshot(3.5)
    assert actor == {"name": "actor", "level": "warn", "message": "held", "values": {"mode": "forward"}, "age_s": 1.5}
    assert (learner["message"], learner["values"]) == ("training", {"updates": "7"})


def test_who_is_silent_is_stale_whatever_it_said() -> None:
    nodes = Nodes()
    nodes.tell("actor", "ok", "forward", {}, 0.0)
    assert nodes.snapshot(SILENT_AFTER_S)[0]["level"] == "ok"
    assert nodes.snapshot(SILENT_AFTER_S + 0.1)[0]["level"] == "stale"


def test_names_that_are_silent_make_room_for_one_that_speaks() -> None:
    nodes = Nodes()
    for number in range(MOST_NODES):
        nodes.tell(f"gone {number}", "ok", "", {}, 0.0)
    nodes.tell("learner", "error", "training failed", {}, SILENT_AFTER_S + 1.0)
    told = nodes.snapshot(SILENT_AFTER_S + 1.0)
    assert len(told) == MOST_NODES and told[-1]["name"] == "learner"


def test_what_anybody_may_publish_is_bounded() -> None:
    nodes = Nodes()
    for number in range(2 * MOST_NODES):
        nodes.tell(
            f"{number:03}" + "n" * 10_000, "ok", "m" * 10_000, {f"{k:04}" + "k" * 9_999: "v" * 10_000 for k in range(99)}, 0.0
        )
    told = nodes.snapshot(0.0)
    assert len(told) == MOST_NODES
    assert all(len(one["name"]) <= LONGEST_TEXT and len(one["message"]) <= LONGEST_TEXT for one in told)
    assert all(len(one["values"]) <= MOST_VALUES and max(map(len, one["values"].values())) <= LONGEST_TEXT for one in told)
