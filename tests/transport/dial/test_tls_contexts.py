"""TLS contexts are shared by equal settings, and by nothing else."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
import ssl
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
import trustme
import urllib3
import urllib3.util.ssl_
from clients import attempts_of
from cryptography.hazmat.primitives import serialization
from fake_clock import FakeClock, adapter_of, in_threads, mounted

from resilient_requests import ResilientAdapter, RetryPolicy
from resilient_requests.testing import FaultServer, respond
from resilient_requests.transport import _generations
from resilient_requests.transport.dial import TLSContexts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Mount = Callable[..., requests.Session]

# The effects of verify=False are the point of these tests.
unverified = pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")


@pytest.fixture(autouse=True)
def contexts(monkeypatch: pytest.MonkeyPatch) -> Iterator[TLSContexts]:
    """Those of the adapters that a test makes, which share them with no other test."""
    made = TLSContexts()
    monkeypatch.setattr(_generations, "SHARED_CONTEXTS", made)
    yield made
    made._contexts.clear()  # one of them may hold a log of keys open


@pytest.fixture
def mount() -> Iterator[Mount]:
    """Makes sessions that never reuse a connection, closed after the test."""
    with contextlib.ExitStack() as stack:
        yield lambda **options: stack.enter_context(
            mounted(**{"keepalive": 0.0, "max_retries": 0, **options})
        )


class Loads:
    """Every context made, and every bundle and certificate that was read into one."""

    def __init__(self) -> None:
        self.contexts = 0
        self.bundles: list[str | None] = []
        self.chains = 0
        self.defaults = 0


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Loads:
    """Counts in the class that urllib3 makes contexts from."""
    seen = Loads()

    class Counting(ssl.SSLContext):
        def __new__(cls, *args: Any, **kwargs: Any) -> Counting:  # noqa: PYI034 - ssl's own form
            seen.contexts += 1
            return super().__new__(cls, *args, **kwargs)

        def load_verify_locations(
            self, cafile: Any = None, capath: Any = None, cadata: Any = None
        ) -> None:
            seen.bundles.append(cafile or capath)
            super().load_verify_locations(cafile, capath, cadata)

        def load_cert_chain(self, *args: Any, **kwargs: Any) -> None:
            seen.chains += 1
            super().load_cert_chain(*args, **kwargs)

        def load_default_certs(self, *args: Any, **kwargs: Any) -> None:
            seen.defaults += 1
            super().load_default_certs(*args, **kwargs)

    monkeypatch.setattr(urllib3.util.ssl_, "SSLContext", Counting)
    return seen


@pytest.fixture
def server(fault_server_tls: FaultServer) -> FaultServer:
    """A server whose certificate its own CA has signed."""
    assert fault_server_tls.ca_path is not None
    return fault_server_tls


def ca(server: FaultServer) -> str:
    """The file that vouches for a server."""
    assert server.ca_path is not None
    return server.ca_path


# -- one context per settings


def test_twenty_connections_load_the_bundle_once(
    server: FaultServer, mount: Mount, loads: Loads
) -> None:
    """Loading it costs 33 ms of CPU, the handshake 1; plain requests pays for both, each time."""
    session = mount()
    for _ in range(20):
        session.get(server.url, verify=ca(server))

    assert server.accepted == 20
    assert (loads.contexts, loads.bundles) == (1, [ca(server)])


def test_all_origins_share_what_is_the_same(
    fault_server_factory: Callable[..., FaultServer], mount: Mount, loads: Loads
) -> None:
    """The settings decide, not the pool."""
    servers = [fault_server_factory(tls=True) for _ in range(3)]
    session = mount()
    for server in servers:
        session.get(server.url, verify=ca(servers[0]))

    assert loads.bundles == [ca(servers[0])]


def test_threads_that_dial_together_share_one(
    server: FaultServer, mount: Mount, loads: Loads
) -> None:
    """Any of them may be first, and two may have begun to build one."""
    session = mount()
    with in_threads(
        8, lambda _: [session.get(server.url, verify=ca(server)) for _ in range(4)]
    ) as errors:
        pass

    assert errors == []
    assert len(adapter_of(session)._state.tls._contexts) == 1
    assert len(loads.bundles) <= 8


def test_adapters_share_contexts(server: FaultServer, mount: Mount, loads: Loads) -> None:
    """Each ``requests.get()`` makes a session, and so an adapter, of its own."""
    for session in (mount(), mount()):
        assert session.get(server.url, verify=ca(server)).content == b"ok"

    assert len(loads.bundles) == 1


@unverified
def test_adapters_share_no_context_of_another_verification(
    server: FaultServer, mount: Mount, loads: Loads
) -> None:
    """One adapter accepts a certificate unseen, and the other still refuses it."""
    assert mount().get(server.url, verify=False).content == b"ok"
    with pytest.raises(requests.exceptions.SSLError):
        mount().get(server.url, verify=True)
    assert mount().get(server.url, verify=ca(server)).content == b"ok"
    assert mount().get(server.url, verify=False).content == b"ok"

    assert loads.contexts == 3


@pytest.mark.parametrize("variable", ["SSLKEYLOGFILE", "SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_a_variable_that_openssl_reads_makes_a_context_of_its_own(
    server: FaultServer, mount: Mount, loads: Loads, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """Somebody may set one after the first call of the process, as for plain requests."""
    mount().get(server.url, verify=ca(server))
    monkeypatch.setenv(variable, os.devnull)
    mount().get(server.url, verify=ca(server))

    assert loads.contexts == 2


def test_a_replaced_class_makes_contexts_of_its_own(
    server: FaultServer, mount: Mount, loads: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Truststore replaces it, and puts it back."""
    mount().get(server.url, verify=ca(server))
    with monkeypatch.context() as patch:
        patch.setattr(urllib3.util.ssl_, "SSLContext", ssl.SSLContext)
        mount().get(server.url, verify=ca(server))
    mount().get(server.url, verify=ca(server))

    assert loads.contexts == 1


