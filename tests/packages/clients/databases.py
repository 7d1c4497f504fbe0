"""Clients of databases, search engines and other stores that are asked for documents."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import requests

from packages.clients._client import LIMIT, Client, json_reply, load, mount
from packages.server import Reply

if TYPE_CHECKING:
    from requests.adapters import HTTPAdapter

    from packages.server import Request


class Trino(Client):
    package = "trino"
    modules = ("trino", "trino.dbapi")
    bound = 6.0  # three attempts

    def make(self, url: str, adapter: type[HTTPAdapter]) -> Any:
        host, port = url.removeprefix("http://").split(":")
        return load("trino.dbapi").connect(
            host=host,
            port=int(port),
            user="user",
            http_scheme="http",
            request_timeout=LIMIT,
            http_session=mount(requests.Session(), adapter),
        )

    def read(self, name: str) -> Any:
        cursor = self.api.cursor()
        cursor.execute(f"SELECT '{name}'")
        return cursor.fetchall()

    def write(self, name: str) -> Any:
        cursor = self.api.cursor()
        cursor.execute(f"INSERT INTO t VALUES ('{name}')")
        return cursor.fetchall()

    def answer(self, request: Request) -> Reply:
        signature = {"rawType": "varchar", "arguments": []}
        column = {"name": "a", "type": "varchar", "typeSignature": signature}
        stats = {"state": "FINISHED"}
        found = {"columns": [column], "data": [[request.name]], "stats": stats}
        return json_reply({"id": request.name, "infoUri": "", **found})


class Influx(Client):
    package = "influxdb"
    modules = ("influxdb",)
    bound = 6.0  # three attempts

    def make(self, url: str, adapter: type[HTTPAdapter]) -> Any:
        host, port = url.removeprefix("http://").split(":")
        client = load("influxdb").InfluxDBClient(host, int(port), database="d", timeout=LIMIT)
        mount(client._session, adapter)
        return client

    def read(self, name: str) -> Any:
        return self.api.query(f"SELECT * FROM {name}").raw

    def write(self, name: str) -> Any:
        self.api.write_points([{"measurement": name, "fields": {"value": 1}}])
        return name

    def answer(self, request: Request) -> Reply:
        if request.path == "/write":
            return Reply(b"", 204)
        series = {"name": request.name, "columns": ["value"], "values": [[1]]}
        return json_reply({"results": [{"series": [series]}]})


class Elasticsearch(Client):
    package = "elasticsearch"
    modules = ("elasticsearch",)
    bound = 6.0  # four attempts

    name = "Elasticsearch"

    def make(self, url: str, adapter: type[HTTPAdapter]) -> Any:
        module = load(self.modules[0])
        kind = module.RequestsHttpConnection
        client = getattr(module, self.name)([url], connection_class=kind, timeout=LIMIT)
        for connection in client.transport.connection_pool.connections:
            mount(connection.session, adapter)
        return client

    def read(self, name: str) -> Any:
        return self.api.get(index="index", id=name)

    def write(self, name: str) -> Any:
        return self.api.index(index="index", body={"name": name})

    def answer(self, request: Request) -> Reply:
        version = {"version": {"number": "7.17.13", "build_flavor": "default"}}
        found = {"_id": request.name, "tagline": "You Know, for Search", **version}
        types = {"Content-Type": "application/json", "X-Elastic-Product": "Elasticsearch"}
        return Reply(json.dumps(found).encode(), headers=types)


class Opensearch(Elasticsearch):
    package = "opensearch-py"
    modules = ("opensearchpy",)
    name = "OpenSearch"
