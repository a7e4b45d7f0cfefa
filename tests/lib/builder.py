# SPDX-License-Identifier: GPL-2.0-or-later
"""
The builds of ./check: each stage is a meson build folder of its own below build-check/.

A thread builds one stage after the other while the caller runs the tests of those that are ready:

    builds    plain | asan     | tsan | fuzz |
    tests           | plain                    | asan        | tsan | fuzz |

The first build has the machine to itself.  The others take only what the tests leave: the scheduler
runs them when a processor is idle (SCHED_IDLE, and a session of their own whose autogroup has the
weight of nice 19; without the latter a session counts as much as another, whatever its processes
are), so that a test that measures time does not notice them.

All stages but plain build what their tests need and no more, with -O1 and line numbers instead of
whole debug information: half the compiler's time, and a sanitizer's report needs no more.
"""
import json
import os
import shutil
import subprocess
import threading
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILDS = os.path.join(TOP, "build-check")
PARTS = ("unit", "storage", "access", "net", "tunnel")
JOBS = os.cpu_count() or 2

FAST = ["-Doptimization=1", "-Dc_args=-g1", "-Db_lundef=false"]
STAGES = {
    "plain": ["-Dwerror=true", "-Dc_args=-g1"],
    "asan": FAST + ["-Db_sanitize=address,undefined"],
    "tsan": FAST + ["-Db_sanitize=thread"],
    "fuzz": FAST + ["-Dfuzz=true", "-Dtests=false"],
}

# Runs "$@" when nothing else wants to run; ends with us.
POLITELY = """
{ echo 19 >/proc/self/autogroup; } 2>/dev/null
chrt --idle 0 true 2>/dev/null && set -- chrt --idle 0 "$@"
exec setpriv --pdeathsig TERM "$@"
"""


def say(text=""):
    print(text, flush=True)


def run(command, **kwargs):
    return subprocess.run(command, cwd=TOP, stdin=subprocess.DEVNULL, check=False, **kwargs)


class Test:
    def __init__(self, build, info):
        self.name = info["name"]
        self.suites = {s.split(":")[-1] for s in info["suite"]}
        self.parts = self.suites & set(PARTS)
        self.compiled = os.path.abspath(info["cmd"][0]).startswith(build + os.sep)
        self.depends = info["depends"]


def introspect(build, what):
    return json.loads(run(["meson", "introspect", what, build], capture_output=True).stdout)


def tests_of(build):
    return [Test(build, info) for info in introspect(build, "--tests")]


def files_for(build, tests):
    """What ninja has to make before these tests can run."""
    files = {t["id"]: t["filename"] for t in introspect(build, "--targets")}
    wanted = {file for test in tests for target in test.depends for file in files[target]}
    return sorted(os.path.relpath(file, build) for file in wanted)


def is_ours(build):
    """Is the build folder one of this checkout, with the options of today?  A copied tree brings
    another's."""
    try:
        with open(os.path.join(build, "meson-info", "meson-info.json"), encoding="utf-8") as f:
            ours = os.path.samefile(json.load(f)["directories"]["source"], TOP)
        with open(os.path.join(build, "options"), encoding="utf-8") as f:
            return ours and f.read().split("\n") == STAGES[os.path.basename(build)]
    except (OSError, ValueError, KeyError):
        return False


def show_log(log):
    """Say what matters of a failed build's log, and return it."""
    with open(log, encoding="utf-8", errors="replace") as f:
        lines = f.read().splitlines()
    wanted = [i for i, line in enumerate(lines) if "error" in line.lower() or "FAILED" in line]
    first = max(0, (wanted[0] if wanted else len(lines) - 10) - 3)
    text = "\n".join(lines[first:first + 40])
    say(text)
    say(f"(all of it: {os.path.relpath(log, TOP)})")
    return text


class Built:
    """What became of a stage: `failed` names the step that did not work, else `tests` can run."""

    def __init__(self, stage):
        self.stage, self.failed, self.seconds = stage, None, 0.0
        self.folder = os.path.join(BUILDS, stage)
        self.log = os.path.join(BUILDS, stage + ".log")
        self.tests, self.remembered = [], []
        self.done = threading.Event()


class Builder:
    """choose(stage, all its tests) says which are wanted, and names those that have passed in an
    earlier run."""

    def __init__(self, stages, choose):
        self.choose = choose
        self.built = {stage: Built(stage) for stage in stages}
        # A daemon: when we are interrupted it dies, and the compiler with it.
        threading.Thread(target=self._build_all, daemon=True).start()

    def wait_for(self, stage):
        self.built[stage].done.wait()
        return self.built[stage]

    def _build_all(self):
        prefix = []
        for built in self.built.values():
            start = time.monotonic()
            try:
                built.failed = self._build(built, prefix)
            except Exception as e:  # pylint: disable=broad-except
                with open(built.log, "a", encoding="utf-8") as f:
                    f.write(f"error: {e!r}\n")
                built.failed = "build"
            built.seconds = time.monotonic() - start
            built.done.set()
            prefix = ["sh", "-c", POLITELY, "sh"]

    def _build(self, built, prefix):
        if not configure(built, prefix, False) and not configure(built, prefix, True):
            return "meson setup"
        built.tests, built.remembered = self.choose(built.stage, tests_of(built.folder))
        if not built.tests:
            return None
        wanted = [] if built.stage == "plain" else files_for(built.folder, built.tests)
        with open(built.log, "a", encoding="utf-8") as f:
            done = run(prefix + ["ninja", "-C", built.folder, "-k0", "-j", str(JOBS)] + wanted,
                       stdout=f, stderr=f, start_new_session=bool(prefix))
        return None if done.returncode == 0 else "build"


def configure(built, prefix, fresh):
    """Set the build folder up, or bring it up to date.  True when that worked."""
    build, stage = built.folder, built.stage
    env = dict(os.environ)
    if stage == "fuzz":
        env.update(CC="clang-14")
    if os.path.isdir(build) and (fresh or not is_ours(build)):
        shutil.rmtree(build)
    with open(built.log, "w", encoding="utf-8") as f:
        if os.path.exists(os.path.join(build, "build.ninja")):
            done = run(prefix + ["ninja", "-C", build, "build.ninja"], stdout=f, stderr=f, env=env,
                       start_new_session=bool(prefix))
        else:
            shutil.rmtree(build, ignore_errors=True)
            done = run(prefix + ["meson", "setup", build, TOP, "--buildtype=debugoptimized"]
                       + STAGES[stage], stdout=f, stderr=f, env=env, start_new_session=bool(prefix))
    if done.returncode == 0:
        with open(os.path.join(build, "options"), "w", encoding="utf-8") as f:
            f.write("\n".join(STAGES[stage]))
    return done.returncode == 0
