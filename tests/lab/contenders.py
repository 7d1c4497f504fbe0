"""The clients that meet the incidents.

They are plain requests, the usual wrappers around it, the openai SDK, and ours.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import requests
import tenacity
import urllib3
from requests.adapters import HTTPAdapter

from resilient_requests import KeepAlivePolicy, ResilientAdapter, RetryPolicy, TCPKeepAlive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATH = "/v1/chat/completions"
CONTENT = "forty-two"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of the clients, in seconds; a client without a knob does without that setting.

    ``connect`` and ``read`` are the timeouts of all clients but plain requests. The other settings
    concern our client alone. ``window`` is the time for which an idle connection may be reused.
    ``probes`` are idle time, interval and count of TCP keep-alive, with a user timeout that fits;
    None means the default of the package. ``wait`` is a fixed time before a retry; None means the
    default of the package.
    """

    connect: float = 3.0
    read: float = 8.0
    window: float = 1.0
    probes: tuple[int, int, int] | None = None
    wait: float | None = None


@dataclass(frozen=True, kw_only=True)
class Place:
    """The URL of the origin, the trusted certificates, and the proxy (None: no proxy)."""

    url: str
    ca: str
    proxy: str | None = None


@dataclass(frozen=True, kw_only=True)
class Question:
    """One call: its id, the orders for the origin, and ``size`` bytes of prompt.

    A GET has no prompt.
    """

    request_id: str
    orders: dict[str, Any]
    size: int = 100
    method: str = "POST"

    @property
    def headers(self) -> dict[str, str]:
        """The headers with the orders for the origin."""
        return {"X-Request-Id": self.request_id, "X-Lab": json.dumps(self.orders)}

    @property
    def messages(self) -> list[dict[str, str]]:
        """The prompt."""
        return [{"role": "user", "content": "x" * self.size}]


class Contender(Protocol):
    """A client with a pool."""

    attempts: list[Any]
    """The records that our adapter gives of each call's attempts; other clients leave it empty."""

    def ask(self, question: Question) -> bool:
        """Make a buffered call and return True if the answer is whole; the client's errors pass."""
        ...

    def stream(self, question: Question) -> Iterator[None]:
        """Make a streamed call, in the way of legacy code; yields per event."""
        ...


class Requests:
    """A requests.Session with the adapter of the subclass mounted on it."""

    def __init__(
        self, place: Place, *, timeout: tuple[float, float] | None, adapter: HTTPAdapter | None
    ) -> None:
        self.attempts: list[Any] = []
        self._url = place.url
        self._timeout = timeout
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = place.ca
        if place.proxy is not None:
            self._session.proxies = {"http": place.proxy, "https": place.proxy}
        if adapter is not None:
            self._session.mount("http://", adapter)
            self._session.mount("https://", adapter)

    def ask(self, question: Question) -> bool:
        """Ask with ``stream=False``."""
        return CONTENT in self._send(question, stream=False).text

    def stream(self, question: Question) -> Iterator[None]:
        """Read with ``iter_lines``."""
        for line in self._send(question, stream=True).iter_lines():
            if line.startswith(b"data: {"):
                yield

    def _send(self, question: Question, *, stream: bool) -> requests.Response:
        is_get = question.method == "GET"
        body: Any = (
            None if is_get else {"stream": stream, "model": "m", "messages": question.messages}
        )
        try:
            response = self._session.request(
                question.method,
                self._url + PATH,
                json=body,
                headers=question.headers,
                stream=stream,
                timeout=self._timeout,
            )
        except requests.RequestException as error:
            self.attempts += getattr(error, "attempts", ())
            raise
        self.attempts += getattr(response, "attempts", ())
        response.raise_for_status()
        return response


class OpenAI:
    """The openai SDK with its own two retries."""

    def __init__(self, place: Place, settings: Settings) -> None:
        self.attempts: list[Any] = []
        # Its own default client, for the socket options that it sets.
        openai = importlib.import_module("openai")
        timeout = openai.Timeout(settings.read, connect=settings.connect)
        transport = openai.DefaultHttpxClient(
            verify=ssl.create_default_context(cafile=place.ca),
            proxy=place.proxy,
            trust_env=False,
            timeout=timeout,
        )
        self._client = openai.OpenAI(
            api_key="none", base_url=place.url + "/v1", http_client=transport, timeout=timeout
        )

    def ask(self, question: Question) -> bool:
        """Ask for a completion, or for the list of models."""
        if question.method == "GET":
            return CONTENT in str(self._client.models.list(extra_headers=question.headers))
        return CONTENT in str(self._create(question, stream=False))

    def stream(self, question: Question) -> Iterator[None]:
        """Read a streamed completion."""
        for _ in self._create(question, stream=True):
            yield

    def _create(self, question: Question, *, stream: bool) -> Any:
        return self._client.chat.completions.create(
            model="m", messages=question.messages, stream=stream, extra_headers=question.headers
        )


def _plain(place: Place, settings: Settings) -> Contender:
    return Requests(place, timeout=None, adapter=None)


def _with_timeout(place: Place, settings: Settings) -> Contender:
    return Requests(place, timeout=(settings.connect, settings.read), adapter=None)


def _with_retry(place: Place, settings: Settings) -> Contender:
    adapter = HTTPAdapter(max_retries=urllib3.Retry(2, allowed_methods=None))
    return Requests(place, timeout=(settings.connect, settings.read), adapter=adapter)


def _ours(place: Place, settings: Settings) -> Contender:
    probes = TCPKeepAlive()
    if settings.probes is not None:
        idle, interval, count = settings.probes
        probes = TCPKeepAlive(
            idle=idle, interval=interval, count=count, user_timeout=idle + interval * count
        )
    retries = (
        RetryPolicy()
        if settings.wait is None
        else RetryPolicy(wait=tenacity.wait_fixed(settings.wait))
    )
    adapter = ResilientAdapter(
        max_retries=retries, keepalive=KeepAlivePolicy(expiry=settings.window), tcp_keepalive=probes
    )
    return Requests(place, timeout=(settings.connect, settings.read), adapter=adapter)


CONTENDERS: dict[str, Callable[[Place, Settings], Contender]] = {
    "plain": _plain,
    "timeout": _with_timeout,
    "retry": _with_retry,
    "openai": OpenAI,
    "ours": _ours,
}
"""Each by its name, in the order of the table's columns."""


def is_installed(contender: str) -> bool:
    """True if this client can take part here."""
    return contender != "openai" or importlib.util.find_spec("openai") is not None
