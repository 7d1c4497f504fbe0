"""Clients of Git hosts and trackers, and what other packages put around sessions."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import requests

from packages.clients._client import LIMIT, Client, json_reply, load, mount
from packages.faults import Fault

if TYPE_CHECKING:
    from requests.adapters import HTTPAdapter

    from packages.server import Reply, Request


class Github(Client):
    package = "PyGithub"
    modules = ("github",)
    bound = 6.0

    def make(self, url: str, adapter: type[HTTPAdapter]) -> Any:
        options = {"timeout": 1, "seconds_between_requests": None, "seconds_between_writes": None}
        github = load("github").Github(base_url=url, auth=None, **options)
        requester = github.requester
        requester._Requester__createConnection()
        mount(requester._Requester__connection.session, adapter)
        return github

    def read(self, name: str) -> Any:
        return self.api.get_user(name).login

    def write(self, name: str) -> Any:
        repository = self.api.get_repo("me/it", lazy=True)
        return repository.create_issue(name).title

    def answer(self, request: Request) -> Reply:
        url = f"http://{request.headers['host']}{request.path}"
        named = {"login": request.name, "title": request.name, "url": url}
        return json_reply(named, 201 if request.method == "POST" else 200)


class Gitlab(Client):
    package = "python-gitlab"
    modules = ("gitlab",)
    bound = 4.0

    def make(self, url: str, adapter: type[HTTPAdapter]) -> Any:
        session = mount(requests.Session(), adapter)
        return load("gitlab").Gitlab(url, private_token="t", timeout=LIMIT, session=session)

    def read(self, name: str) -> Any:
        return self.api.projects.get(name).name

    def write(self, name: str) -> Any:
        return self.api.projects.create({"name": name}).name

    def answer(self, request: Request) -> Reply:
        return json_reply({"id": 1, "name": request.name})


class Jira(Client):
    package = "jira"
    modules = ("jira",)
    bound = 8.0

    def make(self, url: str, adapter: type[HTTPAdapter]) -> Any:
        client = load("jira").JIRA(url, get_server_info=False, timeout=LIMIT, max_retries=1)
        client._session.max_retry_delay = 0.5
        mount(client._session, adapter)
        return client

    def read(self, name: str) -> Any:
        return self.api.issue(name).key

    def write(self, name: str) -> Any:
        fields = {"summary": name, "project": {"key": "IT"}, "issuetype": {"name": "Bug"}}
        return self.api.create_issue(fields, prefetch=False).key

    def answer(self, request: Request) -> Reply:
        fields = {"summary": request.name}
        return json_reply({"id": "1", "key": request.name, "self": "", "fields": fields})


class Atlassian(Client):
    package = "atlassian-python-api"
    modules = ("atlassian",)

    def make(self, url: str, adapter: type[HTTPAdapter]) -> Any:
        session = mount(requests.Session(), adapter)
        return load("atlassian").Confluence(url, token="t", timeout=1, session=session)

    def read(self, name: str) -> Any:
        return self.api.get(f"rest/api/content/{name}")

    def write(self, name: str) -> Any:
        return self.api.post("rest/api/content", data={"title": name})


class Futures(Client):
    package = "requests-futures"
    modules = ("requests_futures.sessions",)
    unsaved = MappingProxyType({Fault.FORK: "the threads of its pool do not exist in the child"})

    def make(self, url: str, adapter: type[HTTPAdapter]) -> Any:
        self.url = url
        session = mount(requests.Session(), adapter)
        return load("requests_futures.sessions").FuturesSession(session=session)

    def read(self, name: str) -> Any:
        return self.api.get(f"{self.url}/{name}", timeout=LIMIT).result().text

    def write(self, name: str) -> Any:
        return self.api.post(self.url, json={"name": name}, timeout=LIMIT).result().text


class Toolbelt(Client):
    """Its adapter for a source address in a class that inherits from ours."""

    package = "requests-toolbelt"
    modules = ("requests_toolbelt", "requests_toolbelt.adapters.source")
    unsaved = MappingProxyType({Fault.RESET: "its form is a body that can be sent once"})

    def make(self, url: str, adapter: type[HTTPAdapter]) -> Any:
        self.url = url
        theirs = load("requests_toolbelt.adapters.source").SourceAddressAdapter
        session = requests.Session()
        session.mount("http://", type("Mixed", (theirs, adapter), {})("127.0.0.1"))
        return session

    def read(self, name: str) -> Any:
        return self.api.get(f"{self.url}/{name}", timeout=LIMIT).text

    def write(self, name: str) -> Any:
        form = load("requests_toolbelt").MultipartEncoder({"name": name}, boundary="b")
        headers = {"Content-Type": form.content_type}
        return self.api.post(self.url, data=form, headers=headers, timeout=LIMIT).text
