"""The adapter that users mount: its settings, and the assembly of the rooms below."""

from resilient_requests.adapter._adapter import ResilientAdapter

__all__ = ["ResilientAdapter"]
