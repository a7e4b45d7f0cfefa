# SPDX-License-Identifier: GPL-2.0-or-later
"""
What tests/bench/nbd measures: jobs, the two clients that run them, and the targets.

A result of one round is a dict: per_s, cpu_us (server CPU per request), p50_us, p99_us; on disk
also settled_per_s, which counts the time that a FLUSH took after the writes: what the page cache
took in is then on disk, so that nobody's write-back runs in another's round.
"""
import json
import os
import subprocess
import time
from dataclasses import dataclass

from peers import BUILD, begin_child
from sandbox import Failed


TICKS_PER_S = os.sysconf("SC_CLK_TCK")
wait_s = 60  # without an answer, after which the batching client gives up


@dataclass(frozen=True)
class Job:
    name: str
    text: str
    mode: str           # read, write or mixed (70 % reads)
    size: int = 4096
    depth: int = 32     # requests out on each connection
    connections: int = 1
    flush: int = 0      # one FLUSH after so many writes
    sequential: bool = False
    scattered: bool = False  # sequential, but after random writes
    cold: bool = False  # server restarted and its files dropped from the page cache

    def writes(self):
        return self.mode != "read"


def _jobs():
    out = []
    for depth in (1, 8, 32, 128):
        out.append(Job(f"read-{depth}", f"read 4K QD{depth}", "read", depth=depth))
    for depth in (1, 8, 32, 128):
        out.append(Job(f"write-{depth}", f"write 4K QD{depth}", "write", depth=depth))
    out += [
        Job("read-4x32", "read 4K QD32, 4 connections", "read", connections=4),
        Job("write-4x32", "write 4K QD32, 4 connections", "write", connections=4),
        Job("mixed-32", "70 % read, 30 % write 4K QD32", "mixed"),
        Job("flush-32", "write 4K, flush each 32", "write", flush=32),
        Job("sync", "write 4K + flush, QD1", "write", depth=1, flush=1),
        Job("cold-1", "cold read 4K QD1", "read", depth=1, cold=True),
        Job("cold-32", "cold read 4K QD32", "read", cold=True),
        Job("cold-seq", "cold sequential read 1M", "read", 1 << 20, 4, sequential=True, cold=True),
        Job("seq-read", "sequential read 1M", "read", 1 << 20, 4, sequential=True),
        Job("frag-read", "read 1M in order, after random writes", "read", 1 << 20, 4,
            sequential=True, scattered=True),
        Job("seq-write", "sequential write 1M", "write", 1 << 20, 4, sequential=True),
    ]
    return {j.name: j for j in out}


JOBS = _jobs()


# The README's table; the file beside it has all.
README = ("read-1", "read-32", "write-1", "write-32", "flush-32", "sync", "cold-32", "cold-seq",
          "seq-read", "frag-read", "seq-write")
# What --readme asks of fio besides the targets: it sends requests singly and is itself the limit.
README_FIO = ("read-32", "write-32", "read-1", "write-1")
# One of each kind: how jobs are given to the clients, and what is made of their answers.
SMOKE = {"ram": {("fio", "mixed-32"), ("batch", "read-128")},
         "disk": {("fio", "sync"), ("batch", "write-4x32"), ("batch", "cold-32"),
                  ("fio", "seq-read")}}


SCATTERED = 2  # from this stage on precondition() was there


def stage(job):
    """The order of measuring: what the sequential fill left is read sequentially, then comes
    precondition(), then reads, then writes.  Cold reads behind the others, so that what a cache
    holds needs to be read once only."""
    if job.writes():
        return 4
    return job.cold + (0 if job.sequential and not job.scattered else SCATTERED)


def _client(*argv, timeout_s=300):
    """What a client prints.  The batching one tells by itself when no answer comes; fio does not."""
    try:
        r = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, text=True, check=False, timeout=timeout_s,
                           preexec_fn=begin_child(False))
    except subprocess.TimeoutExpired:
        raise Failed(f"{' '.join(argv)}: not done after {timeout_s} s") from None
    if r.returncode:
        raise Failed(f"{' '.join(argv)}: exit {r.returncode}\n{r.stderr}{r.stdout[:500]}")
    return json.loads(r.stdout[r.stdout.index("{"):])


def batch(peer, *options, export="demo"):
    """One run of the batching client; its result as it is."""
    return _client(os.path.join(BUILD, "tests", "bench", "batch"),
                   "-w", str(wait_s), *[str(o) for o in options], peer.socket, export)


