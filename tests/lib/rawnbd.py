# SPDX-License-Identifier: GPL-2.0-or-later
"""
NBD by hand: a client that sends what it is told, legal or not, and the server to tell it to.

    with Server(["demo=1048576"]) as server:
        c = server.connect()
        c.go("demo")
        c.request(READ, offset=0, length=4096)
        reply = c.reply()
"""
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time

READ, WRITE, DISC, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS = range(8)
EXPORT_NAME, ABORT, LIST, STARTTLS, INFO, GO = 1, 2, 3, 5, 6, 7
STRUCTURED_REPLY, LIST_META, SET_META = 8, 9, 10
ACK = 1
ERR_UNSUP, ERR_POLICY, ERR_INVALID = (1 << 31 | n for n in (1, 2, 3))
ERR_UNKNOWN, ERR_SHUTDOWN, ERR_TOO_BIG = (1 << 31 | n for n in (6, 7, 9))
IHAVEOPT, OPT_REPLY = 0x49484156454f5054, 0x3e889045565a9
MIB = 1 << 20


WAIT_S = 60  # for what must come: the machine may be slow and busy


class Closed(Exception):
    """The server has closed the connection."""


def check(ok, text="check failed"):
    if not ok:
        raise AssertionError(text)


def eventually(condition, text, limit_s=WAIT_S):
    end = time.monotonic() + limit_s
    while not condition():
        check(time.monotonic() < end, text)
        time.sleep(0.01)


def context_option(name, queries):
    """The payload of LIST_META and SET_META."""
    raw = name.encode()
    data = struct.pack(">I", len(raw)) + raw + struct.pack(">I", len(queries))
    for query in queries:
        data += struct.pack(">I", len(query)) + query.encode()
    return data


