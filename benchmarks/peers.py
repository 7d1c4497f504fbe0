"""The environment of the peers: the compared packages, and the upstream's needs for TLS."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["install", "python_of"]

_NEEDED = ("requests", "urllib3", "tenacity", "certifi", "trustme", "rich")
_PEERS = ("httpx", "httpx-sse", "niquests", "openai", "requests-sse", "sseclient-py")


def python_of(environment: Path) -> str:
    """Return the interpreter of an environment where there is one, else the one that runs this."""
    for path in (environment / "bin" / "python", environment / "Scripts" / "python.exe"):
        if path.exists():
            return str(path.absolute())
    return sys.executable


def install(environment: Path) -> None:
    """Make the environment, or bring it up to date. Raises CalledProcessError when pip fails."""
    venv.create(environment, with_pip=True)
    pip = [
        python_of(environment),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--upgrade",
    ]
    # niquests brings a fork of urllib3 that replaces urllib3 unless it is built with this
    # variable. Without it requests would be measured over the fork.
    subprocess.run(
        [*pip, *_NEEDED, *_PEERS, "--no-binary", "urllib3-future"],
        check=True,
        env={**os.environ, "URLLIB3_NO_OVERRIDE": "1"},
    )
