"""Removes keys and prompts from a provider's words."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

if TYPE_CHECKING:
    import requests

__all__ = ["Redactor"]

_MOST = 1_000  # characters of a text that may be shown
_RUN, _STEP = 20, 10  # so many equal characters in a row are no coincidence
_MASK = "\0"
_BLANK = re.compile(rf"[^\S ]|{_MASK}")
_PRIVATE = re.compile("auth|key|token|secret|cookie|password|credential|session", re.IGNORECASE)
_KEY = r"\b(?:sk|pk|rk|ak|xai|gsk|hf|nvapi)[-_][\w-]{6,}|\bAIza[\w-]{20,}|\bBearer\s+[^\s\"',;]+"
# A word in these members, or in a member of "id", is a name. Refusals quote mostly names.
_NAMES = frozenset({"model", "models", "name", "required", "role", "type"})


class Redactor:
    """Takes the secrets and the prompt of one request out of texts; immutable.

    It hides words shaped like keys, the secrets that were sent (as words of four characters or
    more), and every run of 20 characters that stands in a secret or in the prompt. A text costs
    one pass over it and one over the prompt.
    """

    def __init__(
        self,
        sent: Iterable[requests.PreparedRequest],
        proxies: Iterable[str],
        body: Mapping[str, object],
    ) -> None:
        secrets = sorted({each for each in _secrets([*sent], proxies) if len(each) >= 4}, key=len)
        words = (rf"(?<!\w){re.escape(each)}(?!\w)" for each in reversed(secrets))
        self._secret = re.compile("|".join([*words, _KEY]))
        private = (_BLANK.sub(" ", each) for each in (*secrets, *_prompt(body)))
        self._private = _MASK.join(private)  # no text from outside holds the mask

    def line(self, text: str, most: int = 300) -> str:
        """Return the beginning of a text as one line of at most ``most`` characters, redacted."""
        # Twice the visible length is examined: half of a secret would not be recognized.
        return _one_line(self._masked(text.lstrip()[: 2 * _MOST])[:_MOST], most)

    def around(self, text: str, at: int) -> str:
        """Return the 60 characters around a place in a text as one line, redacted."""
        start = max(at - _MOST, 0)
        masked = self._masked(text[start : at + _MOST])
        return _one_line(masked[max(at - start - 30, 0) : at - start + 30], _MOST)

    def _masked(self, text: str) -> str:
        """Return a text of the same length in which all that is private is masked."""
        text = _BLANK.sub(" ", text)
        masked = list(self._secret.sub(lambda found: _MASK * len(found[0]), text))
        shared = self._shared(text)
        for at in range(len(text)):
            if text[at : at + _RUN] in shared:
                masked[at : at + _RUN] = _MASK * _RUN
        return "".join(masked)

    def _shared(self, text: str) -> set[str]:
        """Return the runs of a text that also stand in secrets or in the prompt."""
        runs = {text[at : at + _RUN] for at in range(len(text) - _RUN + 1)}
        # A run is two steps long and covers a whole step wherever it begins: steps are looked up.
        steps = {text[at : at + _STEP] for at in range(len(text))}
        places = range(0, len(self._private), _STEP)
        near = (at for at in places if self._private[at : at + _STEP] in steps)
        starts = (start for at in near for start in range(at - _STEP + 1, at + 1))
        return runs.intersection(self._private[at : at + _RUN] for at in starts)


def _one_line(masked: str, most: int) -> str:
    text = re.sub(f"{_MASK}+", "***", masked)
    text = " ".join("".join(each if each.isprintable() else " " for each in text).split())
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _secrets(sent: Iterable[requests.PreparedRequest], proxies: Iterable[str]) -> Iterator[str]:
    """Yield the words of private headers, and the logins and the values in URLs."""
    for request in sent:
        for name, value in request.headers.items():
            if _PRIVATE.search(name):
                text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
                yield from re.split(r"^\w+ |[\s;,=]+", text)
                with suppress(ValueError):  # some values are not base64
                    yield from base64.b64decode(text.removeprefix("Basic ")).decode().split(":")
    for url in (*(request.url or "" for request in sent), *proxies):
        with suppress(ValueError):  # a proxy's URL may not parse
            parts = urlsplit(url)
            # Azure refuses a bad api-version by its name, and the caller needs to read it.
            values = (each for name, each in parse_qsl(parts.query) if name != "api-version")
            for each in (parts.username or "", parts.password or "", *values):
                yield from (each, unquote(each))


def _prompt(value: object, name: str = "") -> Iterator[str]:
    """Yield the texts of a body, names excepted, as they are and as JSON writes them."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _prompt(each, str(key))
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _prompt(each, name)
    elif isinstance(value, str):
        is_name = (name in _NAMES or name.endswith("id")) and " " not in value
        texts = {value, *(json.dumps(value, ensure_ascii=each)[1:-1] for each in (True, False))}
        yield from () if is_name else texts
