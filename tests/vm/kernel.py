# SPDX-License-Identifier: GPL-2.0-or-later
"""
Debian's stock kernel and a static busybox, unpacked into a cache and never installed.

The cache (VM_CACHE, else .cache/vm of the checkout) holds

    debs/            the two packages, as `apt-get download` named them
    KERNEL/          vmlinuz and lib/modules/KERNEL with modules.dep made by depmod
    busybox          the static binary

Installing them would replace the host's busybox and make an initramfs for a kernel that the host
never boots.  The kernel is the one package that linux-image-cloud-amd64 depends on; apt finds the
newest.  A full cache is used as it is, so that a second run needs no network; VM_REFRESH=1 looks
for a newer kernel.  A folder appears in the cache by rename only, under a lock: several tests may
begin at once, and a killed one leaves nothing half-made.
"""
import fcntl
import glob
import os
import re
import shutil
import subprocess
import tempfile

METAPACKAGE = "linux-image-cloud-amd64"
TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class Unavailable(Exception):
    """The kernel cannot be had here (no network and no cache, a missing tool)."""


def cache_dir():
    return os.environ.get("VM_CACHE") or os.path.join(TOP, ".cache", "vm")


def _run(argv, **kw):
    try:
        return subprocess.run(argv, check=True, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, **kw).stdout
    except FileNotFoundError as e:
        raise Unavailable(f"{argv[0]} is not installed") from e
    except subprocess.TimeoutExpired as e:
        raise Unavailable(f"{' '.join(argv)}: no end after {e.timeout} s") from e
    except subprocess.CalledProcessError as e:
        raise Unavailable(f"{' '.join(argv)}: {e.stderr.strip() or e.returncode}") from e


def _kernel_package():
    out = _run(["apt-cache", "depends", METAPACKAGE])
    found = re.findall(r"Depends: (linux-image-\S+)", out)
    if not found:
        raise Unavailable(f"{METAPACKAGE} is unknown to apt (run apt-get update)")
    return found[0]


def _download(package, debs):
    """The package's file; downloaded unless the cache has it."""
    have = sorted(glob.glob(os.path.join(debs, package + "_*.deb")), key=os.path.getmtime)
    if have and not os.environ.get("VM_REFRESH"):
        return have[-1]
    with tempfile.TemporaryDirectory(dir=debs) as tmp:
        _run(["apt-get", "-q", "download", package], cwd=tmp, timeout=300)
        (deb,) = glob.glob(os.path.join(tmp, "*.deb"))
        final = os.path.join(debs, os.path.basename(deb))
        os.rename(deb, final)
    return final


def _fresh(download):
    """download(); once more with fresh package lists when the old ones name what has gone."""
    try:
        return download()
    except Unavailable:
        if os.geteuid():
            raise
        _run(["apt-get", "-q", "-o", "DPkg::Lock::Timeout=300", "update"], timeout=300)
        return download()


def _unpack_kernel(deb, cache):
    with tempfile.TemporaryDirectory(dir=cache) as tmp:
        _run(["dpkg-deb", "-x", deb, tmp + "/x"])
        (release,) = os.listdir(tmp + "/x/lib/modules")
        out = os.path.join(tmp, release)
        os.makedirs(out + "/lib/modules")
        os.rename(f"{tmp}/x/boot/vmlinuz-{release}", out + "/vmlinuz")
        os.rename(f"{tmp}/x/lib/modules/{release}", f"{out}/lib/modules/{release}")
        _run(["depmod", "-b", out, release])
        shutil.rmtree(os.path.join(cache, release), ignore_errors=True)
        os.rename(out, os.path.join(cache, release))
    return release


class Kernel:
    """What to boot: .vmlinuz, .modules (the folder with modules.dep), .release, .busybox."""

    def __init__(self):
        cache = cache_dir()
        debs = os.path.join(cache, "debs")
        os.makedirs(debs, exist_ok=True)
        with open(os.path.join(cache, "lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.busybox = self._get_busybox(cache, debs)
            self.release = self._get_kernel(cache, debs)
        self.vmlinuz = os.path.join(cache, self.release, "vmlinuz")
        self.modules = os.path.join(cache, self.release, "lib/modules", self.release)

    @staticmethod
    def _get_kernel(cache, debs):
        ready = sorted(glob.glob(os.path.join(cache, "*", "vmlinuz")), key=os.path.getmtime)
        if ready and not os.environ.get("VM_REFRESH"):
            return os.path.basename(os.path.dirname(ready[-1]))
        return _unpack_kernel(_fresh(lambda: _download(_kernel_package(), debs)), cache)

    @staticmethod
    def _get_busybox(cache, debs):
        path = os.path.join(cache, "busybox")
        if not os.path.exists(path):
            deb = _fresh(lambda: _download("busybox-static", debs))
            with tempfile.TemporaryDirectory(dir=cache) as tmp:
                _run(["dpkg-deb", "-x", deb, tmp])
                os.rename(tmp + "/bin/busybox", path)
        return path

    def module_files(self, names):
        """Paths below .modules of the named modules and all that they depend on.  Built-in names
        need no file; an unknown one is a ValueError that names it."""
        deps = {}
        with open(os.path.join(self.modules, "modules.dep")) as f:
            for line in f:
                path, _, need = line.partition(":")
                deps[_module_name(path)] = [path] + need.split()
        files = []
        for name in names:
            if self.is_builtin(name):
                continue
            if _module_name(name) not in deps:
                raise ValueError(f"kernel {self.release} has no module '{name}'")
            files += [p for p in deps[_module_name(name)] if p not in files]
        return files

    def module_tables(self, files):
        """modprobe's tables, with the lines that concern these files."""
        names = {_module_name(path) for path in files}
        of_line = {
            "modules.dep": lambda words: words[0].rstrip(":"),
            "modules.alias": lambda words: words[-1],
            "modules.symbols": lambda words: words[-1],
            "modules.softdep": lambda words: words[1],
        }
        tables = {}
        for table, module_of in of_line.items():
            with open(os.path.join(self.modules, table)) as f:
                tables[table] = "".join(line for line in f if line.strip() and line[0] != "#"
                                        and _module_name(module_of(line.split())) in names)
        return tables

    def is_builtin(self, name):
        with open(os.path.join(self.modules, "modules.builtin")) as f:
            return _module_name(name) in {_module_name(line.strip()) for line in f}


def _module_name(path):
    return re.sub(r"\.ko(\.\w+)?$", "", os.path.basename(path)).replace("-", "_")
