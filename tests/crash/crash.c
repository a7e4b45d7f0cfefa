// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The crash enumeration of the storage engine.
 *
 *	crash [--seconds N] [--seed N] [--seeds FILE] [--kinds K,K...] [--keep-going N]
 *	crash --replay SPEC
 *
 * A spec names one workload: pair:write,flush:7  triple:trim,fua,delete:1  random:12  full:3
 * fault:5  splice:8  damage:2.  First come the specs of FILE (seeds that failed once), then every
 * pair of operations once, then triples, random, full, faulty and splice workloads and more pairs
 * in turn until the time is over.  The first sweep over the pairs is not cut short by the time.
 *
 * CRASH_HISTORY in the environment: a failure shows all it remembers of the workload.
 *
 * Exit status 0: no failure; 1: a failure, its spec and the command that repeats it are printed.
 */
#include <errno.h>
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/crash/ops.h"
#include "tests/crash/states.h"

#define SPEC_TEXT     128u
#define HANG_SECONDS  120u
#define HISTORY_SHOWN 24u

static char current[SPEC_TEXT];
static const char *program;
static unsigned failures, failures_max = 1;
static bool first_sweep = true;

static struct {
	unsigned seconds;
	uint64_t seed;
	const char *kinds;
	bool sample;
} options = { .seconds = 60, .seed = 1, .kinds = "pair,triple,random,full,fault,splice,damage" };

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- specs ---- */

static void spec_format(const struct spec *spec, char *text)
{
	static const char *const kinds[] = { "", "random", "full", "fault", "splice", "damage" };
	int used;

	if (spec->kind != WORLD_SCRIPTED) {
		snprintf(text, SPEC_TEXT, "%s:%llu", kinds[spec->kind],
			 (unsigned long long)spec->seed);
		return;
	}
	used = snprintf(text, SPEC_TEXT, "%s:", spec->script_len == 2 ? "pair" : "triple");
	for (unsigned i = 0; i < spec->script_len; i++)
		used += snprintf(text + used, SPEC_TEXT - (unsigned)used, "%s%s", i ? "," : "",
				 spec->script[i]->name);
	snprintf(text + used, SPEC_TEXT - (unsigned)used, ":%llu", (unsigned long long)spec->seed);
}

static bool spec_parse(const char *text, struct spec *ret_spec)
{
	char copy[SPEC_TEXT], *kind, *rest, *name, *save;

	*ret_spec = (struct spec){ 0 };
	if (snprintf(copy, sizeof(copy), "%s", text) >= (int)sizeof(copy))
		return false;
	rest = copy;
	kind = strsep(&rest, ":");
	if (!rest)
		return false;
	if (!strcmp(kind, "pair") || !strcmp(kind, "triple")) {
		char *names = strsep(&rest, ":");

		for (name = strtok_r(names, ",", &save); name; name = strtok_r(NULL, ",", &save)) {
			if (ret_spec->script_len == WORLD_SCRIPT)
				return false;
			ret_spec->script[ret_spec->script_len] = op_find(name);
			if (!ret_spec->script[ret_spec->script_len++])
				return false;
		}
		if (ret_spec->script_len < 2 || !rest)
			return false;
	} else if (!strcmp(kind, "random")) {
		ret_spec->kind = WORLD_RANDOM;
	} else if (!strcmp(kind, "full")) {
		ret_spec->kind = WORLD_FULL;
	} else if (!strcmp(kind, "fault")) {
		ret_spec->kind = WORLD_FAULT;
	} else if (!strcmp(kind, "splice")) {
		ret_spec->kind = WORLD_SPLICE;
	} else if (!strcmp(kind, "damage")) {
		ret_spec->kind = WORLD_DAMAGE;
	} else {
		return false;
	}
	ret_spec->seed = strtoull(rest, &name, 10);
	return *rest && !*name;
}

/* ---- one workload ---- */

