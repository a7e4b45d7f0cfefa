# SPDX-License-Identifier: GPL-2.0-or-later
"""
The servers that tests/bench/nbd compares: each has one export "demo" on a unix socket, kept in
files of its own folder.

    peer = make("nbdkit", folder, "disk", 1024)
    peer.prepare(); peer.start(); ...; peer.stop()

A medium is "ram" (the folder is a tmpfs) or "disk".  What a peer keeps in the kernel's page cache
goes with drop_caches(), which touches nothing but the peer's own files.
"""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time

from sandbox import TOP, Failed, die_with_parent, sh

BUILD = os.environ.get("BUILD") or os.path.join(TOP, "build")
START_LIMIT_S = 120
REST_LIMIT_S = 30
pinned = True  # the server on the last core, clients on the others


def cores(server):
    """Where a server, or a client, may run."""
    have = sorted(os.sched_getaffinity(0))
    if not pinned or len(have) < 2:
        return have
    return have[-1:] if server else have[:-1]


def begin_child(server):
    """For subprocess' preexec_fn."""
    where = cores(server)

    def begin():
        die_with_parent()
        os.sched_setaffinity(0, where)
    return begin


class Peer:
    name = text = None
    media = ("ram", "disk")
    volatile = False  # its data dies with the process
    is_warm = False   # what is measured was read since it was written or the server started

    def __init__(self, label, folder, medium, size_mib, rundir):
        self.label, self.folder, self.medium, self.size_mib = label, folder, medium, size_mib
        self.path = os.path.join(folder, "image")
        self.rundir = rundir
        self.socket = os.path.join(rundir, "nbd.sock")
        self.process = None

    def prepare(self):
        """Make the empty files."""
        with open(self.path, "wb") as f:
            f.truncate(self.size_mib << 20)

    def argv(self):
        raise NotImplementedError

    def uri(self):
        return f"nbd+unix:///demo?socket={self.socket}"

    def start(self):
        """Returns when the server answers; the seconds it took."""
        begin = time.monotonic()
        log_path = os.path.join(self.rundir, "log")
        with open(log_path, "ab") as log:
            self.process = subprocess.Popen(self.argv(), stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, preexec_fn=begin_child(True))
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() - begin > START_LIMIT_S:
                with open(log_path, encoding="utf-8", errors="replace") as f:
                    raise Failed(f"{self.label} does not start:\n{f.read()}")
            time.sleep(0.002)
        return time.monotonic() - begin

    def answers(self):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(10)
            try:
                s.connect(self.socket)
                return s.recv(8) == b"NBDMAGIC"
            except OSError:
                return False

    def cpu_s(self):
        """CPU time of the process with all its threads, ended ones included."""
        return time.clock_gettime(~self.process.pid << 3 | 2)  # clock_getcpuclockid(3)

    def rest(self):
        """Returns when the server has nothing to do any more: caches are prefaulted by then."""
        end = time.monotonic() + REST_LIMIT_S
        while time.monotonic() < end:
            before = self.cpu_s()
            time.sleep(0.2)
            if self.cpu_s() - before < 0.01:
                return

    def user_s(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as f:
            return int(f.read().rpartition(")")[2].split()[11]) / os.sysconf("SC_CLK_TCK")

    def signal(self, number):
        if self.process:
            self.process.send_signal(number)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise Failed(f"{self.label} does not end") from None
            self.process = None
        if os.path.exists(self.socket):
            os.unlink(self.socket)

    def stop(self):
        self.signal(signal.SIGTERM)

    def kill(self):
        self.signal(signal.SIGKILL)

    def drop_caches(self):
        for name in os.listdir(self.folder):
            with open(os.path.join(self.folder, name), "rb") as f:
                os.fsync(f.fileno())
                os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def remove(self):
        shutil.rmtree(self.folder, ignore_errors=True)


class Blockd(Peer):
    """Pool keys besides the defaults can be given: they are stated with the results."""
    name, text = "blockd", "blockd"
    build = BUILD
    pool_keys = ""
    pool_mib = None  # default: twice the volume and room for the journal

    def prepare(self):
        pool_mib = self.pool_mib or 2 * self.size_mib + 320
        self.config = os.path.join(self.rundir, "blockd.conf")
        self.write_config(pool_mib, {"demo": self.size_mib})

    def write_config(self, pool_mib, volumes):
        # A listener's and a pool's defaults as they come; control and shadow area on tmpfs, as
        # /run is.
        with open(self.config, "w", encoding="utf-8") as f:
            f.write(f'control = "{self.rundir}/control.sock"\n'
                    f'listen "local" {{ address = "unix:{self.socket}" }}\n'
                    f'pool "main" {{ path = "{self.path}" size = {pool_mib}M create = true '
                    f'{self.pool_keys} }}\n')
            for name, mib in volumes.items():
                f.write(f'volume "{name}" {{ pool = "main" size = {mib}M }}\n')

    def argv(self):
        return [os.path.join(self.build, "blockd", "blockd"), "-c", self.config]

    def ctl(self, *args):
        return sh(os.path.join(self.build, "blockd", "vdiskctl"), "-s",
                  f"{self.rundir}/control.sock", *args)

    def ctl_json(self, *args):
        return json.loads(self.ctl("--json", *args))

    def effective(self):
        """The keys of the pool with all defaults filled in."""
        text = sh(*self.argv(), "-nv")
        pool = text[text.index("pool "):]
        lines = [line.strip() for line in pool[:pool.index("}")].splitlines()[1:]]
        return ", ".join(x for x in lines if not x.startswith(("path", "size", "create")))


class NbdkitFile(Peer):
    name, text = "nbdkit", "nbdkit file"

    def argv(self):
        return ["nbdkit", "-f", "-U", self.socket, "file", self.path]


class NbdkitMemory(Peer):
    name, text = "nbdkit-mem", "nbdkit memory"
    media = ("ram",)
    volatile = True

    def prepare(self):
        pass

    def argv(self):
        return ["nbdkit", "-f", "-U", self.socket, "memory", f"{self.size_mib}M"]


class QemuNbd(Peer):
    format, options, cache = "raw", "", ["--cache=writeback"]

    def prepare(self):
        sh("qemu-img", "create", "-q", "-f", self.format, *(["-o", self.options] * bool(
            self.options)), self.path, f"{self.size_mib}M")

    def argv(self):
        return ["qemu-nbd", "-t", "-e", "16", "-f", self.format, *self.cache, "-x", "demo", "-k",
                self.socket, self.path]


class QemuRaw(QemuNbd):
    name, text = "qemu-raw", "qemu-nbd raw"


class Qcow2(QemuNbd):
    name, text, format = "qcow2", "qcow2 writeback", "qcow2"


class Qcow2None(Qcow2):
    name, text = "qcow2-none", "qcow2 none+io_uring"
    media = ("disk",)
    cache = ["--cache=none", "--aio=io_uring"]


class StorageDaemon(QemuNbd):
    """128 KiB clusters with 4 KiB subclusters."""
    name, text, format = "qsd", "qcow2 extended L2", "qcow2"
    options = "extended_l2=on,cluster_size=128k"

    def argv(self):
        return ["qemu-storage-daemon",
                "--blockdev", f"driver=file,node-name=file,filename={self.path}",
                "--blockdev", "driver=qcow2,node-name=disk,file=file",
                "--nbd-server", f"addr.type=unix,addr.path={self.socket},max-connections=16",
                "--export", "type=nbd,id=demo,node-name=disk,name=demo,writable=on"]


KINDS = {c.name: c for c in (Blockd, NbdkitFile, NbdkitMemory, QemuRaw, Qcow2, Qcow2None,
                             StorageDaemon)}


def kind(label):
    """A label is a name of KINDS; blockd+KEYS has other keys in its pool section, blockd@BUILD is
    the blockd of another build folder."""
    return re.split("[@+]", label)[0]


def make(label, folder, medium, size_mib, rundir):
    os.makedirs(folder, exist_ok=True)
    os.makedirs(rundir, exist_ok=True)
    peer = KINDS[kind(label)](label, folder, medium, size_mib, rundir)
    rest, _, build = label.partition("@")
    keys = rest.partition("+")[2]
    if build:
        peer.build = os.path.abspath(build)
    if keys:
        peer.pool_keys = keys.replace("+", " ")
    return peer


def versions():
    out = [sh(os.path.join(BUILD, "blockd", "blockd"), "--version").split("\n")[0]]
    for argv in (["nbdkit", "--version"], ["qemu-nbd", "--version"], ["fio", "--version"]):
        out.append(sh(*argv).split("\n")[0])
    return out
