# SPDX-License-Identifier: GPL-2.0-or-later
"""
One run of a script on a stock kernel under qemu's emulation (TCG).

        host                                   guest
    console file  <----- ttyS0 <----- the kernel, what init itself has to say
    our stdout    <----- ttyS1 <----- the script's stdout and stderr, byte for byte
    exit status   <----- ttyS2 <----- "status N"

Three lines instead of one with markers: whatever the kernel or the script prints, it cannot be
taken for the end or for the status.  A run without a status line is a failure (panic, reboot, time
limit), never a success.

Instead of running a script, init can switch to a root file system on a disk (`root`): its
/sbin/init then owns the three lines.

qemu dies with us (PR_SET_PDEATHSIG), and at the time limit.  Times under emulation mean nothing.
"""
import ctypes
import os
import re
import signal
import subprocess
import sys
import time

from initramfs import Initramfs
from kernel import Kernel, Unavailable

EXIT_SKIP = 77       # no kernel to be had here, or the script said so
EXIT_TIMEOUT = 124
EXIT_NO_STATUS = 125  # the guest ended without a word: panic, reboot, qemu failed
BASE_MODULES = ["virtio_pci", "virtio_blk"]

# Everything is dear under emulation: no mitigations (they guard against nobody here), no self-tests,
# no relocation, no calibrations, four levels of page tables, short grace periods.
KERNEL_ARGS = ("console=ttyS0 panic=-1 random.trust_cpu=on mitigations=off cryptomgr.notests nokaslr "
               "no_timer_check tsc=reliable rcupdate.rcu_expedited=1")
CPU = "max,la57=off"
# The guest's clock counts its instructions, and leaps to the next timer while there are none: two
# minutes of waiting take a moment.
SKIP_IDLE = ["-accel", "tcg,thread=single", "-icount", "shift=1,sleep=off"]

INIT = """#!/bin/busybox sh
# PID 1 of the emulated machine.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm /run
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
ip link set lo up 2>/dev/null
for tty in 1 2; do stty -F /dev/ttyS$tty 115200 raw -echo; done

end() {
	echo "status $1" >/dev/ttyS2
	sync
	poweroff -f
	sleep 60
}
for module in $(cat /etc/vm/modules); do
	if ! modprobe "$module" 2>/run/modprobe; then
		echo "vm: cannot load module $module: $(cat /run/modprobe)" >/dev/ttyS1
		end 1
	fi
done
if [ -e /etc/vm/root ]; then
	read -r device fstype </etc/vm/root
	if ! mount -t "$fstype" "$device" /newroot; then
		echo "vm: cannot mount $device as root" >/dev/ttyS1
		end 1
	fi
	mount --move /dev /newroot/dev
	umount /dev/pts /dev/shm /run /tmp 2>/dev/null
	umount /proc /sys
	exec switch_root /newroot /sbin/init
fi
cd /root
setsid /etc/vm/script </dev/null >/dev/ttyS1 2>&1
end $?
"""


class Result:
    def __init__(self, status, output, console, seconds):
        self.status, self.output = status, output
        self.console, self.seconds = console, seconds


