"""How far an attempt has come, and which phase may follow which."""

from __future__ import annotations

import enum

__all__ = ["NEXT", "Phase"]


class Phase(str, enum.Enum):
    """How far an attempt came."""

    START = "start"  # no connection of ours was asked for: a mock answered, or another pool
    CONNECT = "connect"
    HANDSHAKE = "handshake"  # TLS, or CONNECT at a proxy
    SEND = "send"
    WAIT = "wait"  # the request is out, no byte of the response has come
    HEAD = "head"
    BODY = "body"

    # Python 3.11 changed how a mixed-in Enum formats; messages and logs must not depend on it.
    __str__ = str.__str__
    __format__ = str.__format__  # type: ignore[assignment]  # a str is what it formats


NEXT: dict[Phase, frozenset[Phase]] = {
    # SEND: on a connection from the pool. WAIT: another package's connection class sends by itself
    # (vcrpy's).
    Phase.START: frozenset({Phase.CONNECT, Phase.SEND, Phase.WAIT}),
    Phase.CONNECT: frozenset({Phase.CONNECT, Phase.HANDSHAKE}),
    # CONNECT: urllib3 dials anew for each step of a proxy's tunnel that has failed.
    Phase.HANDSHAKE: frozenset({Phase.HANDSHAKE, Phase.CONNECT, Phase.SEND}),
    # CONNECT: http.client opens a closed connection inside send(). HEAD: an early answer.
    Phase.SEND: frozenset({Phase.SEND, Phase.CONNECT, Phase.WAIT, Phase.HEAD}),
    Phase.WAIT: frozenset({Phase.WAIT, Phase.HEAD}),
    Phase.HEAD: frozenset({Phase.WAIT, Phase.BODY}),  # WAIT: behind an interim answer
    Phase.BODY: frozenset(),
}
