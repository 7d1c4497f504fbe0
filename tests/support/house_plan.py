"""The plan of the house: which module is on which floor."""

from __future__ import annotations

FLOORS: tuple[frozenset[str], ...] = (
    frozenset(
        {
            "exceptions",
            "_clock",
            "_keepalive",
            "_budget",
            "_checks",
            "_chunked",
            "_head",
            "_idempotency",
            "_sse",
            "_stats",
        }
    ),
    frozenset({"_cancel", "_events", "_forkgate"}),
    frozenset({"_attempt", "_failures", "_timeouts", "_tls"}),
    frozenset({"_exchange", "_connection", "_coding", "_register", "_story"}),
    frozenset(
        {"_pool", "_body", "_operation", "_reader", "_retry", "_stream", "_loops", "_response"}
    ),
    frozenset({"_transport", "_send", "_environment"}),
    frozenset({"_adapter"}),
    frozenset({"chat"}),
    frozenset({"cli", "otel", "__init__", "__main__"}),
)
"""Units from the ground up. A unit is a module, or a whole subpackage; ``__init__`` is the package's own."""
