/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Touching memory in the background: see prefault.h. */
#include "thin/prefault.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define PREFAULT_MIN  (8ull << 20)
#define PREFAULT_STEP (1ull << 20) /* what a stop waits for: 5 ms */

static void *prefault_main(void *arg)
{
	struct prefault *p = arg;

	setpriority(PRIO_PROCESS, (id_t)gettid(), 19);
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
	pthread_join(p->thread, NULL);
	p->running = false;
}
