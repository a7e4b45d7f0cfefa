// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The simulated disk, see dev_sim.h.
 *
 * Two images: `durable` is what no power cut can take away, `view` is what reads see.  Between
 * them lie the pending writes, each with its pages as they were at submission, in two lists:
 *
 *	busy:	in order of submission; enter at submit()
 *	done:	in order of completion; enter, and change `view`, when they complete, leave for
 *		`durable` when a flush covers them
 *
 * Pending writes are numbered through both, `done` first: the order in which they reach the
 * medium.
 *
 * A failed flush dooms what it should have covered: the kernel has marked those pages clean, a
 * later flush will not write them, and they stay pending for ever.
 *
 * PUNCH is a write of rubbish: its content is undefined afterwards.
 *
 * Single-threaded.
 */
#include "tests/lib/dev_sim.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define FAULT_KINDS 4

struct sim_write {
	uint64_t block, count;
	struct sim_page **pages;
	bool *gone;	   /* blocks that hold something newer for good */
	uint64_t done_seq; /* order of completion; 0: under way */
	bool fua, doomed;
	struct sim_write *next;
};

struct sim_list {
	struct sim_write *head, **tail;
};

struct sim_op {
	struct dev_io *io;
	struct sim_write *write; /* WRITE, PUNCH */
	uint64_t due, flush_seq;
	bool kicked;
	int res;
	struct sim_op *next;
};

struct dev_sim {
	struct thin_dev port; /* first */
	struct sim_image durable, view;
	struct sim_list done, busy;
	struct sim_op *ops;
	size_t op_count;
	uint64_t done_seq, polls;
	unsigned delay;
	struct rng rng;
	void (*event)(void *user, enum sim_event what);
	void *event_user;
	struct {
		int nth_left; /* -1: none */
		int res, percent_res;
		unsigned percent, failed;
	} faults[FAULT_KINDS];
};

#define sim_assert(cond, what)                                                                     \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "dev_sim: %s\n", what);                                    \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

static void *must(void *p)
{
	if (!p)
		abort();
	return p;
}

static void sim_event(struct dev_sim *sim, enum sim_event what)
{
	if (sim->event)
		sim->event(sim->event_user, what);
}

/* ---- pending writes ---- */

static void write_free(struct sim_write *w)
{
	for (uint64_t i = 0; i < w->count; i++)
		sim_page_put(w->pages[i]);
	free(w->pages);
	free(w->gone);
	free(w);
}

static struct sim_write *write_new(uint64_t block, uint64_t count, bool fua)
{
	struct sim_write *w = must(calloc(1, sizeof(*w)));

	*w = (struct sim_write){ .block = block, .count = count, .fua = fua };
	w->pages = must(calloc(count, sizeof(*w->pages)));
	w->gone = must(calloc(count, sizeof(*w->gone)));
	return w;
}

static struct sim_write *write_copy(const struct sim_write *from)
{
	struct sim_write *w = write_new(from->block, from->count, from->fua);

	w->done_seq = from->done_seq;
	w->doomed = from->doomed;
	memcpy(w->gone, from->gone, w->count * sizeof(*w->gone));
	for (uint64_t i = 0; i < w->count; i++)
		w->pages[i] = sim_page_get(from->pages[i]);
	return w;
}

static void list_init(struct sim_list *list)
{
	list->head = NULL;
	list->tail = &list->head;
}

static void list_append(struct sim_list *list, struct sim_write *w)
{
	w->next = NULL;
	*list->tail = w;
	list->tail = &w->next;
}

static void list_remove_at(struct sim_list *list, struct sim_write **at)
{
	struct sim_write *w = *at;

	*at = w->next;
	if (list->tail == &w->next)
		list->tail = at;
}

static void list_remove(struct sim_list *list, struct sim_write *w)
{
	struct sim_write **at = &list->head;

	while (*at != w)
		at = &(*at)->next;
	list_remove_at(list, at);
}

static void list_free(struct sim_list *list)
{
	while (list->head) {
		struct sim_write *w = list->head;

		list->head = w->next;
		write_free(w);
	}
}

static void write_apply_block(struct sim_image *image, const struct sim_write *w, uint64_t i)
{
	if (!w->gone[i])
		sim_image_set(image, w->block + i, w->pages[i]);
}

static void write_apply(struct sim_image *image, const struct sim_write *w)
{
	for (uint64_t i = 0; i < w->count; i++)
		write_apply_block(image, w, i);
}

