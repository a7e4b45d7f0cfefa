# SPDX-License-Identifier: GPL-2.0-or-later
"""
Reads what the kernel's dm-log-writes wrote, and rebuilds the states a power cut could leave.

Layout (Linux drivers/md/dm-log-writes.c): sector 0 holds {magic, version, entry count, sector
size}; then one entry after the other, each a sector {first sector, sectors, flags, data length}
followed by the data; a mark's text lies in its entry's own sector; a discard has no data.

Order: the kernel logs a write when a flush (or its own FUA) has made it durable, so a flush entry
says that all before it are durable.  A power cut in front of the next flush leaves any subset of
the writes in between; those with FUA up to the cut are there.
"""
import struct

FLUSH, FUA, DISCARD, MARK = 1, 2, 4, 8
MAGIC = 0x6a736677736872


class Entry:
    __slots__ = ("at", "length", "flags", "data")

    def __init__(self, at, length, flags, data):
        self.at, self.length, self.flags, self.data = at, length, flags, data


def read_log(path):
    """All entries, in order."""
    entries = []
    with open(path, "rb") as f:
        magic, version, count, sector = struct.unpack("<QQQI", f.read(28))
        if magic != MAGIC or version != 1:
            raise ValueError(f"{path} is no log of dm-log-writes")
        place = sector
        for _ in range(count):
            f.seek(place)
            first, n, flags, data_len = struct.unpack("<QQQQ", f.read(32))
            place += sector
            data = b""
            if flags & MARK:
                data = f.read(data_len).rstrip(b"\0")
            elif not flags & DISCARD and n:
                f.seek(place)
                data = f.read(n * sector)
                place += n * sector
            entries.append(Entry(first * sector, n * sector, flags, data))
    return entries


def _apply(entry, f):
    if entry.flags & MARK or not entry.length:
        return
    f.seek(entry.at)
    f.write(bytes(entry.length) if entry.flags & DISCARD else entry.data)


class Replay:
    """The device, rebuilt step by step in an image file."""

    def __init__(self, entries, image):
        self.entries, self.image = entries, image
        self.durable = 0  # entries applied to the image for good

    def advance(self, cut):
        """Apply for good what must be durable when the power fails behind entry `cut`; returns
        the entries that may or may not be."""
        last = max((i for i in range(self.durable, cut) if self.entries[i].flags & FLUSH),
                   default=self.durable)
        with open(self.image, "r+b") as f:
            for entry in self.entries[self.durable:last]:
                _apply(entry, f)
        self.durable = max(self.durable, last)
        return self.entries[self.durable:cut]

    def write_state(self, loose, rng, path, copy):
        """A state with a random subset of `loose`; FUA writes always; the last one torn."""
        copy(self.image, path)
        keep = rng.choice((0.0, 0.5, 0.9, 1.0))
        with open(path, "r+b") as f:
            for entry in loose:
                if entry.flags & FUA or rng.random() < keep:
                    _apply(entry, f)
                elif not entry.flags & (MARK | DISCARD) and entry.length and rng.random() < 0.3:
                    torn = rng.randrange(0, entry.length, 512)
                    _apply(Entry(entry.at, torn, 0, entry.data[:torn]), f)
