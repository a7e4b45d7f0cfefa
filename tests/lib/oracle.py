# SPDX-License-Identifier: GPL-2.0-or-later
"""
What a disk must hold, sector by sector, when its server may die at any moment.

Each write has a number; a sector written by it holds {sector, number} repeated, so that a wrong,
old or torn content tells where it is from.  Number 0 is zeroes.  For every 512-byte sector the
oracle knows the values it may have:

    acknowledged writes     exactly the last one, flushed or not
    requests not answered   the value before or theirs, each sector for itself
    an acknowledged TRIM    the value before or zeroes (TRIM is advice)

What was once read after a restart has been decided and may not change any more.  The caller sends
no two overlapping requests at the same time.
"""
import struct

from sandbox import Failed

SECTOR = 512
CHUNK = 128  # sectors compared at once


def content(sector, number):
    if not number:
        return bytes(SECTOR)
    return struct.pack("<QQ", sector, number) * (SECTOR // 16)


def buffer(first, count, number):
    return b"".join(content(s, number) for s in range(first, first + count))


def describe(data, sector):
    where, number = struct.unpack_from("<QQ", data)
    if not any(data):
        return "zeroes"
    if data != struct.pack("<QQ", where, number) * (SECTOR // 16):
        return "a torn or foreign content " + data[:16].hex()
    return f"write {number}" + ("" if where == sector else f" of sector {where}")


class Oracle:
    def __init__(self, size_bytes):
        self.count = size_bytes // SECTOR
        self.value = [0] * self.count  # the number that was last certain
        self.open = {}                 # sector: further numbers it may hold
        self.next_number = 1

    def begin(self, first, count, zero=False):
        """A request is about to be sent; returns its number."""
        number = 0 if zero else self.next_number
        self.next_number += 1
        for s in range(first, first + count):
            self.open.setdefault(s, set()).add(number)
        return number

    def acknowledged(self, first, count, number):
        for s in range(first, first + count):
            self.value[s] = number
            self.open.pop(s, None)

    def verify(self, pread):
        """Read everything by pread(bytes, offset); decide what was open."""
        for first in range(0, self.count, CHUNK):
            n = min(CHUNK, self.count - first)
            data = pread(n * SECTOR, first * SECTOR)
            if data == b"".join(content(s, self.value[s]) for s in range(first, first + n)):
                for s in range(first, first + n):
                    self.open.pop(s, None)
                continue
            for s in range(first, first + n):
                self._decide(s, data[(s - first) * SECTOR:(s - first + 1) * SECTOR])

    def _decide(self, s, data):
        for number in {self.value[s]} | self.open.pop(s, set()):
            if data == content(s, number):
                self.value[s] = number
                return
        raise Failed(f"sector {s} (offset {s * SECTOR}) must hold write {self.value[s]}, "
                     f"holds {describe(data, s)}")
