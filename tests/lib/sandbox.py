# SPDX-License-Identifier: GPL-2.0-or-later
"""
A place of its own for one test: namespaces, a work folder, and an end that leaves nothing.

    sandbox.enter("tmpfs")      at the top of a test; the program starts again inside
    sandbox.run(test)           calls test(); exit status 0, 1, or 77 when it raised Skip

enter() re-executes the program under `unshare --mount --net --pid --fork --kill-child`, brings up
lo, and mounts the work folder at WORK.  When the test is killed, its PID namespace takes every
process along, its mount namespace every mount, loop device (autoclear) and tmpfs.

The work folder is
    tmpfs   memory
    ext4    a small file system of its own on a loop device
    disk    a folder on the host's disk, for what is too big for the others.  Removed at the end; a
            killed test's folder is removed by the next one that enters (its lock is free then).
"""
import array
import atexit
import ctypes
import errno
import fcntl
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import traceback

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
WORK = "/media" if os.path.isdir("/media") else "/mnt"
INSIDE = "ASHLAR_SANDBOX"
at_failure = []  # callables that print what helps to understand a failure


class Skip(Exception):
    """This test cannot run here; the text is the reason."""


class Failed(Exception):
    """What was expected is not so."""


def check(ok, text):
    if not ok:
        raise Failed(text)


def need(*programs):
    for program in programs:
        if not shutil.which(program):
            raise Skip(f"{program} is not installed")


def sh(*argv, ok=(0,), **kw):
    """Run a program; its stdout.  An exit status that is not in `ok` is a failure."""
    kw.setdefault("timeout", 300)
    r = subprocess.run([str(a) for a in argv], text=True, stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, **kw)
    if r.returncode not in ok:
        raise Failed(f"{' '.join(map(str, argv))}: exit {r.returncode}\n{r.stdout}{r.stderr}")
    return r.stdout


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def enter(kind="tmpfs", size_mib=2048):
    if os.environ.get(INSIDE) != str(os.getpid()):
        # --kill-child: SIGKILL to the child when unshare dies, and we die with whoever started us.
        os.environ[INSIDE] = "1"  # the PID inside
        die_with_parent()
        folder = _disk_folder() if kind == "disk" else ""
        if folder:
            return _supervise(folder)
        os.execvp("unshare", _argv())
    if os.geteuid():
        _skip("needs root")
    _lo_up()
    if kind == "tmpfs":
        sh("mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "work", WORK)
    elif kind == "ext4":
        _mount_ext4(size_mib)
    else:
        sh("mount", "--bind", os.path.join(os.environ["ASHLAR_FOLDER"], "work"), WORK)
    os.chdir(WORK)


def _argv():
    return ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc",
            sys.executable] + sys.argv


def _lock(path, how):
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, how)
    except BlockingIOError:
        os.close(fd)
        return -1
    return fd


def _disk_folder():
    base = os.environ.get("TEST_DISK") or os.path.join(TOP, ".cache", "work")
    os.makedirs(base, exist_ok=True)
    begin = _lock(os.path.join(base, ".lock"), fcntl.LOCK_EX)  # one begins at a time
    for name in os.listdir(base):
        path = os.path.join(base, name)
        if os.path.isdir(path):
            fd = _lock(os.path.join(path, "lock"), fcntl.LOCK_EX | fcntl.LOCK_NB)
            if fd >= 0:
                shutil.rmtree(path, ignore_errors=True)
                os.close(fd)
    path = tempfile.mkdtemp(dir=base)
    os.mkdir(os.path.join(path, "work"))
    _lock(os.path.join(path, "lock"), fcntl.LOCK_EX)  # until this process ends
    os.close(begin)
    return path


def _supervise(folder):
    os.environ["ASHLAR_FOLDER"] = folder
    atexit.register(shutil.rmtree, folder, True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    child = subprocess.Popen(_argv(), preexec_fn=die_with_parent)
    sys.exit(child.wait() & 0xff)


def _mount_ext4(size_mib):
    sh("mount", "-t", "tmpfs", "-o", f"size={size_mib + 16}m", "image", WORK)
    image = os.path.join(WORK, "image")
    sh("truncate", "-s", f"{size_mib}M", image)
    sh("mkfs.ext4", "-q", "-E", "lazy_itable_init=0", image)
    try:
        sh("mount", "-o", "loop", image, WORK)  # mount sets autoclear
    except Failed as e:
        _skip(f"no loop device: {e}")


def _lo_up():
    with socket.socket() as s:
        flags = struct.pack("16sH14x", b"lo", 1)  # IFF_UP
        fcntl.ioctl(s, 0x8914, array.array("B", flags))  # SIOCSIFFLAGS


class Loop:
    """A loop device on a file: `with Loop(path) as device`.  Autoclear: it goes with the last one
    who has it open, this test at the latest, killed or not."""
    GET_FREE, CONFIGURE, SET_CAPACITY, AUTOCLEAR = 0x4C82, 0x4C0A, 0x4C07, 4

    def __init__(self, path):
        try:
            with open("/dev/loop-control", "rb") as control, open(path, "r+b") as backing:
                for _ in range(1000):  # another process may take the free one before us
                    self.device = f"/dev/loop{fcntl.ioctl(control, self.GET_FREE)}"
                    self.fd = os.open(self.device, os.O_RDWR | os.O_CLOEXEC)
                    config = struct.pack("II40x12xI160x16x64x", backing.fileno(), 0, self.AUTOCLEAR)
                    try:
                        fcntl.ioctl(self.fd, self.CONFIGURE, config)
                        return
                    except OSError as e:
                        os.close(self.fd)
                        if e.errno != errno.EBUSY:
                            raise
        except OSError as e:
            raise Skip(f"no loop device: {e}") from None
        raise Skip("no loop device is free")

    def resized(self):
        """The file has another size: the device follows."""
        fcntl.ioctl(self.fd, self.SET_CAPACITY)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.fd)


def _skip(reason):
    print("skipped: " + reason)
    sys.exit(77)


def run(test):
    try:
        test()
    except Skip as e:
        _skip(str(e))
    except BaseException as e:
        for show in at_failure:
            try:
                show()
            except Exception:  # pylint: disable=broad-except
                print(traceback.format_exc())
        if isinstance(e, Failed):
            where = traceback.extract_tb(e.__traceback__)[-2 if len(
                traceback.extract_tb(e.__traceback__)) > 2 else -1]
            print(f"FAILED: {e}\n  at {os.path.basename(where.filename)}:{where.lineno}")
        else:
            print(traceback.format_exc())
        sys.stdout.flush()
        sys.exit(1)
    print("ok")
