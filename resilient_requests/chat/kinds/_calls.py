"""Assigns a fragment to its call: by the id, then by the index."""

from __future__ import annotations

from typing import Any

from resilient_requests.chat._types import ToolCall
from resilient_requests.chat.kinds._members import position

__all__ = ["Calls"]


class _Call:
    __slots__ = ("given", "has_arguments", "id", "name", "place")

    def __init__(self, place: int, given: int | None) -> None:
        self.place, self.given = place, given
        self.id: str | None = None
        self.name: str | None = None
        self.has_arguments = False

    def take(self, call_id: str | None, name: str | None, arguments: str) -> None:
        self.id = self.id or call_id
        self.name = self.name or name
        self.has_arguments |= bool(arguments)


class Calls:
    """The calls of one choice in order of arrival; belongs to one parser.

    A call keeps its provider's index. A second call of the same index, and a call without one, get
    the index after the highest.
    """

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._by_id: dict[str, _Call] = {}
        self._by_index: dict[int, _Call] = {}
        self._shared: set[int] = set()  # given indices that several calls share

    def __len__(self) -> int:
        return len(self._calls)

    def knows(self, call_id: str | None) -> bool:
        """Return True if a call with this id has come."""
        return call_id in self._by_id

    def fragment(  # in the order of ToolCall
        self,
        given: Any,
        call_id: str | None,
        name: str | None,
        arguments: str,
        kind: str = "function",
    ) -> ToolCall:
        """Return a fragment with the index of its call. Raises `BadChunkError`."""
        index = None if given is None else position(given, "tool call")
        call = self._find(index, call_id, name) or self._begin(index)
        call.take(call_id, name, arguments)
        if call_id is not None:
            self._by_id.setdefault(call_id, call)
        return ToolCall(call.place, call_id, name, arguments, kind)

    def _find(self, index: int | None, call_id: str | None, name: str | None) -> _Call | None:
        if call_id is not None and call_id in self._by_id:
            return self._by_id[call_id]
        if index is None:
            is_head = call_id is not None or name is not None
            return None if is_head or not self._calls else self._calls[-1]
        if call_id is None and (named := self._numbered(index)) is not None:
            self._by_index[index] = named
        call = self._by_index.get(index)
        if call is None or (name is not None and self._is_another(call, call_id, name)):
            return None
        return call

    def _numbered(self, index: int) -> _Call | None:
        """Return call number ``index`` if its head came with another call's index.

        Some gateways send the heads of all parallel calls with index 0, and count only afterwards.
        """
        call = self._calls[index] if index < len(self._calls) else None
        if call is None or call.has_arguments or call.given not in self._shared:
            return None
        return call if index in self._shared or index not in self._by_index else None

    @staticmethod
    def _is_another(call: _Call, call_id: str | None, name: str) -> bool:
        """Return True if a head belongs to a new call, though an earlier call has its index."""
        if call_id is not None and call.id is not None:
            return True  # `_find` has ruled out an equal id
        return call.name not in (None, name) and call.has_arguments

    def _begin(self, index: int | None) -> _Call:
        taken = [call.place for call in self._calls]
        place = index
        if place is None or place in taken:
            place = position(max(taken, default=-1) + 1, "tool call")
        call = _Call(place, index)
        self._calls.append(call)
        if index is not None:
            if index in self._by_index:
                self._shared.add(index)
            self._by_index[index] = call
        return call
