# SPDX-License-Identifier: GPL-2.0-or-later
"""
Hosts joined by WireGuard in user space, for tests and benchmarks.

    namespace "a"                 namespace "b"
    10.9.0.1 wga --- netd-wg      netd-wg --- wgb 10.9.0.2
                         eth0 --- eth0
                  192.0.2.1/24    192.0.2.2/24      and 2001:db8::1, ::2

    a, b = wire("a", "b")
    wga = Wg(a, "wga", 1)                        netd-wg alone; program=GO for wireguard-go
    wgb = Wg(b, "wgb", 2)
    join(wga, wgb)                               keys, endpoints, allowed-IPs by wg(8)
"""
import os
import re
import shutil
import subprocess
import time

from hostnet import Namespace, sh
from sandbox import TOP, WORK, check, die_with_parent

GO = "wireguard-go"


def netd_wg():
    return os.environ.get("NETD_WG") or os.path.join(TOP, "build", "netd", "netd-wg")


def prepare():
    """Mounts of our own: /run for names and sockets, /sys of this namespace."""
    sh("mount", "-t", "tmpfs", "run", "/run")
    sh("mount", "-t", "sysfs", "sysfs", "/sys")
    os.makedirs("/run/netns", exist_ok=True)
    os.makedirs("/run/wireguard", exist_ok=True)
    if not os.path.exists("/var/run/wireguard"):  # where wireguard-go looks
        os.makedirs("/var/run/wireguard", exist_ok=True)


def wire(*names, mtu=1500):
    """Namespaces on one link each to the first: 192.0.2.N, 2001:db8::N (N from 1)."""
    hosts = [Namespace(n) for n in names]
    first = hosts[0]
    if len(hosts) > 2:
        first.sh("ip", "link", "add", "wire", "type", "bridge")
    for i, h in enumerate(hosts):
        if i == 0:
            continue
        near = "eth0" if len(hosts) == 2 else f"port{i}"
        first.sh("ip", "link", "add", near, "mtu", mtu, "type", "veth", "peer", "eth0", "mtu", mtu,
                 "netns", h.name)
        if len(hosts) > 2:
            first.sh("ip", "link", "set", near, "up", "master", "wire")
    for i, h in enumerate(hosts, 1):
        dev = "wire" if i == 1 and len(hosts) > 2 else "eth0"
        h.outer4, h.outer6, h.dev = f"192.0.2.{i}", f"2001:db8::{i}", dev
        h.sh("ip", "address", "add", h.outer4 + "/24", "dev", dev)
        h.sh("ip", "address", "add", h.outer6 + "/64", "dev", dev, "nodad")
        h.sh("ip", "link", "set", dev, "up")
    return hosts


class Wg:
    """One end of a tunnel, configured by wg(8)."""

    def __init__(self, host, name, number, program=None, port=None, net=9, env=None, mtu=1420):
        self.host, self.name, self.number, self.net = host, name, number, net
        self.program = program or netd_wg()
        self.port = port or 5000 + number
        self.key = subprocess.run(["wg", "genkey"], text=True, stdout=subprocess.PIPE,
                                  check=True).stdout.strip()
        self.public = subprocess.run(["wg", "pubkey"], text=True, input=self.key,
                                     stdout=subprocess.PIPE, check=True).stdout.strip()
        self.inner4, self.inner6 = f"10.{net}.0.{number}", f"fd{net:02d}::{number}"
        self.env = {**os.environ, "LOG_LEVEL": "error", **(env or {})}
        self.mtu = mtu
        self.start()

    def start(self):
        self.log = open(os.path.join(WORK, self.name + ".log"), "ab")
        self.process = subprocess.Popen(self.host.argv(self.program, "-f", self.name),
                                        stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                        env=self.env, preexec_fn=die_with_parent)
        end = time.monotonic() + 60
        while not os.path.exists(f"/run/wireguard/{self.name}.sock"):
            check(self.process.poll() is None, f"{self.name}: {self.show_log()}")
            check(time.monotonic() < end, f"{self.name} does not come up")
            time.sleep(0.01)
        with open(self.path("key"), "w", encoding="ascii") as f:
            f.write(self.key)
        self.wg("set", self.name, "listen-port", self.port, "private-key", self.path("key"))
        self.host.sh("ip", "address", "add", self.inner4 + "/24", "dev", self.name)
        self.host.sh("ip", "address", "add", self.inner6 + "/64", "dev", self.name, "nodad")
        self.host.sh("ip", "link", "set", self.name, "mtu", self.mtu, "up")

    def stop(self):
        """The device goes with it."""
        self.process.terminate()
        self.process.wait()

    def path(self, what):
        return os.path.join(WORK, f"{self.name}.{what}")

    def wg(self, *argv, **kw):
        return self.host.sh("wg", *argv, **kw)

    def show_log(self):
        with open(os.path.join(WORK, self.name + ".log"), encoding="utf-8", errors="replace") as f:
            return f.read()[-2000:]

    def add(self, other, endpoint=True, psk=None, v6=False, allowed=None, keepalive=None):
        argv = ["set", self.name, "peer", other.public]
        if endpoint:
            outer = f"[{other.host.outer6}]" if v6 else other.host.outer4
            argv += ["endpoint", f"{outer}:{other.port}"]
        if psk:
            argv += ["preshared-key", psk]
        if keepalive:
            argv += ["persistent-keepalive", keepalive]
        argv += ["allowed-ips", allowed or f"{other.inner4}/32,{other.inner6}/128"]
        self.wg(*argv)

    def pids(self):
        """Our processes: the program's and its children's."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as f:
                    words = f.read().split(b"\0")
            except OSError:
                continue
            if self.name.encode() in words and b"ip" not in words[0].split(b"/")[-1:]:
                found.append(int(pid))
        return found

    def data_pid(self):
        """The process that carries packets."""
        for pid in self.pids():
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                words = f.read().split(b"\0")
            if b"--link" in words or os.path.basename(self.program) == GO:
                return pid
        return None

    def cpu_s(self):
        total = 0.0
        for pid in self.pids():
            with open(f"/proc/{pid}/stat", encoding="ascii") as f:
                fields = f.read().rsplit(")", 1)[1].split()
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return total

    def rss_kib(self):
        with open(f"/proc/{self.data_pid()}/status", encoding="ascii") as f:
            for line in f:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1])
        return 0

    def dump(self):
        """wg show dump, peers by public key."""
        rows = [r.split("\t") for r in self.wg("show", self.name, "dump").splitlines()]
        return rows[0], {r[0]: r for r in rows[1:]}


class Host:
    """netd's side of a netd-wg (tests/wg/host.c), by lines; it hears all that netd-wg counts."""

    def __init__(self, ns, log=None):
        self.process = subprocess.Popen(ns.argv(os.environ["WG_HOST"]), stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=log, text=True,
                                        env={**os.environ, "NETD_WG": netd_wg()},
                                        preexec_fn=die_with_parent)

    def say(self, line, ok=True):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        out = []
        while (got := self.process.stdout.readline()) != ".\n":
            check(got, f"the host ended at \"{line}\"")
            out.append(got)
        text = "".join(out)
        failed = any(row.startswith("error ") for row in out)
        check(failed != ok, f"{line}: {text}")
        return text

    def count(self, name):
        return int(re.search(rf"^{name}=(\d+)$", self.say("get"), re.M)[1])


def join(one, other, psk=None, v6=False, both=True):
    one.add(other, psk=psk, v6=v6)
    other.add(one, psk=psk, v6=v6, endpoint=both)


def have_go():
    return shutil.which(GO) is not None
