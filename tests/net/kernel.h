/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For tests on the real kernel: a network namespace of one's own, and commands in it.
 */
#ifndef TESTS_NET_KERNEL_H
#define TESTS_NET_KERNEL_H

#include <sched.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "netd/observe.h"
#include "netd/queue.h"

/* Leave the host's namespaces; 77 (skip) where that is not allowed. */
static inline void kernel_unshare(void)
{
	if (unshare(CLONE_NEWNET | CLONE_NEWNS) < 0) {
		fprintf(stderr, "no namespace of its own: not root\n");
		exit(77);
	}
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		exit(77);
	if (system("ip link set lo up"))
		exit(1);
}

/* A shell command that must succeed. */
static inline void __attribute__((format(printf, 1, 2))) sh(const char *fmt, ...)
{
	char cmd[1024];
	va_list ap;
	int r;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	r = system(cmd);
	if (r)
		fail_msg("%s: status %d", cmd, WEXITSTATUS(r));
}

/* Its exit status. */
static inline int __attribute__((format(printf, 1, 2))) sh_status(const char *fmt, ...)
{
	char cmd[1024];
	va_list ap;
	int r;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	r = system(cmd);
	return WIFEXITED(r) ? WEXITSTATUS(r) : -1;
}

#define must(call, err)                                                                            \
	do {                                                                                       \
		int must_r = (call);                                                               \
		if (must_r)                                                                        \
			fail_msg("%s: %d %s", #call, must_r, (err)->text);                         \
	} while (0)

static inline double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

#endif
