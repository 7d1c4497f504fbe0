"""Puts our adapter in the place of requests' own, for code with sessions out of reach."""

from __future__ import annotations

import functools
import operator
from abc import ABCMeta
from typing import TYPE_CHECKING, Any

import requests.adapters
import requests.sessions
import urllib3
from requests.adapters import DEFAULT_POOLBLOCK, DEFAULT_POOLSIZE, DEFAULT_RETRIES, HTTPAdapter

from resilient_requests.adapter._adapter import ResilientAdapter
from resilient_requests.call import Observers
from resilient_requests.retry import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["InstalledAdapter", "install", "uninstall"]

# A session makes its adapters by the name in the second module. Five of 32 clients derive an
# adapter of their own, from the class in the first.
_MODULES: tuple[Any, ...] = (requests.adapters, requests.sessions)
# The methods that ours overrides. A class made earlier may call them by the name of its base.
_METHODS = (
    "__init__",
    "__getstate__",
    "__setstate__",
    "init_poolmanager",
    "proxy_manager_for",
    "get_connection_with_tls_context",
    "build_response",
    "request_url",
    "send",
    "close",
)


def install(**adapter_arguments: Any) -> None:
    """Make every ``requests.Session`` and ``HTTPAdapter`` of the process ours from now on.

    ``adapter_arguments``: as of `ResilientAdapter`, for each adapter that is not given its own. An
    argument equal to requests' default counts as not given, even ``max_retries=0``: it does not
    ask for less than requests does. Classes that other packages derive from ``HTTPAdapter`` after
    this inherit ours; sessions, adapters and classes that exist already stay as they are. Calling
    it again is harmless; the arguments of the last call count. Call it once, before other threads
    begin. Raises TypeError or ValueError naming the parameter.
    """
    arguments = dict(adapter_arguments)
    if "observers" in arguments:  # one generator would do for one adapter only
        arguments["observers"] = Observers(arguments["observers"]).all
    ResilientAdapter(**arguments).close()
    _INSTALLATION.begin(arguments)


def uninstall() -> None:
    """Give requests its own adapter back; harmless where nothing is installed.

    Sessions, adapters and classes made meanwhile stay ours, and go on working. If other code has
    replaced ``HTTPAdapter`` after `install`, its class stays.
    """
    _INSTALLATION.end()


class _Installation:
    """The replaced classes, and the arguments; only `install` and `uninstall` write them."""

    def __init__(self) -> None:
        self.arguments: dict[str, Any] = {}
        self._replaced: dict[Any, type] = {}

    def begin(self, arguments: dict[str, Any]) -> None:
        """Replace the classes that are not ours yet."""
        self.arguments = arguments
        for module in _MODULES:
            if module.HTTPAdapter is not InstalledAdapter:
                self._replaced[module] = module.HTTPAdapter
                module.HTTPAdapter = InstalledAdapter

    def end(self) -> None:
        """Put the replaced classes back."""
        for module, replaced in self._replaced.items():
            if module.HTTPAdapter is InstalledAdapter:
                module.HTTPAdapter = replaced
        self._replaced = {}


_INSTALLATION = _Installation()


class _AsRequests(ResilientAdapter):
    """Our adapter with the signature of requests' own; `install` has set the other defaults."""

    def __init__(
        self,
        pool_connections: int = DEFAULT_POOLSIZE,
        pool_maxsize: int = DEFAULT_POOLSIZE,
        max_retries: Any = DEFAULT_RETRIES,
        pool_block: bool = DEFAULT_POOLBLOCK,
        **options: Any,
    ) -> None:
        said = dict(options)
        if pool_connections != DEFAULT_POOLSIZE:
            said["pool_connections"] = _size(pool_connections)
        if pool_maxsize != DEFAULT_POOLSIZE:
            said["pool_maxsize"] = _size(pool_maxsize)
        if pool_block:
            said["pool_block"] = True
        if not _is_default(max_retries):
            said["max_retries"] = _retries(max_retries)
        super().__init__(**{**_INSTALLATION.arguments, **said})


class InstalledAdapter(_AsRequests, metaclass=ABCMeta):
    """Stands in the place of ``requests.adapters.HTTPAdapter``.

    Every ``HTTPAdapter`` is an instance of it. So the checks of other packages stay true for
    adapters made earlier, and for adapters mounted by hand.
    """

    # True until `__init__` of ours runs. It never runs if a class made while ours was installed
    # calls ``requests.adapters.HTTPAdapter.__init__(self)`` after `uninstall`: that is then
    # requests' own.
    _is_disabled = True

    @classmethod
    def __subclasshook__(cls, other: type) -> bool:
        return issubclass(other, HTTPAdapter) if cls is InstalledAdapter else NotImplemented


def _by_name(name: str) -> Callable[..., Any]:
    """Return a method that works for a class made earlier, with an adapter of its own.

    Such classes often call ``requests.adapters.HTTPAdapter.__init__(self)``, and mean their base.
    """

    @functools.wraps(getattr(_AsRequests, name))
    def method(self: HTTPAdapter, *args: Any, **kwargs: Any) -> Any:
        if type.__instancecheck__(InstalledAdapter, self):
            return getattr(_AsRequests, name)(self, *args, **kwargs)
        return getattr(HTTPAdapter, name)(self, *args, **kwargs)

    return method


for _name in _METHODS:
    setattr(InstalledAdapter, _name, _by_name(_name))


def _size(value: Any) -> int:
    """Return the size of a pool in our form; below 0 it has no limit, as with 0."""
    return max(operator.index(value), 0)


def _is_default(max_retries: Any) -> bool:
    """Return True if ``max_retries`` is requests' own default, as a number or as a Retry."""
    if type(max_retries) is urllib3.Retry:
        return not max_retries.total and max_retries.total is not None
    return isinstance(max_retries, int) and max_retries == DEFAULT_RETRIES


def _retries(value: Any) -> Any:
    """Return ``max_retries`` in our form. requests also takes None, which means 3."""
    if isinstance(value, RetryPolicy) or type(value) is int:
        return value
    return urllib3.Retry.from_int(value)
