// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The copy loop of import and export.
 *
 *	cursor --> extent of the source --> slot: reading -> loaded -> writing -> free
 *	                     \-- zero -----> slot: writing (zeroes), or nothing at all
 *
 * SLOT_COUNT slots of SLOT_BYTES each are in flight at once.  A slot belongs to one range of the
 * disk; slots are independent of each other, ranges never overlap, so no order is needed until
 * the closing flush.  Completions only move a slot's state (end.h: `done` must not call back);
 * the loop then takes each slot one step further.  Runs of zeroes inside what a source calls data
 * are found here and not carried: images made with dd are mostly that.
 *
 * Memory: SLOT_COUNT * SLOT_BYTES, allocated once.
 */
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/ctl/copy.h"
#include "common/daemon/loop.h"

#define SLOT_COUNT	64u
#define SLOT_BYTES	(256u << 10)
#define GRAIN_BYTES	4096u	    /* zeroes are looked for in units of a block */
#define ZERO_RUN_MIN	(32u << 10) /* shorter runs are carried: a request costs more */
#define PROGRESS_MS	100
#define POLL_MS		100 /* how late a stop may be noticed */
#define STEP_MAX	16u
#define ALIGN_UP(x, to) (((x) + (to)-1) / (to) * (to))

enum slot_state {
	SLOT_FREE,
	SLOT_READING,
	SLOT_LOADED,
	SLOT_WRITING,
};

struct slot {
	enum slot_state state;
	char *buf;
	uint64_t offset;
	size_t len;
	unsigned pending; /* requests in flight */
	int res;
};

struct copy {
	struct end *source, *target;
	const struct copy_params *params;
	struct copy_stat stat;
	struct slot slots[SLOT_COUNT];
	char *memory;
	uint64_t cursor;   /* everything before it has a slot or is done */
	uint64_t zero_end; /* the cursor stands in a zero extent that ends here */
	uint64_t data_end; /* ... in a data extent that ends here */
	uint64_t busy;	   /* slots not free */
	uint64_t shown_ms;
	bool ready; /* some slot can go on without waiting */
};

static void slot_done(void *user, int res)
{
	struct slot *slot = user;

	if (res < 0 && slot->res == 0)
		slot->res = res;
	slot->pending--;
}

/* ---- writing a slot ---- */

static bool is_zero(const char *buf, size_t len)
{
	return len == 0 || (buf[0] == 0 && memcmp(buf, buf + 1, len - 1) == 0);
}

/* Length of the run of equal kind (zero or not, by grains) that begins at `at`. */
static size_t run_length(const struct slot *slot, size_t at, bool *ret_zero)
{
	size_t end = at;
	bool zero = false;

	while (end < slot->len) {
		size_t step = slot->len - end < GRAIN_BYTES ? slot->len - end : GRAIN_BYTES;
		bool this_zero = is_zero(slot->buf + end, step);
		if (end == at)
			zero = this_zero;
		else if (this_zero != zero)
			break;
		end += step;
	}
	*ret_zero = zero;
	return end - at;
}

/* Like run_length(), but short runs of zeroes belong to the data around them. */
static size_t run_worth(const struct slot *slot, size_t at, bool *ret_zero)
{
	size_t len = run_length(slot, at, ret_zero);

	if (*ret_zero && (len >= ZERO_RUN_MIN || len == slot->len))
		return len;
	*ret_zero = false;
	while (at + len < slot->len) {
		bool zero;
		size_t more = run_length(slot, at + len, &zero);
		if (zero && more >= ZERO_RUN_MIN)
			break;
		len += more;
	}
	return len;
}

