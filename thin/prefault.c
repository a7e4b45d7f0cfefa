/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Touching memory in the background: see prefault.h. */
#include "thin/prefault.h"

#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define PREFAULT_MIN  (8ull << 20)
#define PREFAULT_STEP (16ull << 10)

/* Idle, if there is a way back: whoever may lower a nice value may also leave SCHED_IDLE. */
static void run_last(void)
{
	id_t self = (id_t)gettid();
	int nice = getpriority(PRIO_PROCESS, self);

	if (nice < 19 && !setpriority(PRIO_PROCESS, self, nice + 1) &&
	    !setpriority(PRIO_PROCESS, self, nice) &&
	    !pthread_setschedparam(pthread_self(), SCHED_IDLE, &(struct sched_param){ 0 }))
		return;
	setpriority(PRIO_PROCESS, self, 19);
}

static void *prefault_main(void *arg)
{
	struct prefault *p = arg;

	run_last();
	for (uint64_t done = 0; done < p->bytes; done += PREFAULT_STEP) {
		uint64_t left = p->bytes - done;

		if (atomic_load_explicit(&p->stop, memory_order_relaxed) ||
		    madvise(p->at + done, left < PREFAULT_STEP ? left : PREFAULT_STEP,
			    MADV_POPULATE_WRITE))
			break; /* Linux before 5.14, or no memory: then later */
	}
	return NULL;
}

void prefault_start(struct prefault *p, void *at, uint64_t bytes)
{
	sigset_t all, before;

	p->at = at;
	p->bytes = bytes;
	if (bytes < PREFAULT_MIN)
		return;
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
	pthread_setschedparam(p->thread, SCHED_OTHER, &(struct sched_param){ 0 });
	pthread_join(p->thread, NULL);
	p->running = false;
}
