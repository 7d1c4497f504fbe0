"""Call tools of an MCP server over the same adapter.

The transport is streamable HTTP. The server chooses between JSON and an event stream.

    python mcp_call.py
"""

from __future__ import annotations

import itertools
import json
from typing import Any

import requests

from resilient_requests import ResilientAdapter, StreamTruncated, iter_events
from resilient_requests.testing import FaultServer, ReceivedRequest, Reply, respond, sse


class MCP:
    """One session with an MCP server; used by one thread."""

    def __init__(self, session: requests.Session, url: str) -> None:
        self._session = session
        self._url = url
        self._numbers = itertools.count(1)
        self._headers = {"Accept": "application/json, text/event-stream"}

    def initialize(self) -> None:
        """Begin."""
        client = {"name": "example", "version": "1"}
        wanted = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client}
        self._headers["MCP-Protocol-Version"] = self.call("initialize", **wanted)["protocolVersion"]
        self._post({"method": "notifications/initialized"}).close()

    def call(self, method: str, **params: Any) -> Any:
        """Return the result of a method. Raises RuntimeError for an error of the server's."""
        number = next(self._numbers)
        with self._post({"id": number, "method": method, "params": params}) as response:
            answer = _answer(response, number)
        if "error" in answer:
            raise RuntimeError(answer["error"].get("message"))
        return answer["result"]

    def _post(self, message: dict[str, Any]) -> requests.Response:
        body = {"jsonrpc": "2.0", **message}
        response = self._session.post(self._url, json=body, headers=self._headers, stream=True)
        response.raise_for_status()
        if "Mcp-Session-Id" in response.headers:
            self._headers["Mcp-Session-Id"] = response.headers["Mcp-Session-Id"]
        return response


def _answer(response: requests.Response, number: int) -> Any:
    if response.headers.get("Content-Type", "").startswith("application/json"):
        return response.json()
    with iter_events(response, idle_timeout=60) as events:
        for event in events:
            message = event.json()
            if "method" not in message and message.get("id") == number:
                return message
            print("meanwhile:", message.get("method"), message.get("params"))
    raise StreamTruncated("the stream ended without the answer")


def tool_server(request: ReceivedRequest) -> Reply:
    """Answer as an MCP server would."""
    message = json.loads(request.body)
    if "id" not in message:
        return respond(status=202)
    answer: dict[str, Any] = {"jsonrpc": "2.0", "id": message["id"]}
    if message["method"] == "initialize":
        answer["result"] = {
            "protocolVersion": message["params"]["protocolVersion"],
            "capabilities": {"tools": {}},
        }
        headers = {"Content-Type": "application/json", "Mcp-Session-Id": "s-1"}
        return respond(json.dumps(answer), headers=headers)
    if message["params"]["name"] != "add":
        return sse({**answer, "error": {"code": -32602, "message": "no such tool"}}, done=False)
    total = sum(message["params"]["arguments"].values())
    answer["result"] = {"content": [{"type": "text", "text": str(total)}]}
    progress = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": 50}}
    return sse(progress, 0.1, answer, done=False)


if __name__ == "__main__":
    with FaultServer(default=tool_server) as server, requests.Session() as session:
        # Few MCP servers know Idempotency-Key. Without a key, a call that the server may have
        # executed is not sent again.
        session.mount("http://", ResilientAdapter(idempotency_keys=False))
        mcp = MCP(session, f"{server.url}/mcp")
        mcp.initialize()

        result = mcp.call("tools/call", name="add", arguments={"a": 1, "b": 2})
        print("3 =", result["content"][0]["text"])
        assert result["content"][0]["text"] == "3"
        assert server.requests[-1].header("Mcp-Session-Id") == "s-1"

        try:
            mcp.call("tools/call", name="divide", arguments={})
        except RuntimeError as error:
            print("error:", error)
        else:
            raise SystemExit("there is no such tool")
