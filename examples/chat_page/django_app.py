"""The chat page with Django, under WSGI and under ASGI.

python django_app.py
gunicorn --worker-class gthread --threads 8 django_app:wsgi
uvicorn django_app:asgi
"""

# Django has no types: pyright guesses them from its code.
# pyright: reportArgumentType=false

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import requests
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.handlers.asgi import ASGIRequest
from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.http import FileResponse, HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path
from provider import HEARTBEAT, IDLE, PAGE, upstream

from resilient_requests import ResilientAdapter, stream_chat
from resilient_requests.web import EventRelay

if TYPE_CHECKING:
    from django.http.response import HttpResponseBase

session = requests.Session()  # one for the life of the process
session.mount("http://", ResilientAdapter())
UPSTREAM = upstream()


def page(_: HttpRequest) -> HttpResponseBase:
    """The page."""
    return FileResponse(PAGE.open("rb"))


def chat(request: HttpRequest) -> HttpResponseBase:
    """Pass the answer on, event by event."""
    asked = json.loads(request.body)
    messages = [{"role": "user", "content": asked["prompt"]}]
    try:
        # Checks status and content type: until here trouble is a proper 502.
        stream = stream_chat(
            session,
            UPSTREAM,
            model=asked["model"],
            messages=messages,
            heartbeat=HEARTBEAT,
            idle_timeout=IDLE,
        )
    except requests.RequestException as error:
        return HttpResponse(type(error).__name__, status=502)
    relay = EventRelay(stream)
    # Under ASGI Django would collect the items of any synchronous iterator first.
    events = aiter(relay) if isinstance(request, ASGIRequest) else relay
    return StreamingHttpResponse(
        events,
        # GZipMiddleware would collect them where there is no encoding.
        headers={**relay.headers, "Content-Encoding": "identity"},
    )


urlpatterns = [path("", page), path("chat", chat)]
settings.configure(
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    DEBUG=__name__ == "__main__",
    MIDDLEWARE=["django.middleware.gzip.GZipMiddleware"],  # no cookies here, so nothing to forge
    ROOT_URLCONF=__name__,
)
wsgi, asgi = get_wsgi_application(), get_asgi_application()

if __name__ == "__main__":
    execute_from_command_line([sys.argv[0], "runserver", "--noreload", "8000"])
