"""``resilient-requests chat PROMPT``: one question to a language model, its answer on stdout."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

from resilient_requests.adapter import ResilientAdapter
from resilient_requests.call import Timeouts
from resilient_requests.chat.dialects import DIALECTS
from resilient_requests.cli._arguments import UsageError, seconds
from resilient_requests.cli.chat._answer import Trace, show
from resilient_requests.cli.chat._embedded import Embedded
from resilient_requests.cli.chat._question import ChatSession, read

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from resilient_requests.call import Observer
    from resilient_requests.cli.chat._question import Question

__all__ = ["add_parser", "run"]

_USAGE = 2


def add_parser(commands: Any) -> None:
    """Add the command to argparse's subcommands."""
    parser = commands.add_parser(
        "chat",
        help="ask a language model, and see the attempts that it took",
        description="Sends PROMPT, and prints the answer as it arrives: its text on stdout, all "
        "else on stderr. Without --url it talks to a server of its own on loopback. Exit code: 0 "
        "the answer is complete, 1 it cannot be written, 2 wrong usage, 3 silence, 4 truncated or "
        "broken, 5 the provider reported an error, 6 no connection, 130 Ctrl-C.",
    )
    add = parser.add_argument
    add("prompt", metavar="PROMPT", help="the question; - reads stdin")
    add("--url", help="of the chat endpoint itself, with its path; Gemini's may hold {model}")
    add("--model", metavar="M", help="its name at the provider (default)", default="default")
    add("--dialect", choices=sorted(DIALECTS), default="openai", help="%(choices)s (openai)")
    key = "environment variable that holds the API key (OPENAI_API_KEY, if it is set)"
    add("--key-env", metavar="VAR", help=key)
    idle = "limit of silence in seconds (300)"
    add("--idle", metavar="S", type=seconds(86_400.0), help=idle)
    bare = "accept an answer that ends without the sign that it is complete"
    add("--accept-bare-eof", action="store_true", help=bare)
    add("--trace", action="store_true", help="print a line per attempt on stderr")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Ask, print the answer, and return the exit code."""
    try:
        question = read(arguments)
    except UsageError as error:
        print(f"resilient-requests chat: {error}", file=sys.stderr)
        return _USAGE
    with contextlib.ExitStack() as cleanup:
        return _ask(question, arguments, cleanup)


def _ask(question: Question, arguments: argparse.Namespace, cleanup: contextlib.ExitStack) -> int:
    trace = Trace(sys.stderr)
    session = cleanup.enter_context(ChatSession(question.key))
    adapter = _adapter(arguments.idle, [trace] if arguments.trace else [])
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    url = question.url
    if url is None:
        embedded = cleanup.enter_context(Embedded())
        embedded.warm(session)
        url = embedded.url
    return show(session, url, question, trace)


def _adapter(idle: float | None, observers: Sequence[Observer]) -> ResilientAdapter:
    if idle is None:
        # The environment may say how long silence may last.
        return ResilientAdapter(observers=observers)
    return ResilientAdapter(observers=observers, timeouts=Timeouts(response=idle, idle=idle))
