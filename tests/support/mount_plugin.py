"""A pytest plugin that mounts the adapter on every session, to run requests' own tests with it.

For ``nox -s requests``.
"""

from __future__ import annotations

import requests.adapters
import requests.sessions

from resilient_requests import ResilientAdapter

for _module in (requests.adapters, requests.sessions):
    _module.HTTPAdapter = ResilientAdapter  # type: ignore[attr-defined]
