"""Our adapter in the place of requests' own: its reach, and the state after its removal."""

from __future__ import annotations

import abc
import copy
import operator
import os
import pickle
import ssl
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import requests
import requests.adapters
import requests.sessions
import urllib3
import urllib3.util.ssl_
from children import child
from requests.adapters import HTTPAdapter

import resilient_requests
from resilient_requests import ResilientAdapter, RetryPolicy, Timeouts
from resilient_requests.adapter import _install
from resilient_requests.testing import FaultServer, ReceivedRequest, Reply, reset, respond, stream
from resilient_requests.transport import _generations
from resilient_requests.transport.dial import TLSContexts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Install = Callable[..., None]

PLAIN = HTTPAdapter
SESSIONS: Any = requests.sessions  # its types do not show the name that is replaced


@pytest.fixture
def install() -> Iterator[Install]:
    """Installs; the end of the test undoes it."""
    yield resilient_requests.install
    resilient_requests.uninstall()
    assert requests.adapters.HTTPAdapter is SESSIONS.HTTPAdapter is PLAIN


def adapter_of(session: requests.Session) -> ResilientAdapter:
    """The adapter of a session, which must be ours."""
    found = session.get_adapter("https://api.example.com")
    assert isinstance(found, ResilientAdapter)
    return found


def forgetful(server: FaultServer) -> FaultServer:
    """Reset, unread, every request on a used connection."""

    def answer(request: ReceivedRequest) -> Reply:
        is_first = server.connections[request.connection - 1].requests == 1
        return respond(b"ok") if is_first else reset(applies=False)

    server.default = answer
    return server


# -- whom it reaches -------------------------------------------------------------------------------


def test_a_session_made_after_it_survives_a_stale_connection(
    server: FaultServer, install: Install
) -> None:
    """A session of which nobody knows more than that requests has made it."""
    forgetful(server)
    install()
    with requests.Session() as session:
        session.verify = server.ca_path or True
        answers = [session.post(server.url, data=b"question").content for _ in range(4)]

    assert answers == [b"ok"] * 4
    assert server.applied == 4


def test_an_unbound_function_goes_through_it(server: FaultServer, install: Install) -> None:
    """``requests.get`` and its kin have no session that anybody could reach."""
    install()
    response: Any = requests.get(server.url, verify=server.ca_path or True)

    assert [each.status for each in response.attempts] == [200]


def test_a_stream_outlives_the_session_of_its_function(
    server: FaultServer, install: Install
) -> None:
    """``requests.get`` closes its session before anybody reads."""
    server.default = stream([b"one\n", b"two\n"])
    install()
    with requests.get(server.url, verify=server.ca_path or True, stream=True) as response:
        assert list(response.iter_lines()) == [b"one", b"two"]


def test_a_session_made_before_it_stays_as_it_is(install: Install) -> None:
    """Nobody's adapter is replaced while it is in use."""
    with requests.Session() as session:
        install()

        assert type(session.get_adapter("https://")) is PLAIN


def test_a_class_derived_after_it_is_ours(fault_server: FaultServer, install: Install) -> None:
    """Packages have adapters of their own for https, and mount them over requests'."""
    install()

    class Theirs(requests.adapters.HTTPAdapter):
        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            super().init_poolmanager(*args, **kwargs, source_address=("127.0.0.1", 0))

    forgetful(fault_server)
    with requests.Session() as session:
        session.mount("http://", Theirs())
        answers = [session.post(fault_server.url, data=b"x").content for _ in range(3)]

    assert answers == [b"ok"] * 3


def test_a_class_derived_after_it_may_be_abstract(install: Install) -> None:
    """No other metaclass stands in its way but one that ABC could not be mixed with either."""
    install()

    class Theirs(requests.adapters.HTTPAdapter, abc.ABC):
        @abc.abstractmethod
        def needed(self) -> None: ...

    with pytest.raises(TypeError, match="needed"):
        Theirs()  # type: ignore[abstract]


def test_whatever_was_an_http_adapter_still_is_one(install: Install) -> None:
    """Code looks before it mounts, copies or patches an adapter."""

    class Before(HTTPAdapter):
        pass

    install()

    class After(requests.adapters.HTTPAdapter):
        pass

    now = requests.adapters.HTTPAdapter
    assert all(isinstance(each(), now) for each in (PLAIN, Before, After, ResilientAdapter))
    assert all(issubclass(each, now) for each in (PLAIN, Before, After, ResilientAdapter))
    assert not isinstance(requests.Session(), now)
    assert not isinstance(PLAIN(), After)


