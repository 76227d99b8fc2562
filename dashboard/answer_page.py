"""The small page behind a notification's link: the request, its picture, and a button per answer. No script, no log-in: the link
allows one answer and nothing else, so the guards of the other pages do not ask for more.
"""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any
from urllib.parse import parse_qs

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse
from starlette.concurrency import run_in_threadpool

from dashboard.guard import ANSWER
from dashboard.notify import LinkError, Links

MAX_FORM_BYTES = 2000
WORDS = {
    "reset": "I have reset the scene",
    "continue": "Go on as it is",
    "skip": "Do the other direction",
    "take_over": "Pause for me",
    "stop": "End practice",
    "stuck": "Stuck",
    "not_stuck": "Not stuck",
}
HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; font-src 'self'; img-src data:; form-action 'self'; "
    "frame-ancestors 'none'",
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def add(app: FastAPI, snapshot: Callable[[], dict[str, Any]], resolve: Callable[[str, str], Any], links: Links) -> None:
    """Serve ``/answer`` from `app`. `resolve` answers the open request: (answer, who) to something with `ok` and `message`."""

    @app.get(ANSWER)
    def ask(t: str = "") -> HTMLResponse:
        try:
            return _page(_question(snapshot(), links.help_id(t), t))
        except LinkError as error:
            return _page(f"<p>{escape(str(error))}</p>", 410)

    @app.post(ANSWER)
    async def answer(request: Request) -> HTMLResponse:
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > MAX_FORM_BYTES:
                return _page("<p>This is no answer of this page.</p>", 413)
        form = parse_qs(body.decode("ascii", "replace"))
        token, word = form.get("t", [""])[0], form.get("answer", [""])[0]
        try:
            open_help = snapshot()["help"]
            if open_help is None or open_help["id"] != links.help_id(token):
                raise LinkError("This request was answered already. Thank you.")
            if word not in open_help["answers"]:
                return _page("<p>That cannot be answered now.</p>" + _question(snapshot(), open_help["id"], token), 409)
            links.use(token)
        except LinkError as error:
            return _page(f"<p>{escape(str(error))}</p>", 410)
        done = await run_in_threadpool(resolve, word, "link")
        if done.ok:
            return _page("<p><strong>Thank you.</strong> The robot was told.</p>")
        links.give_back(token)
        return _page(
            f"<p>The answer did not reach the robot: {escape(done.message)}</p>" + _question(snapshot(), None, token), 503
        )


def _question(data: dict[str, Any], wanted: int | None, token: str) -> str:
    """The open request as a form. Raises LinkError when it is not `wanted` (None: any)."""
    request = data["help"]
    if request is None or wanted not in (None, request["id"]):
        raise LinkError("This request was answered already. Thank you.")
    picture = f'<img src="{escape(request["image"])}" alt="what the robot sees">' if request["image"] else ""
    buttons = "".join(
        f'<button class="button" name="answer" value="{escape(word)}">{escape(WORDS.get(word, word))}</button>'
        for word in request["answers"]
    )
    question = f"<p>{escape(request['question'])}</p>" if request["question"] else ""
    return (
        f"<h1>{escape(data['run']['name'])}</h1><p><strong>{escape(request['reason'])}</strong></p>"
        f"<p>{escape(request['meanwhile'])}</p>{picture}{question}"
        f'<form method="post" action="{ANSWER}"><input type="hidden" name="t" value="{escape(token)}">{buttons}</form>'
    )


def _page(content: str, status: int = 200) -> HTMLResponse:
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>Etude</title>'
        '<link rel="stylesheet" href="/static/style.css">'
    )
    body = f'<body class="answer"><main class="card">{content}</main></body>'
    return HTMLResponse(f'<!doctype html><html lang="en"><head>{head}</head>{body}</html>', status, headers=HEADERS)
