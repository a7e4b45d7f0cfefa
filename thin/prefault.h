/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Touching a large piece of memory in the background.
 *
 * The first touch of a page costs up to 20 us in a virtual machine, which no request should pay.
 * A thread goes through the memory once, asks the kernel to have it there (MADV_POPULATE_WRITE: the
 * content stays whatever others do with it meanwhile) and ends.  It owns nothing and knows nothing
 * but an address.  Where it cannot run, pages come when they are touched.
 *
 * It runs when nobody else wants its processor (SCHED_IDLE): at nice 19 it took 40 % from cold reads
 * in the seconds behind a start.  On a busy machine it then gets no time to end either, so a stop
 * lends it a priority; a process that may not do that has it at nice 19.  Steps are small: they hold
 * the process's memory map (others may fault, but not map) and are what a stop waits for.
 */
#ifndef THIN_PREFAULT_H
#define THIN_PREFAULT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct prefault {
	uint8_t *at;
	uint64_t bytes;
	pthread_t thread;
	atomic_bool stop;
	bool running; /* to be joined */
};

/* Begin, unless it is too little to be worth it. */
void prefault_start(struct prefault *p, void *at, uint64_t bytes);
/* End, before the memory goes.  All zeroes is fine. */
void prefault_stop(struct prefault *p);

#endif
