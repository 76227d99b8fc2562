"""What the actor's services hand on to the control loop."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("etude_msgs", reason="the ROS interfaces are not built")

from etude_msgs import srv

from actor.snapshot import Answer
from etude_nodes.actor_node import ActorNode


@pytest.mark.parametrize("request_id", [0, 7])
def test_an_answer_keeps_the_number_of_the_request_it_was_meant_for(request_id: int) -> None:
    asked: list[tuple] = []

    def resolve_help(*arguments) -> Answer:
        asked.append(arguments)
        return Answer(False, "that one is not open")

    node = SimpleNamespace(_loop=SimpleNamespace(resolve_help=resolve_help), _say=lambda what, answer: answer)
    request = srv.ResolveHelp.Request(id=request_id, answer="reset", operator_name="Ada")
    response = ActorNode._on_resolve_help(node, request, srv.ResolveHelp.Response())
    assert asked == [("reset", "Ada", request_id)]
    assert not response.success and response.message == "that one is not open"