/* Some of the sectors of one block are new, the others as they were. */
static void write_apply_sectors(struct sim_image *image, const struct sim_write *w, uint64_t i,
				bool spoil, struct rng *rng)
{
	_Alignas(64) uint8_t mixed[SIM_BLOCK];
	uint64_t block = w->block + i, keep = rng_next(rng);
	struct sim_page *page;

	if (w->gone[i])
		return;
	if (rng_percent(rng, 50)) /* a prefix */
		keep = (1u << (1 + rng_below(rng, 7))) - 1;
	memcpy(mixed, sim_page_data(sim_image_get(image, block)), SIM_BLOCK);
	for (unsigned s = 0; s < SIM_BLOCK / 512; s++)
		if (keep >> s & 1)
			memcpy(mixed + s * 512,
			       (const uint8_t *)sim_page_data(w->pages[i]) + s * 512, 512);
	if (spoil)
		memset(mixed + (rng_percent(rng, 50) ? 0 : rng_below(rng, 8)) * 512, 0xa5, 512);
	page = sim_page_new(mixed);
	sim_image_set(image, block, page);
	sim_page_put(page);
}

static void write_apply_part(struct sim_image *image, const struct sim_write *w, enum sim_part part,
			     struct rng *rng)
{
	uint64_t torn = rng_below(rng, w->count), prefix = rng_below(rng, w->count + 1);
	bool by_prefix = rng_percent(rng, 50);

	switch (part) {
	case SIM_NONE:
		break;
	case SIM_ALL:
		write_apply(image, w);
		break;
	case SIM_TORN_BLOCKS:
		if (w->count == 1) {
			write_apply_sectors(image, w, 0, false, rng);
			break;
		}
		for (uint64_t i = 0; i < w->count; i++)
			if (by_prefix ? i < prefix : rng_percent(rng, 50))
				write_apply_block(image, w, i);
		break;
	case SIM_TORN_SECTORS:
	case SIM_SPOILED:
		for (uint64_t i = 0; i < w->count; i++)
			if (i != torn)
				write_apply_block(image, w, i);
		write_apply_sectors(image, w, torn, part == SIM_SPOILED, rng);
		break;
	}
}

static void sim_apply_parts(const struct dev_sim *sim, struct sim_image *image,
			    const uint8_t *parts, struct rng *rng)
{
	for (const struct sim_write *w = sim->done.head; w; w = w->next)
		write_apply_part(image, w, *parts++, rng);
	for (const struct sim_write *w = sim->busy.head; w; w = w->next)
		write_apply_part(image, w, *parts++, rng);
}

/* ---- the port ---- */

static struct dev_sim *sim_of(struct thin_dev *dev)
{
	return (struct dev_sim *)dev;
}

static void sim_check_io(const struct dev_sim *sim, const struct dev_io *io)
{
	uint64_t sum = 0;

	sim_assert(io->done, "request without done()");
	if (io->op == DEV_FLUSH)
		return;
	sim_assert(io->len && io->offset % SIM_BLOCK == 0 && io->len % SIM_BLOCK == 0,
		   "request not aligned");
	sim_assert(io->offset <= sim->port.size_bytes &&
			   io->len <= sim->port.size_bytes - io->offset,
		   "request beyond the end of the device");
	if (io->op == DEV_PUNCH)
		return;
	for (int i = 0; i < io->iov_count; i++) {
		sim_assert((uintptr_t)io->iov[i].iov_base % SIM_BLOCK == 0 &&
				   io->iov[i].iov_len % SIM_BLOCK == 0,
			   "buffer not aligned");
		sum += io->iov[i].iov_len;
	}
	sim_assert(sum == io->len, "length and buffers differ");
}

/* `fn` for each block of the request's buffers. */
static void sim_each_block(struct dev_io *io, struct dev_sim *sim, struct sim_write *w,
			   void (*fn)(struct dev_sim *, struct sim_write *, uint64_t, void *))
{
	uint64_t n = 0;

	for (int i = 0; i < io->iov_count; i++)
		for (size_t at = 0; at < io->iov[i].iov_len; at += SIM_BLOCK)
			fn(sim, w, n++, (char *)io->iov[i].iov_base + at);
}

static void block_capture(struct dev_sim *sim, struct sim_write *w, uint64_t n, void *data)
{
	w->pages[n] = sim_page_new(data);
}

static void block_unchanged(struct dev_sim *sim, struct sim_write *w, uint64_t n, void *data)
{
	sim_assert(memcmp(sim_page_data(w->pages[n]), data, SIM_BLOCK) == 0,
		   "a buffer changed while its write was under way");
}

