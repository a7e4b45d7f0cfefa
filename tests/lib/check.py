#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Build and run the tests; ./check calls this after it has installed what is needed.

Stages, each a meson build of its own under build-check/:

    plain   -Werror, all that there is; every test of the chosen parts
    asan    AddressSanitizer and UndefinedBehaviorSanitizer; compiled tests, and scripts marked
            `asan`
    tsan    ThreadSanitizer; tests marked `tsan`
    fuzz    libFuzzer targets with clang, a few seconds each; tests marked `fuzz`

While a stage's tests run, the next stages are built with what these leave of the processors
(builder.py).

Which tests run is decided by their meson suites: one of the parts, and the marks

    quick   also in ./check quick (which is only the plain stage)
    long    only with --long
    asan, tsan   also in that stage
    noasan  a compiled test that the asan stage leaves out (timing, memory bounds)
    waits   uses little of a processor: waits for the kernel's grace periods, timeouts, pauses.
            These run in a lane of their own (in the plain stage two for each processor) beside
            the others, of which each has a processor
    alone   compares times: runs at the very end, when all builds and the other tests of all stages
            have ended.  What fails there is run once more, as somebody else may have been at work
            on this machine, and a note tells; what fails twice has failed

In each lane those with a `priority` begin first: the long ones, so that none is left at the end.

--long can be interrupted: what has passed is remembered for this state of the sources, and the
next --long goes on behind it.

A line "note: ..." that a test prints is repeated at the end, as is the end of what a failed test
printed.  The last line says how many passed, failed and skipped; a skip (exit 77) that tests/skips does not name makes the run fail, as does a
stage that does not build.  A second run waits for the first.
"""
import fcntl
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from builder import BUILDS, JOBS, PARTS, TOP, Builder, run, say, show_log, tests_of

# What the stages' programs need to know; a sanitizer's finding is an exit code of its own, so that
# a test which expects its daemon to fail does not take it for that.
ENVIRON = {
    "ASAN_OPTIONS": "exitcode=99:abort_on_error=0:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1:exitcode=99",
    "TSAN_OPTIONS": "exitcode=99:halt_on_error=1:second_deadlock_stack=1",
    "LSAN_OPTIONS": "exitcode=99",
}

REASONS = 6  # so many failures are explained at the end
TELLING = re.compile(r"\bFAILED\b|ERROR|SUMMARY:|runtime error|Error:|[Aa]ssertion")


class Tally:
    """Results by name; the verdict of the run."""

    def __init__(self, memory=None):
        self.passed, self.failed, self.skipped, self.notes = [], [], [], []
        self.why = {}  # of a failed one: what it printed
        self.memory = memory

    def pass_(self, name):
        self.passed.append(name)
        if self.memory:
            self.memory.add(name)

    def fail(self, name, output=""):
        self.failed.append(name)
        self.why[name] = output

    def add(self, other):
        """Another one's results as well."""
        for name in other.passed:
            self.pass_(name)
        for name in other.failed:
            self.fail(name, other.why.get(name, ""))
        self.skipped += other.skipped
        self.notes += other.notes

    def is_good(self, skips):
        """Something passed, nothing failed, and each skip has its reason in tests/skips."""
        stray = [name for name in self.skipped if name.split(" [")[0] not in skips]
        return bool(self.passed) and not self.failed and not stray

    def summary(self):
        return (f"{len(self.passed)} passed, {len(self.failed)} failed, "
                f"{len(self.skipped)} skipped")


class Memory:
    """What has passed under --long, for one state of the sources."""

    def __init__(self, path, state):
        self.path, self.state, self.names = path, state, set()
        try:
            with open(path, encoding="utf-8") as f:
                lines = f.read().splitlines()
            if lines and lines[0] == state:
                self.names = set(lines[1:])
        except OSError:
            pass

    def add(self, name):
        self.names.add(name)
        with open(self.path + ".new", "w", encoding="utf-8") as f:
            f.write("\n".join([self.state] + sorted(self.names)) + "\n")
        os.replace(self.path + ".new", self.path)

    def forget(self):
        if os.path.exists(self.path):
            os.unlink(self.path)


def source_state():
    """A hash over all files that git knows or would take."""
    files = run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                capture_output=True).stdout.split(b"\0")
    if files == [b""]:
        return str(time.time())  # git knows nothing here, so nothing can be remembered
    total = hashlib.sha256()
    for name in sorted(f for f in files if f):
        try:
            with open(os.path.join(TOP.encode(), name), "rb") as f:
                total.update(name + b"\0" + hashlib.sha256(f.read()).digest())
        except OSError:
            total.update(name)
    return total.hexdigest()


