# SPDX-License-Identifier: GPL-2.0-or-later
"""
A blockd for one test: config, start, kill, stop, URIs, figures.

    with Blockd(volumes={"demo": "1G"}) as server:
        sh("nbdinfo", server.uri("demo"))
        server.kill()       SIGKILL: the process is gone when this returns
        server.start()      returns when its socket answers

BLOCKD and VDISKCTL name the programs, else those in build/ of the checkout.  With
TEST_SERVER=nbdkit the same interface drives `nbdkit file`, which keeps acknowledged writes in the
host's page cache: what a test asks of NBD and not of blockd can so be tried against a server that
others wrote.
"""
import json
import os
import re
import signal
import socket
import struct
import subprocess
import time

from sandbox import TOP, WORK, Failed, Skip, at_failure, check, die_with_parent, sh

UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50}


def size_bytes(text):
    number, unit = re.fullmatch(r"(\d+)([KMGTP]?)", text).groups()
    return int(number) * UNITS[unit]


def program(variable, *parts):
    path = os.environ.get(variable) or os.path.join(TOP, "build", *parts)
    if not os.path.exists(path):
        raise Failed(f"{path} is not built (set {variable} to use another)")
    return path


class Server:
    """What both kinds share: a process with a socket and a log."""

    def __init__(self, volumes, folder=WORK):
        self.volumes, self.folder = volumes, folder
        self.socket = os.path.join(folder, "nbd.sock")
        self.log_path = os.path.join(folder, "server.log")
        self.process = None
        at_failure.append(self.show_log)

    def argv(self):
        raise NotImplementedError

    def uri(self, volume=""):
        return f"nbd+unix:///{volume}?socket={self.socket}"

    def spawn(self):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.argv(), stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, preexec_fn=die_with_parent)

    def start(self, limit_s=120):
        self.spawn()
        end = time.monotonic() + limit_s
        while not self.answers():
            check(self.process.poll() is None, f"server ended with {self.process.returncode}")
            check(time.monotonic() < end, f"server does not listen after {limit_s} s")
            time.sleep(0.005)
        return self

    def answers(self):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(60)
            try:
                s.connect(self.socket)
                greeting = s.recv(18)
                s.sendall(struct.pack(">IQII", 3, 0x49484156454f5054, 2, 0))  # IHAVEOPT, ABORT
                s.recv(20)
                return greeting[:8] == b"NBDMAGIC"
            except (FileNotFoundError, ConnectionRefusedError, ConnectionResetError,
                    BrokenPipeError):
                return False

    @property
    def pid(self):
        return self.process.pid

    def alive(self):
        return self.process.poll() is None

    def kill(self):
        check(self.alive(), f"server ended by itself with {self.process.returncode}")
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self, limit_s=120):
        check(self.alive(), f"server ended by itself with {self.process.returncode}")
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise Failed(f"server does not stop within {limit_s} s") from None
        check(status == 0, f"server stopped with status {status}")

    def log(self):
        if not os.path.exists(self.log_path):
            return ""
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def show_log(self):
        print("--- the server's log, its end:")
        print("\n".join(self.log().splitlines()[-120:]))

    def proc_status(self, field):
        """A field of /proc/PID/status, numbers in kB."""
        with open(f"/proc/{self.pid}/status") as f:
            return int(re.search(rf"^{field}:\s+(\d+)", f.read(), re.M)[1])

    def written_bytes(self):
        """What the process has caused to be written to block devices so far."""
        with open(f"/proc/{self.pid}/io") as f:
            return int(re.search(r"^write_bytes: (\d+)", f.read(), re.M)[1])

    def __enter__(self):
        return self.start()

    def __exit__(self, exc, *_):
        if self.process is None or not self.alive():
            return
        if exc is None:
            self.stop()
        else:
            self.kill()


class Blockd(Server):
    def __init__(self, volumes, pool_size="1G", folder=WORK, pool_keys="", config="",
                 volume_keys=""):
        super().__init__(volumes, folder)
        self.pool_path = os.path.join(folder, "main.pool")
        self.control = os.path.join(folder, "control.sock")
        self.config_path = os.path.join(folder, "blockd.conf")
        self.binary = program("BLOCKD", "blockd", "blockd")
        # sizes of their own: a test must not depend on the host's memory, nor take much of it
        for key, size in (("cache", "64M"), ("data_cache", "32M"), ("buffers", "64M")):
            if not re.search(rf"\b{key} =", pool_keys):
                pool_keys += f" {key} = {size}"
        lines = [f'control = "{self.control}"',
                 f'listen "local" {{ address = "unix:{self.socket}" }}',
                 f'pool "main" {{ path = "{self.pool_path}" size = {pool_size} {pool_keys} '
                 "create = true }"]
        lines += [f'volume "{n}" {{ pool = "main" size = {s} {volume_keys} }}'
                  for n, s in volumes.items()]
        self.config = "\n".join(lines) + "\n" + config
        self.write_config()

    def write_config(self):
        with open(self.config_path, "w") as f:
            f.write(self.config)

    def argv(self):
        return [self.binary, "-c", self.config_path]

    def ctl(self, *args, ok=(0,)):
        return sh(program("VDISKCTL", "blockd", "vdiskctl"), "-s", self.control, *args, ok=ok)

    def ctl_json(self, *args):
        return json.loads(self.ctl("--json", *args))

    def metrics(self):
        """Name (with its labels, as printed) -> value."""
        out = {}
        for line in self.ctl("metrics").splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                out[name] = float(value)
        return out

    def metric(self, name):
        """The sum over all labels."""
        found = [v for k, v in self.metrics().items() if k.split("{")[0] == name]
        check(found, f"no metric {name}")
        return sum(found)

    def verify(self):
        """Offline check of the pool; the server must be down."""
        check(not self.alive(), "the server is still running")
        return sh(program("VDISKCTL", "blockd", "vdiskctl"), "verify", self.pool_path)

    def pool_used_bytes(self):
        return os.stat(self.pool_path).st_blocks * 512


class Nbdkit(Server):
    """`nbdkit file`: one sparse file a volume."""

    def __init__(self, volumes, pool_size="", folder=WORK, pool_keys="", config=""):
        super().__init__(volumes, folder)
        self.disks = os.path.join(folder, "disks")
        os.makedirs(self.disks, exist_ok=True)
        for name, size in volumes.items():
            with open(os.path.join(self.disks, name), "ab") as f:
                f.truncate(size_bytes(size))

    def argv(self):
        if os.path.exists(self.socket):
            os.unlink(self.socket)
        return ["nbdkit", "-f", "-U", self.socket, os.environ.get("NBDKIT_PLUGIN", "file"),
                f"dir={self.disks}"]

    def stop(self, limit_s=120):
        super().stop(limit_s)
        os.path.exists(self.socket) and os.unlink(self.socket)

    def verify(self):
        return ""

    def pool_used_bytes(self):
        return sum(os.stat(os.path.join(self.disks, n)).st_blocks * 512 for n in self.volumes)


def make_server(volumes, **kw):
    """The server under test, by TEST_SERVER."""
    kind = os.environ.get("TEST_SERVER", "blockd")
    if kind not in ("blockd", "nbdkit"):
        raise Skip(f"no server kind '{kind}'")
    return (Blockd if kind == "blockd" else Nbdkit)(volumes, **kw)
