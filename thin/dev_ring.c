// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The file device by io_uring.
 *
 *	submit() -> [backlog] -> submission queue --kick()--> kernel -> completion queue
 *	         \-> done (refused at once)                                  |
 *	                   `-----------------> poll(), wait() <--------------'  -> io->done()
 *
 * The ring's own descriptor is the event_fd: readable while the completion queue holds
 * something.  What never went to the kernel (a malformed request) waits in `done`; a NOP makes
 * the descriptor readable for it.
 *
 * Never more than RING_IN_FLIGHT_MAX entries are under way, so that the completion queue cannot
 * overflow; the rest waits in the backlog, in order.  Entries are not linked and carry no order
 * of their own: the port promises none, and a link would break on a short transfer.  FLUSH and
 * PUNCH run on the kernel's worker threads.
 *
 * A completion is taken off the queue before its done() runs: done() may submit.
 *
 * Thread: the pool's reactor.
 */
#include <assert.h>
#include <errno.h>
#include <linux/falloc.h>
#include <sys/uio.h>

#include "thin/dev_file_priv.h"

#define RING_ENTRIES	   128u
#define RING_IN_FLIGHT_MAX 1024u /* also the size of the completion queue */

static void dev_ring_prepare(struct dev_file *d, struct dev_io *io, struct io_uring_sqe *sqe)
{
	struct dev_piece piece;

	switch (io->op) {
	case DEV_READ:
		dev_io_piece(io, &piece);
		io_uring_prep_readv(sqe, d->fd, piece.iov, (unsigned)piece.iov_count, piece.offset);
		break;
	case DEV_WRITE:
		dev_io_piece(io, &piece);
		io_uring_prep_writev2(sqe, d->fd, piece.iov, (unsigned)piece.iov_count,
				      piece.offset, io->fua ? RWF_DSYNC : 0);
		break;
	case DEV_FLUSH:
		io_uring_prep_fsync(sqe, d->fd, IORING_FSYNC_DATASYNC);
		break;
	case DEV_PUNCH:
		io_uring_prep_fallocate(sqe, d->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					(off_t)io->offset, (off_t)io->len);
		break;
	}
	io_uring_sqe_set_data(sqe, io);
}

static struct io_uring_sqe *dev_ring_sqe(struct dev_file *d)
{
	struct io_uring_sqe *sqe;

	if (d->in_flight >= RING_IN_FLIGHT_MAX)
		return NULL;
	sqe = io_uring_get_sqe(&d->ring);
	if (!sqe) {
		io_uring_submit(&d->ring);
		sqe = io_uring_get_sqe(&d->ring);
	}
	if (sqe)
		d->in_flight++;
	return sqe;
}

static void dev_ring_drain_backlog(struct dev_file *d)
{
	while (d->backlog.head) {
		struct io_uring_sqe *sqe = dev_ring_sqe(d);

		if (!sqe)
			return;
		dev_ring_prepare(d, dev_queue_pop(&d->backlog), sqe);
	}
}

static void dev_ring_submit(struct thin_dev *dev, struct dev_io *io)
{
	struct dev_file *d = dev_file_of(dev);

	if (!dev_io_begin(d, io)) {
		dev_queue_push(&d->done, io);
		return;
	}
	dev_queue_push(&d->backlog, io);
	dev_ring_drain_backlog(d);
}

/* Make the descriptor readable for requests that never went to the kernel. */
static void dev_ring_announce_done(struct dev_file *d)
{
	struct io_uring_sqe *sqe;

	if (!d->done.head || d->nop_pending)
		return;
	sqe = dev_ring_sqe(d);
	if (!sqe)
		return; /* a full ring becomes readable by itself */
	io_uring_prep_nop(sqe);
	io_uring_sqe_set_data(sqe, NULL);
	d->nop_pending = true;
}

static void dev_ring_kick(struct thin_dev *dev)
{
	struct dev_file *d = dev_file_of(dev);

	dev_ring_drain_backlog(d);
	dev_ring_announce_done(d);
	if (io_uring_sq_ready(&d->ring))
		io_uring_submit(&d->ring); /* what it leaves behind goes with the next kick */
}

static int dev_ring_deliver_done(struct dev_file *d)
{
	struct dev_io *last = d->done.head, *io;
	int count = 0;

	if (!last)
		return 0;
	while (last->next)
		last = last->next;
	do {
		io = dev_queue_pop(&d->done);
		io->done(io);
		count++;
	} while (io != last);
	return count;
}

/* One completion; returns 1 when it finished a request. */
static int dev_ring_complete(struct dev_file *d, struct dev_io *io, int res)
{
	assert(d->in_flight > 0);
	d->in_flight--;
	if (!io) {
		d->nop_pending = false;
		return 0;
	}
	if (!dev_io_step(d, io, res)) {
		dev_queue_push(&d->backlog, io);
		return 0;
	}
	io->done(io);
	return 1;
}

static int dev_ring_poll(struct thin_dev *dev)
{
	struct dev_file *d = dev_file_of(dev);
	struct io_uring_cqe *cqe;
	int count = dev_ring_deliver_done(d);

	/* Bounded, so that requests that beget requests cannot keep the owner's loop here. */
	for (unsigned i = 0; i < RING_IN_FLIGHT_MAX; i++) {
		struct dev_io *io;
		int res;

		if (io_uring_peek_cqe(&d->ring, &cqe) != 0)
			break;
		io = io_uring_cqe_get_data(cqe);
		res = cqe->res;
		io_uring_cqe_seen(&d->ring, cqe);
		count += dev_ring_complete(d, io, res);
	}
	dev_ring_kick(dev);
	return count;
}

static void dev_ring_wait(struct thin_dev *dev)
{
	struct dev_file *d = dev_file_of(dev);

	while (dev_ring_poll(dev) == 0) {
		if (!d->in_flight && !d->backlog.head && !d->done.head)
			return;
		io_uring_submit_and_wait(&d->ring, 1); /* on EINTR and the like: once more */
	}
}

static int dev_ring_event_fd(struct thin_dev *dev)
{
	return dev_file_of(dev)->ring.ring_fd;
}

int dev_ring_open(struct dev_file *d)
{
	/* COOP_TASKRUN (5.19): completions do not interrupt the reactor. */
	static const unsigned flag_sets[] = {
		IORING_SETUP_CQSIZE | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
		IORING_SETUP_CQSIZE,
	};
	int r = -EINVAL;

	for (size_t i = 0; i < sizeof(flag_sets) / sizeof(flag_sets[0]) && r == -EINVAL; i++) {
		struct io_uring_params p = { .flags = flag_sets[i],
					     .cq_entries = RING_IN_FLIGHT_MAX };

		r = io_uring_queue_init_params(RING_ENTRIES, &d->ring, &p);
		if (r == 0 && !(p.features & IORING_FEAT_NODROP)) {
			io_uring_queue_exit(&d->ring);
			r = -ENOSYS;
		}
	}
	return r;
}

/* The kernel may still read and write the buffers of what is in flight: wait, report nothing. */
void dev_ring_close(struct dev_file *d)
{
	struct io_uring_cqe *cqe;

	while (d->in_flight) {
		io_uring_submit_and_wait(&d->ring, 1);
		while (io_uring_peek_cqe(&d->ring, &cqe) == 0) {
			io_uring_cqe_seen(&d->ring, cqe);
			d->in_flight--;
		}
	}
	io_uring_queue_exit(&d->ring);
}

const struct thin_dev_ops dev_ring_ops = {
	.submit = dev_ring_submit,
	.kick = dev_ring_kick,
	.poll = dev_ring_poll,
	.wait = dev_ring_wait,
	.event_fd = dev_ring_event_fd,
	.resize = dev_file_resize,
	.next_written = dev_file_next_written,
	.host_room = dev_file_host_room,
	.close = dev_file_close,
};