def read_skips():
    skips = {}
    with open(os.path.join(TOP, "tests", "skips"), encoding="utf-8") as f:
        for line in f:
            line = line.split("#")[0].strip()
            if line:
                name, _, reason = line.partition(":")
                skips[name.strip()] = reason.strip()
    return skips


def is_wanted(test, stage, options):
    marks = test.suites
    if not test.parts & options.parts or ("long" in marks and not options.long):
        return False
    if options.quick:
        return "quick" in marks
    if stage == "asan":
        return (test.compiled and "noasan" not in marks) or "asan" in marks
    if stage in ("tsan", "fuzz"):
        return stage in marks
    return True


def choose(stage, tests, options, memory):
    """(tests to run now, names of those that have passed before)"""
    label, names = label_of(stage), memory.names if memory else set()
    wanted = [t for t in tests if is_wanted(t, stage, options)]
    return ([t for t in wanted if t.name + label not in names],
            [t.name + label for t in wanted if t.name + label in names])


def environment(build):
    env = dict(os.environ)
    for name, value in ENVIRON.items():
        env.setdefault(name, value)
    env.update(ASHLAR_BUILD=build,
               BLOCKD=os.path.join(build, "blockd", "blockd"),
               VDISKCTL=os.path.join(build, "blockd", "vdiskctl"),
               NETD=os.path.join(build, "netd", "netd"),
               VNETCTL=os.path.join(build, "netd", "vnetctl"))
    return env


def tail(text, count=40):
    return "\n".join("    " + line for line in text.rstrip().splitlines()[-count:])


def reason(text, count=25):
    """Why a test failed, in few lines: those that look like it, and the end."""
    lines = text.rstrip().splitlines()
    telling = [line for line in lines[:-count] if TELLING.search(line)]
    return tail("\n".join(telling[:6] + lines[-count:]), count + 6)


def take_result(result, label, tally, skips):
    name = result["name"].split(" / ")[-1]
    full = name + label
    output = (result.get("stdout") or "") + (result.get("stderr") or "")
    kind = result["result"]
    for line in re.findall(r"^.*?\bnote: (.*)$", output, re.MULTILINE):
        tally.notes.append(f"{full}: {line.strip()}")
    if kind in ("OK", "EXPECTEDFAIL"):
        tally.pass_(full)
    elif kind == "SKIP":
        tally.skipped.append(full)
        reason = output.strip().splitlines()[-1:] or ["no reason given"]
        if name in skips:
            say(f"skipped: {full}: {skips[name]}")
        else:
            say(f"skipped, which tests/skips does not allow: {full}: {reason[0]}")
    else:
        tally.fail(full, output)
        say(f"---- {kind.lower()}: {full} (exit {result.get('returncode')}, "
            f"{result.get('duration', 0):.1f} s)")
        say(tail(output) or "    (no output)")


def take_results(lines, label, tally, skips):
    """Meson's testlog.json: one result a line.  Returns the names that have one."""
    seen = set()
    for line in lines:
        result = json.loads(line)
        seen.add(result["name"].split(" / ")[-1])
        take_result(result, label, tally, skips)
    return seen


def run_stage(built, options, tally, skips):
    stage, start = built.stage, time.monotonic()
    label = label_of(stage)
    tally.passed += built.remembered
    if built.remembered:
        say(f"==== {stage}: {len(built.remembered)} have passed before")
    if built.failed:
        tally.fail(built.failed + label, show_log(built.log))
        return
    if not built.tests:
        say(f"==== {stage}: no tests to run")
        return
    say(f"==== {stage}: built in {built.seconds:.0f} s, {len(built.tests)} tests")
    run_tests(built.folder, stage, built.tests, tally, skips, options.long)
    say(f"==== {stage}: tests took {time.monotonic() - start:.0f} s")


def label_of(stage):
    return "" if stage == "plain" else f" [{stage}]"


class Lane(threading.Thread):
    """One `meson test` over some tests of a stage; its results are read when it has ended."""

    def __init__(self, build, name, tests, jobs, slower, env):
        super().__init__()
        self.build, self.base, self.names = build, "check-" + name, sorted({t.name for t in tests})
        self.jobs, self.slower, self.env = jobs, slower, env
        self.results = os.path.join(build, "meson-logs", self.base + ".json")

    def run(self):
        if os.path.exists(self.results):
            os.unlink(self.results)
        if not self.names:  # meson would run them all
            return
        with subprocess.Popen(
                ["meson", "test", "-C", self.build, "--no-rebuild", "--num-processes",
                 str(self.jobs), "--logbase", self.base, "--timeout-multiplier", self.slower]
                + self.names, cwd=TOP, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True, errors="replace", env=self.env) as meson:
            for line in meson.stdout:
                if re.match(r" *\d+/\d+ ", line):
                    say(line.split("/", 1)[1].split(" ", 1)[1].rstrip())

    def report(self, stage, tally, skips):
        read_results(self.results, self.names, label_of(stage), tally, skips)