void world_fail(struct world *w, const char *fmt, ...)
{
	unsigned shown = getenv("CRASH_HISTORY") ? WORLD_HISTORY : HISTORY_SHOWN;
	unsigned from = w->history_len > shown ? w->history_len - shown : 0;
	va_list ap;

	printf("\nFAILED %s\n", current);
	for (unsigned i = from; i < w->history_len; i++)
		printf("    %s\n", w->history[i % WORLD_HISTORY]);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\nrepeat: %s --replay %s\n", program, current);
	fflush(stdout);
	_exit(1);
}

static struct world *running;

static void on_signal(int sig)
{
	world_fail(running, "signal %s", sig == SIGALRM ? "ALRM: it hangs" : strsignal(sig));
}

static int run_here(const struct spec *spec)
{
	struct world *w = calloc(1, sizeof(*w));

	if (!w)
		abort();
	running = w;
	alarm(HANG_SECONDS);
	world_run(w, spec);
	alarm(0);
	world_free(w);
	free(w);
	return 0;
}

/* In a process of its own, so that a failure costs only its own workload. */
static void run(const struct spec *spec)
{
	int status = 0;
	pid_t pid;

	spec_format(spec, current);
	pid = fork();
	if (pid < 0)
		abort();
	if (pid == 0)
		_exit(run_here(spec));
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (!WIFEXITED(status))
		printf("\nFAILED %s: killed by signal %d\nrepeat: %s --replay %s\n", current,
		       WTERMSIG(status), program, current);
	failures += status != 0;
}

/* ---- what to run ---- */

static bool over(double end)
{
	return failures >= failures_max || now_s() > end;
}

static bool kind_wanted(const char *kind)
{
	const char *at = strstr(options.kinds, kind);

	return at != NULL;
}

static unsigned scripted_ops(const struct op_type *ret_ops[])
{
	unsigned n = 0;

	for (unsigned i = 0; i < op_type_count; i++)
		if (op_types[i].scripted)
			ret_ops[n++] = &op_types[i];
	return n;
}

static void run_file(const char *path)
{
	FILE *f = fopen(path, "re");
	char line[256];
	struct spec spec;

	if (!f) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		exit(2);
	}
	while (fgets(line, sizeof(line), f) && failures < failures_max) {
		line[strcspn(line, " \t#\n")] = 0;
		if (!line[0])
			continue;
		if (!spec_parse(line, &spec)) {
			fprintf(stderr, "%s: '%s' is no spec\n", path, line);
			exit(2);
		}
		run(&spec);
	}
	fclose(f);
}

/* All pairs once, in an order by lot so that a short run is a fair sample. */
static unsigned run_pairs(uint64_t seed, double end)
{
	const struct op_type *ops[64];
	unsigned n = scripted_ops(ops), total = n * n, done = 0;
	unsigned order[64 * 64];
	struct rng rng = { rng_mix(seed) };

	for (unsigned i = 0; i < total; i++) {
		unsigned j = (unsigned)rng_below(&rng, i + 1);

		order[i] = order[j];
		order[j] = i;
	}
	for (; done < total && failures < failures_max; done++) {
		struct spec spec = { .kind = WORLD_SCRIPTED, .script_len = 2, .seed = seed };

		if ((!first_sweep || options.sample) && over(end))
			break;
		spec.script[0] = ops[order[done] / n];
		spec.script[1] = ops[order[done] % n];
		run(&spec);
	}
	if (first_sweep)
		printf("pairs of operations: %u of %u\n", done, total);
	first_sweep = false;
	return done;
}

static void run_triple(struct rng *rng)
{
	const struct op_type *ops[64];
	unsigned n = scripted_ops(ops);
	struct spec spec = { .kind = WORLD_SCRIPTED,
			     .script_len = 3,
			     .seed = rng_below(rng, 1000000) };

	for (unsigned i = 0; i < 3; i++)
		spec.script[i] = ops[rng_below(rng, n)];
	run(&spec);
}

static void run_kind(enum world_kind kind, struct rng *rng)
{
	struct spec spec = { .kind = kind, .seed = rng_below(rng, 100000000) };

	run(&spec);
}

