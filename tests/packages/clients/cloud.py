"""Clients of clouds and of what runs in them."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import requests

from packages.clients._client import FOREIGN_POOL, LIMIT, Client, json_reply, load, mount
from packages.server import Reply

if TYPE_CHECKING:
    from requests.adapters import HTTPAdapter

    from packages.server import Request


class GoogleAuth(Client):
    package = "google-auth"
    modules = ("google.auth.transport.requests", "google.oauth2.credentials")

    def make(self, url: str, adapter: type[HTTPAdapter]) -> Any:
        self.url = url
        credentials = load("google.oauth2.credentials").Credentials("token")
        session = load("google.auth.transport.requests").AuthorizedSession(credentials)
        return mount(session, adapter)

    def read(self, name: str) -> Any:
        return self.api.get(f"{self.url}/v1/{name}", timeout=LIMIT).text

    def write(self, name: str) -> Any:
        return self.api.post(f"{self.url}/v1", json={"name": name}, timeout=LIMIT).text


class GoogleCloudStorage(Client):
    package = "google-cloud-storage"
    modules = ("google.cloud.storage", "google.auth.credentials")
    bound = 20.0  # retries after a second and more

    def make(self, url: str, adapter: type[HTTPAdapter]) -> Any:
        storage = load("google.cloud.storage")
        credentials = load("google.auth.credentials").AnonymousCredentials()
        session = load("google.auth.transport.requests").AuthorizedSession(credentials)
        client = storage.Client(
            "project",
            credentials=credentials,
            _http=mount(session, adapter),
            client_options={"api_endpoint": url},
        )
        return client.bucket("bucket")

    def read(self, name: str) -> Any:
        return self.api.blob(name).download_as_bytes(timeout=LIMIT).decode()

    def write(self, name: str) -> Any:
        blob = self.api.blob(name)
        blob.upload_from_string(name, timeout=LIMIT)
        return blob.name

    def answer(self, request: Request) -> Reply:
        if request.path.startswith("/upload/"):
            return json_reply({"name": request.name})
        return Reply(request.name.encode() * 100, headers={"Content-Type": "text/plain"})


class Docker(Client):
    package = "docker"
    modules = ("docker",)

    def make(self, url: str, adapter: type[HTTPAdapter]) -> Any:
        address = url.replace("http://", "tcp://")
        client = load("docker").DockerClient(base_url=address, version="1.44", timeout=LIMIT)
        mount(client.api, adapter)
        return client

    def read(self, name: str) -> Any:
        return self.api.api.inspect_container(name)

    def write(self, name: str) -> Any:
        return self.api.api.create_container("image", name=name)

    def answer(self, request: Request) -> Reply:
        return json_reply(
            {"Id": request.name, "Name": request.name}, 201 if "create" in request.path else 200
        )


class DockerUnix(Docker):
    """Its pools of UNIX sockets in a class that inherits from ours."""

    package = "docker"
    title = "docker {}, UNIX socket"
    unix = True
    unsaved = FOREIGN_POOL

    def make(self, url: str, adapter: type[HTTPAdapter]) -> Any:
        docker = load("docker")
        client = docker.DockerClient(base_url=f"unix://{url}", version="1.44", timeout=LIMIT)
        theirs = load("docker.transport").UnixHTTPAdapter
        mixed = type("Mixed", (theirs, adapter), {})
        client.api.mount("http+docker://", mixed(f"http+unix://{url}", LIMIT))
        return client


class RequestsUnixsocket(Client):
    package = "requests-unixsocket"
    modules = ("requests_unixsocket",)
    unix = True
    unsaved = FOREIGN_POOL

    def make(self, url: str, adapter: type[HTTPAdapter]) -> Any:
        self.url = f"http+unix://{quote(url, safe='')}"
        unixsocket = load("requests_unixsocket")
        session = unixsocket.Session()
        session.mount("http+unix://", type("Mixed", (unixsocket.UnixAdapter, adapter), {})())
        return session

    def read(self, name: str) -> Any:
        return self.api.get(f"{self.url}/things?name={name}", timeout=LIMIT).text

    def write(self, name: str) -> Any:
        return self.api.post(f"{self.url}/things", json={"name": name}, timeout=LIMIT).text


class Databricks(Client):
    package = "databricks-sdk"
    modules = ("databricks.sdk", "databricks.sdk.core")
    bound = 6.0  # waits a second before it tries again

    def make(self, url: str, adapter: type[HTTPAdapter]) -> Any:
        config = load("databricks.sdk.core").Config(
            host=url,
            token="t",
            auth_type="pat",
            http_timeout_seconds=LIMIT,
            retry_timeout_seconds=3,
        )
        client = load("databricks.sdk").WorkspaceClient(config=config)
        mount(client.api_client._api_client._session, adapter)
        return client.api_client

    def read(self, name: str) -> Any:
        return self.api.do("GET", f"/api/2.0/things/{name}")

    def write(self, name: str) -> Any:
        return self.api.do("POST", "/api/2.0/things", body={"name": name})


class Msal(Client):
    package = "msal"
    modules = ("msal",)
    tls = True

    def make(self, url: str, adapter: type[HTTPAdapter]) -> Any:
        self.session = mount(requests.Session(), adapter)
        self.url = url
        return load("msal").ConfidentialClientApplication(
            "client",
            client_credential="secret",
            http_client=_WithTimeout(self.session),
            oidc_authority=f"{url}/issuer",
            exclude_scopes=["offline_access"],
        )

    def read(self, name: str) -> Any:
        return self.write(name)

    def write(self, name: str) -> Any:
        return self.api.acquire_token_for_client([name])

    def answer(self, request: Request) -> Reply:
        if request.method == "GET":
            issuer = f"https://{request.headers['host']}/issuer"
            names = ("token_endpoint", "authorization_endpoint", "device_authorization_endpoint")
            return json_reply({"issuer": issuer, **dict.fromkeys(names, f"{issuer}/token")})
        return json_reply(
            {"access_token": request.name, "token_type": "Bearer", "expires_in": 3600}
        )


class _WithTimeout:
    """The HTTP client that msal asks for: it sets a timeout only on a session of its own."""

    def __init__(self, session: requests.Session) -> None:
        self._session = session

    def get(self, url: str, **options: Any) -> requests.Response:
        return self._session.get(url, timeout=LIMIT, **options)

    def post(self, url: str, **options: Any) -> requests.Response:
        return self._session.post(url, timeout=LIMIT, **options)

    def close(self) -> None:
        self._session.close()


class Hvac(Client):
    package = "hvac"
    modules = ("hvac",)

    def make(self, url: str, adapter: type[HTTPAdapter]) -> Any:
        session = mount(requests.Session(), adapter)
        return load("hvac").Client(url, token="token", timeout=LIMIT, session=session)

    def read(self, name: str) -> Any:
        return self.api.secrets.kv.v1.read_secret(name)

    def write(self, name: str) -> Any:
        return self.api.secrets.transit.encrypt_data(name, base64.b64encode(b"text").decode())

    def answer(self, request: Request) -> Reply:
        return json_reply({"data": {"name": request.name}})


class Etcd(Client):
    package = "etcd3gw"
    modules = ("etcd3gw",)

    def make(self, url: str, adapter: type[HTTPAdapter]) -> Any:
        host, port = url.removeprefix("http://").split(":")
        session = mount(requests.Session(), adapter)
        return load("etcd3gw").client(host, int(port), timeout=LIMIT, session=session)

    def read(self, name: str) -> Any:
        return self.api.get(name)[0].decode()

    def write(self, name: str) -> Any:
        return name if self.api.put(name, "value") else "not put"

    def answer(self, request: Request) -> Reply:
        if request.path == "/version":
            return json_reply({"etcdserver": "3.6.0", "etcdcluster": "3.6.0"})
        key = json.loads(request.body)["key"]
        return json_reply({"header": {}, "kvs": [{"key": key, "value": key}], "count": "1"})