class Client:
    def __init__(self, sock):
        self.sock, self.structured = sock, False
        self.sock.settimeout(WAIT_S)
        check(self.recv(18) == struct.pack(">8sQH", b"NBDMAGIC", IHAVEOPT, 3), "greeting")

    def recv(self, length):
        data = bytearray()
        while len(data) < length:
            try:
                part = self.sock.recv(length - len(data))
            except ConnectionResetError:
                part = b""
            if not part:
                raise Closed(f"after {len(data)} of {length} bytes")
            data += part
        return bytes(data)

    def is_closed(self, limit_s=WAIT_S):
        self.sock.settimeout(limit_s)
        try:
            self.recv(1)
        except (Closed, ConnectionResetError):
            return True
        except socket.timeout:
            return False
        raise AssertionError("bytes where the end was expected")

    def close(self):
        self.sock.close()

    def goodbye(self):
        """DISC: gives a write lock back, which close() alone keeps for as long as we live."""
        self.sock.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 2, 0, 0, 0))
        self.close()

    def flags(self, value=3):
        self.sock.sendall(struct.pack(">I", value))
        return self

    def option(self, number, data=b""):
        self.sock.sendall(struct.pack(">QII", IHAVEOPT, number, len(data)) + data)

    def option_reply(self, number):
        magic, option, kind, length = struct.unpack(">QIII", self.recv(20))
        check(magic == OPT_REPLY and option == number, f"reply {magic:x} to option {option}")
        return kind, self.recv(length)

    def option_result(self, number, data=b""):
        """All replies to an option: (last kind, last data, [data of those before])."""
        self.option(number, data)
        before = []
        while True:
            kind, data = self.option_reply(number)
            if kind == ACK or kind >> 31:
                return kind, data, before
            before.append(data)

    def go_result(self, name, option=GO):
        raw = name.encode()
        return self.option_result(option, struct.pack(">I", len(raw)) + raw + b"\0\0")

    def go(self, name, structured=True, contexts=("base:allocation",)):
        self.flags()
        if structured:
            check(self.option_result(STRUCTURED_REPLY)[0] == ACK, "structured replies")
            self.structured = True
            if contexts:
                check(self.option_result(SET_META, context_option(name, contexts))[0] == ACK)
        kind, text, _ = self.go_result(name)
        check(kind == ACK, f"GO {name}: {kind:x} {text}")
        return self

    def send_request(self, command, offset=0, length=0, cookie=1, flags=0, data=b""):
        self.sock.sendall(struct.pack(">IHHQQI", 0x25609513, flags, command, cookie, offset,
                                      length) + data)

    def chunk(self, begin=b""):
        """`begin`: what has been received of it."""
        magic, flags, kind, cookie, length = struct.unpack(">IHHQI",
                                                           begin + self.recv(20 - len(begin)))
        check(magic == 0x668e33ef, f"chunk magic {magic:x}")
        return flags, kind, cookie, self.recv(length)

    def reply(self, length=0, in_chunks=False):
        """(error, cookie, data) of one whole reply; `length`: of a simple READ's data;
        `in_chunks`: a simple reply would be wrong although there are structured ones."""
        begin = self.recv(16)
        if begin[:4] == bytes.fromhex("67446698"):
            check(not (self.structured and in_chunks), "a simple reply")
            error, cookie = struct.unpack(">IQ", begin[4:])
            return error, cookie, self.recv(length) if not error else b""
        check(self.structured, f"reply magic {begin[:4].hex()}")
        error, parts = 0, []
        while True:
            flags, kind, cookie, data = self.chunk(begin)
            begin = b""
            if kind >> 15:
                error = struct.unpack(">I", data[:4])[0]
            elif kind == 1:
                parts.append((struct.unpack(">Q", data[:8])[0], data[8:]))
            elif kind == 2:
                at, length = struct.unpack(">QI", data)
                parts.append((at, bytes(length)))
            elif kind == 5:
                parts.append((0, data))
            if flags & 1:
                return error, cookie, b"".join(part for _, part in sorted(parts))

    def do(self, command, offset=0, length=0, flags=0, data=b"", cookie=7):
        self.send_request(command, offset, length or len(data), cookie, flags, data)
        error, got, reply = self.reply(length if command == READ else 0,
                                       command in (READ, BLOCK_STATUS))
        check(got == cookie, "cookie")
        return error, reply

    def status(self, offset, length, flags=0, cookie=7):
        """(error, {context id: [(length, flags)]})."""
        self.send_request(BLOCK_STATUS, offset, length, cookie, flags)
        error, found = 0, {}
        if not self.structured:
            return self.reply()[0], found
        while True:
            done, kind, got, data = self.chunk()
            check(got == cookie, "cookie")
            if kind >> 15:
                error = struct.unpack(">I", data[:4])[0]
            elif kind == 5:
                context = struct.unpack(">I", data[:4])[0]
                check(context not in found and len(data) > 4, "a chunk for each context")
                found[context] = list(struct.iter_unpack(">II", data[4:]))
            if done & 1:
                return error, found

    def write(self, offset, data):
        check(self.do(WRITE, offset, data=data)[0] == 0, "write")

    def read(self, offset, length):
        error, data = self.do(READ, offset, length)
        check(error == 0 and len(data) == length, f"read: {error}")
        return data


class Server:
    """tests/blockd/fake_blockd, whose path is the first argument of the test."""

    def __init__(self, volumes, *options, tcp=None):
        self.folder = tempfile.TemporaryDirectory(prefix="rawnbd-")
        self.path = os.path.join(self.folder.name, "nbd.sock")
        self.argv = [sys.argv[1], *options, f"unix:{self.path}", *([tcp] if tcp else []), "--",
                     *volumes]

    def __enter__(self):
        self.process = subprocess.Popen(self.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)
        check(self.process.stdout.readline() == "listening\n", "server does not start")
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.folder.cleanup()

    def connect(self, path=None):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(path or self.path)
        return Client(sock)

    def connect_tcp(self, port, host="127.0.0.1"):
        return Client(socket.create_connection((host, port)))

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        lines = []
        while (text := self.process.stdout.readline().strip()) != ".":
            check(text, "server is gone")
            lines.append(text)
        return lines

    def figures(self):
        """All name=number of `stat`, by the first word of their line."""
        found = {}
        for line in self.ask("stat"):
            for word in line.split():
                if "=" in word:
                    name, _, value = word.partition("=")
                    found.setdefault(line.split()[0], {})[name] = int(value)
        return found

    def terminate(self):
        self.process.terminate()

    def ended(self, limit_s=WAIT_S):
        return self.process.wait(limit_s)
