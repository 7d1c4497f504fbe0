"""The items of an output: finds the item of an event, and the news that the event adds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from resilient_requests.chat.kinds._item import Item, family_of, texts_of
from resilient_requests.chat.kinds._members import count, position, text
from resilient_requests.chat.kinds._parts import BETWEEN
from resilient_requests.chat.kinds._shown import Contradiction

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from resilient_requests.chat._types import ToolCall

__all__ = ["Added", "Items"]


class Added(NamedTuple):
    """The news of an event: a text with its kind, or a fragment of a call."""

    kind: str
    text: str = ""
    call: ToolCall | None = None


class Items:
    """The items of one output in order of arrival; belongs to one parser.

    The id of an item, or of its call, identifies it. Otherwise its index does, among the items of
    its family ("message", "reasoning", "call" or "other"), since some servers give index 0 to all.
    Other servers make up a new id for each event: until an id comes twice, the index counts more.
    """

    def __init__(self) -> None:
        self.contradiction: str | None = None
        self._are_ids_stable = False
        self._items: list[Item] = []
        self._by_id: dict[str, Item] = {}
        self._by_index: dict[tuple[str, object], Item] = {}
        self._calls = 0
        self._paragraph: tuple[Item, object] | None = None  # the place of a summary's last piece

    def built(self) -> list[dict[str, Any]]:
        """Return the items in the form of the next turn."""
        return [raw for item in self._items if (raw := item.built()) is not None]

    def add(self, data: Mapping[str, Any], family: str, kind: str, piece: str) -> Added:
        """Take a piece of a text."""
        item = self._of_event(data, family)
        if kind == "summary" and piece:
            before, self._paragraph = self._paragraph, (item, data.get("summary_index"))
            if before is not None and before != self._paragraph:
                item.of(kind).add(BETWEEN if before[0] is item else "")
                return self._told(item, kind, BETWEEN + item.of(kind).add(piece))
        return self._told(item, kind, item.of(kind).add(piece))

    def add_part(
        self, data: Mapping[str, Any], family: str, kind: str, level: str, whole: str
    ) -> Added:
        """Take the whole text of one part of an item; ``level``: the kind of its event."""
        item = self._of_event(data, family, {kind: whole})
        part = (count(data.get("content_index")), count(data.get("summary_index")))
        between = BETWEEN if kind == "summary" else ""
        show = item.of(kind).of_part
        return self._told(item, kind, self._new_of(show, level, part, whole, between))

    def add_item(
        self, raw: dict[str, Any], data: Mapping[str, Any], *, is_done: bool
    ) -> list[Added]:
        """Take an item, at its beginning or as a whole."""
        texts = texts_of(raw) if is_done else {}
        ids = [text(each) for each in (raw.get("id"), raw.get("call_id"), data.get("item_id"))]
        is_new = self._are_ids_stable or not is_done
        item = self._find(ids, data, family_of(raw), texts, is_new=is_new)
        return self._complete(item, raw, texts)

    def add_output(self, output: list[dict[str, Any]]) -> list[Added]:
        """Take the final output, in which each item is an earlier one or a new one.

        Its ids identify an item; if they are new, its content does. Otherwise it is the first of
        its family that is left.
        """
        found, left = self._matched(output)
        known = self._known_texts(output)
        added = []
        for number, raw in enumerate(output):
            item = found.get(number) or self._begin(family_of(raw))
            texts = {kind: each for kind, each in texts_of(raw).items() if kind not in known}
            added += self._complete(item, raw, texts)
        # A call that is missing in the final output has the input of its first event.
        for item in left:
            texts = texts_of(item.raw) if item.family == "call" else {}
            added += self._complete(item, item.raw, texts)
        return added

    def _matched(self, output: list[dict[str, Any]]) -> tuple[dict[int, Item], list[Item]]:
        """Return the earlier items by their place in the final output, and the items left over."""
        left = list(self._items)
        found: dict[int, Item] = {}
        tests: tuple[Callable[[Item, dict[str, Any]], bool], ...] = (
            lambda item, raw: (
                item in (self._by_id.get(text(raw.get(n))) for n in ("id", "call_id"))
            ),
            lambda item, raw: item.says(texts_of(raw)) and not item.is_other_than(raw),
            lambda item, raw: not item.is_other_than(raw),
        )
        for test in tests:
            for number, raw in enumerate(output):
                fitting = (each for each in left if each.family == family_of(raw))
                item = next((each for each in fitting if test(each, raw)), None)
                if number not in found and item is not None:
                    left.remove(item)
                    found[number] = item
        return found, left

    def _known_texts(self, output: list[dict[str, Any]]) -> set[str]:
        """Return the kinds of texts that were shown in full, in any of the items."""
        told = [texts_of(raw) for raw in output]
        known = set()
        for kind in ("text", "refusal", "reasoning", "summary"):
            shown = "".join(str(item.of(kind)) for item in self._items if kind in item.shown)
            if shown.split() == "".join(each.get(kind, "") for each in told).split():
                known.add(kind)
        return known

    # -- which item -----------------------------------------------------------------------------

    def _of_event(
        self, data: Mapping[str, Any], family: str, texts: Mapping[str, str] | None = None
    ) -> Item:
        item_id = data.get("item_id")
        if item_id.__class__ is str and (known := self._by_id.get(item_id)) is not None:
            self._are_ids_stable = True
            return known
        return self._find([text(item_id)], data, family, texts or {}, is_new=self._are_ids_stable)

    def _find(
        self,
        ids: list[str],
        data: Mapping[str, Any],
        family: str,
        texts: Mapping[str, str],
        *,
        is_new: bool,
    ) -> Item:
        """Return the item of these ids or of this index; ``is_new``: a new id means a new item."""
        given = data.get("output_index")
        place = (family, None if given is None else position(given, "output"))
        ids = [each for each in ids if each]
        item = next((self._by_id[each] for each in ids if each in self._by_id), None)
        if item is None:
            item = self._by_index.get(place)
            if item is not None and ids and item.id is not None:
                ids, item = (ids, None) if is_new and not item.says(texts) else ([], item)
        if item is None:
            item = self._begin(family)
        self._by_index[place] = self._by_index[family, None] = item
        for each in ids:
            self._by_id.setdefault(each, item)
            item.id = item.id or each
        return item

    def _begin(self, family: str) -> Item:
        position(len(self._items), "output item")
        item = Item(family)
        self._items.append(item)
        return item

    # -- the news -------------------------------------------------------------------------------

    def _complete(self, item: Item, raw: dict[str, Any], texts: Mapping[str, str]) -> list[Added]:
        item.take(raw)
        whole = texts or ({"input": ""} if item.family == "call" else {})
        return [
            self._told(item, kind, self._new_of(item.of(kind).of_item, said))
            for kind, said in whole.items()
        ]

    def _new_of(self, show: Callable[..., str], *told: Hashable) -> str:
        try:
            return show(*told)
        except Contradiction:
            self.contradiction = "an item differs from its pieces"
            return ""

    def _told(self, item: Item, kind: str, added: str) -> Added:
        if item.family != "call":
            return Added(kind, added)
        call = item.fragment(self._calls, added)
        self._calls = max(self._calls, position(call.index, "tool call") + 1 if call else 0)
        return Added(kind, call=call)
