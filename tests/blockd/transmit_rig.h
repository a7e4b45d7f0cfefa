/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A client of the transmission phase, bytes in and bytes out, on the engine in memory.  One volume
 * of 64 MiB, `demo`.
 */
#ifndef TESTS_BLOCKD_TRANSMIT_RIG_H
#define TESTS_BLOCKD_TRANSMIT_RIG_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "blockd/nbd/contexts.h"
#include "blockd/nbd/transmit.h"
#include "blockd/nbd/wire.h"
#include "common/base/cursor.h"
#include "tests/lib/fake_thin.h"

#define MIB	 (1ull << 20)
#define VOL_SIZE (64 * MIB)
#define BUFS	 (24 * MIB)

struct rig {
	struct thin_pool *pool;
	struct thin_vol *vol, *bases[CONTEXTS_BITMAP_MAX];
	struct bufpool *bufs;
	struct io_counters counters;
	struct transmit *t;
	uint8_t *out; /* what the client has received */
	size_t out_len, out_at, out_size;
	bool no_read; /* the client does not read */
	unsigned wakes;
};

struct rig *begin_with(bool structured, bool read_only, unsigned contexts);
struct rig *begin(bool structured); /* read-write, all contexts */
/* Structured replies; `count` bitmaps besides the contexts, of snapshots "snap0" ... that are as
 * the volume is now: empty. */
struct rig *begin_compared(unsigned contexts, unsigned count);
/* A sparse volume `big`, structured replies. */
struct rig *begin_big(uint64_t size, unsigned contexts);
/* Checks that nothing is held any more. */
void end(struct rig *rig);
/* The next begin() has buffers of its own: for a test that looks at their peak. */
void new_bufs(void);
/* Teardown of the group. */
int rig_free_shared(void **state);

/* Let everything happen that can without further input. */
void settle(struct rig *rig);
void send_out(struct rig *rig);
/* Bytes of the client, `portion` at most in one receive; returns how many were taken. */
size_t feed_by(struct rig *rig, const void *data, size_t len, size_t portion);
/* All of them, and settle. */
void feed(struct rig *rig, const void *data, size_t len);

struct nbd_request header(unsigned cmd, unsigned flags, uint64_t cookie, uint64_t offset,
			  uint32_t len);
void request(struct rig *rig, unsigned cmd, unsigned flags, uint64_t cookie, uint64_t offset,
	     uint32_t len);

/* What a byte of the volume should be. */
uint8_t pattern(uint64_t i);
void assert_pattern(const uint8_t *bytes, uint64_t offset, uint64_t len);
void fill_pattern(struct rig *rig); /* the whole volume, past the server */
void assert_volume(struct rig *rig, uint64_t offset, uint64_t len);
void write_pattern(struct rig *rig, unsigned flags, uint64_t cookie, uint64_t offset, uint32_t len);

/* ---- what has come back ---- */

struct cursor received(const struct rig *rig);
void took(struct rig *rig, const struct cursor *c);
uint64_t cookie_of(struct cursor *c);
void expect_nothing(const struct rig *rig);
void expect_simple(struct rig *rig, uint64_t cookie, uint32_t error);

struct got_chunk {
	uint16_t flags, type;
	uint64_t cookie;
	struct cursor payload;
};

struct got_chunk next_chunk(struct rig *rig);
/* One chunk ends the reply: an error, or none (error 0). */
void expect_end(struct rig *rig, uint64_t cookie, uint32_t error);
/* The result of a request without payload, in either kind of reply. */
void expect_result(struct rig *rig, bool structured, uint64_t cookie, uint32_t error);
/* A READ's data in up to `chunk_max` chunks, each byte once. */
void expect_read_structured(struct rig *rig, uint64_t cookie, uint64_t offset, uint32_t len,
			    unsigned chunk_max);
void expect_read_simple(struct rig *rig, uint64_t cookie, uint64_t offset, uint32_t len);

#endif