static void block_rubbish(struct dev_sim *sim, struct sim_write *w, uint64_t n, void *data)
{
	memset(data, 0xdb, SIM_BLOCK);
}

static void sim_read(struct dev_sim *sim, struct dev_io *io)
{
	uint64_t block = io->offset / SIM_BLOCK;

	for (int i = 0; i < io->iov_count; i++)
		for (size_t at = 0; at < io->iov[i].iov_len; at += SIM_BLOCK)
			memcpy((char *)io->iov[i].iov_base + at,
			       sim_page_data(sim_image_get(&sim->view, block++)), SIM_BLOCK);
}

static int sim_fault(struct dev_sim *sim, enum dev_op op)
{
	if (sim->faults[op].nth_left >= 0 && sim->faults[op].nth_left-- == 0)
		return sim->faults[op].res;
	if (sim->faults[op].percent && rng_percent(&sim->rng, sim->faults[op].percent))
		return sim->faults[op].percent_res;
	return 0;
}

static struct sim_write *sim_capture(struct dev_sim *sim, struct dev_io *io)
{
	struct sim_write *w = write_new(io->offset / SIM_BLOCK, io->len / SIM_BLOCK, io->fua);
	_Alignas(64) uint8_t rubbish[SIM_BLOCK];

	if (io->op == DEV_WRITE) {
		sim_each_block(io, sim, w, block_capture);
	} else {
		memset(rubbish, rng_percent(&sim->rng, 50) ? 0 : 0x5a, sizeof(rubbish));
		for (uint64_t i = 0; i < w->count; i++)
			w->pages[i] = sim_page_new(rubbish);
	}
	list_append(&sim->busy, w);
	return w;
}

static void sim_submit(struct thin_dev *dev, struct dev_io *io)
{
	struct dev_sim *sim = sim_of(dev);
	struct sim_op *op = must(calloc(1, sizeof(*op))), **at = &sim->ops;
	unsigned delay = sim->delay * (rng_percent(&sim->rng, 8) ? 20 : 1);

	sim_check_io(sim, io);
	*op = (struct sim_op){ .io = io, .res = sim_fault(sim, io->op) };
	op->due = sim->polls + rng_below(&sim->rng, delay + 1);
	op->flush_seq = sim->done_seq;
	if (io->op == DEV_READ)
		sim_each_block(io, sim, NULL, block_rubbish);
	if (io->op == DEV_WRITE || io->op == DEV_PUNCH)
		op->write = sim_capture(sim, io);
	while (*at)
		at = &(*at)->next;
	*at = op;
	sim->op_count++;
	if (op->write)
		sim_event(sim, SIM_WRITE);
	else if (io->op == DEV_FLUSH)
		sim_event(sim, SIM_FLUSH);
}

static void sim_kick(struct thin_dev *dev)
{
	for (struct sim_op *op = sim_of(dev)->ops; op; op = op->next)
		op->kicked = true;
}

/* `w` is on the medium for good: older pending writes cannot come over it any more. */
static void sim_make_durable(struct dev_sim *sim, const struct sim_write *w)
{
	write_apply(&sim->durable, w);
	for (struct sim_write *o = sim->done.head; o && o->done_seq < w->done_seq; o = o->next)
		for (uint64_t i = 0; i < o->count; i++) {
			uint64_t block = o->block + i;

			o->gone[i] |= block >= w->block && block < w->block + w->count;
		}
}

/* What the flush covers: completed when it was submitted, and no earlier flush lost it. */
static void sim_flush(struct dev_sim *sim, const struct sim_op *op)
{
	for (struct sim_write **at = &sim->done.head; *at;) {
		struct sim_write *w = *at;

		if (w->done_seq > op->flush_seq)
			return;
		if (w->doomed || op->res) {
			w->doomed = true;
			at = &w->next;
			continue;
		}
		list_remove_at(&sim->done, at);
		sim_make_durable(sim, w);
		write_free(w);
	}
}

static void sim_write_done(struct dev_sim *sim, const struct sim_op *op)
{
	struct sim_write *w = op->write;

	if (op->io->op == DEV_WRITE)
		sim_each_block(op->io, sim, w, block_unchanged);
	w->done_seq = ++sim->done_seq;
	list_remove(&sim->busy, w);
	if (op->res) {
		w->doomed = true; /* any part of it, and for ever */
		write_apply_part(&sim->view, w, (enum sim_part)rng_below(&sim->rng, 5), &sim->rng);
	} else {
		write_apply(&sim->view, w);
	}
	if (w->fua && !op->res) {
		sim_make_durable(sim, w);
		write_free(w);
	} else {
		list_append(&sim->done, w);
	}
}

