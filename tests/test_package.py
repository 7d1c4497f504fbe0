"""The package as it is installed: its names, its metadata, and what importing it costs."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata, resources

import pytest

import resilient_requests

OPTIONAL = ("rich", "trustme", "pytest", "opentelemetry")  # requests itself imports PySocks where it is there

PROBE = """
import json, sys, threading
import resilient_requests
print(json.dumps({"modules": sorted(sys.modules), "threads": threading.active_count()}))
"""


@pytest.mark.parametrize("name", resilient_requests.__all__)
def test_each_public_name_is_there(name: str) -> None:
    """A name in ``__all__`` that does not exist breaks every star import."""
    assert getattr(resilient_requests, name) is not None


def test_each_public_name_stands_once() -> None:
    """The list is the API: it is read, and compared between releases. Its order is ruff's business."""
    names = resilient_requests.__all__

    assert len(names) == len(set(names))


def test_the_type_marker_is_shipped() -> None:
    """Without py.typed a user's mypy takes every name of ours for Any."""
    assert resources.files("resilient_requests").joinpath("py.typed").is_file()


def test_the_version_is_that_of_the_metadata() -> None:
    """A version that stands in two places differs sooner or later."""
    assert resilient_requests.__version__ == metadata.version("resilient_requests")


def test_the_command_is_declared() -> None:
    """The README's first command calls it."""
    scripts = metadata.entry_points(group="console_scripts", name="resilient-requests")

    assert [script.value for script in scripts] == ["resilient_requests.cli:main"]


def test_importing_loads_no_extra_and_starts_no_thread() -> None:
    """An import is paid by every process, and a thread does not survive the fork of a web server."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROBE], capture_output=True, text=True, timeout=30, check=True
    )
    seen = json.loads(done.stdout)

    assert [name for name in OPTIONAL if name in seen["modules"]] == []
    assert seen["threads"] == 1
