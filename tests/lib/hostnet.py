# SPDX-License-Identifier: GPL-2.0-or-later
"""
A VM host for one test: its network namespace (the sandbox's own), an internet, guests, a netd.

                     this namespace = the host
      inet0 --------- eth0 192.0.2.2/24             guests.10 --- vm1 --------- eth0
    namespace              2001:db8::2/64               (bridges by netd)    namespace "vm1"
   "internet"  192.0.2.1, 2001:db8::1

    sandbox.enter()
    net = HostNet()
    vm1 = net.guest("vm1", "10.10.0.11/24", "10.10.0.1")
    netd = Netd(net, CONFIG)          starts it; CONFIG is the text after control and state
    netd.ctl("status")                vnetctl; JSON with ctl_json()
    netd.kill(); netd.start()

A guest is a namespace behind a veth whose host side is a port with `existing = true`.
"""
import json
import os
import signal
import subprocess
import sys
import time

from sandbox import TOP, WORK, Failed, at_failure, check, die_with_parent, sh

ANSWER_S = 30  # what must come is waited for so long: the machine may be slow and busy
SILENCE_S = 1  # what must not come
HOST4, INET4 = "192.0.2.2", "192.0.2.1"
HOST6, INET6 = "2001:db8::2", "2001:db8::1"

# Answers each connection or datagram with a word and the address that it came from.
SERVER = """
import socket, sys, threading
proto, addr, port, word = sys.argv[1:5]
family = socket.AF_INET6 if ":" in addr else socket.AF_INET
kind = socket.SOCK_STREAM if proto == "tcp" else socket.SOCK_DGRAM
s = socket.socket(family, kind)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind((addr, int(port)))
if proto == "tcp":
    s.listen(64)
print("ready", flush=True)
while True:
    if proto == "tcp":
        c, peer = s.accept()
        c.sendall(f"{word} {peer[0]}".encode())
        c.close()
    else:
        data, peer = s.recvfrom(2048)
        s.sendto(f"{word} {peer[0]}".encode(), peer)
"""

CLIENT = """
import socket, sys
proto, addr, port, timeout, source = sys.argv[1:6]
family = socket.AF_INET6 if ":" in addr else socket.AF_INET
kind = socket.SOCK_STREAM if proto == "tcp" else socket.SOCK_DGRAM
s = socket.socket(family, kind)
s.settimeout(float(timeout))
if int(source):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("", int(source)))
try:
    s.connect((addr, int(port)))
    if proto == "udp":
        s.send(b"hello")
    print(s.recv(2048).decode())
except OSError as e:
    sys.exit(3)
"""


def program(variable, name):
    path = os.environ.get(variable) or os.path.join(TOP, "build", "netd", name)
    if not os.path.exists(path):
        raise Failed(f"{path} is not built (set {variable} to use another)")
    return path


class Namespace:
    def __init__(self, name):
        self.name = name
        sh("ip", "netns", "add", name)
        self.sh("ip", "link", "set", "lo", "up")

    def argv(self, *argv):
        return ["ip", "netns", "exec", self.name, *map(str, argv)]

    def sh(self, *argv, **kw):
        return sh(*self.argv(*argv), **kw)

    def start(self, *argv, **kw):
        return subprocess.Popen(self.argv(*argv), preexec_fn=die_with_parent, **kw)

    def serve(self, proto, addr, port, word):
        """A server that answers `word` and the client's address; returns the process."""
        p = self.start(sys.executable, "-c", SERVER, proto, addr, port, word,
                       stdout=subprocess.PIPE, text=True)
        check(p.stdout.readline() == "ready\n", f"server {proto} {addr} {port} does not start")
        return p

    def ask(self, proto, addr, port, timeout=ANSWER_S, source=0):
        """What a server answers there, None when it does not.  For None give SILENCE_S."""
        r = subprocess.run(self.argv(sys.executable, "-c", CLIENT, proto, addr, port, timeout,
                                     source), text=True, stdout=subprocess.PIPE)
        return r.stdout.strip() if r.returncode == 0 else None

    def speaks_v6(self):
        """Whoever has an address of IPv6 has a link-local one too, and none is tentative."""
        rows = [line.split() for line in
                self.sh("cat", "/proc/self/net/if_inet6").splitlines()]
        using = {dev for addr, _, _, _, _, dev in rows if addr[:4] != "fe80" and dev != "lo"}
        ready = {dev for addr, _, _, _, _, dev in rows if addr[:4] == "fe80"}
        tentative = {dev for _, _, _, _, flags, dev in rows if int(flags, 16) & 0x40}
        return using <= ready - tentative

    def pings(self, addr, timeout=None, count=1):
        """Is `count` times answered: by default within ANSWER_S, however often it asks; with a
        timeout, each time within that."""
        limit = ("-W", timeout) if timeout else ("-w", ANSWER_S)
        return subprocess.run(self.argv("ping", "-c", count, *limit, "-i", "0.2", addr),
                              stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL).returncode == 0