def setting(build, stage, is_long):
    """(how much longer than on a quiet machine a test may take, the environment)"""
    # A slow or busy machine is no reason to fail; one that hangs is found a little later.
    slower, env = {"plain": "2", "asan": "4", "tsan": "6", "fuzz": "2"}[stage], environment(build)
    if is_long:
        slower = "10"
        env.setdefault("FUZZ_SECONDS", "900")
    return slower, env


def run_tests(build, stage, tests, tally, skips, is_long=False):
    """All but those marked `alone`."""
    slower, env = setting(build, stage, is_long)
    tests = [t for t in tests if "alone" not in t.suites]
    waiting = [t for t in tests if "waits" in t.suites]
    busy = [t for t in tests if t not in waiting]
    # What waits elsewhere computes under a sanitizer.
    waits = 2 * JOBS if stage == "plain" else JOBS
    # One by one under --long, so that an interruption loses little.
    rounds = [{"long": ([test], 1)} for test in tests] if is_long else [
        {"busy": (busy, JOBS), "waits": (waiting, waits)}]
    for lanes in rounds:
        lanes = [Lane(build, name, some, jobs, slower, env)
                 for name, (some, jobs) in lanes.items()]
        for lane in lanes:
            lane.start()
        for lane in lanes:
            lane.join()
            lane.report(stage, tally, skips)


def run_alone(build, stage, tests, tally, skips, is_long=False):
    """Those marked `alone`, one after the other; a second try for each."""
    for test in (t for t in tests if "alone" in t.suites):
        lane = Lane(build, "alone", [test], 1, *setting(build, stage, is_long))
        first, second = Tally(), Tally()
        lane.run()
        lane.report(stage, first, skips)
        if first.failed:
            lane.run()
            lane.report(stage, second, skips)
            name = first.failed[0]
            lines = first.why[name].strip().splitlines() or ["(nothing)"]
            said = ([line for line in lines if TELLING.search(line)] or lines)[-1].strip()
            second.notes.append(f"{name}: ran twice; the first time failed, saying: {said}")
        tally.add(second if first.failed else first)


def read_results(results, names, label, tally, skips):
    seen = set()
    if os.path.exists(results):
        with open(results, encoding="utf-8") as f:
            seen = take_results(f, label, tally, skips)
    for name in names:
        if name not in seen:
            say(f"---- no result: {name}{label}")
            tally.fail(name + label, "no result: meson test ended before it")
    if os.path.exists(results):
        os.unlink(results)


class Options:
    def __init__(self, words):
        self.quick = self.long = False
        self.parts = set()
        for word in words:
            if word == "quick":
                self.quick = True
            elif word == "--long":
                self.long = True
            elif word in PARTS:
                self.parts.add(word)
            else:
                sys.exit(f"check: unknown argument \"{word}\", expected quick, --long or one of "
                         + ", ".join(PARTS))
        self.parts = self.parts or set(PARTS)

    def stages(self):
        return ["plain"] if self.quick else ["plain", "asan", "tsan", "fuzz"]


def lock():
    os.makedirs(BUILDS, exist_ok=True)
    f = open(os.path.join(BUILDS, "lock"), "w", encoding="utf-8")
    try:
        fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        say("another ./check is running in this checkout: waiting for it")
        fcntl.flock(f, fcntl.LOCK_EX)
    return f


def close(tally):
    """What somebody who sees only the end of the output has to know."""
    for note in tally.notes:
        say(f"note: {note}")
    for name in tally.failed[:REASONS]:
        say(f"---- {name}, the end of what it said:")
        say(reason(tally.why[name]) or "    (nothing)")
    for name in tally.failed:
        say(f"failed: {name}")


def main():
    options = Options(sys.argv[1:])
    held = lock()
    start = time.monotonic()
    memory = Memory(os.path.join(BUILDS, "long"), source_state()) if options.long else None
    tally, skips = Tally(memory), read_skips()
    builder = Builder(options.stages(), lambda stage, tests: choose(stage, tests, options, memory))
    for stage in options.stages():
        say(f"==== {stage}: building")
        run_stage(builder.wait_for(stage), options, tally, skips)
    say("==== those that compare times")
    for stage in options.stages():
        built = builder.wait_for(stage)
        if not built.failed:
            run_alone(built.folder, stage, built.tests, tally, skips, options.long)
    close(tally)
    if not tally.passed:
        tally.fail("nothing ran")
        say("failed: nothing ran")
    if memory and tally.is_good(skips):
        memory.forget()
    say(f"{time.monotonic() - start:.0f} seconds")
    say(tally.summary())
    held.close()
    return 0 if tally.is_good(skips) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("check: interrupted")