static void sim_complete(struct dev_sim *sim, struct sim_op *op)
{
	struct dev_io *io = op->io;

	switch (io->op) {
	case DEV_READ:
		if (!op->res)
			sim_read(sim, io);
		break;
	case DEV_WRITE:
	case DEV_PUNCH:
		sim_write_done(sim, op);
		sim_event(sim, SIM_WRITE_DONE);
		break;
	case DEV_FLUSH:
		sim_flush(sim, op);
		sim_event(sim, SIM_FLUSH_DONE);
		break;
	}
	io->res = op->res;
	sim->faults[io->op].failed += op->res != 0;
	free(op);
	io->done(io);
}

static struct sim_op *sim_take(struct dev_sim *sim, struct sim_op **at)
{
	struct sim_op *op = *at;

	*at = op->next;
	sim->op_count--;
	return op;
}

/* One of those that are due, by lot. */
static struct sim_op *sim_take_due(struct dev_sim *sim)
{
	struct sim_op **chosen = NULL;
	uint64_t n = 0;

	for (struct sim_op **at = &sim->ops; *at; at = &(*at)->next)
		if ((*at)->kicked && (*at)->due <= sim->polls && rng_below(&sim->rng, ++n) == 0)
			chosen = at;
	return chosen ? sim_take(sim, chosen) : NULL;
}

static int sim_poll(struct thin_dev *dev)
{
	struct dev_sim *sim = sim_of(dev);
	struct sim_op *op;
	int count = 0;

	sim->polls++;
	/* Not always all that is due: completions arrive one by one, too. */
	while ((op = sim_take_due(sim))) {
		sim_complete(sim, op);
		count++;
		if (rng_percent(&sim->rng, 30))
			break;
	}
	return count;
}

static void sim_wait(struct thin_dev *dev)
{
	struct dev_sim *sim = sim_of(dev);
	uint64_t first = UINT64_MAX;

	sim_kick(dev);
	sim_assert(sim->ops, "wait() with nothing in flight");
	for (struct sim_op *op = sim->ops; op; op = op->next)
		if (op->due < first)
			first = op->due;
	if (first > sim->polls)
		sim->polls = first;
	sim_poll(dev);
}

static int sim_event_fd(struct thin_dev *dev)
{
	return -1;
}

static int sim_resize(struct thin_dev *dev, uint64_t size_bytes, struct err *err)
{
	if (size_bytes % SIM_BLOCK || size_bytes < dev->size_bytes)
		return err_set(err, -EINVAL, "sim: bad size");
	dev->size_bytes = size_bytes;
	return 0;
}

static void sim_close(struct thin_dev *dev)
{
	dev_sim_free(sim_of(dev));
}

static const struct thin_dev_ops sim_ops = {
	.submit = sim_submit,
	.kick = sim_kick,
	.poll = sim_poll,
	.wait = sim_wait,
	.event_fd = sim_event_fd,
	.resize = sim_resize,
	.close = sim_close,
};

/* ---- the disk ---- */

static struct dev_sim *sim_alloc(uint64_t size_bytes, uint64_t seed)
{
	struct dev_sim *sim = must(calloc(1, sizeof(*sim)));

	sim->port.ops = &sim_ops;
	sim->port.size_bytes = size_bytes;
	sim->port.can_punch = true;
	snprintf(sim->port.name, sizeof(sim->port.name), "sim");
	sim->rng.state = rng_mix(seed);
	sim->delay = 3;
	list_init(&sim->done);
	list_init(&sim->busy);
	for (int i = 0; i < FAULT_KINDS; i++)
		sim->faults[i].nth_left = -1;
	return sim;
}

struct dev_sim *dev_sim_new(uint64_t size_bytes, uint64_t seed)
{
	struct dev_sim *sim = sim_alloc(size_bytes, seed);

	sim_image_init(&sim->durable);
	sim_image_init(&sim->view);
	return sim;
}

struct dev_sim *dev_sim_new_image(const struct sim_image *image, uint64_t size_bytes, uint64_t seed)
{
	struct dev_sim *sim = sim_alloc(size_bytes, seed);

	sim_image_copy(&sim->durable, image);
	sim_image_copy(&sim->view, image);
	return sim;
}

