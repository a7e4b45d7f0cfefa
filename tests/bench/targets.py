# SPDX-License-Identifier: GPL-2.0-or-later
"""
What blockd is to reach.  A target is a ratio of medians of one run: blockd's figure over that of
the best one among the peers named.  Without peers it is the figure itself.
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
    field: str = "per_s"  # of a result; times are to be at most the bound, others at least

    def at_most(self):
        return self.field in ("cpu_us", "seconds")

    def wanted(self):
        return ("<= " if self.at_most() else ">= ") + format(self.bound, ".2f")


ANY_RAM = ("nbdkit", "nbdkit-mem", "qemu-raw", "qcow2", "qsd")
ANY_DISK = ("nbdkit", "qemu-raw", "qcow2", "qcow2-none", "qsd")


def _disk(client):
    # On disk a FLUSH follows the writes and counts: a page cache that has not written yet has not
    # done the work.
    text = f"disk {client} "
    return [
        Target(text + "write QD32, settled", "disk", client, "write-32", ("nbdkit",), 2.5,
               "settled_per_s"),
        Target(text + "write QD32, settled", "disk", client, "write-32", ("qcow2", "qcow2-none"),
               3.0, "settled_per_s"),
        Target(text + "flush each 32", "disk", client, "flush-32", ("nbdkit",), 5.0),
        Target(text + "flush each 32", "disk", client, "flush-32", ("qcow2",), 5.0),
        Target(text + "flush each 32", "disk", client, "flush-32", ("qcow2-none",), 2.0),
        Target(text + "warm read QD32", "disk", client, "read-32", ("nbdkit",), 1.0),
        Target(text + "write + flush QD1", "disk", client, "sync", ANY_DISK, 1.3),
    ]


TARGETS = [
    Target("RAM fio read QD32", "ram", "fio", "read-32", ("nbdkit",), 1.2),
    Target("RAM fio write QD32", "ram", "fio", "write-32", ("nbdkit",), 1.0),
    Target("RAM fio read QD32", "ram", "fio", "read-32", ("qcow2",), 2.5),
    Target("RAM fio write QD32", "ram", "fio", "write-32", ("qcow2",), 2.5),
    Target("RAM batch read QD32", "ram", "batch", "read-32", ("nbdkit",), 1.5),
    Target("  CPU per request", "ram", "batch", "read-32", ("nbdkit",), 0.6, "cpu_us"),
    Target("RAM batch write QD32", "ram", "batch", "write-32", ("nbdkit",), 1.5),
    Target("  CPU per request", "ram", "batch", "write-32", ("nbdkit",), 0.6, "cpu_us"),
    Target("RAM sequential read 1M", "ram", "batch", "seq-read", ANY_RAM, 0.85),
    Target("RAM sequential write 1M", "ram", "batch", "seq-write", ANY_RAM, 0.85),
    *_disk("batch"),
    *_disk("fio"),
    Target("disk sequential read 1M, warm", "disk", "batch", "seq-read", ANY_DISK, 0.85),
    Target("disk sequential read 1M, cold", "disk", "batch", "cold-seq", ANY_DISK, 0.85),
    Target("disk seq. write 1M, settled", "disk", "batch", "seq-write", ANY_DISK, 0.85,
           "settled_per_s"),
    Target("95 % full, write QD32", "full", "batch", "write-32", ("half full",), 0.7),
    Target("95 % full, flush each 32", "full", "batch", "flush-32", ("half full",), 0.7),
    Target("recovery, 2 GiB overwritten, s", "recovery", "kill -9", "hot", (), 2.0, "seconds"),
    Target("recovery, all of 64 GiB, s", "recovery", "kill -9", "wide", (), 2.0, "seconds"),
]

PEERS = {"ram": ["blockd", "nbdkit", "qcow2"],
         "disk": ["blockd", "nbdkit", "qcow2", "qcow2-none"]}
QUICK_CLIENTS = {"ram": ("fio", "batch"), "disk": ("batch",)}
# Left out by --quick: peers that are never the best, jobs that take long.
QUICK_WITHOUT = {("seq-read", "qcow2-none"), ("seq-write", "qcow2-none")}
QUICK_JOBS = {"read-32", "write-32", "flush-32", "sync", "seq-read", "seq-write"}


def median(rounds, field):
    return statistics.median(r[field] for r in rounds)


def judge(target, results):
    """(ratio, lowest and highest of single rounds, best peer, reached), or None: not measured."""
    of = results.get((target.section, target.client, target.job), {})
    ours = of.get("blockd")
    others = {p: of[p] for p in target.peers if p in of}
    if not ours or (target.peers and not others):
        return None
    if target.peers:
        pick = min if target.at_most() else max
        best = pick(others, key=lambda p: median(others[p], target.field))
        below = [r[target.field] for r in others[best]]
        ratio = median(ours, target.field) / median(others[best], target.field)
    else:
        best, below, ratio = "", [1] * len(ours), median(ours, target.field)
    each = [a[target.field] / b for a, b in zip(ours, below)]
    reached = ratio <= target.bound if target.at_most() else ratio >= target.bound
    return ratio, min(each), max(each), best, reached


def needed(section):
    """(client, job) -> the peers that some target wants."""
    out = {}
    for t in TARGETS:
        if t.section == section:
            out.setdefault((t.client, t.job), set()).update(t.peers)
    return out