@unverified
def test_verification_modes_do_not_mix(server: FaultServer, mount: Mount, loads: Loads) -> None:
    """Each call gets its own verification, with and without it, in any order."""
    session = mount()
    for _ in range(2):
        assert session.get(server.url, verify=ca(server)).content == b"ok"
        assert session.get(server.url, verify=False).content == b"ok"
        with pytest.raises(requests.exceptions.SSLError):
            session.get(server.url, verify=True)

    assert loads.bundles.count(ca(server)) == 1
    known = adapter_of(session)._state.tls._contexts.values()
    modes = [context.verify_mode for context, _ in known]
    assert sorted(modes) == [ssl.CERT_NONE, ssl.CERT_REQUIRED, ssl.CERT_REQUIRED]


@unverified
def test_an_unverified_context_loads_nothing(
    server: FaultServer, mount: Mount, loads: Loads
) -> None:
    """There is nothing to compare with."""
    mount().get(server.url, verify=False)

    assert (loads.bundles, loads.defaults) == ([], 0)


def test_the_host_name_is_checked(mount: Mount, tmp_path: Path) -> None:
    """A shared context must not lose that check, for any first connection."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with contextlib.closing(Strict(authority, "elsewhere.example", wants=ssl.CERT_NONE)) as server:
        with pytest.raises(requests.exceptions.SSLError, match=r"(?i)match|not valid") as failure:
            mount().get(server.url, verify=str(tmp_path / "ca.pem"))

        assert len(attempts_of(failure.value)) == 1


@pytest.mark.parametrize("form", [str, Path, os.fsencode])
def test_verify_may_be_a_path_of_any_type(
    mount: Mount, server: FaultServer, form: Callable[[str], Any]
) -> None:
    """The ssl module, to which requests hands the path, accepts all types."""
    session = mount()

    assert session.get(server.url, verify=form(ca(server))).content == b"ok"
    with pytest.raises(requests.exceptions.SSLError):
        session.get(server.url, verify=True)


@unverified
@pytest.mark.parametrize("verify", [False, 0, None, ""])
def test_a_connection_that_was_not_verified_serves_no_call_that_verifies(
    mount: Mount, fault_server_tls: FaultServer, verify: Any
) -> None:
    """Under requests ``verify=0`` has the pool of verified connections."""
    session = mount(keepalive=600)
    session.verify = verify
    session.get(fault_server_tls.url, verify=verify)

    with pytest.raises(requests.exceptions.SSLError):
        session.get(fault_server_tls.url, verify=True)


def test_verify_may_be_a_directory(
    server: FaultServer, mount: Mount, loads: Loads, tmp_path: Path
) -> None:
    """Hashed names, as c_rehash and distributions make them."""
    _hash_into(tmp_path, Path(ca(server)))
    session = mount()
    for _ in range(2):
        assert session.get(server.url, verify=str(tmp_path)).content == b"ok"

    assert loads.bundles == [str(tmp_path)]


def _hash_into(directory: Path, certificate: Path) -> None:
    # The name by which OpenSSL looks a certificate up can be had from nothing but its own program.
    if not (program := shutil.which("openssl")):
        pytest.skip("needs the program openssl")
    command = [program, "x509", "-hash", "-noout", "-in", str(certificate)]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    shutil.copy(certificate, directory / f"{found.stdout.strip()}.0")


def test_a_bundle_in_the_environment_counts(
    server: FaultServer, mount: Mount, loads: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variable overrides Session.verify in requests, and so it does here."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", ca(server))
    session = mount()
    for _ in range(2):
        assert session.get(server.url).content == b"ok"

    assert loads.bundles == [ca(server)]


def test_a_missing_bundle_fails_before_anything_is_dialled(
    server: FaultServer, mount: Mount
) -> None:
    """The same error comes from requests."""
    with pytest.raises(OSError, match="nowhere"):
        mount().get(server.url, verify="/nowhere/ca.pem")
    assert server.accepted == 0


def test_a_bundle_without_certificates_is_a_clear_error(
    server: FaultServer, mount: Mount, tmp_path: Path
) -> None:
    """The call is not retried, since the file will not get better."""
    empty = tmp_path / "ca.pem"
    empty.write_text("nothing")

    with pytest.raises(requests.exceptions.SSLError, match="CA bundle") as failure:
        mount(max_retries=2).get(server.url, verify=str(empty))
    assert len(attempts_of(failure.value)) == 1


@pytest.mark.slow
def test_of_many_settings_those_made_last_are_kept(
    server: FaultServer, mount: Mount, loads: Loads, tmp_path: Path
) -> None:
    """Some callers have a bundle in a file of its own for each call: 0.66 MB each."""
    session = mount()
    for number in range(80):
        bundle = tmp_path / f"{number}.pem"
        shutil.copy(ca(server), bundle)
        for path in (ca(server), str(bundle)):
            assert session.get(server.url, verify=path).content == b"ok"
    kept = {key[1] for key in adapter_of(session)._state.tls._contexts}

    # The one that is used all the time is loaded anew once, when 64 others were made.
    assert loads.bundles.count(ca(server)) == 2
    assert kept == {ca(server), *(str(tmp_path / f"{number}.pem") for number in range(17, 80))}
    adapter_of(session).rotate()
    adapter_of(session)._state.process.forked()
    for number in (0, 79):
        assert session.get(server.url, verify=str(tmp_path / f"{number}.pem")).content == b"ok"
    assert len(adapter_of(session)._state.tls._contexts) == 64


# -- files that are replaced


def test_a_replaced_bundle_is_picked_up(
    server: FaultServer, mount: Mount, loads: Loads, tmp_path: Path
) -> None:
    """Certificates are rotated under a running process; the next dial must know."""
    bundle = tmp_path / "ca.pem"
    session = mount()
    bundle.write_bytes(trustme.CA().cert_pem.bytes())
    with pytest.raises(requests.exceptions.SSLError):
        session.get(server.url, verify=str(bundle))
    bundle.write_bytes(Path(ca(server)).read_bytes() + b"\n")

    assert session.get(server.url, verify=str(bundle)).content == b"ok"
    assert session.get(server.url, verify=str(bundle)).content == b"ok"
    assert len(loads.bundles) == 2


@pytest.mark.parametrize("change", ["mtime", "size"])
def test_time_and_size_both_tell(
    server: FaultServer, mount: Mount, loads: Loads, tmp_path: Path, change: str
) -> None:
    """A file system's clock may be coarse, and a copy may keep the time."""
    bundle = tmp_path / "ca.pem"
    shutil.copy2(ca(server), bundle)
    facts = bundle.stat()
    session = mount()
    session.get(server.url, verify=str(bundle))
    if change == "size":
        bundle.write_bytes(bundle.read_bytes() + b"\n")
        os.utime(bundle, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    else:
        os.utime(bundle, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1_000_000))
    session.get(server.url, verify=str(bundle))

    assert len(loads.bundles) == 2


