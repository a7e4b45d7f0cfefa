#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Build and run the tests; ./check calls this after it has installed what is needed.

Stages, each a meson build of its own under build-check/:

    plain   -Werror; every test of the chosen parts
    asan    AddressSanitizer and UndefinedBehaviorSanitizer; compiled tests, and scripts marked
            `asan`
    tsan    ThreadSanitizer; tests marked `tsan`
    fuzz    libFuzzer targets with clang, a few seconds each; tests marked `fuzz`

Which tests run is decided by their meson suites: one of the parts, and the marks

    quick   also in ./check quick (which is only the plain stage)
    long    only with --long
    asan, tsan   also in that stage
    noasan  a compiled test that the asan stage leaves out (timing, memory bounds)

--long can be interrupted: what has passed is remembered for this state of the sources, and the
next --long goes on behind it.

A line "note: ..." that a test prints is repeated at the end.  The last line says how many passed,
failed and skipped; a skip (exit 77) that tests/skips does not name makes the run fail, as does a
stage that does not build.  A second run waits for the first.
"""
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILDS = os.path.join(TOP, "build-check")
PARTS = ("unit", "storage", "access", "net", "tunnel")
JOBS = str(os.cpu_count() or 2)

STAGES = {
    "plain": ["-Dwerror=true"],
    "asan": ["-Db_sanitize=address,undefined", "-Db_lundef=false"],
    "tsan": ["-Db_sanitize=thread", "-Db_lundef=false"],
    "fuzz": ["-Dfuzz=true", "-Dtests=false", "-Db_lundef=false"],
}

# What the stages' programs need to know; a sanitizer's finding is an exit code of its own, so that
# a test which expects its daemon to fail does not take it for that.
ENVIRON = {
    "ASAN_OPTIONS": "exitcode=99:abort_on_error=0:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1:exitcode=99",
    "TSAN_OPTIONS": "exitcode=99:halt_on_error=1:second_deadlock_stack=1",
    "LSAN_OPTIONS": "exitcode=99",
}


def say(text=""):
    print(text, flush=True)


class Tally:
    """Results by name; the verdict of the run."""

    def __init__(self, memory=None):
        self.passed, self.failed, self.skipped, self.notes = [], [], [], []
        self.memory = memory

    def pass_(self, name):
        self.passed.append(name)
        if self.memory:
            self.memory.add(name)

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


def run(command, **kwargs):
    return subprocess.run(command, cwd=TOP, stdin=subprocess.DEVNULL, check=False, **kwargs)


def is_ours(build):
    """Is the build folder one of this checkout?  A copied tree brings another's."""
    try:
        with open(os.path.join(build, "meson-info", "meson-info.json"), encoding="utf-8") as f:
            return os.path.samefile(json.load(f)["directories"]["source"], TOP)
    except (OSError, ValueError, KeyError):
        return False


def show_log(log):
    """What matters of a failed build's log."""
    with open(log, encoding="utf-8", errors="replace") as f:
        lines = f.read().splitlines()
    wanted = [i for i, line in enumerate(lines) if "error" in line.lower() or "FAILED" in line]
    first = max(0, (wanted[0] if wanted else len(lines) - 10) - 3)
    say("\n".join(lines[first:first + 40]))
    say(f"(all of it: {os.path.relpath(log, TOP)})")


def configure(stage, log, fresh):
    """Set the build folder up, or bring it up to date.  True when that worked."""
    build = os.path.join(BUILDS, stage)
    env = dict(os.environ)
    if stage == "fuzz":
        env.update(CC="clang-14")
    if os.path.isdir(build) and (fresh or not is_ours(build)):
        shutil.rmtree(build)
    with open(log, "w", encoding="utf-8") as f:
        if os.path.exists(os.path.join(build, "build.ninja")):
            done = run(["ninja", "-C", build, "build.ninja"], stdout=f, stderr=f, env=env)
        else:
            shutil.rmtree(build, ignore_errors=True)
            done = run(["meson", "setup", build, TOP, "--buildtype=debugoptimized"]
                       + STAGES[stage], stdout=f, stderr=f, env=env)
    return done.returncode == 0


