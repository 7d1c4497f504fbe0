"""One question to a provider: its form in each dialect, and the session that carries its key."""

from __future__ import annotations

import os
import select
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

import requests

from resilient_requests.cli._arguments import UsageError, web_url
from resilient_requests.cli._output import in_words

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping

__all__ = ["BadRedirect", "ChatSession", "Key", "Question", "read"]

_DEFAULT_KEY = "OPENAI_API_KEY"


@dataclass(frozen=True, kw_only=True)
class Key:
    """A secret, and the header that carries it; ``repr`` shows only the header's name."""

    header: str
    value: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Question:
    """The question for the provider; ``url`` is None for the embedded server."""

    url: str | None
    model: str
    dialect: str
    messages: Any = field(repr=False)
    more: Mapping[str, Any]
    key: Key | None
    accept_bare_eof: bool = False


def _messages(prompt: str) -> Any:
    return [{"role": "user", "content": prompt}]


@dataclass(frozen=True, kw_only=True)
class _Way:
    messages: Callable[[str], Any] = _messages
    more: Mapping[str, Any] = field(default_factory=dict)
    key_header: str | None = "Authorization"
    key_prefix: str = ""


# Dialects without an entry are asked as OpenAI is.
_OPENAI_LIKE = _Way(key_prefix="Bearer ")
_WAYS = {
    # OpenAI sends no token counts in a stream without this.
    "openai": _Way(key_prefix="Bearer ", more={"stream_options": {"include_usage": True}}),
    "openai-responses": _Way(key_prefix="Bearer ", messages=lambda prompt: prompt),
    # Anthropic requires a limit; all of its models accept this one.
    "anthropic": _Way(key_header="x-api-key", more={"max_tokens": 4096}),
    "gemini": _Way(
        key_header="x-goog-api-key",
        messages=lambda prompt: [{"role": "user", "parts": [{"text": prompt}]}],
    ),
    "ollama": _Way(key_header=None),
}


def read(arguments: argparse.Namespace) -> Question:
    """Return the question that a command line asks. Raises `UsageError`."""
    way = _WAYS.get(arguments.dialect, _OPENAI_LIKE)
    if arguments.url is None and arguments.dialect != "openai":
        raise UsageError("--dialect needs --url: the embedded server speaks openai")
    if arguments.url is not None:
        web_url(arguments.url)
    elif not hasattr(select, "poll"):
        raise UsageError("--url is needed: the embedded server needs a POSIX system")
    if not arguments.model:
        raise UsageError("--model is empty")
    secret = _secret(arguments.key_env)
    # The embedded server needs no key, and another program might listen on its port.
    is_wanted = secret is not None and way.key_header is not None and arguments.url is not None
    return Question(
        url=arguments.url,
        model=arguments.model,
        dialect=arguments.dialect,
        messages=way.messages(_prompt(arguments.prompt)),
        more=way.more,
        key=Key(header=way.key_header or "", value=f"{way.key_prefix}{secret}")
        if is_wanted
        else None,
        accept_bare_eof=arguments.accept_bare_eof,
    )


def _prompt(given: str) -> str:
    try:
        prompt = _stdin() if given == "-" else given
        # Python keeps undecodable bytes of arguments as surrogates, and of stdin in some locales.
        prompt.encode("utf-8")
    except UnicodeError:
        raise UsageError("the prompt is no UTF-8 text") from None
    if not prompt.strip():
        raise UsageError("the prompt is empty")
    return prompt


def _stdin() -> str:
    if sys.stdin is None:  # a shell has closed it
        raise UsageError("stdin is closed")
    try:
        return sys.stdin.read()
    except OSError as error:
        raise UsageError(f"stdin cannot be read: {in_words(error)}") from None


def _secret(variable: str | None) -> str | None:
    """Return the key from an environment variable; None if no variable is named or set."""
    name = variable or _DEFAULT_KEY
    secret = os.environ.get(name, "").strip()
    if not secret:
        if variable is None:
            return None
        raise UsageError(f"the environment variable {variable} is not set, or empty")
    # requests and http.client repeat a rejected header in their messages.
    if not (secret.isascii() and secret.isprintable()):
        raise UsageError(f"{name} holds characters that no header can carry")
    return secret


class BadRedirect(requests.RequestException):
    """A redirect leads to something that is not an HTTP URL."""


class ChatSession(requests.Session):
    """Sends a key with each request, except those that a redirect sends to another host.

    A redirect to something that is not a URL raises `BadRedirect`.
    """

    def __init__(self, key: Key | None) -> None:
        super().__init__()
        self._key = key
        if key is not None:
            # A netrc entry for that host would replace a header of the session.
            self.auth = self._sign

    def _sign(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        assert self._key is not None
        request.headers[self._key.header] = self._key.value
        return request

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return the target of a redirect, None for any other response."""
        # requests lets errors of its URL parsers pass here that are no RequestException:
        # ValueError, UnicodeDecodeError, urllib3's LocationParseError.
        try:
            target = super().get_redirect_target(resp)
            if target is not None:
                web_url(urljoin(resp.url, target))
        except ValueError:
            raise BadRedirect("the redirect leads to no URL of HTTP", response=resp) from None
        return target

    def rebuild_auth(
        self, prepared_request: requests.PreparedRequest, response: requests.Response
    ) -> None:
        """Remove the key from a request to another host; requests itself removes Authorization."""
        super().rebuild_auth(prepared_request, response)
        asked, next_url = response.request.url or "", prepared_request.url or ""
        if self._key is not None and self.should_strip_auth(asked, next_url):
            prepared_request.headers.pop(self._key.header, None)
