/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shared by dev_file.c (open, lock, size, plain calls) and dev_ring.c (io_uring).  Not public. */
#ifndef THIN_DEV_FILE_PRIV_H
#define THIN_DEV_FILE_PRIV_H

#include <liburing.h>

#include "thin/dev_file.h"

struct dev_queue {
	struct dev_io *head, **tail;
};

struct dev_file {
	struct thin_dev dev; /* first: the port's handle is this struct */
	int fd;
	bool is_block, direct, uring;
	bool discard_ioctl;    /* a block device without zeroing discard: BLKDISCARD instead */
	struct dev_queue done; /* finished, not yet delivered */
	/* plain calls */
	int event_fd;
	bool signalled; /* event_fd is readable */
	/* io_uring */
	struct io_uring ring;
	struct dev_queue backlog; /* waiting for a place in the ring */
	unsigned in_flight;
	bool nop_pending; /* a NOP is on its way that makes the ring readable for `done` */
};

static inline struct dev_file *dev_file_of(struct thin_dev *dev)
{
	return (struct dev_file *)dev;
}

static inline void dev_queue_init(struct dev_queue *q)
{
	q->head = NULL;
	q->tail = &q->head;
}

static inline void dev_queue_push(struct dev_queue *q, struct dev_io *io)
{
	io->next = NULL;
	*q->tail = io;
	q->tail = &io->next;
}

static inline struct dev_io *dev_queue_pop(struct dev_queue *q)
{
	struct dev_io *io = q->head;

	if (io) {
		q->head = io->next;
		if (!q->head)
			q->tail = &q->head;
	}
	return io;
}

/* The next piece of a READ or WRITE: what has not been transferred, at most IOV_MAX pieces. */
struct dev_piece {
	struct iovec *iov;
	int iov_count;
	uint64_t offset;
};
void dev_io_piece(const struct dev_io *io, struct dev_piece *ret_piece);

/* Check a new request and clear its progress; false: io->res is set, nothing is to be done. */
bool dev_io_begin(const struct dev_file *d, struct dev_io *io);

/* Account the result of one system call or ring entry; true: finished and io->res is set, false:
 * submit the rest. */
bool dev_io_step(struct dev_file *d, struct dev_io *io, int res);

/* dev_ring.c; -errno where the kernel does not permit a ring. */
int dev_ring_open(struct dev_file *d);
void dev_ring_close(struct dev_file *d);
extern const struct thin_dev_ops dev_ring_ops;

/* dev_file.c, common to both sets of operations */
int dev_file_resize(struct thin_dev *dev, uint64_t size_bytes, struct err *err);
int dev_file_next_written(struct thin_dev *dev, uint64_t offset, uint64_t *ret_from,
			  uint64_t *ret_to);
uint64_t dev_file_host_room(struct thin_dev *dev);
void dev_file_close(struct thin_dev *dev);

#endif
