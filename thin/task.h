/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Work that may have to wait: a step function that is called again from its start whenever what it
 * waited for may have come.  A step returns after having either finished, or put its task on
 * exactly one waiting place: a node that is loading, the pool's list of stalled tasks, a volume's
 * list of range conflicts, or its own I/O.  Steps only run from thin_pool_run().
 */
#ifndef THIN_TASK_H
#define THIN_TASK_H

#include <stddef.h>
#include <sys/queue.h>

struct thin_pool;

struct task {
	void (*step)(struct thin_pool *pool, struct task *task);
	STAILQ_ENTRY(task) link;
};

STAILQ_HEAD(task_list, task);

#define TASK_OF(task, type, member) ((type *)((char *)(task)-offsetof(type, member)))

#endif
