"""The code of the documentation runs as it stands there.

The Python blocks of one page are run in order, in one namespace, where ``https://api.example.com``
is a FaultServer. A block after the comment ``<!-- not run: reason -->`` is only compiled. The
scripts in ``examples/`` are programs.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import requests

import resilient_requests
from resilient_requests.chat.dialects import DIALECTS
from resilient_requests.cli.demo._incidents import INCIDENTS
from resilient_requests.testing import FaultServer, ReceivedRequest, Reply, respond, sse

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES_WITH_CODE = [page for page in PAGES if "```python" in page.read_text("utf-8")]
SCRIPTS = sorted((ROOT / "examples").glob("*.py"))
BLOCK = re.compile(
    r"(?P<skip><!-- not run: [^>]+ -->\n+)?^```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)
HOST = "https://api.example.com"
COMMANDS = (
    "python3 -m venv .venv && .venv/bin/pip install '.[cli]' && .venv/bin/resilient-requests demo",
    "python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/pytest",
)


class Block(NamedTuple):
    """A Python block of a page, and the line of the page at which its code begins."""

    code: str
    line: int
    is_run: bool


def blocks_of(text: str) -> Iterator[Block]:
    """Yield the Python blocks of a page."""
    for match in BLOCK.finditer(text):
        yield Block(
            match["code"], text.count("\n", 0, match.start("code")) + 1, match["skip"] is None
        )


def api(request: ReceivedRequest) -> Reply:
    """Answer as the API in the documentation: a chat, events, lines, or the request as JSON."""
    if request.path.endswith("/chat/completions"):
        choice = {"index": 0, "delta": {"content": "Hello"}, "finish_reason": None}
        return sse(
            {"choices": [choice]}, {"choices": [{**choice, "delta": {}, "finish_reason": "stop"}]}
        )
    if request.path.endswith("/events"):
        return sse({"progress": 50}, {"progress": 100}, done=False)
    return respond(json.dumps({"path": request.path}), headers={"Content-Type": "application/json"})


NEEDS = {"observability.md": ("opentelemetry.sdk", "prometheus_client")}


@pytest.mark.parametrize("page", PAGES_WITH_CODE, ids=lambda page: page.name)
def test_the_blocks_of_a_page_run(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An example that is out of date costs its reader an afternoon."""
    for name in NEEDS.get(page.name, ()):
        pytest.importorskip(name, reason=f"needs {name}: pip install --group partners")
    blocks = list(blocks_of(page.read_text(encoding="utf-8")))
    namespace: dict[str, object] = {"__name__": page.stem}
    with FaultServer(default=api, tls=True) as server:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(server.ca_path))
        for block in blocks:
            source = "\n" * (block.line - 1) + block.code.replace(HOST, server.url)
            code = compile(source, str(page), "exec")  # the line in a traceback is that of the page
            if block.is_run:
                exec(code, namespace)
        for value in namespace.values():
            if hasattr(value, "mount"):
                value.close()  # type: ignore[attr-defined]  # only a Session has mount()


@pytest.mark.slow
def test_the_dialect_of_the_documentation_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its page shows a module and the tests of it: with the line in the registry they pass."""
    page = ROOT / "docs" / "chat.md"
    *_, module, tests = (
        block.code for block in blocks_of(page.read_text(encoding="utf-8")) if block.is_run
    )
    namespace: dict[str, Any] = {
        name: getattr(resilient_requests, name) for name in resilient_requests.__all__
    }
    namespace["requests"] = requests
    exec(compile(module + tests, str(page), "exec", dont_inherit=True), namespace)
    monkeypatch.setitem(DIALECTS, "acme", namespace["ACME"])
    found = [value for name, value in namespace.items() if name.startswith("test_")]
    for test in found:
        test()

    assert len(found) == 3


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_an_example_runs(script: Path) -> None:
    """Each is a program that states its result, and fails if the result is another."""
    runner = (
        ["-m", "pytest", "-q", "-p", "no:cacheprovider"]
        if "pytest_plugins" in script.read_text("utf-8")
        else []
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", *runner, str(script)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        cwd=script.parent,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_an_example_is_named_on_a_page(script: Path) -> None:
    """Otherwise nobody finds it."""
    assert any(f"examples/{script.name}" in page.read_text("utf-8") for page in PAGES)


def test_the_readme_begins_with_the_two_commands() -> None:
    """The checks of a clean clone run them by their places on the page."""
    blocks = re.findall(
        r"^```\w*\n(.*?)\n```$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL
    )

    assert tuple(blocks[:2]) == COMMANDS


def test_the_readme_leads_to_every_page() -> None:
    """For most readers it is the only table of contents that they see."""
    linked = LINK.findall((ROOT / "README.md").read_text("utf-8"))
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"index.md", "changelog.md"}

    assert pages == {Path(target).name for target in linked if target.startswith("docs/")}


def test_the_readme_shows_what_the_demonstration_plays() -> None:
    """Its table is a real one, pasted; a row that is new or has gone must be seen there too."""
    text = (ROOT / "README.md").read_text("utf-8")
    table = text[text.index("```text\n") : text.index("as promised\n```")]

    assert [line for line in table.splitlines() if line[:1].isupper()] == [
        incident.title for incident in INCIDENTS
    ]


LINK = re.compile(r"\[[^\]]+\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize(
    "page", [*PAGES, *ROOT.glob("[!R]*.md")], ids=lambda page: f"{page.parent.name}/{page.name}"
)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    """Sphinx checks the links of its own pages; nobody else checks those beside the README."""
    targets = [
        target for target in LINK.findall(page.read_text("utf-8")) if not target.startswith("{")
    ]

    assert [target for target in targets if not (page.parent / target).exists()] == []


FRAGMENT = re.compile(r"\[[^\]]+\]\((?!https?:)([^)#]*)#([^)]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def anchors_of(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as code hosts and Sphinx make them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    words = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in HEADING.findall(text)]
    return {each.replace(" ", "-") for each in words}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_headings(page: Path) -> None:
    """A heading is renamed sooner than a file."""
    found = FRAGMENT.findall(page.read_text("utf-8"))
    lost = [
        (target, anchor)
        for target, anchor in found
        if anchor not in anchors_of(page.parent / target if target else page)
    ]

    assert lost == []


def test_a_block_that_is_not_run_gives_its_reason() -> None:
    """The comment is for readers of the source, too."""
    text = "```python\na\n```\n\n<!-- not run: needs Celery -->\n```python\nb\n```\n"
    text += "<!-- not run -->\n```python\nc\n```\n"

    assert [(block.code, block.line, block.is_run) for block in blocks_of(text)] == [
        ("a\n", 2, True),
        ("b\n", 7, False),
        ("c\n", 11, True),
    ]


def test_the_reference_has_each_public_name() -> None:
    """Its groups are written by hand: a new name needs a place in one of them."""
    text = (ROOT / "docs" / "reference.md").read_text("utf-8")
    told = re.findall(r"^\.\. (?:auto|py:)\w+:: (\w+)$", text, re.MULTILINE)

    assert sorted(told) == sorted(resilient_requests.__all__)
