"""Every answer in every style of every dialect is read right, with any change of one event."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests
from chat_answers import ANSWERS, DIALECTS, Answer, Style, content_type, forms, pieces_of
from chat_wires import ASK, Canned, cut, deltas_of, read
from hypothesis import given
from hypothesis import strategies as st

from resilient_requests import ChatCompletion, StreamTruncated, stream_chat

STYLES = [
    pytest.param(dialect, style, id=f"{dialect}, {style.name}")
    for dialect, (_, styles) in DIALECTS.items()
    for style in styles
]
# Usage is then waited for, however slow the machine is that runs this.
ASKS: dict[str, dict[str, Any]] = {dialect: {} for dialect in DIALECTS}
ASKS["openai"] = {"stream_options": {"include_usage": True}}


def said(completion: ChatCompletion) -> dict[str, Any]:
    """Return the parts of a completion that count."""
    usage = completion.usage
    return {
        "content": completion.content,
        "reasoning": completion.reasoning,
        "calls": [
            (each.id, each.name, json.loads(each.arguments)) for each in completion.tool_calls
        ],
        "usage": None
        if usage is None
        else (usage.input_tokens, usage.output_tokens, usage.total_tokens),
        "truncated": completion.truncated,
    }


def wanted(answer: Answer) -> dict[str, Any]:
    """Return the same parts of the original answer."""
    return {
        "content": "".join(answer.content),
        "reasoning": "".join(answer.reasoning),
        "calls": [(each.id, each.name, json.loads(each.arguments)) for each in answer.calls],
        "usage": (5, 7, 12),
        "truncated": False,
    }


def test_there_are_forty_forms_of_each_dialect() -> None:
    """One more answer, or one more style, is a line."""
    assert min(len(forms(dialect)) for dialect in DIALECTS) >= 40


@pytest.mark.parametrize(("dialect", "style"), STYLES)
def test_a_recorded_form_gives_its_answer(dialect: str, style: Style) -> None:
    """It does so as it comes, event by event, and a byte at a time."""
    for answer in ANSWERS:
        pieces = pieces_of(dialect, answer, style)
        body = b"".join(pieces)
        for each in (pieces, [body], cut(body, 1), cut(body, 7)):
            found = read(each, dialect, content_type(dialect), **ASKS[dialect])

            assert said(found) == wanted(answer)
            assert found.finish_reason
            assert (found.id is None) is (dialect == "ollama")
            assert found.model == (None if dialect == "cohere" else "m-1")
            assert found.unknown == {}
            assert found.message


@pytest.mark.parametrize(("dialect", "style"), STYLES)
def test_the_deltas_of_a_recorded_form_add_up(dialect: str, style: Style) -> None:
    """A consumer that only adds up gets the text of the completion."""
    for answer in ANSWERS:
        session = Canned(pieces_of(dialect, answer, style), content_type(dialect))
        with stream_chat(session, "http://x/", dialect=dialect, **ASK) as stream:
            deltas = deltas_of(stream)

        assert "".join(each.content for each in deltas) == "".join(answer.content)
        assert "".join(each.reasoning for each in deltas) == "".join(answer.reasoning)
        for made, call in zip(stream.completion.tool_calls, answer.calls, strict=True):
            pieces = [f for delta in deltas for f in delta.tool_calls if f.index == made.index]
            assert [each.id for each in pieces if each.id] == [call.id]
            assert [each.name for each in pieces if each.name] == [call.name]
            written = "".join(each.arguments for each in pieces)
            assert json.loads(written) == json.loads(call.arguments)


# -- changes on the way ----------------------------------------------------------------------------

form = st.sampled_from([(dialect, *each) for dialect in DIALECTS for each in forms(dialect)])
ALWAYS_FINISHED = ("a finish with each",)
"""No reader can tell a beginning of these from the whole: each chunk says that it is the last."""


def outcome(dialect: str, pieces: list[bytes]) -> tuple[ChatCompletion, bool]:
    """The completion, or the part on an error; and whether it was told as a whole answer."""
    try:
        found = read(pieces, dialect, content_type(dialect))
    except requests.RequestException as error:
        return error.partial, False  # type: ignore[attr-defined]
    return found, not found.truncated


def is_beginning(found: ChatCompletion, answer: Answer) -> bool:
    """True if the completion is the beginning of the answer."""
    content, reasoning = "".join(answer.content), "".join(answer.reasoning)
    return content.startswith(found.content) and reasoning.startswith(found.reasoning)


@given(form, st.data())
def test_a_stream_that_is_cut_gives_a_beginning_and_never_a_whole(
    chosen: tuple[str, Answer, Style], data: st.DataObject
) -> None:
    """The cut may be at any byte; behind the last word, only usage or a marker is missing."""
    dialect, answer, style = chosen
    body = b"".join(pieces_of(dialect, answer, style))
    at = data.draw(st.integers(0, len(body) - 1))
    found, is_whole = outcome(dialect, [body[:at]])

    assert is_beginning(found, answer)
    if is_whole and style.name not in ALWAYS_FINISHED:
        assert said(found) | {"usage": None} == wanted(answer) | {"usage": None}
    if not is_whole:
        assert found.tool_calls == ()
        assert found.message is None


@pytest.mark.slow
@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_cut_of_one_form_is_told(dialect: str) -> None:
    """Random cuts alone would miss some."""
    answer = ANSWERS[-2]
    body = b"".join(pieces_of(dialect, answer, forms(dialect)[0][1]))
    cuts = range(0, len(body), len(body) // 500)
    wholes = [at for at in cuts if outcome(dialect, [body[:at]])[1]]
    # Only behind the finish reason, in the last chunk: from there on nothing may be missing.
    assert all(
        said(outcome(dialect, [body[:at]])[0])["calls"] == wanted(answer)["calls"] for at in wholes
    )
    assert min(wholes, default=len(body)) > len(body) * 0.6


def calls_after(answer: Answer, found: ChatCompletion) -> list[str]:
    """Return the faults of the calls that a completion has."""
    known = {call.id: call for call in answer.calls}
    wrong = []
    for made in found.tool_calls:
        call = known.get(made.id or "")
        if call is None or made.name != call.name:
            wrong.append(f"{made.id} {made.name} was never called")
        elif not made_of(made.arguments, call.pieces):
            wrong.append(f"{made.id} has arguments of another: {made.arguments}")
    return wrong


def made_of(arguments: str, pieces: tuple[str, ...]) -> bool:
    """True if arguments are a call's own: whole, or with one piece lost, doubled or moved.

    No reader can tell these apart, since the wire gives each piece once.
    """
    own = ["".join(pieces)]
    for n in range(len(pieces)):
        own.append("".join(pieces[:n] + pieces[n + 1 :]))
        own.append("".join((*pieces[:n], pieces[n], *pieces[n:])))
        own.append("".join((*pieces[:n], *pieces[n : n + 2][::-1], *pieces[n + 2 :])))
    return any(same(arguments, each) for each in own)


def same(one: str, other: str) -> bool:
    """True if two texts are the same, or the same JSON."""
    try:
        return bool(one == other or json.loads(one) == json.loads(other))
    except ValueError:
        return False


def changed(pieces: list[bytes], change: str, at: int) -> list[bytes]:
    """The events with one of them dropped, doubled or moved by one."""
    if change == "dropped":
        return pieces[:at] + pieces[at + 1 :]
    if change == "doubled":
        return [*pieces[: at + 1], *pieces[at:]]
    return [*pieces[:at], *pieces[at : at + 2][::-1], *pieces[at + 2 :]]


@given(form, st.sampled_from(["dropped", "doubled", "moved"]), st.data())
def test_one_event_that_is_lost_doubled_or_moved_makes_no_wrong_call(
    chosen: tuple[str, Answer, Style], change: str, data: st.DataObject
) -> None:
    """It makes no crash either: every outcome is an answer, or an error of ours."""
    dialect, answer, style = chosen
    pieces = pieces_of(dialect, answer, style)
    at = data.draw(st.integers(0, len(pieces) - 1))
    found, is_whole = outcome(dialect, changed(pieces, change, at))

    if is_whole:
        assert calls_after(answer, found) == []


@given(st.sampled_from(ANSWERS), st.sampled_from(["dropped", "doubled", "moved"]), st.data())
def test_a_wire_that_says_things_twice_tells_what_was_lost(
    answer: Answer, change: str, data: st.DataObject
) -> None:
    """Responses repeat each text and each call: then nothing wrong is told as right."""
    style = DIALECTS["openai-responses"][1][0]
    pieces = pieces_of("openai-responses", answer, style)
    at = data.draw(st.integers(0, len(pieces) - 2))
    found, is_whole = outcome("openai-responses", changed(pieces, change, at))

    if is_whole:
        assert said(found) | {"usage": None} == wanted(answer) | {"usage": None}


def test_a_call_of_which_all_is_lost_but_its_end_is_told() -> None:
    """The two outcomes are the only ones."""
    with pytest.raises(StreamTruncated):
        read([b"data: {}\n\n"], "openai-responses")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2)
    ),
    max_leaves=4,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all that a chunk holds."""
    inner = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    return [path, *(each for key, part in inner for each in places(part, (*path, key)))]


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A chunk with something else at a path."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


@given(form, json_values, st.data())
def test_a_member_of_another_type_is_no_crash(
    chosen: tuple[str, Answer, Style], new: Any, data: st.DataObject
) -> None:
    """Any type may stand in its place: the outcome is an answer, or an error of ours."""
    dialect, answer, style = chosen
    write, _ = DIALECTS[dialect]
    chunks = style.chunks(write(answer))
    number = data.draw(st.integers(0, len(chunks) - 1))
    path = data.draw(st.sampled_from(places(chunks[number])))
    chunks[number] = replaced(chunks[number], path, new)
    lines = [json.dumps(each) for each in chunks]
    pieces = (
        [f"{each}\n".encode() for each in lines]
        if dialect == "ollama"
        else [f"data: {each}\n\n".encode() for each in [*lines, "[DONE]"]]
    )
    found, _ = outcome(dialect, pieces)

    assert isinstance(found, ChatCompletion)