class ByName(HTTPAdapter):
    """A class made before, which calls its base by a name that is looked up each time."""

    def __init__(self, **options: Any) -> None:
        requests.adapters.HTTPAdapter.__init__(self, **options)

    def __getstate__(self) -> Any:
        return requests.adapters.HTTPAdapter.__getstate__(self)

    def __setstate__(self, state: Any) -> None:
        requests.adapters.HTTPAdapter.__setstate__(self, state)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        requests.adapters.HTTPAdapter.init_poolmanager(self, *args, **kwargs)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        return requests.adapters.HTTPAdapter.proxy_manager_for(self, *args, **kwargs)

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        base = requests.adapters.HTTPAdapter
        return base.get_connection_with_tls_context(self, *args, **kwargs)

    def build_response(self, *args: Any, **kwargs: Any) -> requests.Response:
        return requests.adapters.HTTPAdapter.build_response(self, *args, **kwargs)

    def request_url(self, *args: Any, **kwargs: Any) -> str:
        return requests.adapters.HTTPAdapter.request_url(self, *args, **kwargs)

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        return requests.adapters.HTTPAdapter.send(self, *args, **kwargs)

    def close(self) -> None:
        requests.adapters.HTTPAdapter.close(self)


def test_a_class_made_before_may_call_its_base_by_name(
    fault_server: FaultServer, install: Install
) -> None:
    """``requests.adapters.HTTPAdapter.__init__(self)`` is widespread, in old code above all."""
    install()
    adapter = pickle.loads(pickle.dumps(ByName(pool_maxsize=3)))
    with requests.Session() as session:
        session.mount("http://", adapter)
        assert session.get(fault_server.url).content == b"ok"
        proxies = {"http": fault_server.url}  # a proxy that answers by itself
        assert session.get("http://elsewhere.example", proxies=proxies).content == b"ok"

    assert adapter._pool_maxsize == 3
    assert type(adapter).__mro__[1] is PLAIN


def test_each_method_of_ours_may_be_called_by_name() -> None:
    """A new one that is missing from the list would be handed an adapter that is not ours."""
    overridden = {
        name
        for name, value in vars(HTTPAdapter).items()
        if callable(value) and getattr(ResilientAdapter, name) is not value
    }

    assert overridden == set(_install._METHODS)


# -- arguments -------------------------------------------------------------------------------------


def test_the_arguments_are_those_of_every_adapter(install: Install) -> None:
    """Those of sessions, and those of classes that other packages derive."""
    install(keepalive=5.0, timeouts=Timeouts(idle=7.0), pool_maxsize=3)

    class Theirs(requests.adapters.HTTPAdapter):
        pass

    with requests.Session() as session:
        for adapter in (adapter_of(session), Theirs()):
            assert isinstance(adapter, ResilientAdapter)
            assert adapter.keepalive.expiry == 5.0
            assert adapter.timeouts.idle == 7.0
            assert adapter._pool_maxsize == 3


def test_an_argument_that_is_given_wins(install: Install) -> None:
    """Those of `install` are only the defaults."""
    install(pool_maxsize=3, pool_connections=4, max_retries=1)
    adapter: Any = requests.adapters.HTTPAdapter(5, 6, 7, True)

    assert (adapter._pool_connections, adapter._pool_maxsize) == (5, 6)
    assert (adapter.retry_policy.max_retries, adapter._pool_block) == (7, True)


@pytest.mark.parametrize(
    "given",
    [0, False, urllib3.Retry(0), urllib3.Retry(0, read=False), urllib3.Retry(total=False)],
    ids=repr,
)
def test_the_default_of_requests_counts_as_not_given(install: Install, given: Any) -> None:
    """Classes pass it on, and copy it from other adapters: they do not ask for no recovery."""
    install(pool_connections=3, pool_maxsize=4, max_retries=1, pool_block=True)
    adapter: Any = requests.adapters.HTTPAdapter(10, 10, given, False)

    assert (adapter._pool_connections, adapter._pool_maxsize) == (3, 4)
    assert (adapter.retry_policy, adapter._pool_block) == (RetryPolicy(max_retries=1), True)


class Number:
    """A number as numpy has it."""

    def __index__(self) -> int:
        return 4

    def __repr__(self) -> str:
        return "Number"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"max_retries": None}, ("retry_policy.max_retries", 3)),
        ({"max_retries": 2.0}, ("retry_policy.max_retries", 2)),
        ({"max_retries": urllib3.Retry(5)}, ("retry_policy.max_retries", 5)),
        ({"max_retries": urllib3.Retry(None, connect=2)}, ("retry_policy.max_retries", 2)),
        ({"max_retries": RetryPolicy(max_retries=6)}, ("retry_policy.max_retries", 6)),
        ({"pool_block": 1}, ("_pool_block", True)),
        ({"pool_maxsize": Number()}, ("_pool_maxsize", 4)),
        ({"pool_maxsize": -1}, ("_pool_maxsize", 0)),
    ],
    ids=str,
)
def test_what_requests_takes_is_taken(install: Install, given: Any, kept: tuple[str, Any]) -> None:
    """Nobody wrote that code for ours: an argument that was fine before must not be an error."""
    plain = HTTPAdapter(**given)
    install()
    ours = requests.adapters.HTTPAdapter(**given)

    assert isinstance(plain, HTTPAdapter)
    name, value = kept
    assert operator.attrgetter(name)(ours) == value


