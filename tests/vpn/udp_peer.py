# SPDX-License-Identifier: GPL-2.0-or-later
"""A WireGuard peer without a network device (udp_peer.c) beside a stock one, for tests that meet
them: keys, the program and its commands, and the stock side's wg(8)."""
import base64
import os
import re
import subprocess

from sandbox import check, die_with_parent, sh

OURS, THEIRS = "10.99.0.1", "10.99.0.2"
OUR_PORT, THEIR_PORT = 40001, 40002


def genkey():
    return sh("wg", "genkey").strip()


def pubkey(private):
    return sh("wg", "pubkey", input=private + "\n").strip()


def to_hex(key):
    return base64.b64decode(key).hex()


class UdpPeer:
    """Ours.  `endpoint` False: we are met, we do not begin."""

    def __init__(self, program, private, peer_public, endpoint=True, psk=None):
        argv = [program, str(OUR_PORT), to_hex(peer_public), OURS, THEIRS,
                str(THEIR_PORT if endpoint else 0)]
        if psk:
            argv.append(to_hex(psk))
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, bufsize=1, preexec_fn=die_with_parent)
        self.process.stdin.write(to_hex(private) + "\n")
        check(self.process.stdout.readline() == "ready\n", "our peer does not start")

    def ask(self, command):
        self.process.stdin.write(command + "\n")
        answer = self.process.stdout.readline()
        check(answer, f"our peer died at {command!r}")
        return answer.strip()

    def ping(self, count=3):
        check(self.ask(f"ping {count}") == f"ping {count}", "our pings are not answered")

    def info(self):
        words = self.ask("info").split()[1:]
        return {k: int(v) for k, v in zip(words[::2], words[1::2])}

    def close(self):
        self.process.stdin.close()
        check(self.process.wait(60) == 0, "our peer ends badly")


class Stock:
    """The other side: an interface that wg(8) configures."""

    def __init__(self, name, private, our_public, psk=None):
        self.name, self.public = name, our_public
        with open("theirs.key", "w", encoding="ascii") as f:
            f.write(private + "\n")
        sh("wg", "set", name, "listen-port", THEIR_PORT, "private-key", "theirs.key")
        self.peer("allowed-ips", OURS + "/32")
        if psk:
            with open("psk", "w", encoding="ascii") as f:
                f.write(psk + "\n")
            self.peer("preshared-key", "psk")
        sh("ip", "addr", "add", THEIRS + "/24", "dev", name)
        sh("ip", "link", "set", name, "mtu", "1420", "up")

    def peer(self, *settings):
        sh("wg", "set", self.name, "peer", self.public, *settings)

    def meet(self):
        """Say where we are: it may begin now."""
        self.peer("endpoint", f"127.0.0.1:{OUR_PORT}")

    def ping(self, count=3, size=56):
        sh("ping", "-n", "-q", "-i", "0.01", "-c", count, "-W", "30", "-s", size, OURS)

    def show(self, what):
        out = sh("wg", "show", self.name, what)
        return re.split(r"\t", out.strip())[1] if out else ""