static int slot_write(struct copy *copy, struct slot *slot, struct err *err)
{
	slot->state = SLOT_WRITING;
	for (size_t at = 0; at < slot->len;) {
		bool zero;
		size_t len = run_worth(slot, at, &zero);
		int rc = 0;

		if (zero)
			copy->stat.zero_bytes += len;
		else
			copy->stat.data_bytes += len;
		if (!zero || !end_reads_zero(copy->target)) {
			slot->pending++;
			rc = zero ? end_zero(copy->target, len, slot->offset + at, slot_done, slot,
					     err)
				  : end_write(copy->target, slot->buf + at, len, slot->offset + at,
					      slot_done, slot, err);
		}
		if (rc < 0) {
			slot->pending--;
			return rc;
		}
		at += len;
	}
	return 0;
}

/* ---- filling slots ---- */

/* The next `len` bytes are this slot's, with one request about to be made for them. */
static void slot_take(struct copy *copy, struct slot *slot, enum slot_state state, size_t len)
{
	slot->state = state;
	slot->offset = copy->cursor;
	slot->len = len;
	slot->res = 0;
	slot->pending = 1;
	copy->busy++;
	copy->cursor += len;
}

static int slot_read(struct copy *copy, struct slot *slot, size_t len, struct err *err)
{
	int rc;

	slot_take(copy, slot, SLOT_READING, len);
	rc = end_read(copy->source, slot->buf, len, slot->offset, slot_done, slot, err);
	if (rc < 0)
		slot->pending = 0;
	return rc;
}

static int slot_zero(struct copy *copy, struct slot *slot, size_t len, struct err *err)
{
	int rc;

	slot_take(copy, slot, SLOT_WRITING, len);
	copy->stat.zero_bytes += len;
	rc = end_zero(copy->target, len, slot->offset, slot_done, slot, err);
	if (rc < 0)
		slot->pending = 0;
	return rc;
}

/*
 * Learn what lies at the cursor.  Beyond the source everything is zero.  The ends of extents are
 * rounded to grains, so that each request is one of whole blocks: a zero extent ends early, a data
 * extent late.
 */
static int cursor_extent(struct copy *copy, struct err *err)
{
	struct end_extent ext;
	uint64_t end;
	int rc;

	if (copy->cursor >= copy->stat.total_bytes) {
		copy->zero_end = end_size_bytes(copy->target);
		return 0;
	}
	rc = end_extent(copy->source, copy->cursor, UINT64_MAX, &ext, err);
	if (rc < 0)
		return rc;
	if (ext.len_bytes == 0)
		return err_set(err, -EIO, "the source became shorter while it was read");
	end = ext.offset + ext.len_bytes;
	if (ext.zero && end < copy->stat.total_bytes)
		end = end / GRAIN_BYTES * GRAIN_BYTES;
	if (ext.zero && end > copy->cursor) {
		copy->zero_end = end;
		return 0;
	}
	end = ALIGN_UP(ext.offset + ext.len_bytes, GRAIN_BYTES);
	copy->data_end = end < copy->stat.total_bytes ? end : copy->stat.total_bytes;
	return 0;
}

static uint64_t target_end(const struct copy *copy)
{
	if (!copy->params->zero_rest || end_reads_zero(copy->target))
		return copy->stat.total_bytes;
	return end_size_bytes(copy->target);
}

/* Give `slot` the next range.  Holes that need no request are passed over. */
static int slot_fill(struct copy *copy, struct slot *slot, struct err *err)
{
	uint64_t end = target_end(copy);

	while (copy->cursor < end) {
		uint64_t left;
		int rc;

		if (copy->cursor >= copy->zero_end && copy->cursor >= copy->data_end) {
			rc = cursor_extent(copy, err);
			if (rc < 0)
				return rc;
		}
		if (copy->cursor < copy->data_end) {
			left = copy->data_end - copy->cursor;
			return slot_read(copy, slot, left < SLOT_BYTES ? left : SLOT_BYTES, err);
		}
		left = (copy->zero_end < end ? copy->zero_end : end) - copy->cursor;
		if (!end_reads_zero(copy->target))
			return slot_zero(copy, slot, left < END_ZERO_MAX ? left : END_ZERO_MAX,
					 err);
		copy->stat.zero_bytes += left;
		copy->cursor += left;
	}
	return 0;
}