def test_a_policy_is_copied_from_one_adapter_to_the_next(install: Install) -> None:
    """An example is google-auth, which mounts an adapter of its own."""
    install(max_retries=4)
    with requests.Session() as session:
        copied: Any = requests.adapters.HTTPAdapter(max_retries=adapter_of(session).max_retries)

    assert copied.retry_policy.max_retries == 4


def test_an_observer_sees_the_events_of_all_adapters(
    fault_server: FaultServer, install: Install
) -> None:
    """A generator of observers serves more than the first adapter."""
    events: list[Any] = []
    install(observers=(each for each in [events.append]))
    for _ in range(2):
        requests.get(fault_server.url)

    assert [type(each).__name__ for each in events].count("AttemptSucceeded") == 2


@pytest.mark.parametrize(
    "wrong", [{"keepalive": "soon"}, {"observers": 1}, {"max_retries": -1}, {"unheard_of": 1}]
)
def test_a_wrong_argument_installs_nothing(wrong: dict[str, Any]) -> None:
    """Its error comes here, and not out of some session that somebody makes later."""
    with pytest.raises((TypeError, ValueError), match=next(iter(wrong))):
        resilient_requests.install(**wrong)

    assert requests.adapters.HTTPAdapter is SESSIONS.HTTPAdapter is PLAIN


def test_it_may_be_called_again(install: Install) -> None:
    """The last arguments count, and one `uninstall` is enough."""
    install(keepalive=5.0)
    first = requests.adapters.HTTPAdapter
    install(keepalive=6.0)

    assert requests.adapters.HTTPAdapter is first
    with requests.Session() as session:
        assert adapter_of(session).keepalive.expiry == 6.0


