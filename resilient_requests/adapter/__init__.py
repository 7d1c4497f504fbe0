"""The adapter that users mount: its settings, and the assembly of the rooms below."""

from resilient_requests.adapter._adapter import ResilientAdapter
from resilient_requests.adapter._install import install, uninstall

__all__ = ["ResilientAdapter", "install", "uninstall"]
