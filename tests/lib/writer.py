# SPDX-License-Identifier: GPL-2.0-or-later
"""
A client with known content: random writes, zeroes, trims and flushes over several connections
with many requests in flight, each recorded in an Oracle.  It outlives its server: run() ends at
its time or when the connections break, and counts an answer that arrived before the break.
"""
import random
import select
import time

import nbd

from oracle import SECTOR, Oracle, buffer
from sandbox import check


class Writer:
    def __init__(self, uri, size_bytes, seed=1, connections=4, depth=8, sync_percent=4):
        self.uri, self.depth = uri, depth
        self.oracle = Oracle(size_bytes)
        self.random = random.Random(seed)
        self.weights = (92 - sync_percent, sync_percent / 2, 4, 4, sync_percent / 2)
        self.connection_count = connections
        self.handles, self.pending, self.busy = [], {}, set()
        self.acknowledged = 0   # requests
        self.unflushed = 0      # writes answered after the last answered flush was sent
        self.since_flush_sent = 0

    def connect(self):
        self.pending, self.busy, self.handles = {}, set(), []
        for _ in range(self.connection_count):
            h = nbd.NBD()
            h.connect_uri(self.uri)
            self.handles.append(h)

    def close(self):
        for h in self.handles:
            try:
                h.shutdown()
            except nbd.Error:
                pass
        self.handles = []

    def verify(self):
        h = self.handles[0]
        self.oracle.verify(lambda n, at: bytes(h.pread(n, at)))

    # One request: a block-sized one mostly, also parts of blocks and longer runs.
    def _range(self):
        total = self.oracle.count
        count = self.random.choice((8, 8, 8, 8, 1, 3, 16, 64, 256))
        for _ in range(20):
            first = self.random.randrange(total - count + 1)
            if count % 8 == 0:
                first -= first % 8
            sectors = range(first, first + count)
            if self.busy.isdisjoint(sectors):
                return first, count, sectors
        return None

    def _submit(self, h):
        kind = self.random.choices(("write", "fua", "zero", "trim", "flush"), self.weights)[0]
        if kind == "flush":
            key = h.aio_flush()
            self.pending[h, key] = ("flush", 0, 0, self.acknowledged)
            return
        place = self._range()
        if not place:
            return
        first, count, sectors = place
        self.busy.update(sectors)
        number = self.oracle.begin(first, count, zero=kind in ("zero", "trim"))
        if kind == "zero":
            key = h.aio_zero(count * SECTOR, first * SECTOR)
        elif kind == "trim":
            key = h.aio_trim(count * SECTOR, first * SECTOR)
        else:
            # (bytes, not nbd.Buffer: libnbd 1.14 never frees that.)
            key = h.aio_pwrite(buffer(first, count, number), first * SECTOR,
                               flags=nbd.CMD_FLAG_FUA if kind == "fua" else 0)
        self.pending[h, key] = (kind, first, count, number)

    def _retire(self, h):
        while h.aio_in_flight() > 0 and h.aio_peek_command_completed() > 0:
            key = h.aio_peek_command_completed()
            kind, first, count, number = self.pending.pop((h, key))
            try:
                h.aio_command_completed(key)
            except nbd.Error as e:
                check(h.aio_is_dead() or h.aio_is_closed() or e.errno == "ESHUTDOWN",
                      f"{kind} failed: {e}")
                self.broken = True
                continue
            if kind == "flush":
                self.unflushed = self.acknowledged - number
                continue
            self.acknowledged += 1
            self.unflushed += 1
            self.busy.difference_update(range(first, first + count))
            if kind != "trim":
                self.oracle.acknowledged(first, count, number)

    def run(self, seconds, at_end=None, answers=0):
        """Load for so long, and until so many are answered; then at_end() (a kill) with requests in
        flight; then wait for all answers.  Returns when nothing is in flight or every connection
        is dead."""
        self.broken = False
        end, enough = time.monotonic() + seconds, self.acknowledged + answers
        loading = True
        while True:
            if loading and time.monotonic() >= end and self.acknowledged >= enough:
                loading = False
                if at_end:
                    at_end()
            if not self._turn(loading):
                break
        if loading and at_end:  # the connections broke before that
            at_end()
        for h in self.handles:
            if h.aio_in_flight():
                self._retire(h)

    def _turn(self, loading):
        poll = select.poll()
        fds = {}
        for h in self.handles:
            if h.aio_is_dead() or h.aio_is_closed():
                continue
            while loading and h.aio_in_flight() < self.depth:
                before = h.aio_in_flight()
                self._submit(h)
                if h.aio_in_flight() == before:
                    break
            if h.aio_in_flight():
                way = h.aio_get_direction()
                fds[h.aio_get_fd()] = h
                poll.register(h.aio_get_fd(),
                              (select.POLLIN if way & nbd.AIO_DIRECTION_READ else 0)
                              | (select.POLLOUT if way & nbd.AIO_DIRECTION_WRITE else 0))
        if not fds:
            return loading and any(not h.aio_is_dead() for h in self.handles)
        events = poll.poll(60000)
        check(events, "no answer for 60 s")
        for fd, event in events:
            h = fds[fd]
            try:
                if event & select.POLLIN or event & (select.POLLHUP | select.POLLERR):
                    h.aio_notify_read()
                elif event & select.POLLOUT:
                    h.aio_notify_write()
            except nbd.Error:
                check(h.aio_is_dead() or h.aio_is_closed(), "a live connection failed")
            self._retire(h)
        return True
