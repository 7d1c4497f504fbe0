"""Stream an answer into a terminal, and say so when it is not whole.

python chat_terminal.py
"""

import sys

import requests

from resilient_requests import ChatAPIError, ResilientAdapter, StreamError, stream_chat
from resilient_requests.testing import FaultServer, sse


def ask(session: requests.Session, url: str, prompt: str) -> bool:
    """Print an answer as it arrives; return whether it is whole."""
    messages = [{"role": "user", "content": prompt}]
    try:
        with stream_chat(session, url, model="m", messages=messages, idle_timeout=60) as stream:
            for text in stream.iter_text():
                print(text, end="", flush=True)
    except (StreamError, ChatAPIError) as error:
        print(f"\n[not whole: {error}]", file=sys.stderr)
        return False  # error.partial has the text so far
    print(f"\n[{stream.completion.finish_reason}]")
    return True


def chunk(text: str = "", finish: str | None = None) -> dict[str, object]:
    """A chunk, as providers send it."""
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]}


if __name__ == "__main__":
    words = (chunk("Slowly, "), 0.1, chunk("word "), 0.1, chunk("by "), 0.1, chunk("word."))
    whole, cut = sse(*words, chunk(finish="stop")), sse(*words, done=False)
    with FaultServer(whole, cut) as server, requests.Session() as session:
        session.mount("http://", ResilientAdapter())
        assert ask(session, server.url, "How do you answer?")
        assert not ask(session, server.url, "And if somebody cuts you off?")
