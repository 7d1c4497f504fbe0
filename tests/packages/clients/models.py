"""Clients of language models and of the places where models lie."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import requests

from packages.clients._client import LIMIT, Client, json_reply, load, mount
from packages.server import Reply

if TYPE_CHECKING:
    from requests.adapters import HTTPAdapter

    from packages.server import Request


class Dashscope(Client):
    package = "dashscope"
    modules = ("dashscope",)

    def make(self, url: str, adapter: type[HTTPAdapter]) -> Any:
        dashscope = load("dashscope")
        dashscope.base_http_api_url = f"{url}/api/v1"
        dashscope.api_key = "key"
        self.session = mount(requests.Session(), adapter)
        return dashscope

    def read(self, name: str) -> Any:
        return self.api.TextEmbedding.call(
            "embedding", name, session=self.session, request_timeout=LIMIT
        )

    def write(self, name: str) -> Any:
        return self.api.Generation.call(
            "qwen", prompt=name, session=self.session, request_timeout=LIMIT
        )

    def answer(self, request: Request) -> Reply:
        return json_reply({"request_id": "1", "output": {"text": request.name}, "usage": {}})


class OpenAI(Client):
    package = "openai"
    modules = ("openai",)

    def make(self, url: str, adapter: type[HTTPAdapter]) -> Any:
        openai = load("openai")
        openai.api_base, openai.api_key = f"{url}/v1", "key"
        openai.requestssession = mount(requests.Session(), adapter)
        return openai

    def read(self, name: str) -> Any:
        return self.api.Model.retrieve(name, request_timeout=LIMIT).id

    def write(self, name: str) -> Any:
        messages = [{"role": "user", "content": name}]
        answer = self.api.ChatCompletion.create(
            model="gpt", messages=messages, request_timeout=LIMIT
        )
        return answer.choices[0].message.content

    def answer(self, request: Request) -> Reply:
        message = {"role": "assistant", "content": request.name}
        return json_reply({"id": request.name, "choices": [{"index": 0, "message": message}]})


class HuggingfaceHub(Client):
    package = "huggingface_hub"
    modules = ("huggingface_hub", "huggingface_hub.file_download")
    bound = 5.0  # waits a second before it resumes

    def make(self, url: str, adapter: type[HTTPAdapter]) -> Any:
        self.url = url
        load("huggingface_hub.constants").HF_HUB_DOWNLOAD_TIMEOUT = LIMIT
        hub = load("huggingface_hub")
        hub.configure_http_backend(lambda: mount(requests.Session(), adapter))
        hub.file_download.HF_HUB_DISABLE_PROGRESS_BARS = True
        return hub

    def read(self, name: str) -> Any:
        file = io.BytesIO()
        self.api.file_download.http_get(f"{self.url}/{name}", file)
        return file.getvalue().decode()

    def write(self, name: str) -> Any:
        return self.api.HfApi(endpoint=self.url, token="t").create_repo(f"me/{name}")

    def answer(self, request: Request) -> Reply:
        if request.method == "POST":
            return json_reply({"url": f"https://{request.headers['host']}/me/{request.name}"})
        whole = request.name.encode() * 100
        start = int(request.headers.get("range", "bytes=0-")[6:].split("-")[0])
        status, length = (206, len(whole)) if start else (200, len(whole))
        content_range = {"Content-Range": f"bytes {start}-{length - 1}/{length}"} if start else {}
        return Reply(whole[start:], status, {"Content-Type": "text/plain", **content_range})
