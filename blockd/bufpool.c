/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A buddy allocator over one arena; see bufpool.h.
 *
 * Buffers are 2^order pages, orders 0 (4 KiB) to 8 (1 MiB).  free[order] is a bitmap with one bit
 * for each aligned place of that size: set when exactly this place is free as a whole (and not
 * part of a larger free one).  Taking splits the smallest that fits, lowest address first, which
 * keeps the small buffers together and the large places whole; giving back joins buddies.
 *
 *	order 2 |               0               |               1               |
 *	order 1 |       0       |       1       |       2       |       3       |
 *	order 0 |   0   |   1   |   2   |   3   |   4   |   5   |   6   |   7   |
 *
 * Invariant: free pages = sum over orders of set bits * 2^order.  Thread: the reactor's.
 */
#include "blockd/bufpool.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define ORDER_MAX   8
#define ORDER_COUNT (ORDER_MAX + 1)
#define HUGE_PAGE   (2u << 20)
#define SHARE	    4 /* an account may hold 1/SHARE of what is free besides */
#define RESERVE	    4 /* 1/RESERVE of the pool is for small holders */

static_assert(BUFPOOL_PAGE << ORDER_MAX == BUFPOOL_BUF_MAX, "orders");

struct order {
	uint64_t *bits;
	size_t word_count;
	size_t hint; /* no bit is set in the words before */
	size_t set_count;
};

struct bufpool {
	void *mapped; /* the arena with room to align it */
	size_t mapped_bytes;
	uint8_t *arena;
	uint64_t size_bytes, used_bytes, peak_bytes, freed;
	struct order orders[ORDER_COUNT];
};

static unsigned order_of(size_t len)
{
	unsigned order = 0;

	assert(len > 0 && len <= BUFPOOL_BUF_MAX);
	while ((size_t)BUFPOOL_PAGE << order < len)
		order++;
	return order;
}

static void mark_free(struct order *o, size_t place)
{
	assert(!(o->bits[place / 64] >> (place % 64) & 1));
	o->bits[place / 64] |= 1ull << (place % 64);
	o->set_count++;
	if (place / 64 < o->hint)
		o->hint = place / 64;
}

static bool mark_taken(struct order *o, size_t place)
{
	if (!(o->bits[place / 64] >> (place % 64) & 1))
		return false;
	o->bits[place / 64] &= ~(1ull << (place % 64));
	o->set_count--;
	return true;
}

/* The lowest free place; there is one. */
static size_t lowest(struct order *o)
{
	assert(o->set_count);
	while (!o->bits[o->hint])
		o->hint++;
	return o->hint * 64 + (size_t)__builtin_ctzll(o->bits[o->hint]);
}

/*
 * Memory that is there: the first touch of a page is the expensive one.  Asks for huge pages, which
 * makes it a hundred times cheaper where they can be had.
 */
