# SPDX-License-Identifier: GPL-2.0-or-later
"""
A real systemd as PID 1 of a PID namespace, on an overlay of the host's root: nothing of it is left
when the test ends, and the network namespace is the test's own.

    s = Systemd("netd", {"sbin/netd": ..., "bin/vnetctl": ...}, unit="…/build/conf/netd.service")
    s.ctl("start", "netd")          systemctl
    s.run("vnetctl", "status")      any program inside
    s.path("/var/lib/netd")         a file of the inside, from here
"""
import os
import shutil
import subprocess
import time

from sandbox import WORK, Failed, Skip, check, die_with_parent, need, sh

# Only the hierarchy that systemd keeps its units in; where the host has the unified one, that.
BOOT = r"""
set -e
mount --make-rprivate /
mount -t overlay overlay -o lowerdir=/,upperdir=$W/upper,workdir=$W/work $W/root
mount -t proc proc $W/root/proc
mount -t sysfs sysfs $W/root/sys
mount -t tmpfs run $W/root/run
mount -t tmpfs tmp $W/root/tmp
mount --rbind /dev $W/root/dev
if grep -q cgroup2 /proc/mounts && ! grep -q name=systemd /proc/mounts; then
	mount -t cgroup2 cgroup $W/root/sys/fs/cgroup
else
	mount -t tmpfs cgroup $W/root/sys/fs/cgroup
	mkdir $W/root/sys/fs/cgroup/systemd
	mount -t cgroup -o none,name=systemd cgroup $W/root/sys/fs/cgroup/systemd
fi
cd $W/root
pivot_root . mnt # a chroot alone would leave the host's root for units' namespaces to begin from
umount -l mnt
exec chroot . /usr/bin/env -i PATH=$PATH container=other \
	/lib/systemd/systemd --system --unit=test.target --show-status=0 --log-target=null
"""


class Systemd:
    def __init__(self, programs, units, timeout=120):
        need("systemctl", "nsenter")
        if not os.path.exists("/lib/systemd/systemd"):
            raise Skip("systemd is not installed")
        self.base = os.path.join(WORK, "systemd")
        upper = os.path.join(self.base, "upper")
        for name in ("upper", "work", "root"):
            os.makedirs(os.path.join(self.base, name))
        for where, path in programs.items():
            self.install(upper, "usr/local/" + where, path)
        for path in units:
            self.install(upper, "usr/local/lib/systemd/system/" + os.path.basename(path), path)
        os.makedirs(upper + "/etc/systemd/system")
        with open(upper + "/etc/systemd/system/test.target", "w") as f:
            f.write("[Unit]\nDefaultDependencies=no\n")
        self.log = open(os.path.join(self.base, "log"), "w+")
        self.process = subprocess.Popen(
            ["unshare", "--pid", "--mount", "--uts", "--ipc", "--cgroup", "--fork", "--kill-child",
             "sh", "-c", BOOT], env={**os.environ, "W": self.base}, stdin=subprocess.DEVNULL,
            stdout=self.log, stderr=self.log, preexec_fn=die_with_parent)
        self.pid = None
        self.wait_for_start(timeout)

    @staticmethod
    def install(upper, where, path):
        to = os.path.join(upper, where)
        os.makedirs(os.path.dirname(to), exist_ok=True)
        shutil.copy(path, to)

    def wait_for_start(self, timeout):
        end = time.monotonic() + timeout
        while True:
            with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as f:
                children = f.read().split()
            if children:
                self.pid = int(children[0])
                if "running" in self.ctl("is-system-running", ok=None):
                    return
            with open(self.log.name) as f:
                said = f.read()
            if self.process.poll() is not None:
                raise Failed(f"systemd does not start: {said}")
            check(time.monotonic() < end, f"systemd is not up after {timeout} s: {said}")
            time.sleep(0.05)

    def path(self, inside):
        return f"/proc/{self.pid}/root{inside}"

    def run(self, *argv, ok=(0,)):
        argv = ["nsenter", "-t", str(self.pid), "-m", "-p", "-r", "-w", *map(str, argv)]
        if ok is None:
            return subprocess.run(argv, text=True, stdout=subprocess.PIPE, timeout=300,
                                  stderr=subprocess.DEVNULL).stdout
        return sh(*argv, ok=ok)

    def ctl(self, *argv, ok=(0,)):
        return self.run("systemctl", *argv, ok=ok)

    def show(self, unit, key):
        return self.ctl("show", "-P", key, unit).strip()
