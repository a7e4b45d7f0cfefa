/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Touching a large piece of memory in the background.
 *
 * The first touch of a page costs up to 20 us in a virtual machine, which no request should pay.
 * A thread goes through the memory once, asks the kernel to have it there (MADV_POPULATE_WRITE: the
 * content stays whatever others do with it meanwhile) and ends.  It owns nothing and knows nothing
 * but an address.  Where it cannot run, pages come when they are touched.
 *
 * It works while the rest of the process does nothing: a busy pool would share its processor with
 * it for the half minute that some GiB take (measured at nice 19: 40 % fewer cold reads, flushes at
 * half their rate, for a pool that yields while it waits for its disk yields to this).  So it looks
 * now and then at how much processor time the others have taken, and sleeps if that is more than
 * little, or if the pool was asked for something, which may be waiting for its disk (one client
 * that reads singly: 1,000 a second beside this, 10,000 without).  A pool that is busy from its
 * start on touches its pages itself.
 *
 * Steps are small: they hold the process's memory map (others may fault, but not map), and one of
 * them is what a stop waits for.  (SCHED_IDLE was tried: on a busy machine it cannot even end.)
 */
#ifndef THIN_PREFAULT_H
#define THIN_PREFAULT_H

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct prefault {
	uint8_t *at;
	uint64_t bytes;
	const atomic_uint_fast64_t *asked;
	uint64_t asked_before;
	pthread_t thread;
	sem_t wake;
	atomic_bool stop;
	bool running; /* to be joined */
};

/* Begin, unless it is too little to be worth it.  `asked` (NULL: none) counts what the pool has
 * been asked for and outlives this. */
void prefault_start(struct prefault *p, void *at, uint64_t bytes,
		    const atomic_uint_fast64_t *asked);
/* End, before the memory goes.  All zeroes is fine. */
void prefault_stop(struct prefault *p);

#endif
