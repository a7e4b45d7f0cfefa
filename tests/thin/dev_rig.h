/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the device tests share: buffers with a pattern, one request and its wait, a scratch place.
 */
#ifndef TESTS_THIN_DEV_RIG_H
#define TESTS_THIN_DEV_RIG_H

#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "thin/dev_file.h"

#define BLK 4096u

static inline void *rig_buf(uint64_t len, unsigned pattern)
{
	uint32_t *p = aligned_alloc(BLK, len);

	assert_non_null(p);
	for (uint64_t i = 0; i < len / 4; i++)
		p[i] = (uint32_t)(i * 2654435761u + pattern);
	return p;
}

struct rig_io {
	struct dev_io io;
	struct iovec iov[1];
	int answered;
	bool in_submit; /* done() must not come while this is set */
};

static inline void rig_done(struct dev_io *io)
{
	struct rig_io *r = io->user;

	assert_false(r->in_submit);
	r->answered++;
}

static inline void rig_start(struct thin_dev *dev, struct rig_io *r, enum dev_op op,
			     uint64_t offset, void *buf, uint64_t len)
{
	bool fua = r->io.fua;

	*r = (struct rig_io){ .io = { .op = op,
				      .fua = fua,
				      .offset = offset,
				      .len = len,
				      .iov = r->iov,
				      .iov_count = 1,
				      .done = rig_done,
				      .user = r },
			      .iov = { { buf, len } },
			      .in_submit = true };
	dev->ops->submit(dev, &r->io);
	r->in_submit = false;
}

static inline int rig_run(struct thin_dev *dev, enum dev_op op, uint64_t offset, void *buf,
			  uint64_t len)
{
	struct rig_io r = { 0 };

	rig_start(dev, &r, op, offset, buf, len);
	while (!r.answered)
		dev->ops->wait(dev);
	assert_int_equal(r.answered, 1);
	return r.io.res;
}

static inline struct thin_dev *rig_open(const char *path, struct dev_file_open p)
{
	struct thin_dev *dev = NULL;
	struct err err = { 0 };

	if (dev_file_open(path, &p, &dev, &err) != 0)
		fail_msg("%s", err.text);
	return dev;
}

/* A scratch directory below the current one, in a mount namespace of our own, with a tmpfs of
 * `tmpfs_kib` on <dir>/tmpfs.  What a killed run left behind is removed first.  False: no right. */
static inline bool rig_scratch(const char *dir, unsigned tmpfs_kib)
{
	char cmd[256], opt[64];

	snprintf(cmd, sizeof(cmd), "rm -rf %s && mkdir -p %s/tmpfs", dir, dir);
	if (system(cmd) != 0 || unshare(CLONE_NEWNS) < 0)
		return false;
	snprintf(cmd, sizeof(cmd), "%s/tmpfs", dir);
	snprintf(opt, sizeof(opt), "size=%uk", tmpfs_kib);
	return mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	       mount("none", cmd, "tmpfs", 0, opt) == 0;
}

static inline void rig_scratch_remove(const char *dir)
{
	char cmd[256];

	snprintf(cmd, sizeof(cmd), "umount -l %s/tmpfs; rm -rf %s", dir, dir);
	if (system(cmd) != 0)
		perror(dir);
}

#endif
