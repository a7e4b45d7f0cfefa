/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Touching memory in the background: see prefault.h. */
#include "thin/prefault.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define PREFAULT_MIN  (8ull << 20)
#define PREFAULT_STEP (32ull << 10) /* some 0.1 ms */
#define LOOK_NS	      2000000u	    /* of work between two looks at the others */
#define REST_MIN_NS   10000000u
#define REST_MAX_NS   320000000u
#define BUSY_SHARE    4u /* others that take more than this part of a processor are busy */

/* Processor time of all threads of this kind in the process: they are not "others". */
static atomic_uint_fast64_t spent_ns;

struct look {
	uint64_t wall_ns, others_ns;
};

static uint64_t clock_ns(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static struct look look(void)
{
	uint64_t own = atomic_load(&spent_ns), all = clock_ns(CLOCK_PROCESS_CPUTIME_ID);

	return (struct look){ clock_ns(CLOCK_MONOTONIC), all > own ? all - own : 0 };
}

static bool others_were_busy(const struct look *from, const struct look *to)
{
	return to->others_ns > from->others_ns &&
	       (to->others_ns - from->others_ns) * BUSY_SHARE > to->wall_ns - from->wall_ns;
}

/* Ends early when there is something to stop for. */
static void rest(struct prefault *p, uint64_t ns)
{
	uint64_t until = clock_ns(CLOCK_MONOTONIC) + ns;
	struct timespec t = { (time_t)(until / 1000000000u), (long)(until % 1000000000u) };

	while (sem_clockwait(&p->wake, CLOCK_MONOTONIC, &t) && errno == EINTR)
		;
}

static bool stopped(struct prefault *p)
{
	return atomic_load_explicit(&p->stop, memory_order_relaxed);
}

static uint64_t asked_now(const struct prefault *p)
{
	return p->asked ? atomic_load_explicit(p->asked, memory_order_relaxed) : 0;
}

static bool was_asked(struct prefault *p)
{
	uint64_t before = p->asked_before;

	p->asked_before = asked_now(p);
	return p->asked_before != before;
}

/* Returns where it ended; behind the end, too, if it cannot go on. */
static uint64_t work(struct prefault *p, uint64_t done)
{
	uint64_t begin_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID), last_ns = begin_ns,
		 now_ns = begin_ns;

	for (; done < p->bytes && now_ns - begin_ns < LOOK_NS && !stopped(p) &&
	       asked_now(p) == p->asked_before;
	     done += PREFAULT_STEP) {
		uint64_t left = p->bytes - done;

		if (madvise(p->at + done, left < PREFAULT_STEP ? left : PREFAULT_STEP,
			    MADV_POPULATE_WRITE))
			return p->bytes; /* Linux before 5.14, or no memory: then later */
		now_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
		atomic_fetch_add(&spent_ns, now_ns - last_ns);
		last_ns = now_ns;
	}
	return done;
}

static void *prefault_main(void *arg)
{
	struct prefault *p = arg;
	struct look before = look(), now;
	uint64_t rest_ns = REST_MIN_NS;

	setpriority(PRIO_PROCESS, (id_t)gettid(), 19);
	for (uint64_t done = 0; done < p->bytes && !stopped(p); before = now) {
		bool asked = was_asked(p);

		now = look();
		if (asked || others_were_busy(&before, &now)) {
			rest(p, rest_ns);
			rest_ns = rest_ns * 2 < REST_MAX_NS ? rest_ns * 2 : REST_MAX_NS;
		} else {
			rest_ns = REST_MIN_NS;
			done = work(p, done);
		}
	}
	return NULL;
}

void prefault_start(struct prefault *p, void *at, uint64_t bytes,
		    const atomic_uint_fast64_t *asked)
{
	sigset_t all, before;

	p->at = at;
	p->bytes = bytes;
	p->asked = asked;
	p->asked_before = asked_now(p);
	if (bytes < PREFAULT_MIN)
		return;
	sem_init(&p->wake, 0, 0);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	p->running = pthread_create(&p->thread, NULL, prefault_main, p) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void prefault_stop(struct prefault *p)
{
	if (!p->running)
		return;
	atomic_store_explicit(&p->stop, true, memory_order_relaxed);
	sem_post(&p->wake);
	pthread_join(p->thread, NULL);
	p->running = false;
}