class Host(Namespace):
    """The host itself: the namespace that the test runs in."""

    def __init__(self):
        self.name = ""

    def argv(self, *argv):
        return [*map(str, argv)]


class HostNet:
    def __init__(self):
        # `ip netns` keeps names in /run, and /sys shows the namespace that mounted it.
        sh("mount", "-t", "tmpfs", "run", "/run")
        sh("mount", "-t", "sysfs", "sysfs", "/sys")
        self.host = Host()
        self.internet = Namespace("internet")
        self.guests = []
        sh("ip", "link", "add", "eth0", "type", "veth", "peer", "inet0", "netns", "internet")
        for addr in (HOST4 + "/24", HOST6 + "/64"):
            sh("ip", "address", "add", addr, "dev", "eth0", "nodad")
        sh("ip", "link", "set", "eth0", "up")
        for addr in (INET4 + "/24", INET6 + "/64"):
            self.internet.sh("ip", "address", "add", addr, "dev", "inet0", "nodad")
        self.internet.sh("ip", "link", "set", "inet0", "up")
        sh("ip", "route", "add", "default", "via", INET4)
        sh("ip", "-6", "route", "add", "default", "via", INET6)

    def guest(self, name, *addrs, gateways=(), mac=None):
        ns = Namespace(name)
        sh("ip", "link", "add", name, "type", "veth", "peer", "eth0", "netns", name)
        sh("ip", "link", "set", name, "up")
        if mac:
            ns.sh("ip", "link", "set", "eth0", "address", mac)
        ns.sh("ip", "link", "set", "eth0", "up")
        for addr in addrs:
            ns.sh("ip", "address", "add", addr, "dev", "eth0", "nodad" if ":" in addr else "brd",
                  *([] if ":" in addr else ["+"]))
        for gateway in gateways:
            ns.sh("ip", "route", "add", "default", "via", gateway)
        self.guests.append(ns)
        return ns

    def settle(self, timeout=60):
        """Wait until IPv6 answers everywhere: a link joins the groups that neighbours are asked
        in once the kernel takes it for running (it looks once a second), and its link-local
        address, which a router asks with, takes another second or two to be found unique."""
        end = time.monotonic() + timeout
        for ns in (self.host, self.internet, *self.guests):
            while not ns.speaks_v6():
                check(time.monotonic() < end, f"IPv6 of \"{ns.name}\" is not ready:\n" +
                      ns.sh("ip", "-6", "address"))
                time.sleep(0.02)


