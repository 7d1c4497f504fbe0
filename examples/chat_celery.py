"""A Celery task that asks a language model and is tried again later if that may help.

    python chat_celery.py

The adapter and complete_chat retry within seconds; a queue retries within minutes. The example
needs Celery, which is not among our extras. Without Celery it says so and ends.
"""

# Celery has no types: pyright does not know what a task is.
# pyright: reportFunctionMemberAccess=false

from __future__ import annotations

from typing import Any

import requests

from resilient_requests import (
    ChatAPIError,
    ResilientAdapter,
    StreamBroken,
    StreamIdle,
    StreamTruncated,
    complete_chat,
    is_transient,
)
from resilient_requests.testing import FaultServer, reset, respond, sse

try:
    import celery
except ImportError:
    raise SystemExit(print("Celery is not installed: nothing to show")) from None

app = celery.Celery("example")
session = requests.Session()  # survives the fork of the workers
session.mount("http://", ResilientAdapter())


def is_worth_another_run(error: requests.RequestException) -> bool:
    """True if a later run may fare better; nobody has seen any text of this one."""
    if isinstance(error, requests.HTTPError):
        return error.response is not None and error.response.status_code in (
            408,
            429,
            500,
            502,
            503,
            504,
        )
    if isinstance(error, ChatAPIError):
        return error.transient
    return is_transient(error) or isinstance(error, (StreamBroken, StreamIdle, StreamTruncated))


@app.task(bind=True, max_retries=5)
def summarize(self: Any, text: str) -> str:
    """Return a summary."""
    messages = [{"role": "user", "content": f"Summarize: {text}"}]
    try:
        completion = complete_chat(
            session, app.conf.chat_url, model="m", messages=messages, idle_timeout=60
        )
    except requests.RequestException as error:
        attempts = len(getattr(error, "attempts", ()))
        print(f"run {self.request.retries + 1}: {type(error).__name__} after {attempts} attempts")
        if is_worth_another_run(error):
            raise self.retry(exc=error, countdown=60 * 2**self.request.retries) from error
        raise
    return completion.content


def chunk(text: str = "", finish: str | None = None) -> dict[str, object]:
    """A chunk, as providers send it."""
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]}


if __name__ == "__main__":
    outage = [reset()] * 3  # outlasts the first run
    cut, whole = (
        sse(chunk("In sh"), done=False, ending="reset"),
        sse(chunk("In short."), chunk(finish="stop")),
    )
    with FaultServer(*outage, respond(status=503), cut, whole, respond(status=400)) as server:
        # Eager: at once and in this process, without a queue and without the countdown.
        app.conf.update(chat_url=server.url, task_always_eager=True)

        print(f"result: {summarize.delay('a long text').get()}")

        try:
            summarize.delay("a text that is too long").get()
        except requests.HTTPError as error:
            print(f"for good: {error}")
        assert len(server.requests) == 7, "six for the first text, and one for the second"
    session.close()