def run_batch(peer, job, seconds, span_mib, seed):
    # More than 32 requests are several sends of 32, as a client with many in flight has it.
    size, depth = min(job.depth, 32), max(1, job.depth // 32)
    options = ["-m", job.mode, "-b", job.size, "-q", size, "-d", depth, "-c", job.connections,
               "-S", span_mib, "-t", seconds, "-r", seed]
    if job.flush:
        if job.flush != size:
            raise Failed(f"{job.name}: the batching client flushes after each batch")
        options.append("-f")
    if job.sequential:
        options.append("-l")
    out = batch(peer, *options)
    if job.flush == 1:  # what a caller waits for is both
        out["p50_us"] += out["flush_p50_us"]
        out["p99_us"] += out["flush_p99_us"]
    return out


def run_fio(peer, job, seconds, span_mib, seed):
    kind = {"read": "read", "write": "write", "mixed": "rw"}[job.mode]
    argv = ["fio", "--name=j", "--ioengine=nbd", f"--uri={peer.uri()}", f"--size={span_mib}m",
            f"--rw={'' if job.sequential else 'rand'}{kind}", "--rwmixread=70", f"--bs={job.size}",
            f"--iodepth={job.depth}", f"--numjobs={job.connections}", "--group_reporting",
            "--time_based", f"--runtime={round(seconds * 1000)}ms", "--norandommap",
            "--randrepeat=0", f"--randseed={seed + 1}", "--refill_buffers=0",
            "--thread",  # one client: processes would be several, of which one may write
            "--output-format=json"]
    if job.sequential and job.connections > 1:
        argv.append(f"--offset_increment={span_mib // job.connections}m")
    if job.flush:
        argv.append(f"--fsync={job.flush}")
    found = _client(*argv, timeout_s=seconds + 60)["jobs"][0]
    sides = [found[k] for k in ("read", "write") if found[k]["total_ios"]]
    if not sides or found["error"]:
        raise Failed(f"fio did nothing on {peer.label}")
    most = max(sides, key=lambda s: s["total_ios"])
    time_us = {k: most["clat_ns"].get("percentile", {}).get(k, 0) / 1e3
               for k in ("50.000000", "99.000000")}
    if job.flush == 1:
        for k in time_us:
            time_us[k] += found["sync"]["lat_ns"].get("percentile", {}).get(k, 0) / 1e3
    runtime_s = max(s["runtime"] for s in sides) / 1e3
    count = sum(s["total_ios"] for s in sides)
    return {"requests": count, "seconds": runtime_s, "per_s": count / runtime_s,
            "p50_us": time_us["50.000000"], "p99_us": time_us["99.000000"]}


CLIENTS = {"fio": run_fio, "batch": run_batch}


def strangers_s(peer):
    """Time that all user code took on this machine, but for the server, its client and us.  The
    kernel's time is left out: it writes back what a page cache holds, which is a server's work."""
    with open("/proc/stat", encoding="ascii") as f:
        user, nice = (int(x) for x in f.readline().split()[1:3])
    own = os.times()
    return (user + nice) / TICKS_PER_S - peer.user_s() - own.user - own.children_user


def measure(peer, client, job, seconds, span_mib, seed):
    if job.cold:
        peer.stop()
        peer.drop_caches()
        peer.start()
    begin, strangers, before = time.monotonic(), strangers_s(peer), peer.cpu_s()
    out = CLIENTS[client](peer, job, seconds, span_mib, seed)
    peer.is_warm &= not (job.cold or job.writes())
    out["cpu_us"] = (peer.cpu_s() - before) * 1e6 / out["requests"]
    out["strangers"] = (strangers_s(peer) - strangers) / (time.monotonic() - begin)
    if job.writes() and peer.medium == "disk":
        settle_s = settle(peer)
        out["settled_per_s"] = out["requests"] / (out["seconds"] + settle_s)
    return out


def settle(peer):
    return batch(peer, "-S", 1, "-t", 0, "-e")["seconds"]


def fill(peer, mib, offset_mib=0):
    """Every block written once, with what no server can compress or leave out."""
    batch(peer, "-m", "write", "-l", "-b", 1 << 20, "-q", 4, "-o", offset_mib, "-S", mib, "-n",
          mib, "-e")
    peer.is_warm = False


def verify(peer, mib):
    """Write known content all over, read it back through every way of sending: was it the disk
    that answered?"""
    batch(peer, "-k", 1, "-m", "write", "-l", "-b", 1 << 20, "-q", 4, "-S", mib, "-n", mib, "-e")
    batch(peer, "-k", 1, "-m", "mixed", "-q", 32, "-d", 4, "-c", 4, "-S", mib, "-n", 4096)
    batch(peer, "-k", 1, "-l", "-b", 1 << 20, "-q", 4, "-S", mib, "-n", mib)


def precondition(peer, span_mib):
    """As many random writes as there are blocks: the places that a server writes to later have
    been written before, and what it has lies scattered."""
    batch(peer, "-m", "write", "-d", 4, "-S", span_mib, "-n", span_mib * 256, "-e")
    peer.is_warm = False


def warm_up(peer, span_mib):
    """Read what the measured span holds, so that a cache keeps it."""
    if not peer.is_warm:
        batch(peer, "-b", 1 << 16, "-q", 16, "-S", span_mib, "-l", "-n", span_mib * 16)
    peer.is_warm = True