/* ---- the loop ---- */

/*
 * Take one slot as far as it goes.  A file's requests complete within the call, hence the loop;
 * STEP_MAX gives the other slots, the progress bar and the stop their turn.
 */
static int slot_step(struct copy *copy, struct slot *slot, struct err *err)
{
	int rc = 0;

	for (unsigned i = 0; rc == 0 && slot->pending == 0; i++) {
		if (i == STEP_MAX) {
			copy->ready = true;
			return 0;
		}
		if (slot->res < 0)
			return err_sys(err, slot->res, "%s at offset %llu",
				       slot->state == SLOT_READING ? "read" : "write",
				       (unsigned long long)slot->offset);
		switch (slot->state) {
		case SLOT_READING:
			slot->state = SLOT_LOADED;
			break;
		case SLOT_LOADED:
			rc = slot_write(copy, slot, err);
			break;
		case SLOT_WRITING:
			slot->state = SLOT_FREE;
			copy->busy--;
			break;
		case SLOT_FREE:
			rc = slot_fill(copy, slot, err);
			if (slot->state == SLOT_FREE)
				return rc;
			break;
		}
	}
	return rc;
}

static void show(struct copy *copy, bool last)
{
	uint64_t now = loop_now_ms();

	if (!copy->params->progress || (!last && now - copy->shown_ms < PROGRESS_MS))
		return;
	copy->shown_ms = now;
	copy->params->progress(copy->params->user, &copy->stat);
}

/* Wait until one of the ends can go on.  Two files are never waited for. */
static int wait_turn(struct copy *copy, struct err *err)
{
	struct pollfd pfds[2] = { end_pollfd(copy->source), end_pollfd(copy->target) };
	int rc;

	if (pfds[0].fd < 0 && pfds[1].fd < 0)
		return 0;
	if (poll(pfds, 2, copy->ready ? 0 : POLL_MS) < 0 && errno != EINTR)
		return err_sys(err, -errno, "poll");
	rc = end_turn(copy->source, pfds[0].revents, err);
	return rc < 0 ? rc : end_turn(copy->target, pfds[1].revents, err);
}

static int copy_loop(struct copy *copy, struct err *err)
{
	do {
		copy->ready = false;
		for (unsigned i = 0; i < SLOT_COUNT; i++) {
			int rc = slot_step(copy, &copy->slots[i], err);
			if (rc < 0)
				return rc;
		}
		show(copy, false);
		if (copy->params->stop && *copy->params->stop)
			return err_set(err, -EINTR, "interrupted");
		int rc = wait_turn(copy, err);
		if (rc < 0)
			return rc;
	} while (copy->busy > 0 || copy->cursor < target_end(copy));
	return end_flush(copy->target, err);
}

int copy_run(struct end *source, struct end *target, const struct copy_params *params,
	     struct copy_stat *ret_stat, struct err *err)
{
	struct copy copy = { .source = source, .target = target, .params = params };
	int rc;

	copy.stat.total_bytes = end_size_bytes(source);
	copy.memory = aligned_alloc(GRAIN_BYTES, (size_t)SLOT_COUNT * SLOT_BYTES);
	if (!copy.memory)
		return err_set(err, -ENOMEM, "out of memory");
	for (unsigned i = 0; i < SLOT_COUNT; i++)
		copy.slots[i].buf = copy.memory + (size_t)i * SLOT_BYTES;
	rc = copy_loop(&copy, err);
	if (rc == 0) {
		show(&copy, true);
		*ret_stat = copy.stat;
	}
	if (rc < 0) { /* requests may be in flight into these buffers */
		end_abort(source);
		end_abort(target);
	}
	free(copy.memory);
	return rc;
}
