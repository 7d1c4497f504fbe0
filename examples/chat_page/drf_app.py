"""The chat page with Django REST framework.

python drf_app.py
gunicorn --worker-class gthread --threads 8 drf_app:wsgi
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import requests
from django.conf import settings
from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.http import FileResponse, HttpRequest, StreamingHttpResponse
from django.urls import path
from provider import HEARTBEAT, IDLE, PAGE, upstream

from resilient_requests import ResilientAdapter, stream_chat
from resilient_requests.web import EventRelay

if TYPE_CHECKING:
    from django.http.response import HttpResponseBase
    from rest_framework.request import Request

session = requests.Session()  # one for the life of the process
session.mount("http://", ResilientAdapter())
UPSTREAM = upstream()

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    DEBUG=__name__ == "__main__",
    INSTALLED_APPS=["rest_framework"],
    REST_FRAMEWORK={"UNAUTHENTICATED_USER": None, "DEFAULT_AUTHENTICATION_CLASSES": []},
    ROOT_URLCONF=__name__,
)
wsgi = get_wsgi_application()

# REST framework reads the settings when it is imported.
from rest_framework.renderers import BaseRenderer, JSONRenderer  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from rest_framework.views import APIView  # noqa: E402


class EventStreamRenderer(BaseRenderer):
    """Lets a request that accepts only an event stream reach the view, instead of a 406.

    It renders only answers that are no stream, such as a refusal, as one last event.
    """

    media_type, format, charset = "text/event-stream", "events", "utf-8"

    def render(self, data: Any, *_: Any, **__: Any) -> bytes:
        """Return one event."""
        return f"event: error\ndata: {json.dumps(data)}\n\n".encode()


class ChatView(APIView):
    """Passes the answer on, event by event."""

    renderer_classes = (JSONRenderer, EventStreamRenderer)

    def post(self, request: Request) -> HttpResponseBase:
        """Answer the question."""
        asked = request.data
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
            return Response({"type": type(error).__name__}, status=502)
        relay = EventRelay(stream)
        return StreamingHttpResponse(relay, headers=relay.headers)


def page(_: HttpRequest) -> HttpResponseBase:
    """The page."""
    return FileResponse(PAGE.open("rb"))


urlpatterns = [path("", page), path("chat", ChatView.as_view())]

if __name__ == "__main__":
    execute_from_command_line([sys.argv[0], "runserver", "--noreload", "8000"])