static int map_arena(struct bufpool *pool)
{
	uint8_t *at;

	pool->mapped_bytes = pool->size_bytes + HUGE_PAGE;
	pool->mapped = mmap(NULL, pool->mapped_bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (pool->mapped == MAP_FAILED) {
		pool->mapped = NULL;
		return -errno;
	}
	at = (uint8_t *)(((uintptr_t)pool->mapped + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE);
	madvise(at, pool->size_bytes, MADV_HUGEPAGE);
	if (madvise(at, pool->size_bytes, MADV_POPULATE_WRITE)) {
		if (errno != EINVAL)
			return -errno;
		memset(at, 0, pool->size_bytes); /* Linux before 5.14 */
	}
	pool->arena = at;
	return 0;
}

int bufpool_new(uint64_t size_bytes, struct bufpool **ret_pool, struct err *err)
{
	struct bufpool *pool;
	size_t i;
	int rc;

	if (size_bytes > BUFPOOL_SIZE_MAX)
		return err_set(err, -EINVAL, "buffers: more than 64G");
	if (size_bytes < BUFPOOL_SIZE_MIN)
		size_bytes = BUFPOOL_SIZE_MIN;
	size_bytes = (size_bytes + BUFPOOL_BUF_MAX - 1) / BUFPOOL_BUF_MAX * BUFPOOL_BUF_MAX;
	pool = calloc(1, sizeof(*pool));
	if (!pool)
		return err_set(err, -ENOMEM, "out of memory");
	pool->size_bytes = size_bytes;
	rc = map_arena(pool);
	if (rc)
		goto fail;
	for (i = 0; i < ORDER_COUNT; i++) {
		struct order *o = &pool->orders[i];

		o->word_count = (size_t)((size_bytes / BUFPOOL_PAGE >> i) + 63) / 64;
		o->bits = calloc(o->word_count, sizeof(*o->bits));
		rc = -ENOMEM;
		if (!o->bits)
			goto fail;
	}
	for (i = 0; i < size_bytes / BUFPOOL_BUF_MAX; i++)
		mark_free(&pool->orders[ORDER_MAX], i);
	*ret_pool = pool;
	return 0;
fail:
	bufpool_free(pool);
	return err_sys(err, rc, "buffers of %llu MiB", (unsigned long long)(size_bytes >> 20));
}

void bufpool_free(struct bufpool *pool)
{
	size_t i;

	if (!pool)
		return;
	assert(!pool->used_bytes);
	for (i = 0; i < ORDER_COUNT; i++)
		free(pool->orders[i].bits);
	if (pool->mapped)
		munmap(pool->mapped, pool->mapped_bytes);
	free(pool);
}

static bool within_share(const struct bufpool *pool, const struct bufpool_account *account,
			 size_t bytes)
{
	uint64_t unused = pool->size_bytes - pool->used_bytes;
	uint64_t held = account->held_bytes + bytes;

	if (bytes > unused)
		return false;
	unused -= bytes;
	if (unused < pool->size_bytes / RESERVE)
		return held <= BUFPOOL_ALWAYS;
	return !account->held_bytes || held * SHARE <= unused;
}

void *bufpool_get(struct bufpool *pool, struct bufpool_account *account, size_t len)
{
	unsigned order = order_of(len), from = order;
	size_t bytes = (size_t)BUFPOOL_PAGE << order, place;

	if (!within_share(pool, account, bytes))
		return NULL;
	while (from < ORDER_COUNT && !pool->orders[from].set_count)
		from++;
	if (from == ORDER_COUNT)
		return NULL;
	place = lowest(&pool->orders[from]);
	mark_taken(&pool->orders[from], place);
	while (from > order) {
		from--;
		place *= 2;
		mark_free(&pool->orders[from], place + 1);
	}
	account->held_bytes += bytes;
	pool->used_bytes += bytes;
	if (pool->used_bytes > pool->peak_bytes)
		pool->peak_bytes = pool->used_bytes;
	return pool->arena + place * bytes;
}

void bufpool_put(struct bufpool *pool, struct bufpool_account *account, void *buf, size_t len)
{
	unsigned order = order_of(len);
	size_t bytes = (size_t)BUFPOOL_PAGE << order;
	size_t at = (size_t)((uint8_t *)buf - pool->arena);
	size_t place = at / bytes;

	assert(at < pool->size_bytes && at % bytes == 0);
	assert(account->held_bytes >= bytes && pool->used_bytes >= bytes);
	account->held_bytes -= bytes;
	pool->used_bytes -= bytes;
	pool->freed++;
	while (order < ORDER_MAX && mark_taken(&pool->orders[order], place ^ 1)) {
		place /= 2;
		order++;
	}
	mark_free(&pool->orders[order], place);
}

uint64_t bufpool_freed(const struct bufpool *pool)
{
	return pool->freed;
}

uint64_t bufpool_size_bytes(const struct bufpool *pool)
{
	return pool->size_bytes;
}

uint64_t bufpool_used_bytes(const struct bufpool *pool)
{
	return pool->used_bytes;
}

uint64_t bufpool_peak_bytes(const struct bufpool *pool)
{
	return pool->peak_bytes;
}
