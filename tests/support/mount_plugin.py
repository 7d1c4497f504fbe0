"""A pytest plugin that puts the adapter into every session, to run other people's tests with it.

For ``nox -s requests`` and ``nox -s suites``.
"""

from __future__ import annotations

import resilient_requests

resilient_requests.install()
