"""The adapter: its settings, what users call, and the one line that puts the rooms below together."""

from resilient_requests.adapter._adapter import ResilientAdapter

__all__ = ["ResilientAdapter"]
