"""Takes keys and prompts out of what a provider says."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

if TYPE_CHECKING:
    import requests

__all__ = ["Censor"]

_LONGEST = 300
_MOST = 1_000  # characters that are looked through
_TEXT = 12  # what is shorter is a word that any message may hold
_QUOTED = 20  # so many characters in a row are no coincidence
_STEP = _QUOTED // 2
_AROUND = 30
_MASK = "\0"  # a hidden character; `_squeezed` leaves none

_SECRET_NAME = re.compile(
    r"auth|key|token|secret|cookie|password|credential|session", re.IGNORECASE
)
_SECRET = re.compile(
    r"\b(?:sk|pk|rk|ak|xai|gsk|hf|nvapi|AIza)[-_][\w-]{6,}|\bAIza[\w-]{20,}|\bBearer\s+[^\s\"',;]+"
)
# What these members hold are names: what a refusal is about most often, and nobody's words.
_NAMES = frozenset(
    {
        "call_id",
        "id",
        "model",
        "models",
        "name",
        "required",
        "role",
        "tool_call_id",
        "tool_use_id",
        "type",
    }
)
# What a model, a tool or the caller has filled in: there a name may be a person's.
_FREE = frozenset({"args", "arguments", "input", "metadata", "response"})


class Censor:
    """Takes the secrets and the prompt of one request out of texts, whole or quoted in part."""

    def __init__(
        self,
        sent: Iterable[requests.PreparedRequest],
        proxies: Iterable[str],
        body: Mapping[str, object],
    ) -> None:
        hidden = {_squeezed(each) for each in (*_secrets(sent, proxies), *_prompt(body))}
        self._hidden = sorted(hidden - {""}, key=len, reverse=True)
        self._quotable = _MASK.join(self._hidden)

    def line(self, text: str, most: int = _LONGEST) -> str:
        """Return a text as one line of at most ``most`` characters, with nothing in it that must stay private."""
        return _shown(self._masked(_squeezed(text)[:_MOST]), most)

    def around(self, text: str, at: int) -> str:
        """Return what stands around a place in a text, as `line` does."""
        # Not cut before it is masked: a part of a secret could not be recognized.
        start = max(at - _MOST // 2, 0)
        masked = self._masked(_squeezed(text[start : start + _MOST]))
        at = len(_squeezed(text[start:at]))
        return _shown(masked[max(at - _AROUND, 0) : at + _AROUND])

    def _masked(self, text: str) -> str:
        """Return a text of the same length in which what must stay private is masked."""
        for each in self._hidden:
            text = text.replace(each, _MASK * len(each))
        masked = list(_SECRET.sub(lambda found: _MASK * len(found[0]), text))
        for at in range(0, len(text) - _STEP + 1, _STEP):
            if text[at : at + _STEP] not in self._quotable:
                continue  # as every quotation holds such a piece, few places need a closer look
            for start in range(max(at - _STEP + 1, 0), at + 1):
                if len(part := text[start : start + _QUOTED]) == _QUOTED and part in self._quotable:
                    masked[start : start + _QUOTED] = _MASK * _QUOTED
        return "".join(masked)


def _squeezed(text: str) -> str:
    if not text.isprintable():
        text = "".join(each if each.isprintable() else " " for each in text)
    return " ".join(text.split())


def _shown(masked: str, most: int = _LONGEST) -> str:
    text = re.sub(f"{_MASK}+", "***", masked).strip()
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _secrets(sent: Iterable[requests.PreparedRequest], proxies: Iterable[str]) -> Iterator[str]:
    """Yield what headers and URLs hold that is for their receiver only."""
    urls = [*proxies]
    for request in sent:
        urls.append(request.url or "")
        for name, value in request.headers.items():
            if _SECRET_NAME.search(name):
                yield from _of_header(
                    value.decode("latin-1") if isinstance(value, bytes) else str(value)
                )
    for url in urls:
        with suppress(ValueError):
            parts = urlsplit(url)
            yield from _of_login(parts.username, parts.password)
            yield from (
                value
                for name, value in parse_qsl(parts.query)
                if len(value) >= 8 and name != "api-version"
            )


def _of_header(value: str) -> Iterator[str]:
    scheme, _, credentials = value.partition(" ")
    yield from (each for each in (value, credentials) if len(each) >= 4)
    yield from (each for each in re.split(r"[\s;,=]+", value) if len(each) >= 8)  # cookies
    if scheme.lower() == "basic":
        with suppress(ValueError):
            user, _, password = (
                base64.b64decode(credentials).decode("utf-8", "replace").partition(":")
            )
            yield from _of_login(user, password)


def _of_login(user: str | None, password: str | None) -> Iterator[str]:
    # Some services take a key in the place of the user; the names of people are shorter.
    for given, least in ((user or "", 8), (password or "", 4)):
        yield from (each for each in (given, unquote(given)) if len(each) >= least)


def _prompt(value: object, names: Collection[str] = _NAMES) -> Iterator[str]:
    """Yield the texts of a body that are long enough to be somebody's words, also as JSON writes them."""
    if isinstance(value, Mapping):
        for name, each in value.items():
            if name not in names or isinstance(each, Mapping):
                yield from _prompt(
                    each, () if name in _FREE and isinstance(each, Mapping) else names
                )
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _prompt(each, names)
    elif isinstance(value, str) and len(value) >= _TEXT:
        yield value
        yield from (json.dumps(value, ensure_ascii=is_ascii)[1:-1] for is_ascii in (True, False))
