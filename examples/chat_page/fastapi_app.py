"""The chat page with FastAPI.

python fastapi_app.py
uvicorn fastapi_app:app
"""

from __future__ import annotations

import requests
import uvicorn
from fastapi import FastAPI
from fastapi.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
from provider import HEARTBEAT, IDLE, PAGE, upstream
from pydantic import BaseModel

from resilient_requests import ResilientAdapter, stream_chat
from resilient_requests.web import EventRelay

app = FastAPI()
session = requests.Session()  # one for the life of the process
session.mount("http://", ResilientAdapter())
UPSTREAM = upstream()


class Question(BaseModel):
    """The body of the page's request."""

    prompt: str
    model: str


@app.get("/")
def page() -> FileResponse:
    """The page."""
    return FileResponse(PAGE)


# No coroutine, so FastAPI calls it in a thread: there it may wait for the answer's head.
@app.post("/chat")
def chat(asked: Question) -> Response:
    """Pass the answer on, event by event."""
    messages = [{"role": "user", "content": asked.prompt}]
    try:
        # Checks status and content type: until here trouble is a proper 502.
        stream = stream_chat(
            session,
            UPSTREAM,
            model=asked.model,
            messages=messages,
            heartbeat=HEARTBEAT,
            idle_timeout=IDLE,
        )
    except requests.RequestException as error:
        return PlainTextResponse(type(error).__name__, status_code=502)
    relay = EventRelay(stream)
    return StreamingResponse(relay, headers=relay.headers)


if __name__ == "__main__":
    uvicorn.run(app, port=8000)
