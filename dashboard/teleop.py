"""The page's own connection for taking over: what is held on keyboard and pointer comes in, the round trip goes out.

A WebSocket apart from the pictures', so that no command waits behind video. The robot moves only while the page renews what it
says; when the connection ends without giving the robot back, the bridge is told at once that nothing is held any more.
"""

from __future__ import annotations

import json
from typing import Annotated, Protocol

from fastapi import WebSocket, WebSocketDisconnect
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dashboard.live import MAX_MESSAGES_PER_S
from dashboard.sockets import Pace

Key = Annotated[str, Field(max_length=20, pattern=r"^[A-Za-z0-9]+$")]
Deflection = Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)]


class Held(BaseModel):
    """What is held on a page now.

    Attributes:
        taken: the page's takeover is on.
        keys: places on the keyboard (`KeyboardEvent.code`) that are down.
        pad: the pointer pad, right and up, zero while it is not held.
        t_ms: the page's clock, milliseconds; sent back, so that the page knows the round trip.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    taken: bool
    keys: list[Key] = Field(max_length=16)
    pad: tuple[Deflection, Deflection] = Field((0.0, 0.0), strict=False)
    t_ms: float = Field(ge=0, le=1e13, allow_inf_nan=False)


class TeleopBridge(Protocol):
    def teleop(self, operator: str, held: Held) -> None:
        """What is held on the page of `operator` now. Must not block."""
        ...


async def serve(socket: WebSocket, bridge: TeleopBridge, operator: str) -> None:
    """Until the page leaves. Whoever says anything that is no `Held` is no page of ours and is disconnected."""
    await socket.accept()
    await socket.send_text(json.dumps({"operator": operator}))
    held: Held | None = None
    pace = Pace(MAX_MESSAGES_PER_S)
    try:
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            if pace.too_fast():
                await socket.close(1003, "no page says so much")
                return
            try:
                held = Held.model_validate_json(message.get("text") or "")
            except ValidationError:
                await socket.close(1003, "the page says what is held here, and nothing else")
                return
            bridge.teleop(operator, held)
            await socket.send_text(json.dumps({"t_ms": held.t_ms}))
    except WebSocketDisconnect:
        return  # it left while its echo was on the way
    finally:
        if held is not None and held.taken:
            bridge.teleop(operator, held.model_copy(update={"keys": [], "pad": (0.0, 0.0)}))
