/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the parts of vdiskctl share.  Exit codes are documented in vdiskctl(1). */
#ifndef BLOCKD_CTL_VDISKCTL_H
#define BLOCKD_CTL_VDISKCTL_H

#include <jansson.h>

#include "common/base/err.h"
#include "common/daemon/cli.h"

enum vdiskctl_exit {
	VDISKCTL_UNREACHABLE = 3, /* no blockd at the socket */
	VDISKCTL_DAMAGED = 4,	  /* verify found damage */
	VDISKCTL_INTERRUPTED = 130,
};

/*
 * Ask blockd: one request and its reply.  `args` is taken over.  0 and *ret (the caller's
 * reference), or the exit code, with the reason printed.
 */
int vdiskctl_ask(struct cli *cli, const char *verb, json_t *args, json_t **ret)
	__attribute__((warn_unused_result));

/* The same, and show the answer as a record of these columns.  The exit code. */
int vdiskctl_ask_record(struct cli *cli, const char *verb, json_t *args,
			const struct output_column *columns) __attribute__((warn_unused_result));

/* A list of the pool that --pool names, or of all: it comes page by page, as "`name`": [...], and
 * `rows` gets each of them. */
struct vdiskctl_list {
	const char *name;
	void (*rows)(json_t *rows, void *ctx);
	void *ctx;
};

/* 0, or the exit code, with the reason printed. */
int vdiskctl_ask_list(struct cli *cli, const char *verb, const struct vdiskctl_list *list)
	__attribute__((warn_unused_result));

/* One request without a word: NULL when it was refused or blockd does not answer in time. */
json_t *vdiskctl_ask_quietly(struct cli *cli, const char *verb, json_t *args, unsigned timeout_ms);

/* Print the error as the tool does, with --json as an object too; returns `code`. */
int vdiskctl_fail(struct cli *cli, int code, const struct err *err);

/* There is none: the same. */
int vdiskctl_no_memory(struct cli *cli);

/* lock.c */
int vdiskctl_lock_show(struct cli *cli);
int vdiskctl_lock_handover(struct cli *cli);
int vdiskctl_lock_break(struct cli *cli);
int vdiskctl_lock_allow(struct cli *cli);
int vdiskctl_set(struct cli *cli);

/* offline.c: no daemon needed */
int vdiskctl_verify(struct cli *cli);
int vdiskctl_pool_create(struct cli *cli);

/* scrubbing.c */
int vdiskctl_scrub(struct cli *cli);

/* stat.c */
int vdiskctl_stat(struct cli *cli);

/* transfer.c */
int vdiskctl_import(struct cli *cli);
int vdiskctl_export(struct cli *cli);

/* tree.c */
int vdiskctl_snapshot(struct cli *cli);
int vdiskctl_clone(struct cli *cli);
int vdiskctl_rollback(struct cli *cli);
int vdiskctl_tree(struct cli *cli);
int vdiskctl_diff(struct cli *cli);
int vdiskctl_ls_snapshots(struct cli *cli);

#endif
