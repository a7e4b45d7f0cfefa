# SPDX-License-Identifier: GPL-2.0-or-later
"""
What blockd is compared with itself for: a nearly full pool, and recovery after kill -9.
"""
import time

import jobs
from sandbox import Failed

WIDE_MIB = 64 << 10  # the volume of a recovery: 64 GiB, three levels of map
RECOVERIES = {  # name -> pool keys, MiB written to, whether each leaf of the map is there before
    # A checkpoint is also due when a sixth of the node cache was changed: with the default cache
    # these 2 GiB are changed again and again until the journal is what limits it.
    "hot": ("journal = 256M", 2048, False),
    # All over the volume, with a cache of six times its map's size: each leaf is loaded again.
    "wide": ("journal = 256M cache = 1700M", WIDE_MIB, True),
}
SMOKE_RECOVERIES = {"hot": ("journal = 4M", 64, True)}


def status(peer):
    return peer.ctl_json("pool", "status", "main")["pools"][0]


def used(state):
    return 1 - state["free_bytes"] / state["size_bytes"]


def fill_to(peer, share):
    """Fill the pool with the volume `ballast` until this share of it is in use, then write at
    random until what is free lies scattered between the rest."""
    jobs.fill(peer, peer.size_mib)
    size_mib = status(peer)["size_bytes"] >> 20
    ballast = int((share - used(status(peer))) * size_mib)
    if ballast > 0:
        peer.ctl("create", "ballast", "--size", f"{ballast}M")
        jobs.batch(peer, "-m", "write", "-l", "-b", 1 << 20, "-q", 4, "-S", ballast, "-n", ballast,
                   "-e", export="ballast")
    jobs.precondition(peer, peer.size_mib)
    jobs.precondition(peer, peer.size_mib)
    return used(status(peer))


def fill_journal(peer, span_mib):
    """Write until a checkpoint would follow at once; the records that a recovery has to replay."""
    state = status(peer)
    limit = state["journal_bytes"] // 2
    count = 0
    while True:
        state, before = status(peer), state
        left = limit * 0.98 - state["log_used_bytes"]
        if left <= 0:
            return count
        if state["log_used_bytes"] < before["log_used_bytes"]:
            raise Failed("a checkpoint was taken before the journal was half full")
        # 127 records of 32 bytes in a page of 4 KiB; pages of commits are not full
        number = max(1024, int(left / 4096 * 127 * 0.9))
        count += jobs.batch(peer, "-m", "write", "-d", 4, "-S", span_mib, "-n", number, "-r",
                            count)["requests"]


def recover(peer, span_mib, touch_all):
    """One kill -9 with the fullest journal; what it took until a block can be read again."""
    peer.start()
    if touch_all:  # 4.6 writes for each MiB: 99 % of the leaves
        jobs.batch(peer, "-m", "write", "-d", 4, "-S", span_mib, "-n", int(span_mib * 4.6), "-e")
    peer.stop()  # ends with a checkpoint: the journal is empty
    peer.start()
    records = fill_journal(peer, span_mib)
    log_bytes = status(peer)["log_used_bytes"]
    peer.kill()
    begin = time.monotonic()
    peer.start()
    jobs.batch(peer, "-q", 1, "-S", 1, "-n", 1)
    return {"seconds": time.monotonic() - begin, "records": records, "log_bytes": log_bytes}
