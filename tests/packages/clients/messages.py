"""Clients that send messages, payments, events and traces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import requests

from packages.clients._client import LIMIT, Client, json_reply, load, mount
from packages.server import Reply

if TYPE_CHECKING:
    from requests.adapters import HTTPAdapter

    from packages.server import Request


class Twilio(Client):
    package = "twilio"
    modules = ("twilio.rest", "twilio.http.http_client")

    def make(self, url: str, adapter: type[HTTPAdapter]) -> Any:
        http = load("twilio.http.http_client").TwilioHttpClient(timeout=LIMIT)
        client = load("twilio.rest").Client("AC" + "0" * 32, "token", http_client=http)
        client.api.base_url = url
        mount(http.session, adapter)
        return client

    def read(self, name: str) -> Any:
        return self.api.messages(name).fetch().sid

    def write(self, name: str) -> Any:
        return self.api.messages.create(to="+100", from_="+200", body=name).sid

    def answer(self, request: Request) -> Reply:
        return json_reply({"sid": request.name}, 201 if request.method == "POST" else 200)


class Telegram(Client):
    package = "pyTelegramBotAPI"
    modules = ("telebot",)

    def make(self, url: str, adapter: type[HTTPAdapter]) -> Any:
        helper = load("telebot.apihelper")
        helper.API_URL = url + "/bot{0}/{1}"
        helper.CONNECT_TIMEOUT = helper.READ_TIMEOUT = LIMIT
        helper.session = mount(requests.Session(), adapter)
        return load("telebot").TeleBot("1:token", threaded=False)

    def read(self, name: str) -> Any:
        return self.api.get_chat(f"@{name}").title

    def write(self, name: str) -> Any:
        return self.api.send_message(1, name).text

    def answer(self, request: Request) -> Reply:
        chat = {"id": 1, "type": "private", "title": request.name, "accent_color_id": 0}
        chat |= {"max_reaction_count": 1, "accepted_gift_types": None}
        sent = {"message_id": 1, "date": 1, "chat": chat, "text": request.name}
        return json_reply({"ok": True, "result": chat if "getChat" in request.path else sent})


class Tweepy(Client):
    package = "tweepy"
    modules = ("tweepy",)
    tls = True

    def make(self, url: str, adapter: type[HTTPAdapter]) -> Any:
        tweepy = load("tweepy")
        api = tweepy.API(
            tweepy.OAuth2BearerHandler("token"), host=url.removeprefix("https://"), timeout=LIMIT
        )
        mount(api.session, adapter)
        return api

    def read(self, name: str) -> Any:
        return self.api.get_user(screen_name=name).screen_name

    def write(self, name: str) -> Any:
        return self.api.update_status(name).text

    def answer(self, request: Request) -> Reply:
        named = {"id": 1, "text": request.name, "screen_name": request.name}
        return json_reply(named)


class Posthog(Client):
    package = "posthog"
    modules = ("posthog", "posthog.request")
    tls = True  # it mounts its adapter for https alone

    def make(self, url: str, adapter: type[HTTPAdapter]) -> Any:
        self.url = url
        api = load("posthog.request")
        mount(api._session, adapter)
        return api

    def read(self, name: str) -> Any:
        return self.api.get("key", f"/flags/{name}", self.url, timeout=LIMIT).data

    def write(self, name: str) -> Any:
        sent = self.api.batch_post("key", self.url, timeout=LIMIT, batch=[{"event": name}])
        return sent.text


class Otlp(Client):
    package = "opentelemetry-exporter-otlp-proto-http"
    title = "OTLP exporter {}, HTTP"
    modules = (
        "opentelemetry.exporter.otlp.proto.http.trace_exporter",
        "opentelemetry.sdk.trace",
        "opentelemetry.sdk.trace.export",
    )

    def make(self, url: str, adapter: type[HTTPAdapter]) -> Any:
        session = mount(requests.Session(), adapter)
        module = load("opentelemetry.exporter.otlp.proto.http.trace_exporter")
        return module.OTLPSpanExporter(f"{url}/v1/traces", timeout=LIMIT, session=session)

    def read(self, name: str) -> Any:
        return self.write(name)

    def write(self, name: str) -> Any:
        export = load("opentelemetry.sdk.trace.export")
        span = load("opentelemetry.sdk.trace").TracerProvider().get_tracer("t").start_span(name)
        span.end()
        result = self.api.export([span])
        if result is not export.SpanExportResult.SUCCESS:
            raise NotExported(result.name)
        return name

    def answer(self, request: Request) -> Reply:
        return Reply(b"\n\x00", headers={"Content-Type": "application/x-protobuf"})


class NotExported(Exception):
    """An exporter has no errors, it returns that it failed."""


class Stripe(Client):
    package = "stripe"
    modules = ("stripe",)
    honours_keys = True

    def make(self, url: str, adapter: type[HTTPAdapter]) -> Any:
        stripe = load("stripe")
        session = mount(requests.Session(), adapter)
        http = stripe.RequestsClient(timeout=LIMIT, session=session)
        return stripe.StripeClient("key", base_addresses={"api": url}, http_client=http)

    def read(self, name: str) -> Any:
        return self.api.v1.customers.retrieve(name).id

    def write(self, name: str) -> Any:
        return self.api.v1.customers.create({"name": name}).id

    def answer(self, request: Request) -> Reply:
        return json_reply({"id": request.name, "object": "customer"})


class Spotipy(Client):
    package = "spotipy"
    modules = ("spotipy",)

    def make(self, url: str, adapter: type[HTTPAdapter]) -> Any:
        client = load("spotipy").Spotify(auth="token", requests_timeout=LIMIT)
        client.prefix = f"{url}/v1/"
        mount(client._session, adapter)
        return client

    def read(self, name: str) -> Any:
        return self.api._get(f"tracks/{name}")

    def write(self, name: str) -> Any:
        return self.api.user_playlist_create("me", name)