def compile_all(stage, log):
    with open(log, "a", encoding="utf-8") as f:
        done = run(["ninja", "-C", os.path.join(BUILDS, stage), "-k0", "-j", JOBS],
                   stdout=f, stderr=f)
    return done.returncode == 0


class Test:
    def __init__(self, build, info):
        self.name = info["name"]
        self.suites = {s.split(":")[-1] for s in info["suite"]}
        self.parts = self.suites & set(PARTS)
        self.compiled = os.path.abspath(info["cmd"][0]).startswith(build + os.sep)


def tests_of(build):
    out = run(["meson", "introspect", "--tests", build], capture_output=True)
    return [Test(build, info) for info in json.loads(out.stdout)]


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
        tally.failed.append(full)
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


def run_stage(stage, options, tally, skips):
    label = "" if stage == "plain" else f" [{stage}]"
    start = time.monotonic()
    say(f"==== {stage}: building")
    build, log = os.path.join(BUILDS, stage), os.path.join(BUILDS, stage + ".log")
    if not configure(stage, log, False) and not configure(stage, log, True):
        show_log(log)
        tally.failed.append(f"meson setup{label}")
        return
    tests = [t for t in tests_of(build) if is_wanted(t, stage, options)]
    if tally.memory:
        done = [t.name + label for t in tests if t.name + label in tally.memory.names]
        tests = [t for t in tests if t.name + label not in tally.memory.names]
        tally.passed += done
        say(f"==== {stage}: {len(done)} have passed before")
    if not tests:
        say(f"==== {stage}: no tests to run")
        return
    if not compile_all(stage, log):
        show_log(log)
        tally.failed.append(f"build{label}")
        return
    say(f"==== {stage}: built in {time.monotonic() - start:.0f} s, {len(tests)} tests")
    run_tests(build, stage, tests, tally, skips, options.long)
    say(f"==== {stage}: {time.monotonic() - start:.0f} s")


def run_tests(build, stage, tests, tally, skips, is_long=False):
    label = "" if stage == "plain" else f" [{stage}]"
    results = os.path.join(build, "meson-logs", "check.json")
    if os.path.exists(results):
        os.unlink(results)
    names = sorted({t.name for t in tests})
    if not names:  # meson would run them all
        return
    # A slow or busy machine is no reason to fail; one that hangs is found a little later.
    slower = {"plain": "2", "asan": "4", "tsan": "6", "fuzz": "2"}[stage]
    env = environment(build)
    if is_long:
        slower = "10"
        env.setdefault("FUZZ_SECONDS", "900")
    # One by one under --long, so that an interruption loses little.
    for batch in [[name] for name in names] if is_long else [names]:
        run(["meson", "test", "-C", build, "--no-rebuild", "--num-processes", JOBS, "--logbase",
             "check", "--timeout-multiplier", slower] + batch, env=env)
        read_results(results, batch, label, tally, skips)


def read_results(results, names, label, tally, skips):
    seen = set()
    if os.path.exists(results):
        with open(results, encoding="utf-8") as f:
            seen = take_results(f, label, tally, skips)
    for name in names:
        if name not in seen:
            say(f"---- no result: {name}{label}")
            tally.failed.append(name + label)
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


def main():
    options = Options(sys.argv[1:])
    held = lock()
    start = time.monotonic()
    memory = Memory(os.path.join(BUILDS, "long"), source_state()) if options.long else None
    tally, skips = Tally(memory), read_skips()
    for stage in options.stages():
        run_stage(stage, options, tally, skips)
    for note in tally.notes:
        say(f"note: {note}")
    for name in tally.failed:
        say(f"failed: {name}")
    if not tally.passed:
        tally.failed.append("nothing ran")
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
