"""A stream passed on to a browser, from any WSGI or ASGI framework."""

from resilient_requests.web._relay import EventRelay

__all__ = ["EventRelay"]
