/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading the log back: see log_reader.h. */
#include "thin/log_reader.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* How many pages piece `index` has; the first ones are the largest. */
static uint64_t chunk_pages(const struct log_reader *lr, uint64_t index)
{
	uint64_t left = lr->pool->log_pages - index * LOG_CHUNK_PAGES;

	return left < LOG_CHUNK_PAGES ? left : LOG_CHUNK_PAGES;
}

int log_reader_init(struct log_reader *lr, struct thin_pool *pool, const struct fmt_super *sb,
		    const void *shadow)
{
	memset(lr, 0, sizeof(*lr));
	lr->pool = pool;
	lr->shadow = shadow;
	lr->nonce = le64_get(sb->nonce);
	lr->first = le64_get(sb->log_seq);
	lr->first_pred = le32_get(sb->log_pred);
	log_reader_rewind(lr);
	for (unsigned i = 0; i < LOG_CHUNKS && i * LOG_CHUNK_PAGES < pool->log_pages; i++)
		if (posix_memalign((void **)&lr->chunk[i].data, FMT_BLOCK,
				   chunk_pages(lr, i) * FMT_BLOCK))
			goto fail;
	if (posix_memalign((void **)&lr->page, FMT_BLOCK, FMT_BLOCK))
		goto fail;
	return 0;
fail:
	log_reader_fini(lr);
	return -ENOMEM;
}

static void chunk_wait(struct log_reader *lr, struct log_chunk *c)
{
	while (c->busy)
		lr->pool->dev->ops->wait(lr->pool->dev);
}

void log_reader_fini(struct log_reader *lr)
{
	for (unsigned i = 0; i < LOG_CHUNKS; i++) {
		chunk_wait(lr, &lr->chunk[i]);
		free(lr->chunk[i].data);
	}
	free(lr->page);
	memset(lr, 0, sizeof(*lr));
}

void log_reader_rewind(struct log_reader *lr)
{
	lr->next = lr->first;
	lr->pred = lr->first_pred;
}

/* ---- the ring, with what comes next read ahead ---- */

static void chunk_read(struct dev_io *io)
{
	struct log_chunk *c = io->user;

	c->busy = false;
	c->known = io->res == 0;
}

static void chunk_start(struct log_reader *lr, struct log_chunk *c, uint64_t index)
{
	chunk_wait(lr, c);
	c->index = index;
	c->known = c->busy = true;
	c->iov = (struct iovec){ c->data, chunk_pages(lr, index) * FMT_BLOCK };
	c->io = (struct dev_io){ .op = DEV_READ,
				 .offset = (FMT_LOG_FIRST + index * LOG_CHUNK_PAGES) * FMT_BLOCK,
				 .len = c->iov.iov_len,
				 .iov = &c->iov,
				 .iov_count = 1,
				 .done = chunk_read,
				 .user = c };
	pool_submit_io(lr->pool, &c->io);
}

static void read_ahead(struct log_reader *lr, uint64_t index)
{
	uint64_t count = (lr->pool->log_pages - 1) / LOG_CHUNK_PAGES + 1;

	for (unsigned k = 1; k < LOG_CHUNKS; k++) {
		uint64_t next = (index + k) % count;
		struct log_chunk *c = &lr->chunk[next % LOG_CHUNKS];

		if (next % LOG_CHUNKS != index % LOG_CHUNKS && !(c->known && c->index == next))
			chunk_start(lr, c, next);
	}
	lr->pool->dev->ops->kick(lr->pool->dev);
}

/* The page at a ring position. */
static int ring_page(struct log_reader *lr, uint64_t position, const uint8_t **ret_page)
{
	uint64_t index = position / LOG_CHUNK_PAGES;
	struct log_chunk *c = &lr->chunk[index % LOG_CHUNKS];

	if (!c->known || c->index != index)
		chunk_start(lr, c, index);
	if (c->busy || position % LOG_CHUNK_PAGES == 0)
		read_ahead(lr, index);
	chunk_wait(lr, c);
	if (c->io.res)
		return c->io.res;
	*ret_page = c->data + position % LOG_CHUNK_PAGES * FMT_BLOCK;
	return 0;
}

/* ---- the chain ---- */

static bool chains(const struct log_reader *lr, const void *page)
{
	const struct fmt_log_head *h = page;

	return le64_get(h->seq) == lr->next && le32_get(h->pred) == lr->pred;
}

/* The dead process's copy of page lr->next into lr->page, sealed if it was still open. */
static bool take_from_shadow(struct log_reader *lr)
{
	const struct fmt_shadow *s = (const struct fmt_shadow *)lr->shadow;
	struct fmt_log_head *h = (struct fmt_log_head *)lr->page;

	if (!s || memcmp(s->magic, FMT_SHADOW_MAGIC, sizeof(s->magic)) ||
	    memcmp(s->pool_id, lr->pool->id, sizeof(s->pool_id)) || s->nonce != lr->nonce)
		return false;
	memcpy(h, lr->shadow + FMT_BLOCK + lr->next % JOURNAL_SLOTS * FMT_BLOCK, FMT_BLOCK);
	if (journal_page_check(h, lr->pool->id, lr->nonce) == 0)
		return chains(lr, h);
	if (s->open_seq != lr->next || le32_get(h->magic) != FMT_LOG_MAGIC ||
	    memcmp(h->pool_id, lr->pool->id, sizeof(h->pool_id)) ||
	    le64_get(h->nonce) != lr->nonce || le32_get(h->slots) == 0 ||
	    le32_get(h->slots) > FMT_LOG_SLOTS || !chains(lr, h))
		return false;
	/* what lies behind the committed slots may be half written */
	memset((uint8_t *)(h + 1) + le32_get(h->slots) * FMT_LOG_SLOT, 0,
	       (FMT_LOG_SLOTS - le32_get(h->slots)) * FMT_LOG_SLOT);
	h->crc = le32_put(0);
	h->crc = le32_put(pool_crc(h, FMT_BLOCK));
	return true;
}

int log_reader_next(struct log_reader *lr, const struct fmt_log_head **ret_page)
{
	const uint8_t *ring;
	int r;

	*ret_page = NULL;
	if (lr->next - lr->first >= lr->pool->log_pages)
		return 0;
	r = ring_page(lr, lr->next % lr->pool->log_pages, &ring);
	if (r)
		return r;
	lr->from_shadow = false;
	if (journal_page_check(ring, lr->pool->id, lr->nonce) == 0 && chains(lr, ring)) {
		memcpy(lr->page, ring, FMT_BLOCK);
	} else if (take_from_shadow(lr)) {
		lr->from_shadow = true;
	} else {
		return 0;
	}
	*ret_page = (const struct fmt_log_head *)lr->page;
	lr->pred = le32_get((*ret_page)->crc);
	lr->next++;
	return 0;
}

int log_reader_scan_marks(struct log_reader *lr, uint64_t *ret_mark)
{
	uint64_t mark = 0;

	for (uint64_t position = 0; position < lr->pool->log_pages; position++) {
		const struct fmt_log_head *h;
		const uint8_t *page;
		int r = ring_page(lr, position, &page);

		if (r)
			return r;
		h = (const struct fmt_log_head *)page;
		if (journal_page_check(page, lr->pool->id, lr->nonce) == 0 &&
		    le64_get(h->seq) >= lr->next && le64_get(h->flushed) > mark)
			mark = le64_get(h->flushed);
	}
	*ret_mark = mark;
	return 0;
}
