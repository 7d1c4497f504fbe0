"""Names of other libraries that are private or undocumented, each with our file that needs it."""

from __future__ import annotations

import importlib.metadata
import platform
import traceback
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from resilient_requests.testing import FaultServer

__all__ = ["CANARIES", "Canary", "canary"]

Check: TypeAlias = "Callable[[str, FaultServer], bool]"
"""Whether a name, which is handed over without its class, is as we use it."""

_DISTRIBUTIONS = {"urllib3": "urllib3", "requests": "requests", "socks": "PySocks"}


class Canary(NamedTuple):
    """``library``: a module; ``name``: within it; ``file``: of ours, below the package."""

    library: str
    name: str
    file: str

    def complaint(self, server: FaultServer) -> str | None:
        """Return what to tell where the name is no longer as we use it; None where it is."""
        try:
            if CANARIES[self](self.name.rpartition(".")[2], server):
                return None
            why = "it is no longer what we take it for"
        except Exception as error:  # noqa: BLE001  # whatever a new release makes of it
            why = "".join(traceback.format_exception_only(type(error), error)).strip()
        return f"{self.file} needs {self.name} of {self._release()}: {why}"

    def _release(self) -> str:
        if self.library in _DISTRIBUTIONS:
            return f"{self.library} {importlib.metadata.version(_DISTRIBUTIONS[self.library])}"
        return f"{self.library}, of Python {platform.python_version()}"


CANARIES: dict[Canary, Check] = {}
"""Whether a library still is as we use it, by what we use."""


def canary(library: str, file: str, *names: str) -> Callable[[Check], Check]:
    """Have a function check these names."""

    def register(check: Check) -> Check:
        CANARIES.update(dict.fromkeys((Canary(library, name, file) for name in names), check))
        return check

    return register