def _die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Guest:
    """Collect what the machine needs, then run() it once."""

    def __init__(self, memory_mib=1024, cpus=1, time_limit_s=120):
        self.kernel = Kernel()
        self.memory_mib, self.cpus, self.time_limit_s = memory_mib, cpus, time_limit_s
        self.image = Initramfs()
        self.image.add_busybox(self.kernel.busybox)
        self.image.add_bytes("/init", INIT.encode(), 0o755)
        self.load, self.carry, self.disks, self.qemu_args = [], [], [], []
        self.append = ""
        self.root = None
        self.skips_idle = False  # waits take no time: see SKIP_IDLE

    def add_modules(self, names):
        """Load these, in this order, before the script; what they need comes along."""
        self.kernel.module_files(names)
        # busybox's modprobe does not know what is built in.
        self.load += [name for name in names if not self.kernel.is_builtin(name)]

    def carry_modules(self, names):
        """Have these at hand for the script's modprobe and for the kernel's own requests."""
        self.kernel.module_files(names)
        self.carry += names

    def add_file(self, host, guest=None):
        self.image.add_file(host, guest)

    def add_disk(self, source, read_only=False, reconnect_s=0):
        """/dev/vda, vdb, ...: a raw image file, or a URI that qemu opens (nbd+unix:///...).
        `reconnect_s`: how long an NBD server may be away before the guest sees an error."""
        source = source.replace(",", ",,")
        self.disks.append(f"file={source},if=virtio,format=raw,cache=none,discard=unmap"
                          + (f",file.reconnect-delay={reconnect_s}" if reconnect_s else "")
                          + (",readonly=on" if read_only else ""))

    def _command(self, initrd, *lines):
        quiet = "quiet loglevel=4" if not os.environ.get("VM_VERBOSE") else "loglevel=7"
        clock = SKIP_IDLE if self.skips_idle else ["-accel", "tcg,thread=multi"]
        argv = ["qemu-system-x86_64", "-M", "q35", "-cpu", CPU, *clock,
                "-m", str(self.memory_mib), "-smp", str(self.cpus), "-nodefaults",
                "-display", "none", "-no-reboot", "-kernel", self.kernel.vmlinuz,
                "-initrd", f"/proc/self/fd/{initrd}", "-append",
                f"{KERNEL_ARGS} {quiet} {self.append}".strip()]
        for line in lines:
            argv += ["-serial", f"file:/proc/self/fd/{line}"]
        for disk in self.disks:
            argv += ["-drive", disk]
        return argv + self.qemu_args

    def run(self, script=None, echo=None, poll=None):
        """Boot; run `script` (bytes of a program with its #! line), or the root's /sbin/init.
        `echo`: a binary file that gets the output as it comes; `poll`: called with the output so
        far, about 20 times a second."""
        modules = BASE_MODULES + self.load
        self.image.add_modules(self.kernel, modules + self.carry)
        self.image.add_bytes("/etc/vm/modules", "\n".join(modules).encode())
        if self.root:
            self.image.add_bytes("/etc/vm/root", f"{self.root[0]} {self.root[1]}\n".encode())
        else:
            self.image.add_bytes("/etc/vm/script", script, 0o755)
        # In memory, so that nothing is left behind even when we are killed.
        fds = [os.memfd_create("vm-" + n) for n in ("initrd", "console", "output", "status")]
        try:
            with open(fds[0], "wb", closefd=False) as f:
                self.image.write(f)
            return self._watch(self._command(*fds), fds, echo, poll)
        finally:
            for fd in fds:
                os.close(fd)

    def _watch(self, argv, fds, echo, poll):
        begin = time.monotonic()
        try:
            qemu = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                    stderr=subprocess.STDOUT, pass_fds=fds,
                                    preexec_fn=_die_with_parent)
        except FileNotFoundError as e:
            raise Unavailable(f"{argv[0]} is not installed") from e
        lines = fds[1:]
        timeout, done = False, 0
        try:
            while True:
                running = qemu.poll() is None
                done = _copy(lines[1], done, echo)
                if not running:
                    break
                if poll:
                    poll(_read(lines[1]))
                if time.monotonic() - begin > self.time_limit_s:
                    timeout = True
                    break
                time.sleep(0.05)
        finally:
            qemu.kill()
            said = qemu.communicate()[0].decode(errors="replace")
        _copy(lines[1], done, echo)
        console, output, status = (_read(line) for line in lines)
        found = re.fullmatch(rb"status (\d+)\r?\n", status)
        code = EXIT_TIMEOUT if timeout else int(found[1]) if found else EXIT_NO_STATUS
        return Result(code, output, said + console.decode(errors="replace"),
                      time.monotonic() - begin)


def _read(fd, begin=0):
    return os.pread(fd, os.fstat(fd).st_size - begin, begin)


def _copy(fd, done, echo):
    if echo is None:
        return done
    data = _read(fd, done)
    echo.write(data)
    echo.flush()
    return done + len(data)


def explain(result, limit_s, file=sys.stderr):
    """Say why a run has no status of its script, with the end of the kernel's console."""
    if result.status == EXIT_TIMEOUT:
        print(f"vm: killed after {limit_s} s", file=file)
    elif result.status == EXIT_NO_STATUS:
        print("vm: the guest ended without a status", file=file)
    else:
        return
    for line in result.console.splitlines()[-40:]:
        print("vm: console: " + line, file=file)
