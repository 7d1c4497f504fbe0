"""Clients of Solr, Salesforce, GraphQL, SOAP and JSON-RPC."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests

from packages.clients._client import LIMIT, Client, json_reply, load, mount
from packages.server import Reply

if TYPE_CHECKING:
    from requests.adapters import HTTPAdapter

    from packages.server import Request


class Solr(Client):
    package = "pysolr"
    modules = ("pysolr",)

    def make(self, url: str, adapter: type[HTTPAdapter]) -> Any:
        session = mount(requests.Session(), adapter)
        return load("pysolr").Solr(f"{url}/solr/core", timeout=LIMIT, session=session)

    def read(self, name: str) -> Any:
        return list(self.api.search(name))

    def write(self, name: str) -> Any:
        return self.api.add([{"id": name}], commit=True)

    def answer(self, request: Request) -> Reply:
        return json_reply({"response": {"numFound": 1, "docs": [{"id": request.name}]}})


class Salesforce(Client):
    package = "simple-salesforce"
    modules = ("simple_salesforce",)
    tls = True

    def make(self, url: str, adapter: type[HTTPAdapter]) -> Any:
        session = mount(requests.Session(), adapter)
        client = load("simple_salesforce").Salesforce
        return client(instance_url=url, session_id="id", session=session).Contact

    def read(self, name: str) -> Any:
        return self.api.get(name)

    def write(self, name: str) -> Any:
        return self.api.create({"LastName": name})


GREET = "query greet($name: String!) { greet(name: $name) }"


class Gql(Client):
    package = "gql"
    modules = ("gql", "gql.transport.requests")

    def make(self, url: str, adapter: type[HTTPAdapter]) -> Any:
        transport = load("gql.transport.requests").RequestsHTTPTransport(
            f"{url}/graphql", timeout=1
        )
        transport.connect()
        mount(transport.session, adapter)
        return transport

    def read(self, name: str) -> Any:
        gql = load("gql")
        request = gql.GraphQLRequest(gql.gql(GREET), variable_values={"name": name})
        return self.api.execute(request).data

    def write(self, name: str) -> Any:
        gql = load("gql")
        mutation = gql.gql(GREET.replace("query", "mutation"))
        return self.api.execute(gql.GraphQLRequest(mutation, variable_values={"name": name})).data

    def answer(self, request: Request) -> Reply:
        return json_reply({"data": {"greet": request.name}})


WSDL = """<definitions xmlns="http://schemas.xmlsoap.org/wsdl/" xmlns:t="urn:t"
 targetNamespace="urn:t"
 xmlns:soap="http://schemas.xmlsoap.org/wsdl/soap/"
 xmlns:xsd="http://www.w3.org/2001/XMLSchema">
<message name="in"><part name="name" type="xsd:string"/></message>
<message name="out"><part name="return" type="xsd:string"/></message>
<portType name="port"><operation name="greet"><input message="t:in"/><output message="t:out"/>
</operation></portType>
<binding name="binding" type="t:port">
<soap:binding style="rpc" transport="http://schemas.xmlsoap.org/soap/http"/>
<operation name="greet"><soap:operation soapAction="greet"/>
<input><soap:body use="literal" namespace="urn:t"/></input>
<output><soap:body use="literal" namespace="urn:t"/></output></operation></binding>
<service name="service"><port name="port" binding="t:binding"><soap:address location="URL"/></port>
</service></definitions>"""
GREETED = """<soap:Envelope xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/"><soap:Body>
<t:greetResponse xmlns:t="urn:t"><return>NAME</return></t:greetResponse>
</soap:Body></soap:Envelope>"""


class Zeep(Client):
    package = "zeep"
    modules = ("zeep",)

    def make(self, url: str, adapter: type[HTTPAdapter]) -> Any:
        zeep = load("zeep")
        session = mount(requests.Session(), adapter)
        transport = zeep.Transport(session=session, operation_timeout=LIMIT)
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, "service.wsdl")
            path.write_text(WSDL.replace("URL", url), encoding="utf-8")
            return zeep.Client(str(path), transport=transport).service

    def read(self, name: str) -> Any:
        return self.api.greet(name)

    def write(self, name: str) -> Any:
        return self.api.greet(name)

    def answer(self, request: Request) -> Reply:
        return Reply(
            GREETED.replace("NAME", request.name).encode(), headers={"Content-Type": "text/xml"}
        )


class Web3(Client):
    package = "web3"
    modules = ("web3",)
    bound = 8.0  # five attempts

    def make(self, url: str, adapter: type[HTTPAdapter]) -> Any:
        session = mount(requests.Session(), adapter)
        options = {"timeout": LIMIT}
        provider = load("web3").HTTPProvider(url, request_kwargs=options, session=session)
        return load("web3").Web3(provider)

    def read(self, name: str) -> Any:
        return self.api.provider.make_request("eth_getBalance", [name, "latest"])

    def write(self, name: str) -> Any:
        return self.api.provider.make_request("eth_sendRawTransaction", [name])

    def answer(self, request: Request) -> Reply:
        number = json.loads(request.body)["id"]
        return json_reply({"jsonrpc": "2.0", "id": number, "result": request.name})
