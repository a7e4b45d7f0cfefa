# SPDX-License-Identifier: GPL-2.0-or-later
"""
An initramfs for one run: busybox, kernel modules, programs with their shared libraries, files.

Written here in the cpio "newc" form (Linux Documentation/driver-api/early-userspace/
buffer-format.rst) instead of by cpio(1): device nodes then need no privilege, owners are root, and
nothing is staged on disk.  Not compressed: under emulation unpacking costs more than reading.
"""
import os
import re
import stat
import subprocess


class Initramfs:
    def __init__(self):
        self.nodes = {}  # guest path without leading '/': (mode, bytes, rdev)
        self.applets = []  # busybox's commands, as paths
        for d in ("dev", "proc", "sys", "tmp", "run", "etc", "mnt", "newroot", "root"):
            self.add_dir("/" + d)
        self.add_node("/dev/console", stat.S_IFCHR | 0o600, 5, 1)

    def _put(self, path, mode, data=b"", rdev=(0, 0)):
        path = os.path.normpath(path).lstrip("/")
        if not path or path == ".":
            return
        self._put_parents(path)
        self.nodes[path] = (mode, data, rdev)

    def _put_parents(self, path):
        parent = os.path.dirname(path)
        if parent and parent not in self.nodes:
            self._put(parent, stat.S_IFDIR | 0o755)

    def add_dir(self, path):
        self._put(path, stat.S_IFDIR | 0o755)

    def add_node(self, path, mode, major, minor):
        self._put(path, mode, rdev=(major, minor))

    def add_bytes(self, path, data, mode=0o644):
        self._put(path, stat.S_IFREG | mode, data)

    def add_link(self, path, target):
        self._put(path, stat.S_IFLNK | 0o777, target.encode())

    def add_file(self, host, guest=None, libraries=True):
        """A file, or a folder with all that is in it; a program brings its shared libraries."""
        guest = guest or os.path.abspath(host)
        if os.path.isdir(host):
            self.add_dir(guest)
            for name in sorted(os.listdir(host)):
                self.add_file(os.path.join(host, name), os.path.join(guest, name), libraries)
            return
        with open(host, "rb") as f:
            data = f.read()
        self.add_bytes(guest, data, stat.S_IMODE(os.stat(host).st_mode))
        if libraries and data[:4] == b"\x7fELF":
            for lib in shared_libraries(host):
                if lib.lstrip("/") not in self.nodes:
                    self.add_file(lib, lib, libraries=False)

    def add_busybox(self, path):
        """busybox as /bin/busybox, and its other names as links to it, unless a program of our own
        has the name, wherever it is.  The shell is the host's dash: busybox's own prefers its
        built-in `ip` to the real one, whatever PATH says."""
        self.add_file(path, "/bin/busybox", libraries=False)
        self.applets = subprocess.run([path, "--list-full"], check=True, text=True,
                                      stdout=subprocess.PIPE).stdout.split()
        self.add_file("/bin/dash", "/bin/sh")
        self.add_dir("/sbin")
        self.add_dir("/usr/bin")
        self.add_dir("/usr/sbin")

    def add_modules(self, kernel, names):
        """The modules with all that they need, and the tables of modprobe as far as they tell of
        these: reading all of them takes it longer than loading."""
        base = f"/lib/modules/{kernel.release}"
        files = kernel.module_files(names)
        for path in files:
            self.add_file(os.path.join(kernel.modules, path), f"{base}/{path}", libraries=False)
        for name, text in kernel.module_tables(files).items():
            self.add_bytes(f"{base}/{name}", text.encode())

    def _link_applets(self):
        places = ("usr/sbin", "usr/bin", "sbin", "bin")
        for path in self.applets:
            name = os.path.basename(path)
            if not any(f"{place}/{name}" in self.nodes for place in places):
                self.add_link(path, "/bin/busybox")

    def write(self, f):
        self._link_applets()
        # A parent always comes before what is in it: shorter paths sort first.
        for ino, name in enumerate(sorted(self.nodes), start=1):
            mode, data, rdev = self.nodes[name]
            f.write(_record(name, ino, mode, data, rdev))
        f.write(_record("TRAILER!!!", 0, 0, b"", (0, 0)))


def _record(name, ino, mode, data, rdev):
    raw = name.encode() + b"\0"
    fields = (ino, mode, 0, 0, 1, 0, len(data), 0, 0, rdev[0], rdev[1], len(raw), 0)
    head = b"070701" + b"".join(b"%08X" % v for v in fields) + raw
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)


def shared_libraries(path):
    """Absolute paths of the libraries and the loader that a program needs; [] if it is static."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("LD_")}
    out = subprocess.run(["ldd", path], env=env, text=True, stdout=subprocess.PIPE,
                         stderr=subprocess.DEVNULL)
    if out.returncode:
        return []
    missing = re.findall(r"^\s*(\S+) => not found", out.stdout, re.M)
    if missing:
        raise FileNotFoundError(f"{path}: library {missing[0]} not found")
    return re.findall(r"(?:=> |^\s+)(/\S+) \(0x", out.stdout, re.M)
