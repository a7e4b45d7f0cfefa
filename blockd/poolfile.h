/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The file or block device under a pool: making it with care, opening it with its shadow. */
#ifndef BLOCKD_POOLFILE_H
#define BLOCKD_POOLFILE_H

#include <stdbool.h>
#include <stdint.h>

#include "blockd/shadow.h"
#include "common/base/err.h"
#include "thin/thin.h"

struct poolfile_create {
	uint64_t size_bytes;	/* a block device may have 0: all of it */
	uint64_t journal_bytes; /* 0: the engine's default */
	bool force;		/* write over what is there */
};

/*
 * Make an empty pool.  A file appears under its name only when it is complete, so that a crash in
 * between leaves no half pool.  -EEXIST: something is there, `err` says what; -EBUSY: it is open.
 * Blocking.
 */
int poolfile_create(const char *path, const struct poolfile_create *params, struct err *err)
	__attribute__((warn_unused_result));

struct poolfile_open {
	const char *path;
	const char *runtime; /* where the shadow lies */
	uint64_t cache_bytes, data_cache_bytes, buffer_bytes, ahead_bytes;
	bool salvage; /* see thin_open */
	void (*event)(void *user, enum thin_event_kind kind, const char *text);
	void *event_user;
};

struct poolfile {
	struct thin_dev *dev;
	struct thin_pool *pool;
	struct shadow *shadow;
};

/* Open device, shadow and pool; recovers.  On failure nothing stays open.  Blocking, and on the
 * thread that will use the pool. */
int poolfile_open(const struct poolfile_open *params, struct poolfile *ret_file, struct err *err)
	__attribute__((warn_unused_result));

/* Checkpoint and close; the shadow goes when the pool closed cleanly.  0 or -errno of the pool. */
int poolfile_close(struct poolfile *file);

#endif
