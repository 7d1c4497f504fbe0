"""``resilient-requests chat PROMPT``: one question to a language model, its answer on stdout as it arrives."""

from __future__ import annotations

import contextlib
import select
import sys
from typing import TYPE_CHECKING, Any

from resilient_requests._adapter import ResilientAdapter
from resilient_requests.call._timeouts import Timeouts
from resilient_requests.chat.dialects import DIALECTS
from resilient_requests.cli._seconds import up_to
from resilient_requests.cli.chat import _answer, _question
from resilient_requests.cli.chat._embedded import Embedded
from resilient_requests.cli.chat._key import KeyedSession
from resilient_requests.cli.chat._trace import Trace

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from resilient_requests.call._events import Observer
    from resilient_requests.cli.chat._question import Question

__all__ = ["add_parser", "run"]

_USAGE = 2
_seconds = up_to(86_400.0)


def add_parser(commands: Any) -> None:
    """Add the command to argparse's subcommands."""
    parser = commands.add_parser(
        "chat",
        help="ask a language model, and see what it took to get the answer",
        description="Sends PROMPT, and prints the answer as it arrives: its text on stdout, all else on stderr. "
        "Without --url it talks to a server of its own on loopback. Exit code: 0 the answer is complete, 1 it cannot "
        "be written, 2 wrong usage, 3 silence, 4 truncated or broken, 5 the provider reported an error, 6 no "
        "connection, 130 Ctrl-C.",
    )
    parser.add_argument("prompt", metavar="PROMPT", help="what to ask; - reads stdin")
    parser.add_argument(
        "--url", help="of the chat endpoint itself, with its path; Gemini's may hold {model}"
    )
    parser.add_argument(
        "--model", metavar="M", help="its name at the provider (default)", default="default"
    )
    parser.add_argument(
        "--dialect", choices=sorted(DIALECTS), default="openai", help="%(choices)s (openai)"
    )
    parser.add_argument(
        "--key-env",
        metavar="VAR",
        help="environment variable that holds the API key (OPENAI_API_KEY, if it is set)",
    )
    parser.add_argument(
        "--idle", metavar="S", type=_seconds, help="seconds of silence to put up with (300)"
    )
    parser.add_argument(
        "--accept-bare-eof",
        action="store_true",
        help="take an end without the sign that the answer is complete for a good one",
    )
    parser.add_argument("--trace", action="store_true", help="print a line per attempt on stderr")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Ask, print the answer, and return the exit code."""
    try:
        question = _question.read(arguments)
    except _question.UsageError as error:
        print(f"resilient-requests chat: {error}", file=sys.stderr)
        return _USAGE
    if question.url is None and not hasattr(select, "poll"):
        print(
            "resilient-requests chat: --url is needed: the embedded server needs a POSIX system",
            file=sys.stderr,
        )
        return _USAGE
    with contextlib.ExitStack() as cleanup:
        return _ask(question, arguments, cleanup)


def _ask(question: Question, arguments: argparse.Namespace, cleanup: contextlib.ExitStack) -> int:
    trace = Trace(sys.stderr)
    session = cleanup.enter_context(KeyedSession(question.key))
    adapter = _adapter(arguments.idle, [trace] if arguments.trace else [])
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    url = question.url
    if url is None:
        embedded = cleanup.enter_context(Embedded())
        embedded.warm(session)
        url = embedded.url
    return _answer.show(session, url, question, trace)


def _adapter(idle: float | None, observers: Sequence[Observer]) -> ResilientAdapter:
    if idle is None:
        return ResilientAdapter(
            observers=observers
        )  # the environment may say how long silence may last
    return ResilientAdapter(observers=observers, timeouts=Timeouts(response=idle, idle=idle))