def test_the_kill_switch_switches_it_off(
    fault_server: FaultServer, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator must not need a release for that."""
    monkeypatch.setenv("RESILIENT_REQUESTS_DISABLE", "1")
    install()
    response = requests.get(fault_server.url)

    assert response.content == b"ok"
    assert not hasattr(response, "attempts")


# -- the state afterwards --------------------------------------------------------------------------


def snapshot() -> dict[str, Any]:
    """Every attribute of the modules of requests and urllib3, and of requests' classes."""
    modules = {
        name: module
        for name, module in sys.modules.items()
        if name.partition(".")[0] in ("requests", "urllib3", "http", "ssl", "socket")
    }
    owners = {**modules, "HTTPAdapter": HTTPAdapter, "Session": requests.Session}
    return {
        f"{owner}.{name}": value
        for owner, found in owners.items()
        for name, value in vars(found).items()
        if not name.startswith("_abc")
    }


def test_uninstalling_leaves_no_trace(fault_server: FaultServer) -> None:
    """No attribute of the modules and classes that it touches keeps one."""
    before = snapshot()
    resilient_requests.install(keepalive=5.0)
    type("Theirs", (requests.adapters.HTTPAdapter,), {})
    requests.get(fault_server.url)
    during = snapshot()
    resilient_requests.uninstall()
    after = snapshot()

    changed = {name for name in during if during[name] is not before.get(name)}
    assert changed == {"requests.adapters.HTTPAdapter", "requests.sessions.HTTPAdapter"}
    assert {name for name in after if after[name] is not before.get(name)} == set()
    assert set(after) == set(before)


def test_uninstalling_twice_is_harmless(install: Install) -> None:
    """It is harmless without an installation, too."""
    resilient_requests.uninstall()
    install()
    resilient_requests.uninstall()
    resilient_requests.uninstall()

    with requests.Session() as session:
        assert type(session.get_adapter("http://")) is PLAIN


def test_uninstalling_leaves_others_alone(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library that has replaced the class after us would lose its own."""

    class Theirs(HTTPAdapter):
        pass

    with monkeypatch.context() as patch:
        install()
        patch.setattr(SESSIONS, "HTTPAdapter", Theirs)
        resilient_requests.uninstall()

        assert SESSIONS.HTTPAdapter is Theirs
        assert requests.adapters.HTTPAdapter is PLAIN
        resilient_requests.uninstall()
    SESSIONS.HTTPAdapter = PLAIN


def test_uninstalling_gives_others_their_class_back(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library that has replaced the class before us has it again."""

    class Theirs(HTTPAdapter):
        pass

    with monkeypatch.context() as patch:
        patch.setattr(SESSIONS, "HTTPAdapter", Theirs)
        install()
        assert isinstance(requests.Session().get_adapter("http://"), ResilientAdapter)
        resilient_requests.uninstall()

        assert SESSIONS.HTTPAdapter is Theirs


def test_sessions_and_classes_made_meanwhile_go_on(
    fault_server: FaultServer, install: Install
) -> None:
    """They stay ours: nobody's session breaks in the middle of its work."""
    install(keepalive=5.0)

    class Theirs(requests.adapters.HTTPAdapter):
        pass

    forgetful(fault_server)
    with requests.Session() as session:
        session.get(fault_server.url)
        resilient_requests.uninstall()
        session.mount("http://127.0.0.1", theirs := Theirs())
        answers = [session.post(fault_server.url, data=b"x").content for _ in range(3)]

    assert answers == [b"ok"] * 3
    assert isinstance(theirs, ResilientAdapter)
    assert theirs.keepalive.expiry == 5.0


def test_a_class_made_meanwhile_may_call_its_base_by_name_afterwards(
    fault_server: FaultServer, install: Install
) -> None:
    """The name means requests' own again; a call through such an adapter is a plain one."""
    install()
    methods = {name: value for name, value in vars(ByName).items() if callable(value)}
    meanwhile: Any = type("Meanwhile", (requests.adapters.HTTPAdapter,), methods)
    resilient_requests.uninstall()
    with requests.Session() as session:
        session.mount("http://", meanwhile())

        assert session.get(fault_server.url).content == b"ok"


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_a_copy_of_a_session_is_ours(
    fault_server: FaultServer, install: Install, copied: Callable[[Any], Any]
) -> None:
    """It has the settings of its original, even after the package was uninstalled."""
    install(keepalive=5.0)
    with requests.Session() as session:
        resilient_requests.uninstall()
        with copied(session) as other:
            assert other.get(fault_server.url).content == b"ok"
            assert adapter_of(other).keepalive.expiry == 5.0


def test_a_pickled_session_is_ours_in_another_process(
    fault_server: FaultServer, install: Install
) -> None:
    """Queues hand sessions to workers in which nobody has installed anything."""
    install(keepalive=5.0)
    with requests.Session() as session:
        pickled = pickle.dumps(session)
    code = (
        "import pickle, sys; session = pickle.loads(bytes.fromhex(sys.argv[1]))\n"
        "print(session.get(sys.argv[2]).text, session.get_adapter('http://').keepalive.expiry)"
    )
    command = [sys.executable, "-W", "error", "-c", code, pickled.hex(), fault_server.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=40, check=True)

    assert done.stdout == "ok 5.0\n"


# -- TLS contexts ----------------------------------------------------------------------------------


@pytest.fixture
def bundles(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The CA bundles that were loaded, by anybody."""
    seen: list[Any] = []

    class Counting(ssl.SSLContext):
        def load_verify_locations(self, cafile: Any = None, *args: Any, **kwargs: Any) -> None:
            seen.append(cafile)
            super().load_verify_locations(cafile, *args, **kwargs)

    monkeypatch.setattr(urllib3.util.ssl_, "SSLContext", Counting)
    monkeypatch.setattr(_generations, "SHARED_CONTEXTS", TLSContexts())
    return seen


def test_a_loop_of_functions_loads_the_bundle_once(
    fault_server_tls: FaultServer, install: Install, bundles: list[Any]
) -> None:
    """Plain requests loads it for each: some thirty times the work of the handshake."""
    for _ in range(3):
        requests.get(fault_server_tls.url, verify=fault_server_tls.ca_path)
    plain = len(bundles)
    install()
    for _ in range(10):
        requests.get(fault_server_tls.url, verify=fault_server_tls.ca_path)

    assert (plain, len(bundles) - plain) == (3, 1)


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
def test_a_loop_of_functions_verifies_what_it_is_told_to(
    fault_server_tls: FaultServer, install: Install, bundles: list[Any]
) -> None:
    """An earlier call may have accepted anything."""
    install()
    for _ in range(2):
        requests.get(fault_server_tls.url, verify=False)
        with pytest.raises(requests.exceptions.SSLError):
            requests.get(fault_server_tls.url)
        requests.get(fault_server_tls.url, verify=fault_server_tls.ca_path)

    assert bundles.count(fault_server_tls.ca_path) == 1
    assert len(bundles) <= 2  # an older requests has loaded its own at its import


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform cannot fork")
def test_a_forked_child_goes_on_with_the_contexts(
    fault_server_tls: FaultServer, install: Install, bundles: list[Any]
) -> None:
    """Both processes go on at once, and load nothing again."""
    install()

    def call() -> None:
        for _ in range(5):
            answer = requests.get(fault_server_tls.url, verify=fault_server_tls.ca_path)
            assert answer.content == b"ok"
        assert len(bundles) == 1

    call()
    with child(call):
        call()
