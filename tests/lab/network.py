"""A network to break: client, NAT router, internet and server, four namespaces in a row."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from lab import certificates, workshop
from lab.namespaces import Namespace
from lab.workshop import Workshop

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self

TOOLS = {
    "ip": "iproute2",
    "ss": "iproute2",
    "nft": "nftables",
    "conntrack": "conntrack",
    "setpriv": "util-linux",
}
"""The programs that a laboratory needs, and the Debian packages that they are in."""

SERVER, HTTP, HTTPS = "203.0.113.10", 80, 443
CLIENT, OTHER_CLIENT, GATEWAY = "192.168.77.2", "192.168.77.3", "192.168.77.1"
INTERNET, PROXY_PORT = "198.51.100.1", 3128

START_LIMIT = 30.0
"""Seconds that the origin may take to start."""

Strangers = Literal["drop", "reset"]
Manner = Literal["silence", "fin", "reset"]

_RULES = """
table ip nat {
  chain out { type nat hook postrouting priority 100; oifname "outer" masquerade; }
}
table ip lab {
  chain faults { }
  chain strangers { }
  chain pass {
    type filter hook forward priority 0; policy drop;
    jump faults
    ct state established,related accept
    iifname "inner" ct state new tcp flags & (fin|syn|rst|ack) == syn accept
    iifname "inner" ct state new meta l4proto { udp, icmp } accept
    jump strangers
  }
  chain arrive {
    type filter hook input priority 0; policy accept;
    iifname "outer" meta l4proto tcp jump strangers
  }
}
"""
_STRANGERS = {"drop": "drop", "reset": "meta l4proto tcp reject with tcp reset"}
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000


def why_not() -> str | None:
    """Return why there can be no laboratory here, and how to get one; None where there can."""
    if sys.platform != "linux":
        return "needs Linux: network namespaces"
    if os.geteuid() != 0:
        return (
            "needs root, for network namespaces: run as root, or with sudo, "
            "or in a container with --privileged"
        )
    missing = sorted({package for tool, package in TOOLS.items() if shutil.which(tool) is None})
    if missing:
        return f"needs programs: apt-get install {' '.join(missing)}"
    try:
        space = Namespace()
    except OSError as error:
        return f"needs network namespaces (CAP_SYS_ADMIN; in a container --privileged): {error}"
    try:
        space.run("nft", "-f", "-", stdin=_RULES)
        space.set(netfilter__nf_conntrack_tcp_loose=0)
        os.close(_tun(space, "probe"))
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        return f"needs a kernel with nftables, masquerade, conntrack and TUN: {error}"
    finally:
        space.close()
    return None


class Lab:
    """A network of its own, with an origin that counts; many can run side by side.

    ``memory`` is the number of seconds after which the NAT forgets an idle flow. ``strangers`` is
    its treatment of packets that belong to no known flow: "drop", or "reset" as an answer to the
    sender. ``certificate_directory`` is one of `certificates`; None makes new ones. Any thread may
    apply faults. A thread's own traffic goes through the network only inside ``with
    lab.client.entered()``. The thread that made the network must close it.
    """

    def __init__(
        self,
        *,
        memory: float = 4.0,
        strangers: Strangers = "drop",
        certificate_directory: Path | None = None,
    ) -> None:
        self._shop = Workshop()
        self._spaces: list[Namespace] = []
        try:
            self.client, self.router, self.internet, self.server = (self._space() for _ in range(4))
            self._wire()
            self._start_nat(memory, strangers)
            self.certificates = certificate_directory or certificates.make(
                self._shop.path, SERVER, INTERNET
            )
            self._log = self._shop.path / "requests"
            self._origin = self._start_origin()
            self._wait_for_origin()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End its processes and let go of its namespaces; idempotent."""
        self._shop.close()
        for space in self._spaces:
            space.close()

    @property
    def ca(self) -> str:
        """The file with the certificate of the origin's CA."""
        return str(self.certificates / certificates.CA)

    @staticmethod
    def url(scheme: str) -> str:
        """The origin's address."""
        return f"{scheme}://{SERVER}"

    # -- the NAT -----------------------------------------------------------------------------------

    def remember_for(self, seconds: float) -> None:
        """Set after how many idle seconds the NAT forgets a flow; the kernel counts whole ones."""
        self.router.set(netfilter__nf_conntrack_tcp_timeout_established=int(seconds))

    def treat_strangers(self, how: Strangers) -> None:
        """Set the treatment of packets that belong to no flow."""
        self.router.run(
            "nft", f"flush chain ip lab strangers; add rule ip lab strangers {_STRANGERS[how]}"
        )

    def forget(self) -> None:
        """Let the NAT forget all flows at once, as a reboot does."""
        self.router.run("conntrack", "-F")

    def flows(self) -> int:
        """Return the number of flows that the NAT remembers."""
        listed = self.router.run("conntrack", "-L", "-p", "tcp", "--state", "ESTABLISHED")
        return len(listed.splitlines())

    def wait_until_forgotten(self, seconds: float = 10.0) -> None:
        """Wait until the NAT remembers no established flow."""
        until = time.monotonic() + seconds
        while self.flows():
            if time.monotonic() > until:
                raise TimeoutError("the NAT still remembers a flow")
            time.sleep(0.05)

    def wait_until_acknowledged(self, seconds: float = 5.0) -> None:
        """Wait until every packet has been acknowledged.

        A NAT that has forgotten the flow would treat a late acknowledgement as a stranger.
        """
        until = time.monotonic() + seconds
        while any(self._unacknowledged(space) for space in (self.client, self.server)):
            if time.monotonic() > until:
                raise TimeoutError("something is still under way")
            time.sleep(0.01)

    @staticmethod
    def _unacknowledged(space: Namespace) -> int:
        return sum(
            int(line.split()[1])
            for line in space.run("ss", "-Htn", "state", "established").splitlines()
        )

    # -- the path ----------------------------------------------------------------------------------

    def half_open(self) -> None:
        """Drop the packets of the server; those of the client still arrive."""
        self.router.run("nft", 'add rule ip lab faults iifname "outer" drop')

    def black_hole(self) -> None:
        """Drop everything, in both directions."""
        self.router.run("nft", "add rule ip lab faults drop")

    def mend(self) -> None:
        """End `half_open` and `black_hole`."""
        self.router.run("nft", "flush chain ip lab faults")

    def link_down(self) -> None:
        """Pull the client's cable: its routes go with it."""
        self.client.run("ip", "link", "set", "up0", "down")

    def link_up(self) -> None:
        """Put it back, with the route that a DHCP client would set."""
        self.client.run(
            "ip", "-batch", "-", stdin=f"link set up0 up\nroute replace default via {GATEWAY}\n"
        )

    def cut_route(self) -> None:
        """Take away the client's default route."""
        self.client.run("ip", "route", "del", "default")

    def restore_route(self) -> None:
        """Give it back."""
        self.client.run("ip", "route", "replace", "default", "via", GATEWAY)

    def change_address(self, *, destroy: bool = False) -> None:
        """Give the client another address.

        With ``destroy`` its sockets end, as some network managers do it.
        """
        commands = (
            f"addr del {CLIENT}/24 dev up0",
            f"addr add {OTHER_CLIENT}/24 dev up0",
            f"route replace default via {GATEWAY}",
        )
        self.client.run("ip", "-batch", "-", stdin="\n".join(commands))
        if destroy:
            self.client.run("ss", "-K", "-t", "-n", "src", CLIENT)

    def roughen(
        self,
        *,
        delay: float = 0.0,
        jitter: float = 0.0,
        loss: float = 0.0,
        reorder: float = 0.0,
        seed: int = 1,
    ) -> None:
        """Delay, lose and reorder packets on the internet, in both directions; see `rough_road`."""
        fd = _tun(self.internet, "rough")
        try:
            # Only packets from a cable go into the TUN. Otherwise packets that leave it would go in
            # again.
            commands = (
                "link set rough up",
                "route add default dev rough table 7",
                "rule add iif west lookup 7 priority 100",
                "rule add iif east lookup 7 priority 100",
            )
            self.internet.run("ip", "-batch", "-", stdin="\n".join(commands))
            figures = map(str, (fd, delay, jitter, loss, reorder, seed))
            self._shop.start_python("rough_road.py", *figures, pass_fds=(fd,))
        finally:
            os.close(fd)

    # -- the server and the proxies ----------------------------------------------------------------

    def freeze(self) -> None:
        """Stop the server's process, all of its threads; its kernel goes on acknowledging."""
        self._origin.send_signal(signal.SIGSTOP)
        until = time.monotonic() + 5
        while not workshop.is_stopped(
            self._origin.pid
        ):  # a thread that was running may finish an answer
            if time.monotonic() > until:
                raise TimeoutError("the server does not stop")
            time.sleep(0.001)

    def thaw(self) -> None:
        """Let it go on."""
        self._origin.send_signal(signal.SIGCONT)

    def counts(self, what: Literal["seen", "executed"]) -> Counter[str]:
        """Return how often the server has seen, or executed, each request id."""
        if not self._log.exists():
            return Counter()
        lines = (line.split() for line in self._log.read_text(encoding="ascii").splitlines())
        return Counter(request_id for kind, request_id in lines if kind == what)

    def settle(self, quiet: float = 0.3, most: float = 5.0) -> None:
        """Wait until the server has written nothing down for so many seconds."""
        until = time.monotonic() + most
        before = -1
        while time.monotonic() < until and before != (
            before := self._log.stat().st_size if self._log.exists() else 0
        ):
            time.sleep(quiet)

    def proxy(self, memory: float, manner: Manner = "silence") -> str:
        """Start our own proxy and return its URL.

        It forgets a connection that was idle for longer than ``memory``.
        """
        with self.internet.entered():
            listener = socket.create_server((INTERNET, PROXY_PORT))
            fd = listener.fileno()
            with listener:
                self._shop.start_python(
                    "forgetful_proxy.py", str(fd), str(memory), manner, pass_fds=(fd,)
                )
        return f"http://{INTERNET}:{PROXY_PORT}"

    def tinyproxy(self, memory: int) -> str:
        """Start tinyproxy; return its URL."""
        settings = (
            f"Port {PROXY_PORT}\nListen {INTERNET}\nTimeout {memory}\n"
            "Allow 0.0.0.0/0\nMaxClients 20\n"
        )
        with self.internet.entered():
            self._shop.start("tinyproxy", "-d", "-c", self._file("tinyproxy.conf", settings))
        self._wait_for_listener()
        return f"http://{INTERNET}:{PROXY_PORT}"

    def haproxy(self, memory: float, scheme: str) -> str:
        """Start HAProxy as a balancer of TCP connections before the origin.

        Return its URL, without the scheme.
        """
        port = HTTPS if scheme == "https" else HTTP
        settings = (
            f"defaults\n mode tcp\n timeout connect 5s\n timeout client {int(memory * 1000)}ms\n"
            f" timeout server {int(memory * 1000)}ms\n"
            f"listen lab\n bind {INTERNET}:{PROXY_PORT}\n server origin {SERVER}:{port}\n"
        )
        with self.internet.entered():
            self._shop.start("haproxy", "-db", "-f", self._file("haproxy.cfg", settings))
        self._wait_for_listener()
        return f"{INTERNET}:{PROXY_PORT}"

    def _wait_for_listener(self, seconds: float = 5.0) -> None:
        until = time.monotonic() + seconds
        while not self.internet.run("ss", "-Htln", f"sport = :{PROXY_PORT}"):
            if time.monotonic() > until:
                raise TimeoutError(
                    (self._shop.path / "stderr").read_text(encoding="utf-8", errors="replace")
                )
            time.sleep(0.02)

    def _file(self, name: str, text: str) -> str:
        path = self._shop.path / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    # -- building it -------------------------------------------------------------------------------

    def _space(self) -> Namespace:
        self._spaces.append(Namespace())
        return self._spaces[-1]

    def _wire(self) -> None:
        # The cables are made inside, so that the host's links and routes are never touched.
        near = (
            f"link add inner type veth peer name up0 netns {self.client.path}",
            f"link add outer type veth peer name west netns {self.internet.path}",
            *_plugged("inner", f"{GATEWAY}/24"),
            *_plugged("outer", "198.51.100.2/24"),
            f"route add default via {INTERNET}",
        )
        self.router.run("ip", "-batch", "-", stdin="\n".join(near))
        far = (
            f"link add east type veth peer name up0 netns {self.server.path}",
            *_plugged("west", f"{INTERNET}/24"),
            *_plugged("east", "203.0.113.1/24"),
        )
        self.internet.run("ip", "-batch", "-", stdin="\n".join(far))
        for space, address, gateway in (
            (self.client, CLIENT, GATEWAY),
            (self.server, SERVER, "203.0.113.1"),
        ):
            commands = (
                "link set lo up",
                *_plugged("up0", f"{address}/24"),
                f"route add default via {gateway}",
            )
            space.run("ip", "-batch", "-", stdin="\n".join(commands))
        for space in (self.router, self.internet):
            space.set(
                ipv4__ip_forward=1, ipv4__conf__all__rp_filter=0, ipv4__conf__default__rp_filter=0
            )

    def _start_nat(self, memory: float, strangers: Strangers) -> None:
        self.router.run("nft", "-f", "-", stdin=_RULES)
        # Not loose: a packet out of the middle of a flow must not bring the flow back to memory.
        self.router.set(netfilter__nf_conntrack_tcp_loose=0)
        self.treat_strangers(strangers)
        self.remember_for(memory)

    def _start_origin(self) -> subprocess.Popen[bytes]:
        # Listening already, so the first connections wait in the queue.
        with _listening(self.server, HTTP) as plain, _listening(self.server, HTTPS) as tls:
            pem = str(self.certificates / certificates.SERVER)
            return self._shop.start_python(
                "origin.py", str(plain), str(tls), pem, str(self._log), pass_fds=(plain, tls)
            )

    def _wait_for_origin(self) -> None:
        # On a busy machine Python may take longer to start than the NAT remembers.
        with (
            self.server.entered(),
            socket.create_connection((SERVER, HTTP), timeout=START_LIMIT) as sock,
        ):
            sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
            if not sock.recv(1):
                raise RuntimeError(
                    (self._shop.path / "stderr").read_text(encoding="utf-8", errors="replace")
                )


def _plugged(link: str, address: str) -> tuple[str, str]:
    return f"addr add {address} dev {link}", f"link set {link} up"


@contextmanager
def _listening(space: Namespace, port: int) -> Iterator[int]:
    with space.entered():
        listener = socket.create_server((SERVER, port), backlog=128)
    with listener:
        yield listener.fileno()


def _tun(space: Namespace, name: str) -> int:
    """Make a TUN device in the namespace; it goes when its last descriptor does."""
    with space.entered():
        fd = os.open("/dev/net/tun", os.O_RDWR)
        try:
            fcntl.ioctl(
                fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI)
            )
        except BaseException:
            os.close(fd)
            raise
    return fd