def test_a_replaced_bundle_leaves_pooled_connections_alone(
    server: FaultServer, tmp_path: Path
) -> None:
    """They were verified when they were dialled."""
    bundle = tmp_path / "ca.pem"
    shutil.copy2(ca(server), bundle)
    with mounted() as session:
        session.get(server.url, verify=str(bundle))
        bundle.write_bytes(trustme.CA().cert_pem.bytes())

        assert session.get(server.url, verify=str(bundle)).content == b"ok"
        assert server.accepted == 1


def test_rotation_drops_the_contexts(server: FaultServer, mount: Mount, loads: Loads) -> None:
    """A rotation after a change of certificates starts anew."""
    session = mount()
    session.get(server.url, verify=ca(server))
    adapter_of(session).rotate()
    session.get(server.url, verify=ca(server))

    assert len(loads.bundles) == 2


def test_a_bundle_that_is_half_written_changes_nothing(
    server: FaultServer, mount: Mount, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Calls go on with the one that was loaded, and say so; the next that is whole counts."""
    bundle = tmp_path / "ca.pem"
    shutil.copy(ca(server), bundle)
    session = mount()
    session.get(server.url, verify=str(bundle))
    bundle.write_bytes(trustme.CA().cert_pem.bytes()[:100])

    assert session.get(server.url, verify=str(bundle)).content == b"ok"
    (warning,) = caplog.records
    assert (warning.levelname, "loaded before" in warning.message) == ("WARNING", True)
    assert vars(warning)["resilient_requests.error"]
    bundle.write_bytes(trustme.CA().cert_pem.bytes())
    with pytest.raises(requests.exceptions.SSLError):
        session.get(server.url, verify=str(bundle))


def test_a_bundle_that_cannot_be_loaded_is_read_once(
    server: FaultServer,
    mount: Mount,
    loads: Loads,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One warning is enough, and no connection loads it again; another file or a rotation does."""
    bundle = tmp_path / "ca.pem"
    shutil.copy(ca(server), bundle)
    session = mount()
    session.get(server.url, verify=str(bundle))
    bundle.write_text("nothing")
    found = []
    for change in ("none", "another", "rotated", "whole", "bad again"):
        if change == "another":
            bundle.write_text("nothing, again")
        if change == "rotated":
            adapter_of(session).rotate()
        if change == "whole":
            shutil.copy(ca(server), bundle)
        if change == "bad again":
            bundle.write_text("nothing")
        for _ in range(5):
            assert session.get(server.url, verify=str(bundle)).content == b"ok"
        found.append((change, len(loads.bundles), len(caplog.records)))

    assert found == [
        ("none", 2, 1),
        ("another", 3, 2),
        ("rotated", 4, 3),
        ("whole", 5, 3),
        ("bad again", 6, 4),
    ]


@pytest.mark.parametrize(
    "number", [errno.EMFILE, errno.EACCES], ids=["too many files", "no permission"]
)
def test_a_bundle_that_could_not_be_opened_is_tried_again(
    server: FaultServer, mount: Mount, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """That failure says nothing about the certificates.

    It may pass without a change of the bundle's time and size.
    """
    bundle = tmp_path / "ca.pem"
    shutil.copy(ca(server), bundle)
    session = mount()
    session.get(server.url, verify=str(bundle))
    bundle.write_bytes(trustme.CA().cert_pem.bytes())
    with monkeypatch.context() as patch:

        def fail(*args: object, **kwargs: object) -> None:
            raise OSError(number, os.strerror(number))

        patch.setattr(ssl.SSLContext, "load_verify_locations", fail)
        assert session.get(server.url, verify=str(bundle)).content == b"ok"

    with pytest.raises(requests.exceptions.SSLError):
        session.get(server.url, verify=str(bundle))


def test_a_bundle_that_went_missing_is_requests_own_error(
    server: FaultServer, mount: Mount, tmp_path: Path
) -> None:
    """The bundle is looked for before each call, on any connection, as in requests."""
    bundle = tmp_path / "ca.pem"
    shutil.copy(ca(server), bundle)
    session = mount(keepalive=10.0)
    session.get(server.url, verify=str(bundle))
    bundle.unlink()

    with pytest.raises(OSError, match=r"ca\.pem"):
        session.get(server.url, verify=str(bundle))
    assert server.accepted == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform cannot fork")
def test_a_child_builds_none_anew(server: FaultServer, mount: Mount, loads: Loads) -> None:
    """Building one takes locks of OpenSSL, which a thread that is not there may hold."""
    session = mount()
    session.get(server.url, verify=ca(server))
    adapter_of(session)._state.process.forked()
    session.get(server.url, verify=ca(server))

    assert len(loads.bundles) == 1


# -- client certificates


class Strict:
    """A TLS server that wants a certificate and answers with the name in it."""

    def __init__(
        self,
        authority: trustme.CA,
        name: str = "127.0.0.1",
        wants: ssl.VerifyMode = ssl.CERT_REQUIRED,
    ) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name).configure_cert(context)
        authority.configure_trust(context)
        context.verify_mode = wants
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(20)
        self._context = context
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def close(self) -> None:
        """Stop accepting."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(20)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                plain, _ = self._listener.accept()
                plain.settimeout(10)
                with (
                    contextlib.suppress(OSError),
                    plain,
                    self._context.wrap_socket(plain, server_side=True) as sock,
                ):
                    self._answer(sock)

    def _answer(self, sock: ssl.SSLSocket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            if not (data := sock.recv(65536)):
                return
            head += data
        certificate: Any = sock.getpeercert()
        name = dict(certificate["subjectAltName"])["DNS"].encode()
        sock.sendall(
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b"
            % (len(name), name)
        )
        sock.unwrap()


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    """Signs both sides; its certificate is in ``ca.pem``."""
    made = trustme.CA()
    made.cert_pem.write_to_path(tmp_path / "ca.pem")
    return made


@pytest.fixture
def strict(authority: trustme.CA) -> Iterator[Strict]:
    """A server for clients with certificates."""
    with contextlib.closing(Strict(authority)) as server:
        yield server


def issue(authority: trustme.CA, name: str, directory: Path) -> tuple[str, str]:
    """A client's certificate and key, as two files."""
    made = authority.issue_cert(name)
    certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
    certificate.write_bytes(made.cert_chain_pems[0].bytes())
    key.write_bytes(made.private_key_pem.bytes())
    return str(certificate), str(key)


@pytest.mark.parametrize("form", ["pair", "file"])
def test_a_client_certificate_is_shown(
    strict: Strict, authority: trustme.CA, mount: Mount, loads: Loads, *, tmp_path: Path, form: str
) -> None:
    """Each form that requests takes works, and its file is read once."""
    cert: Any = issue(authority, "alice.example", tmp_path)
    if form == "file":
        both = tmp_path / "both.pem"
        both.write_bytes(b"".join(Path(each).read_bytes() for each in reversed(cert)))
        cert = str(both)
    session = mount()
    answers = [
        session.get(strict.url, cert=cert, verify=str(tmp_path / "ca.pem")).text for _ in range(3)
    ]

    assert answers == ["alice.example"] * 3
    assert loads.chains == 1


def test_clients_are_told_apart(
    strict: Strict, authority: trustme.CA, mount: Mount, tmp_path: Path
) -> None:
    """One adapter, two tenants: never the other's certificate."""
    certs = [issue(authority, name, tmp_path) for name in ("alice.example", "bob.example")]
    session = mount()
    answers = [
        session.get(strict.url, cert=cert, verify=str(tmp_path / "ca.pem")).text
        for cert in certs * 3
    ]

    assert answers == ["alice.example", "bob.example"] * 3


def test_a_client_certificate_is_picked_up_when_its_key_has_come(
    strict: Strict, authority: trustme.CA, mount: Mount, tmp_path: Path
) -> None:
    """Files are renewed in place, one after the other: in between they do not fit."""
    alice, bob = (
        issue(authority, "alice.example", tmp_path),
        issue(authority, "bob.example", tmp_path),
    )
    session = mount()
    answers = [session.get(strict.url, cert=alice, verify=str(tmp_path / "ca.pem")).text]
    for old, new in zip(alice, bob, strict=True):
        os.replace(new, old)  # noqa: PTH105 - paths as requests takes them
        answers.append(session.get(strict.url, cert=alice, verify=str(tmp_path / "ca.pem")).text)

    assert answers == ["alice.example", "alice.example", "bob.example"]


def test_an_encrypted_key_is_a_clear_error(
    strict: Strict,
    authority: trustme.CA,
    mount: Mount,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """OpenSSL would ask for the password on the terminal, and a service would hang there."""
    certificate, key = issue(authority, "alice.example", tmp_path)
    loaded = serialization.load_pem_private_key(Path(key).read_bytes(), None)
    cipher = serialization.BestAvailableEncryption(b"open sesame")
    form = serialization.PrivateFormat.PKCS8
    Path(key).write_bytes(loaded.private_bytes(serialization.Encoding.PEM, form, cipher))

    with pytest.raises(requests.exceptions.SSLError, match="encrypted") as failure:
        mount(max_retries=2).get(
            strict.url, cert=(certificate, key), verify=str(tmp_path / "ca.pem"), timeout=5
        )
    assert len(attempts_of(failure.value)) == 1
    assert capfd.readouterr() == ("", "")


# -- contexts that are not ours


def test_a_callers_own_context_is_left_alone(server: FaultServer, loads: Loads) -> None:
    """The documented way to set ciphers and versions, by a subclass."""
    own = ssl.create_default_context(cafile=ca(server))
    own.maximum_version = ssl.TLSVersion.TLSv1_2

    class Pinned(ResilientAdapter):
        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            super().init_poolmanager(*args, ssl_context=own, **kwargs)

    with requests.Session() as session:
        session.mount("https://", adapter := Pinned())
        response = session.get(server.url, verify=ca(server), stream=True)
        used = response.raw._connection.sock

        assert (used.context, used.version()) == (own, "TLSv1.2")
        assert response.content == b"ok"
        assert adapter._state.tls._contexts == {}
        assert loads.contexts == 0


@pytest.mark.parametrize(
    "options",
    [{"assert_hostname": False}, {"assert_hostname": "localhost"}, {"ssl_minimum_version": 0x0303}],
)
def test_pool_arguments_that_change_a_context_get_their_own(
    server: FaultServer, loads: Loads, options: dict[str, Any]
) -> None:
    """urllib3 writes them into the context, where others would find them."""

    class Custom(ResilientAdapter):
        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            super().init_poolmanager(*args, **{**kwargs, **options})

    with requests.Session() as session:
        session.mount("https://", adapter := Custom(keepalive=0.0))
        for _ in range(2):
            assert session.get(server.url, verify=ca(server)).content == b"ok"

        assert adapter._state.tls._contexts == {}
        assert loads.contexts == 2


def test_a_fingerprint_is_checked(server: FaultServer, mount: Mount) -> None:
    """It is urllib3 that compares it, on the connection."""

    class Pinned(ResilientAdapter):
        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            super().init_poolmanager(*args, assert_fingerprint="00" * 32, **kwargs)

    with requests.Session() as session:
        session.mount("https://", Pinned())
        with pytest.raises(requests.exceptions.SSLError, match=r"(?i)fingerprint"):
            session.get(server.url, verify=ca(server))


def test_truststore_is_honoured(
    server: FaultServer, mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It replaces the class that contexts are made from, after our import."""
    truststore = pytest.importorskip("truststore")
    monkeypatch.setenv("SSL_CERT_FILE", ca(server))
    if hasattr(
        requests.adapters, name := "_preloaded_ssl_context"
    ):  # truststore replaces it, and does not put it back
        monkeypatch.setattr(requests.adapters, name, getattr(requests.adapters, name))
    truststore.inject_into_ssl()
    try:
        session = mount()
        for _ in range(2):
            assert session.get(server.url, verify=ca(server)).content == b"ok"
            with contextlib.suppress(requests.exceptions.SSLError):
                session.get(server.url, verify=True)
        contexts = [each for each, _ in adapter_of(session)._state.tls._contexts.values()]
    finally:
        truststore.extract_from_ssl()

    assert [type(context) for context in contexts] == [truststore.SSLContext, truststore.SSLContext]


def test_protocols_are_offered_once(server: FaultServer, mount: Mount) -> None:
    """urllib3 sets ALPN on each dial, into a context that another thread's handshake reads."""
    session = mount()
    response = session.get(server.url, verify=ca(server), stream=True)

    assert response.raw._connection.sock.selected_alpn_protocol() in (None, "http/1.1")
    assert response.content == b"ok"


def test_the_pool_still_says_what_was_asked(server: FaultServer) -> None:
    """Only connections are stripped of file names: requests and others read them from the pool."""
    with mounted(FakeClock()) as session:
        session.get(server.url, verify=ca(server))
        (pool,) = adapter_of(session)._state.pools()

        assert isinstance(pool, urllib3.HTTPSConnectionPool)
        assert (pool.ca_certs, pool.cert_reqs) == (ca(server), "CERT_REQUIRED")


def test_a_failed_load_is_tried_again(server: FaultServer, mount: Mount, tmp_path: Path) -> None:
    """A half-written file is no verdict."""
    bundle = tmp_path / "ca.pem"
    bundle.write_text("half")
    session = mount(max_retries=RetryPolicy(max_retries=0))
    server.default = respond(b"ok")
    with pytest.raises(requests.exceptions.SSLError):
        session.get(server.url, verify=str(bundle))
    shutil.copy(ca(server), bundle)

    assert session.get(server.url, verify=str(bundle)).content == b"ok"
