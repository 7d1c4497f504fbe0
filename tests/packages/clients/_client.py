"""What a client must tell to be played, and the helpers for its answers."""

from __future__ import annotations

import importlib
import json
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from packages.faults import Fault
from packages.server import Reply, Request

if TYPE_CHECKING:
    from collections.abc import Mapping

    import requests
    from requests.adapters import HTTPAdapter

LIMIT = 0.6
"""Seconds that a client with a knob for it waits for an answer."""


FOREIGN_POOL = MappingProxyType(
    dict.fromkeys(
        (Fault.RESET, Fault.SILENT, Fault.FORK), "its pools of UNIX sockets are not ours to recycle"
    )
)
"""Why a client with pools of its own is as well off as without us, and no better."""


def load(module: str) -> Any:
    """Import a module that has its types, or none, in an environment of its own."""
    return importlib.import_module(module)


def json_reply(value: Any, status: int = 200) -> Reply:
    """Return a reply with a JSON document."""
    return Reply(json.dumps(value).encode(), status)


class Client:
    """A client of somebody else and the part of its service that its two calls need.

    A subclass per client, whose methods say how it is made, asked and answered.
    """

    package: ClassVar[str]
    """Its distribution."""
    modules: ClassVar[tuple[str, ...]] = ()
    """What is imported once, before all of its cells."""
    title: ClassVar[str] = "{package} {}"
    """Its name in the table; the braces are for the version."""
    bound: ClassVar[float] = 2.0
    """Seconds after which a call counts as hung: more than `LIMIT` and its own retries take."""
    tls: ClassVar[bool] = False
    """Whether it insists on https."""
    unix: ClassVar[bool] = False
    """Whether it is played over a UNIX socket; ``url`` is then the path of the socket."""
    unsaved: ClassVar[Mapping[Fault, str]] = MappingProxyType({})
    """The faults from which our adapter cannot save it, each with the reason."""
    honours_keys: ClassVar[bool] = False
    """Whether it sends an ``Idempotency-Key`` itself, on which its service acts once."""
    api: Any = None
    """What ``make`` has returned."""

    @classmethod
    def is_judged(cls, fault: Fault) -> bool:
        """Return whether plain and ours can be compared.

        Two processes that share a connection of a UNIX socket get whatever answer comes first.
        """
        return not (cls.unix and fault is Fault.FORK)

    def make(self, url: str, adapter: type[HTTPAdapter]) -> Any:
        """Return the client's object, whose calls go through an adapter of that class."""
        raise NotImplementedError

    def read(self, name: str) -> Any:
        """Ask for something of that name; what is returned contains the name."""
        raise NotImplementedError

    def write(self, name: str) -> Any:
        """Create something of that name; what is returned contains the name."""
        raise NotImplementedError

    def answer(self, request: Request) -> Reply:
        """Return what the service would."""
        return json_reply({"name": request.name})


def mount(session: requests.Session, adapter: type[HTTPAdapter]) -> requests.Session:
    """Replace each adapter of the session by one of that class with the same retries."""
    for prefix, old in list(session.adapters.items()):
        retries = getattr(old, "max_retries")  # noqa: B009  # typed as a BaseAdapter
        asked_for = {"max_retries": retries} if retries.total else {}
        session.mount(prefix, adapter(**asked_for))
    return session
