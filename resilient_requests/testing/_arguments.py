"""One check per kind of argument of a script, each naming the parameter that is wrong."""

from __future__ import annotations


def instance(name: str, value: object, kind: type, *, optional: bool = False) -> None:
    """Raise TypeError naming the parameter unless ``value`` is a ``kind`` (or None where ``optional``)."""
    if not (isinstance(value, kind) or (optional and value is None)):
        wanted = f"a {kind.__name__}{' or None' if optional else ''}"
        raise TypeError(f"{name} must be {wanted}, not {type(value).__name__}")
