"""Delays, loses and reorders the packets of a TUN device.

It stands in for NETEM, which many kernels lack.

`lab.network` runs it with the standard library alone: ``rough_road.py TUN_FD DELAY JITTER LOSS
REORDER SEED``.
"""

from __future__ import annotations

import heapq
import os
import random
import select
import sys
import time

MTU = 65536


def carry(tun: int, *, delay: float, jitter: float, loss: float, reorder: float, seed: int) -> None:
    """Write back each packet, later or never.

    ``loss`` and ``reorder`` are probabilities, the other figures are seconds. A reordered packet
    skips the delay, and so overtakes those before it. Jitter alone keeps the order.
    """
    chance = random.Random(seed)
    waiting: list[tuple[float, int, bytes]] = []
    number, last = 0, 0.0
    while True:
        left = max(waiting[0][0] - time.monotonic(), 0.0) if waiting else None
        if select.select([tun], [], [], left)[0]:
            packet = os.read(tun, MTU)
            if chance.random() < loss:
                continue
            due = time.monotonic()
            if chance.random() >= reorder:
                due = last = max(last, due + delay + jitter * chance.random())
            number += 1
            heapq.heappush(waiting, (due, number, packet))
        while waiting and waiting[0][0] <= time.monotonic():
            os.write(tun, heapq.heappop(waiting)[2])


def main() -> None:
    """Carry until killed."""
    fd, delay, jitter, loss, reorder, seed = sys.argv[1:]
    carry(
        int(fd),
        delay=float(delay),
        jitter=float(jitter),
        loss=float(loss),
        reorder=float(reorder),
        seed=int(seed),
    )


if __name__ == "__main__":
    main()