class Netd:
    def __init__(self, net, config, start=True, folder=WORK, args=(), ns=None):
        self.net, self.folder, self.args = net, folder, list(args)
        os.makedirs(folder, exist_ok=True)
        self.path = os.path.join(folder, "netd.conf")
        self.control = os.path.join(folder, "run", "control.sock")
        self.state = os.path.join(folder, "state")
        self.log_path = os.path.join(folder, "netd.log")
        self.process = None
        self.env = {}
        self.ns = ns  # where it runs: this namespace, or another host's
        self.write(config)
        at_failure.append(self.show_log)
        if start:
            self.start()

    def write(self, config):
        with open(self.path, "w") as f:
            f.write(f'control = "{self.control}"\nstate = "{self.state}"\n{config}')

    def spawn(self):
        with open(self.log_path, "ab") as log:
            argv = [program("NETD", "netd"), "-c", self.path, *self.args]
            self.process = subprocess.Popen(self.ns.argv(*argv) if self.ns else argv,
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env={**os.environ, **self.env},
                                            preexec_fn=die_with_parent)

    def start(self, timeout=60):
        self.spawn()
        end = time.monotonic() + timeout
        while self.ctl("drift", ok=(0, 3)) == "":
            check(self.process.poll() is None,
                  f"netd ended with {self.process.returncode} at its start")
            check(time.monotonic() < end, "netd does not answer")
            time.sleep(0.02)

    def kill(self, sig=signal.SIGKILL):
        self.process.send_signal(sig)
        return self.process.wait(60)

    def stop(self):
        check(self.kill(signal.SIGTERM) == 0, "netd does not stop cleanly")

    def ctl(self, *argv, ok=(0,), **kw):
        return sh(program("VNETCTL", "vnetctl"), "-s", self.control, *argv, ok=ok, **kw)

    def ctl_json(self, *argv, ok=(0,)):
        return json.loads(self.ctl("--json", *argv, ok=ok))

    def fails(self, *argv, code=1):
        """The error text of a verb that must fail."""
        r = subprocess.run([program("VNETCTL", "vnetctl"), "-s", self.control, *map(str, argv)],
                           text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        check(r.returncode == code, f"vnetctl {argv}: exit {r.returncode}, expected {code}: "
                                    f"{r.stdout}{r.stderr}")
        return r.stderr

    def apply(self, config=None, *argv):
        if config is not None:
            self.write(config)
        return self.ctl("apply", *argv)

    def in_sync(self):
        self.ctl("diff")

    def differences(self):
        return self.ctl_json("diff", ok=(0, 1))["operations"]

    def wait(self, condition, what, timeout=60):
        end = time.monotonic() + timeout
        while not condition():
            check(time.monotonic() < end, f"waited {timeout} s for {what}")
            time.sleep(0.01)

    def show_log(self):
        if os.path.exists(self.log_path):
            with open(self.log_path) as f:
                print(f"--- {self.log_path}\n" + f.read()[-4000:])


FAULT = os.path.join(WORK, "fault")


def fault_at(netd, n, what):
    """Let `what` (see tests/netd/fault_at.c) happen at the n-th change of netd from now on.  A netd
    that is started after the first call can have faults."""
    path = os.path.join(os.environ.get("BUILD", os.path.join(TOP, "build")), "tests", "netd",
                        "libnetd-fault-at.so")
    check(os.path.exists(path), f"{path} is not built")
    netd.env = {"LD_PRELOAD": path, "FAULT": FAULT}
    with open(FAULT, "w") as f:
        f.write(f"{n:<10} {what}\n")


def faults_left():
    """Changes until the fault that waits; 0: it has happened."""
    if not os.path.exists(FAULT):
        return 0
    with open(FAULT) as f:
        return int(f.read().split()[0])


def no_fault():
    if os.path.exists(FAULT):
        os.unlink(FAULT)


def links():
    """The interfaces of the host with what matters of them, for comparing before and after."""
    out = {}
    for l in json.loads(sh("ip", "-j", "-d", "address")):
        if l["ifname"] == "lo":
            continue
        out[l["ifname"]] = {
            "kind": l.get("linkinfo", {}).get("info_kind"), "mtu": l["mtu"],
            "up": "UP" in l["flags"], "master": l.get("master"), "alias": l.get("ifalias"),
            "addrs": sorted(f"{a['local']}/{a['prefixlen']}" for a in l["addr_info"]
                            if a["scope"] != "link")}
    return out


def tables():
    """Names of all nft tables."""
    out = sh("nft", "-j", "list", "tables")
    return sorted((t["table"]["family"], t["table"]["name"])
                  for t in json.loads(out)["nftables"] if "table" in t)
