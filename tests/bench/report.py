# SPDX-License-Identifier: GPL-2.0-or-later
"""
How tests/bench/nbd shows what it found: a line for each server, the targets, the README's tables.
"""
import os
import platform
import re
import textwrap
import time

import jobs
import peers
import targets
from sandbox import TOP, Failed, sh

BEGIN, END = "<!-- tests/bench/nbd begin -->", "<!-- tests/bench/nbd end -->"
MEDIA = {"ram": "In memory (tmpfs)", "disk": "On disk"}


def say(text=""):
    print(text, flush=True)


def show_job(section, client, text, found):
    say(f"{section:5}{client:6}{text}")
    for label, rounds in found.items():
        low, high = (f(r["per_s"] for r in rounds) for f in (min, max))
        line = (f"     {label:16}{targets.median(rounds, 'per_s'):9.0f}/s ({low:.0f}..{high:.0f})"
                f"  {targets.median(rounds, 'cpu_us'):7.2f} us CPU"
                f"  p50 {targets.median(rounds, 'p50_us'):.0f}"
                f" p99 {targets.median(rounds, 'p99_us'):.0f} us")
        if "settled_per_s" in rounds[0]:
            line += f"  settled {targets.median(rounds, 'settled_per_s'):.0f}/s"
        say(line)


def show_targets(results):
    """How many are not reached."""
    missed = 0
    say(f"{'target':31}{'against':12}{'wanted':>8}{'found':>8}  single rounds")
    for t in targets.TARGETS:
        found = targets.judge(t, results)
        if not found:
            continue
        ratio, low, high, best, reached = found
        missed += not reached
        say(f"{t.text:31}{best:12}{t.wanted():>8}{ratio:8.2f}  {low:.2f}..{high:.2f}  "
            f"{'reached' if reached else 'NOT REACHED'}")
    return missed


# ---- Markdown ----

def short(number):
    if number >= 99500:
        return f"{number / 1e3:.0f}k"
    return f"{number / 1e3:.1f}k" if number >= 9950 else f"{number:.0f}"


def cell(rounds, job):
    if not rounds:
        return ""
    text = short(targets.median(rounds, "per_s"))
    if "settled_per_s" in rounds[0] and not job.flush:
        text += f" ({short(targets.median(rounds, 'settled_per_s'))})"
    p99_ms = targets.median(rounds, "p99_us") / 1e3
    return f"{text} · {targets.median(rounds, 'cpu_us'):.1f} · {p99_ms:.2f}"


def speed_table(section, results, wanted=None):
    """`wanted`: only these jobs."""
    have = [k for k in peers.KINDS if any(s == section and k in found
                                          for (s, _, _), found in results.items())]
    lines = ["| " + MEDIA[section] + " | " + " | ".join(peers.KINDS[k].text for k in have) + " |",
             "|---" * (len(have) + 1) + "|"]
    for name, job in jobs.JOBS.items():
        for client in jobs.CLIENTS:
            if wanted and name not in wanted:
                continue
            found = results.get((section, client, name))
            if found:
                lines.append(f"| {job.text}, {client} | "
                             + " | ".join(cell(found.get(k), job) for k in have) + " |")
    return "\n".join(lines)


def target_table(results):
    lines = ["| Target | against | wanted | found | |", "|---|---|---|---|---|"]
    for t in targets.TARGETS:
        found = targets.judge(t, results)
        if found:
            ratio, _, _, best, reached = found
            lines.append(f"| {t.text.strip()} | {best} | {t.wanted()} | {ratio:.2f} | "
                         f"{'reached' if reached else '**not reached**'} |")
    return "\n".join(lines)


def cpu_model():
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        found = re.search(r"^model name\s*: (.*)$", f.read(), re.MULTILINE)
    return found[1] if found else platform.machine()


def commit():
    try:
        out = sh("git", "-C", TOP, "describe", "--always", "--dirty", "--abbrev=10").strip()
    except (Failed, OSError):
        return "unknown"
    return out


def description(run):
    args = run.args
    memory_gib = round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 30))
    spans = ", ".join(f"{run.span_mib(s)} MiB {'in memory' if s == 'ram' else 'on disk'}"
                      for s in args.sections if s in MEDIA)
    spans = spans and (f"volumes of {spans}, every block written once in order and once at random; "
                       f"{args.rounds} rounds of {args.seconds:g} s in turn, medians")
    where = "all on every core" if args.unpinned else "server on one core, client on the other"
    return (f"{time.strftime('%Y-%m-%d')}, commit {commit()}; {'; '.join(peers.versions())}; Linux "
            f"{platform.release()}, {os.cpu_count()} x {cpu_model()}, {memory_gib} GiB; {where}"
            + (spans and "; " + spans) + ".")


CELLS = ("A cell is requests per second · server CPU time per request in µs · p99 latency in ms. "
         "In brackets: the rate with the time of a FLUSH after the writes, when what a page cache "
         "took in is on disk.")


def fold(text):
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


def markdown(run, wanted=None):
    parts = [fold(description(run))]
    if run.effective:
        parts.append(fold(f"blockd's defaults here: `{run.effective}`"))
    parts.append(fold(CELLS))
    return parts + [speed_table(s, run.results, wanted) for s in run.args.sections if s in MEDIA]


def write_results(run, readme, results):
    """The README's table between its markers, and the file with all of it."""
    with open(readme, encoding="utf-8") as f:
        whole = f.read()
    if BEGIN not in whole or END not in whole:
        raise Failed(f"{readme} has no \"{BEGIN}\" and \"{END}\"")
    head, _, rest = whole.partition(BEGIN)
    text = "\n\n".join(markdown(run, jobs.README))
    with open(readme + ".new", "w", encoding="utf-8") as f:
        f.write(head + BEGIN + "\n\n" + text + "\n\n" + END + rest.partition(END)[2])
    os.replace(readme + ".new", readme)
    with open(results, encoding="utf-8") as f:  # what others have found stays
        others = re.split(r"^(?=# (?!.*tests/bench/nbd))", f.read(), maxsplit=1, flags=re.M)[1:]
    with open(results, "w", encoding="utf-8") as f:
        f.write("\n\n".join(["# One run of tests/bench/nbd --readme", *markdown(run),
                             target_table(run.results)]) + "\n" + "\n".join(["", *others]))