/* `begin`: when the program started; the kept seeds count as well. */
static void run_all(double begin)
{
	double end = begin + options.seconds;
	struct rng rng = { rng_mix(options.seed ^ 0x1234) };
	uint64_t seed = options.seed;

	if (kind_wanted("pair"))
		run_pairs(seed, options.sample ? begin + options.seconds * 0.6 : end);
	while (!over(end)) {
		if (kind_wanted("triple"))
			run_triple(&rng);
		if (kind_wanted("random") && !over(end))
			run_kind(WORLD_RANDOM, &rng);
		if (kind_wanted("splice") && !over(end))
			run_kind(WORLD_SPLICE, &rng);
		if (kind_wanted("full") && !over(end))
			run_kind(WORLD_FULL, &rng);
		if (kind_wanted("fault") && !over(end))
			run_kind(WORLD_FAULT, &rng);
		if (kind_wanted("damage") && rng_percent(&rng, 10) && !over(end))
			run_kind(WORLD_DAMAGE, &rng);
		if (kind_wanted("pair") && rng_percent(&rng, 5) && !over(end))
			run_pairs(++seed, now_s() + 2 < end ? now_s() + 2 : end);
	}
}

static void report(double seconds)
{
	const struct world_totals *t = world_totals;

	printf("note: crash states: %llu tried (%llu kills), %llu more inside recovery, %llu "
	       "compared, "
	       "at %llu events of %llu workloads\n",
	       (unsigned long long)t->states, (unsigned long long)t->kills,
	       (unsigned long long)t->nested, (unsigned long long)t->compared,
	       (unsigned long long)t->events, (unsigned long long)t->workloads);
	printf("%llu requests answered, %llu with ENOSPC; %llu lives, %llu checkpoints; %.0f s\n",
	       (unsigned long long)t->replies, (unsigned long long)t->enospc,
	       (unsigned long long)t->lives, (unsigned long long)t->checkpoints, seconds);
	printf("%llu errors of the device injected, %llu blocks damaged (%llu times refused)\n",
	       (unsigned long long)t->faults, (unsigned long long)t->damaged,
	       (unsigned long long)t->refused);
	printf("%u failed\n", failures);
}

static void usage(void)
{
	fprintf(stderr,
		"usage: %s [--seconds N] [--seed N] [--seeds FILE] [--kinds K,K] [--sample]\n"
		"       [--keep-going N] | --replay SPEC\n",
		program);
	exit(2);
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "seconds", required_argument, NULL, 's' },
		{ "seed", required_argument, NULL, 'n' },
		{ "seeds", required_argument, NULL, 'f' },
		{ "kinds", required_argument, NULL, 'k' },
		{ "replay", required_argument, NULL, 'r' },
		{ "keep-going", required_argument, NULL, 'g' },
		{ "sample", no_argument, NULL, 'a' },
		{ 0 },
	};
	const char *file = NULL, *replay = NULL;
	double begin = now_s();
	struct spec spec;
	int c;

	program = argv[0];
	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 's':
			options.seconds = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'n':
			options.seed = strtoull(optarg, NULL, 10);
			break;
		case 'f':
			file = optarg;
			break;
		case 'k':
			options.kinds = optarg;
			break;
		case 'r':
			replay = optarg;
			break;
		case 'g':
			failures_max = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'a':
			options.sample = true;
			break;
		default:
			usage();
		}
	}
	if (optind != argc || (replay && !spec_parse(replay, &spec)))
		usage();
	setvbuf(stdout, NULL, _IOLBF, 0);
	/* keep freed memory: each recovery allocates the same again */
	mallopt(M_MMAP_THRESHOLD, 1 << 30);
	mallopt(M_TRIM_THRESHOLD, 1 << 30);
	signal(SIGABRT, on_signal);
	signal(SIGSEGV, on_signal);
	signal(SIGALRM, on_signal);
	world_totals = mmap(NULL, sizeof(*world_totals), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (world_totals == MAP_FAILED)
		abort();
	if (replay) { /* in this process: for a debugger */
		spec_format(&spec, current);
		run_here(&spec);
	} else {
		if (file)
			run_file(file);
		run_all(begin);
	}
	report(now_s() - begin);
	return failures ? 1 : 0;
}
