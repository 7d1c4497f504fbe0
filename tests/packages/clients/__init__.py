"""The clients that are played, by name.

A new one needs a subclass of `Client` in the module of its subject, and a line in
``requirements.txt``.
"""

from __future__ import annotations

from packages.clients import cloud, databases, documents, messages, models, tools
from packages.clients._client import Client

__all__ = ["CLIENTS", "Client"]


def _clients() -> dict[str, type[Client]]:
    modules = (cloud, databases, documents, messages, models, tools)
    found = [
        each
        for module in modules
        for each in vars(module).values()
        if isinstance(each, type)
        and issubclass(each, Client)
        and each.__module__ == module.__name__
    ]
    return {each.__name__: each for each in sorted(found, key=lambda each: each.__name__.lower())}


CLIENTS = _clients()
"""Each by the name of its class, in alphabetical order."""
