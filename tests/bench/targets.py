# SPDX-License-Identifier: GPL-2.0-or-later
"""
What blockd is to reach against its peers.  A target is a ratio of medians of one run: blockd's
figure over the best one among the peers named.
"""
import statistics
from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    text: str
    section: str
    client: str
    job: str
    peers: tuple
    bound: float
    field: str = "per_s"  # of a result; cpu_us is to be at most the bound, others at least

    def at_most(self):
        return self.field == "cpu_us"


ANY_RAM = ("nbdkit", "nbdkit-mem", "qemu-raw", "qcow2", "qsd")
ANY_DISK = ("nbdkit", "qemu-raw", "qcow2", "qcow2-none", "qsd")

TARGETS = [
    Target("RAM fio read QD32", "ram", "fio", "read-32", ("nbdkit",), 1.2),
    Target("RAM fio write QD32", "ram", "fio", "write-32", ("nbdkit",), 1.0),
    Target("RAM fio read QD32", "ram", "fio", "read-32", ("qcow2",), 2.5),
    Target("RAM fio write QD32", "ram", "fio", "write-32", ("qcow2",), 2.5),
    Target("RAM batch read x32", "ram", "batch", "read-32", ("nbdkit",), 1.5),
    Target("  its CPU per request", "ram", "batch", "read-32", ("nbdkit",), 0.6, "cpu_us"),
    Target("RAM batch write x32", "ram", "batch", "write-32", ("nbdkit",), 1.5),
    Target("  its CPU per request", "ram", "batch", "write-32", ("nbdkit",), 0.6, "cpu_us"),
    Target("RAM seq read 1M", "ram", "batch", "seq-read", ANY_RAM, 0.85),
    Target("RAM seq write 1M", "ram", "batch", "seq-write", ANY_RAM, 0.85),
    Target("disk write x32, then flush", "disk", "batch", "write-32", ("nbdkit",), 2.5,
           "settled_per_s"),
    Target("disk write x32, then flush", "disk", "batch", "write-32", ("qcow2", "qcow2-none"), 3.0,
           "settled_per_s"),
    Target("disk write, flush each 32", "disk", "batch", "flush-32", ("nbdkit",), 5.0),
    Target("disk write, flush each 32", "disk", "batch", "flush-32", ("qcow2",), 5.0),
    Target("disk write, flush each 32", "disk", "batch", "flush-32", ("qcow2-none",), 2.0),
    Target("disk warm read x32", "disk", "batch", "read-32", ("nbdkit",), 1.0),
    Target("disk write+flush QD1", "disk", "batch", "sync", ANY_DISK, 1.3),
    Target("disk seq read 1M (warm)", "disk", "batch", "seq-read", ANY_DISK, 0.85),
    Target("disk seq write 1M, flushed", "disk", "batch", "seq-write", ANY_DISK, 0.85,
           "settled_per_s"),
]

QUICK_PEERS = {"ram": ["blockd", "nbdkit", "qcow2"],
               "disk": ["blockd", "nbdkit", "qcow2", "qcow2-none"]}
SLOW_FOR_QUICK = {("seq-read", "qcow2-none"), ("seq-write", "qcow2-none")}  # never the best


def median(rounds, field):
    return statistics.median(r[field] for r in rounds)


def judge(target, results):
    """(ratio, lowest and highest of single rounds, best peer, reached), or None: not measured."""
    of = results.get((target.section, target.client, target.job), {})
    ours = of.get("blockd")
    others = {p: of[p] for p in target.peers if p in of}
    if not ours or not others:
        return None
    pick = min if target.at_most() else max
    best = pick(others, key=lambda p: median(others[p], target.field))
    ratio = median(ours, target.field) / median(others[best], target.field)
    each = [a[target.field] / b[target.field] for a, b in zip(ours, others[best])]
    reached = ratio <= target.bound if target.at_most() else ratio >= target.bound
    return ratio, min(each), max(each), best, reached


def needed():
    """(section, client, job) -> the peers that some target wants."""
    out = {}
    for t in TARGETS:
        out.setdefault((t.section, t.client, t.job), set()).update(t.peers)
    return out