void dev_sim_free(struct dev_sim *sim)
{
	if (!sim)
		return;
	while (sim->ops)
		free(sim_take(sim, &sim->ops));
	list_free(&sim->done);
	list_free(&sim->busy);
	sim_image_free(&sim->durable);
	sim_image_free(&sim->view);
	free(sim);
}

struct thin_dev *dev_sim_port(struct dev_sim *sim)
{
	return &sim->port;
}

void dev_sim_on_event(struct dev_sim *sim, void (*event)(void *user, enum sim_event what),
		      void *user)
{
	sim->event = event;
	sim->event_user = user;
}

void dev_sim_set_delay(struct dev_sim *sim, unsigned polls)
{
	sim->delay = polls;
}

const struct sim_image *dev_sim_view(const struct dev_sim *sim)
{
	return &sim->view;
}

const struct sim_image *dev_sim_durable(const struct dev_sim *sim)
{
	return &sim->durable;
}

size_t dev_sim_in_flight(const struct dev_sim *sim)
{
	return sim->op_count;
}

size_t dev_sim_pending(const struct dev_sim *sim)
{
	size_t n = dev_sim_pending_done(sim);

	for (const struct sim_write *w = sim->busy.head; w; w = w->next)
		n++;
	return n;
}

size_t dev_sim_pending_done(const struct dev_sim *sim)
{
	size_t n = 0;

	for (const struct sim_write *w = sim->done.head; w; w = w->next)
		n++;
	return n;
}

bool dev_sim_last_is_fua(const struct dev_sim *sim)
{
	const struct sim_write *w = sim->busy.head;

	while (w && w->next)
		w = w->next;
	return w && w->fua;
}

void dev_sim_cut(const struct dev_sim *sim, const uint8_t *parts, uint64_t seed,
		 struct sim_image *ret_image)
{
	struct rng rng = { rng_mix(seed) };

	sim_image_copy(ret_image, &sim->durable);
	sim_apply_parts(sim, ret_image, parts, &rng);
}

/* What of a write under way has been carried out is on the disk, in whole blocks. */
static void kill_busy(struct dev_sim *after, const struct sim_write *w, enum sim_part part,
		      struct rng *rng)
{
	struct sim_write *copy;

	if (part == SIM_NONE)
		return;
	copy = write_copy(w);
	write_apply_part(&after->view, w, part, rng);
	for (uint64_t i = 0; i < w->count; i++) {
		sim_page_put(copy->pages[i]);
		copy->pages[i] = sim_page_get(sim_image_get(&after->view, w->block + i));
	}
	copy->done_seq = ++after->done_seq;
	list_append(&after->done, copy);
}

struct dev_sim *dev_sim_kill(const struct dev_sim *sim, const uint8_t *parts, uint64_t seed)
{
	struct dev_sim *after = sim_alloc(sim->port.size_bytes, seed);
	struct rng rng = { rng_mix(seed) };

	sim_image_copy(&after->durable, &sim->durable);
	sim_image_copy(&after->view, &sim->view);
	after->done_seq = sim->done_seq;
	for (const struct sim_write *w = sim->done.head; w; w = w->next)
		list_append(&after->done, write_copy(w));
	parts += dev_sim_pending_done(sim);
	for (const struct sim_write *w = sim->busy.head; w; w = w->next)
		kill_busy(after, w, *parts++, &rng);
	return after;
}

void dev_sim_fail(struct dev_sim *sim, enum dev_op op, unsigned nth, int res)
{
	sim->faults[op].nth_left = (int)nth;
	sim->faults[op].res = res;
}

void dev_sim_fail_percent(struct dev_sim *sim, enum dev_op op, unsigned percent, int res)
{
	sim->faults[op].percent = percent;
	sim->faults[op].percent_res = res;
}

unsigned dev_sim_failed(const struct dev_sim *sim, enum dev_op op)
{
	return sim->faults[op].failed;
}

void sim_image_corrupt(struct sim_image *image, uint64_t block, uint64_t bit)
{
	_Alignas(64) uint8_t data[SIM_BLOCK];
	struct sim_page *page;

	memcpy(data, sim_page_data(sim_image_get(image, block)), SIM_BLOCK);
	data[bit / 8 % SIM_BLOCK] ^= (uint8_t)(1u << bit % 8);
	page = sim_page_new(data);
	sim_image_set(image, block, page);
	sim_page_put(page);
}

void dev_sim_corrupt(struct dev_sim *sim, uint64_t block, uint64_t bit)
{
	sim_image_corrupt(&sim->durable, block, bit);
	sim_image_corrupt(&sim->view, block, bit);
}
