"""Failures that a provider reports inside an answer, of any form, and whether they may pass."""

from __future__ import annotations

import re
from typing import Any

from resilient_requests.chat.kinds._json import loads

__all__ = [
    "BadChunkError",
    "ProviderError",
    "error_of",
    "gave_up",
    "has_given_up",
    "is_transient",
    "likely_error",
    "reported_error",
    "words",
]


def words(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


def _stem(name: str) -> str:
    """Return the common form of ``RateLimitError``, ``rate_limit`` and the like."""
    letters = re.sub(r"[^a-z0-9]", "", name.lower())
    return re.sub(r"(error|exception)$", "", letters)


# Stems of types, codes and statuses of errors that a repetition may mend.
_TRANSIENT = words(
    """
    abort aborted api apiconnection apitimeout badgateway capacityexceeded connection
    deadlineexceeded engineoverloaded gatewaytimeout insufficientsystemresource
    insufficientsystemresources internal internalservererror internalserver
    malformedfunctioncall malformedresponse malformedtoolcall modeltimeout modelnotready
    modeloverloaded network overloaded provideroverloaded ratelimit ratelimited
    ratelimitexceeded ratelimitreached requesttimeout resourceexhausted serveroverloaded
    serverisoverloaded server serverbusy serviceunavailable slowdown temporarilyunavailable
    throttled throttling timedout timeout toomanyrequests unavailable upstream
    """
)
# A repetition of these fails again, even if their code is a transient one.
_PERMANENT = words(
    """
    accessdenied authentication badrequest billing billinghardlimitreached contentfilter
    contentpolicyviolation contextlengthexceeded creditbalancetoolow exceededcurrentquota
    forbidden insufficientbalance insufficientcredits insufficientquota invalidapikey
    invalidargument invalidprompt invalidrequest modelnotfound notfound paymentrequired
    permission permissiondenied quotaexceeded requesttoolarge unauthenticated unauthorized
    unprocessableentity unsupportedvalue validation
    """
)
# Stems of the finish reasons, of all dialects, that mean that there is no answer.
_GAVE_UP = words(
    """
    abort aborted cancelled canceled engineoverloaded failed insufficientsystemresource
    insufficientsystemresources load missingthoughtsignature network other overloaded server
    timeout toomanytoolcalls unexpectedtoolcall unload
    """
)
_REASONS = (
    "message",
    "msg",
    "status_msg",
    "error_message",
    "error_description",
    "detail",
    "details",
    "error",
    "errors",
    "description",
    "reason",
    "title",
)
_KINDS = ("type", "status", "error_type", "__type")
_CODES = ("code", "status_code", "status", "error_code", "http_code")
_GOOD_CODES = frozenset({"", "0", "200", "ok", "success"})
_MOST_DEPTH = 8


class BadChunkError(ValueError):
    """A chunk violates its dialect."""


class ProviderError(Exception):
    """The provider reports a failure; ``message`` is None if it gives no reason."""

    def __init__(
        self,
        *,
        message: str | None,
        type: str | None = None,  # noqa: A002  # the provider's word
        code: str | int | None = None,
        what: str = "the provider reported an error without a message",
    ) -> None:
        super().__init__(message or what)
        self.message = message
        self.type = type
        self.code = code


def is_transient(kind: str | None, code: str | int | None) -> bool:
    """Return True if a repetition may succeed: by the error's type, else by its code."""
    for name in (kind, code):
        if isinstance(name, str) and not name.isdecimal():
            stem = _stem(name)
            if stem in _TRANSIENT or stem in _PERMANENT:
                return stem in _TRANSIENT
    text = str(code)
    number = int(text) if text.isascii() and text.isdecimal() and len(text) == 3 else 0
    # The SDKs of OpenAI and Anthropic retry these statuses, too.
    return number in (408, 409, 429) or 500 <= number <= 599


def has_given_up(finish_reason: str) -> bool:
    """Return True if a finish reason says that there is no answer."""
    stem = _stem(finish_reason)
    return stem in _GAVE_UP or "malformed" in stem or finish_reason.lower() == "error"


def gave_up(finish_reason: str) -> ProviderError:
    """Return the error for a finish reason without an answer."""
    what = f"the provider gave the answer up, with the finish reason {finish_reason!r}"
    return ProviderError(message=None, type=finish_reason, what=what)


def reported_error(event: str, chunk: dict[str, Any]) -> ProviderError | None:
    """Return the error that a chunk reports by an unambiguous sign, or None."""
    error = chunk.get("error")
    if isinstance(error, dict) or (error and error is not True):
        return error_of(error, chunk)
    is_empty = error is not None and error is not False and len(chunk) == 1
    is_named = event in ("error", "exception") or "error" in (
        chunk.get("type"),
        chunk.get("object"),
    )
    if error is True or is_empty or is_named:
        return error_of(chunk)
    for name, read in (("errors", _of_list), ("x_groq", _of_member), ("base_resp", _of_code)):
        if (found := read(chunk.get(name))) is not None:
            return error_of(found)
    return None


def _of_list(value: object) -> object:
    return value[0] if isinstance(value, list) and value else None


def _of_member(value: object) -> object:
    return (value.get("error") or None) if isinstance(value, dict) else None


def _of_code(value: object) -> object:
    return value if isinstance(value, dict) and not _is_good(value) else None


def likely_error(chunk: dict[str, Any], *, is_alone: bool) -> ProviderError | None:
    """Return the error that a chunk unknown to the dialect most likely is, or None.

    ``is_alone``: the chunk is the whole body, so that nothing else can be the answer.
    """
    says = any(isinstance(chunk.get(name), str) and chunk[name] for name in ("message", "msg"))
    if (
        chunk.get("detail")
        or chunk.get("success") is False
        or (says and (is_alone or not _is_good(chunk)))
    ):
        return error_of(chunk)
    return None


def error_of(error: object, around: dict[str, Any] | None = None) -> ProviderError:
    """Return a report of any form as an error; ``around``: the chunk that holds it."""
    around = around or {}
    inner = _parsed(error)
    if isinstance(inner, list):
        inner = next((each for each in inner if each), None)
    if not isinstance(inner, dict):
        word = str(inner).strip() if inner is not None else ""
        beside = {name: each for name, each in around.items() if name != "error"}
        if said := _reason(beside, _MOST_DEPTH):
            return ProviderError(message=said, type=_kind({"type": word}), code=_code(around))
        return ProviderError(message=word or None, code=_code(around))
    places = [inner]
    within = _parsed(inner.get("message"))
    if isinstance(within, dict):
        # Gateways wrap the answer of the provider behind them in their own message.
        nested = within.get("error")
        places[:0] = [nested, within] if isinstance(nested, dict) else [within]
    return ProviderError(
        message=_reason(inner, _MOST_DEPTH),
        type=next((kind for each in places if (kind := _kind(each))), None),
        code=next((code for each in (*places, around) if (code := _code(each)) is not None), None),
    )


def _parsed(value: object) -> Any:
    """Return the object that a text holds as JSON, else the value itself."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return loads(value)
        except (ValueError, RecursionError):
            pass
    return value


def _reason(value: object, depth: int) -> str | None:
    """Return the text in an error, in any form that providers use."""
    value = _parsed(value)
    if isinstance(value, str):
        return value.strip() or None
    if depth and isinstance(value, list):
        return next((found for each in value if (found := _reason(each, depth - 1))), None)
    if depth and isinstance(value, dict):
        reasons = (_reason(value.get(name), depth - 1) for name in _REASONS)
        return next((each for each in reasons if each), None)
    return None


def _kind(facts: dict[str, Any]) -> str | None:
    """Return the type of an error. It is one word: members of that name may hold other things."""
    for name in _KINDS:
        value = facts.get(name)
        if isinstance(value, str) and re.fullmatch(r"[A-Za-z][\w.-]*", value) and value != "error":
            return value
    return None


def _code(facts: dict[str, Any]) -> str | int | None:
    for name in _CODES:
        value = facts.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(value, str) and value and (name != "status" or value.isdecimal()):
            return value
    return None


def _is_good(facts: dict[str, Any]) -> bool:
    """Return True if a chunk has no code, or a code of success."""
    code = _code(facts)
    return code is None or str(code).lower() in _GOOD_CODES
