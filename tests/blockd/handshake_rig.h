/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A client of the handshake, bytes in and bytes out.  Two exports: "demo" (1 MiB) and "pool/other";
 * "locked" is refused by policy.  "demo" has snapshots snap0, snap1 ... (base_total of them).
 */
#ifndef TESTS_BLOCKD_HANDSHAKE_RIG_H
#define TESTS_BLOCKD_HANDSHAKE_RIG_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "blockd/nbd/contexts.h"
#include "blockd/nbd/handshake.h"
#include "blockd/nbd/wire.h"
#include "common/base/cursor.h"

#define MIB (1ull << 20)

struct rig {
	struct handshake *h;
	int finds, opens, base_finds;
	unsigned base_total;
	bool bases_gone; /* by the time of GO */
	struct handshake_base opened[CONTEXTS_BITMAP_MAX];
	size_t opened_count;
	unsigned list_total;
	uint8_t out[1 << 20];
	size_t out_len, out_at;
	bool no_send; /* the client does not read */
};

struct rig *begin(void);	    /* the greeting has come */
struct rig *begin_fixed(void);	    /* ... and fixed newstyle was chosen */
struct rig *begin_structured(void); /* ... and structured replies */
void end(struct rig *rig);

void pump(struct rig *rig);
/* Bytes from the client, in portions of `portion`. */
void feed_by(struct rig *rig, const void *data, size_t len, size_t portion);
void feed(struct rig *rig, const void *data, size_t len);
void flags(struct rig *rig, uint32_t value);
void option(struct rig *rig, uint32_t number, const void *data, uint32_t len);
/* INFO or GO for `name` with `count` info requests. */
void option_go(struct rig *rig, uint32_t number, const char *name, const uint16_t *infos,
	       uint16_t count);
void option_queries(struct rig *rig, uint32_t number, const char *name, const char **queries,
		    uint32_t count);

/* The next reply must be this; returns its data. */
struct cursor expect(struct rig *rig, uint32_t number, uint32_t type);
void expect_nothing(const struct rig *rig);
uint16_t expect_info_export(struct rig *rig, uint32_t number); /* the flags in it */
void assert_talking(const struct rig *rig);
void assert_failed(const struct rig *rig);

#endif
