// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The file device: opening, locking, size, and I/O by plain calls.
 *
 * Which way the I/O goes is settled at open:
 *
 *	file system	page cache	calls
 *	tmpfs, ramfs	is the store	plain: a ring would hand every request to a kernel worker
 *	others, disks	by-passed	io_uring
 *			(O_DIRECT)	plain, where io_uring is not permitted (seccomp, sysctl)
 *	without O_DIRECT buffered	as above
 *
 * O_DIRECT is set after opening, and tried with one read: some file systems accept the flag and
 * refuse the transfer.
 *
 * The lock: a file is locked by flock(), which /proc/locks attributes to a process, so that the
 * refusal can name it; a block device is opened with O_EXCL, which also keeps mounts out.  A
 * process that was killed holds on until the kernel has ended its ring and what was in flight, a
 * while after it has gone: that is waited for, because these writes must not land behind ours.
 *
 * Plain calls are carried out in submit(); their completions wait in `done` for poll().  The
 * eventfd is written by kick(), and only when completions are still waiting then and the owner has
 * not promised to poll for them (dev->polled).
 *
 * Durability: FLUSH is fdatasync(), whose failure is passed on once and for ever the engine's to
 * act on; FUA is RWF_DSYNC.  A file is created with its directory synced.
 *
 * Thread: the pool's reactor.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "common/base/cleanup.h"
#include "thin/dev_file_priv.h"

#define FILE_ALIGN	  4096u
#define PLAIN_DELIVER_MAX 1024 /* completions delivered by one poll() */

/* How long a file or device may stay taken when no living process is seen to hold it. */
#define DEAD_HOLDER_WAIT_MS  2000
#define DEAD_HOLDER_PAUSE_MS 10

/* ---- plain calls ---- */

static int dev_plain_call(struct dev_file *d, struct dev_io *io)
{
	struct dev_piece p;
	ssize_t r = 0;

	switch (io->op) {
	case DEV_READ:
		dev_io_piece(io, &p);
		r = preadv(d->fd, p.iov, p.iov_count, (off_t)p.offset);
		break;
	case DEV_WRITE:
		dev_io_piece(io, &p);
		r = pwritev2(d->fd, p.iov, p.iov_count, (off_t)p.offset, io->fua ? RWF_DSYNC : 0);
		break;
	case DEV_FLUSH:
		r = fdatasync(d->fd);
		break;
	case DEV_PUNCH:
		r = fallocate(d->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)io->offset,
			      (off_t)io->len);
		break;
	}
	return r < 0 ? -errno : (int)r;
}

static void dev_plain_submit(struct thin_dev *dev, struct dev_io *io)
{
	struct dev_file *d = dev_file_of(dev);

	if (dev_io_begin(d, io)) {
		while (!dev_io_step(d, io, dev_plain_call(d, io)))
			;
	}
	dev_queue_push(&d->done, io);
}

static void dev_plain_kick(struct thin_dev *dev)
{
	struct dev_file *d = dev_file_of(dev);

	if (d->done.head && !d->signalled && !d->dev.polled)
		d->signalled = eventfd_write(d->event_fd, 1) == 0;
}

static int dev_plain_poll(struct thin_dev *dev)
{
	struct dev_file *d = dev_file_of(dev);
	eventfd_t value;
	int count = 0;

	while (d->done.head && count < PLAIN_DELIVER_MAX) {
		struct dev_io *io = dev_queue_pop(&d->done);

		io->done(io);
		count++;
	}
	if (d->done.head)
		dev_plain_kick(dev);
	else if (d->signalled)
		d->signalled = eventfd_read(d->event_fd, &value) != 0;
	return count;
}

static void dev_plain_wait(struct thin_dev *dev)
{
	dev_plain_poll(dev);
}

static int dev_plain_event_fd(struct thin_dev *dev)
{
	return dev_file_of(dev)->event_fd;
}

static int dev_plain_open(struct dev_file *d)
{
	d->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return d->event_fd < 0 ? -errno : 0;
}

static const struct thin_dev_ops dev_plain_ops = {
	.submit = dev_plain_submit,
	.kick = dev_plain_kick,
	.poll = dev_plain_poll,
	.wait = dev_plain_wait,
	.event_fd = dev_plain_event_fd,
	.resize = dev_file_resize,
	.next_written = dev_file_next_written,
	.host_room = dev_file_host_room,
	.close = dev_file_close,
};

/* ---- size ---- */

static int dev_file_size(const struct dev_file *d, uint64_t *ret_size)
{
	struct stat st;
	uint64_t size;

	if (d->is_block) {
		if (ioctl(d->fd, BLKGETSIZE64, &size) < 0)
			return -errno;
	} else {
		if (fstat(d->fd, &st) < 0)
			return -errno;
		size = (uint64_t)st.st_size;
	}
	*ret_size = size - size % FILE_ALIGN;
	return 0;
}

int dev_file_resize(struct thin_dev *dev, uint64_t size_bytes, struct err *err)
{
	struct dev_file *d = dev_file_of(dev);
	uint64_t now;
	int r;

	if (dev->read_only)
		return err_set(err, -EROFS, "%s: opened read-only", dev->name);
	if (size_bytes % FILE_ALIGN)
		return err_set(err, -EINVAL, "%s: size %llu is not a multiple of %u", dev->name,
			       (unsigned long long)size_bytes, FILE_ALIGN);
	r = dev_file_size(d, &now);
	if (r < 0)
		return err_sys(err, r, "%s: size", dev->name);
	if (!d->is_block && size_bytes < now)
		return err_set(err, -EINVAL, "%s: has %llu bytes and is never cut to %llu",
			       dev->name, (unsigned long long)now, (unsigned long long)size_bytes);
	if (d->is_block && size_bytes > now)
		return err_set(err, -ENOSPC, "%s: has %llu bytes, %llu are needed", dev->name,
			       (unsigned long long)now, (unsigned long long)size_bytes);
	if (!d->is_block && ftruncate(d->fd, (off_t)size_bytes) < 0) {
		r = errno == EFBIG ? -ENOSPC : -errno;
		return err_sys(err, r, "%s: grow to %llu bytes", dev->name,
			       (unsigned long long)size_bytes);
	}
	dev->size_bytes = d->is_block ? now : size_bytes;
	return 0;
}

/* SEEK_DATA: on ext4 and xfs space that fallocate has set aside counts as a hole, as it should. */
int dev_file_next_written(struct thin_dev *dev, uint64_t offset, uint64_t *ret_from,
			  uint64_t *ret_to)
{
	struct dev_file *d = dev_file_of(dev);
	off_t from = lseek(d->fd, (off_t)offset, SEEK_DATA), to;

	if (from < 0 && errno != ENXIO)
		return -errno;
	to = from < 0 ? from : lseek(d->fd, from, SEEK_HOLE);
	*ret_from = from < 0 ? dev->size_bytes : (uint64_t)from;
	*ret_to = to < 0 ? dev->size_bytes : (uint64_t)to;
	return 0;
}

uint64_t dev_file_host_room(struct thin_dev *dev)
{
	struct statfs fs;

	if (fstatfs(dev_file_of(dev)->fd, &fs) < 0)
		return UINT64_MAX;
	return (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize;
}

/* ---- lock ---- */

/* The process that holds a flock() on `st`, by /proc/locks; 0: not known. */
static int dev_file_lock_holder(const struct stat *st)
{
	CLEANUP_FCLOSE FILE *f = fopen("/proc/locks", "re");
	char line[256], kind[16];
	unsigned dev_major, dev_minor;
	unsigned long long ino;
	int pid;

	while (f && fgets(line, sizeof(line), f)) {
		/* "1: FLOCK  ADVISORY  WRITE 4711 fd:00:1234 0 EOF" */
		if (sscanf(line, "%*d: %15s %*s %*s %d %x:%x:%llu", kind, &pid, &dev_major,
			   &dev_minor, &ino) == 5 &&
		    !strcmp(kind, "FLOCK") && ino == st->st_ino &&
		    makedev(dev_major, dev_minor) == st->st_dev && pid > 0)
			return pid;
	}
	return 0;
}

/* Is there such a process, and has it not ended?  (A zombie has.) */
static bool dev_file_process_lives(int pid)
{
	CLEANUP_FCLOSE FILE *f = NULL;
	char path[32], line[512], *end;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "re");
	if (!f || !fgets(line, sizeof(line), f))
		return false;
	end = strrchr(line, ')'); /* "4711 (name) S ..." */
	return !end || !strchr("ZXx", end[1] ? end[2] : ' ');
}

static void dev_file_pause(void)
{
	const struct timespec pause = { .tv_nsec = DEAD_HOLDER_PAUSE_MS * 1000 * 1000 };

	nanosleep(&pause, NULL);
}

static int dev_file_lock(struct dev_file *d, const struct stat *st, struct err *err)
{
	int pid, how = (d->dev.read_only ? LOCK_SH : LOCK_EX) | LOCK_NB;

	if (d->is_block)
		return 0; /* has been opened with O_EXCL */
	for (int waited_ms = 0;; waited_ms += DEAD_HOLDER_PAUSE_MS) {
		if (flock(d->fd, how) == 0)
			return 0;
		if (errno != EWOULDBLOCK)
			return err_sys(err, -errno, "%s: lock", d->dev.name);
		pid = dev_file_lock_holder(st);
		if (pid && dev_file_process_lives(pid))
			return err_set(err, -EBUSY, "%s: already open by another process (pid %d)",
				       d->dev.name, pid);
		if (waited_ms >= DEAD_HOLDER_WAIT_MS)
			return err_set(err, -EBUSY, "%s: already open by another process",
				       d->dev.name);
		dev_file_pause();
	}
}

/* ---- open ---- */

static int dev_file_sync_parent(const char *path)
{
	CLEANUP_FREE char *copy = strdup(path);
	CLEANUP_CLOSE int fd = -1;

	if (!copy)
		return -ENOMEM;
	fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(fd) < 0)
		return -errno;
	return 0;
}

/* Of a new file: its size, made durable together with its name. */
static int dev_file_create(struct dev_file *d, const char *path, uint64_t size_bytes,
			   struct err *err)
{
	int r = 0;

	if (size_bytes % FILE_ALIGN || size_bytes == 0)
		return err_set(err, -EINVAL, "%s: size %llu is not a multiple of %u", path,
			       (unsigned long long)size_bytes, FILE_ALIGN);
	if (ftruncate(d->fd, (off_t)size_bytes) < 0)
		r = errno == EFBIG ? -ENOSPC : -errno;
	if (r == 0 && fsync(d->fd) < 0)
		r = -errno;
	if (r == 0)
		r = dev_file_sync_parent(path);
	return r < 0 ? err_sys(err, r, "%s: create with %llu bytes", path,
			       (unsigned long long)size_bytes)
		     : 0;
}

static int dev_file_open_fd(struct dev_file *d, const char *path, const struct dev_file_open *p,
			    struct stat *ret_st, struct err *err)
{
	int flags = O_CLOEXEC | O_NOCTTY | O_NONBLOCK; /* NONBLOCK: do not hang on a FIFO */
	struct stat st;

	flags |= p->read_only ? O_RDONLY : O_RDWR;
	if (p->create)
		flags |= O_CREAT | O_EXCL;
	else if (stat(path, &st) == 0 && S_ISBLK(st.st_mode) && !p->no_lock)
		flags |= O_EXCL;
	d->fd = open(path, flags, 0600);
	for (int ms = 0; d->fd < 0 && errno == EBUSY && ms < DEAD_HOLDER_WAIT_MS;
	     ms += DEAD_HOLDER_PAUSE_MS) {
		dev_file_pause();
		d->fd = open(path, flags, 0600);
	}
	if (d->fd < 0 && errno == EBUSY)
		return err_set(err, -EBUSY,
			       "%s: in use: mounted, part of another device, or already open by "
			       "another process",
			       path);
	if (d->fd < 0)
		return err_sys(err, -errno, "%s: %s", path, p->create ? "create" : "open");
	if (fstat(d->fd, ret_st) < 0 || fcntl(d->fd, F_SETFL, 0) < 0)
		return err_sys(err, -errno, "%s", path);
	d->is_block = S_ISBLK(ret_st->st_mode);
	if (!d->is_block && !S_ISREG(ret_st->st_mode))
		return err_set(err, -EINVAL, "%s: neither a file nor a block device", path);
	return 0;
}

static bool dev_file_in_memory(const struct dev_file *d)
{
	struct statfs fs;

	return !d->is_block && fstatfs(d->fd, &fs) == 0 &&
	       (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC);
}

/* Some file systems accept O_DIRECT and refuse the transfer: try one. */
static bool dev_file_try_direct(const struct dev_file *d)
{
	CLEANUP_FREE void *block = NULL;

	if (fcntl(d->fd, F_SETFL, O_DIRECT) < 0)
		return false;
	if (posix_memalign(&block, FILE_ALIGN, FILE_ALIGN) == 0 &&
	    (pread(d->fd, block, FILE_ALIGN, 0) >= 0 || errno != EINVAL))
		return true;
	fcntl(d->fd, F_SETFL, 0);
	return false;
}

/* Files: try it where nothing is, behind the end.  Block devices: what sysfs says. */
static bool dev_file_can_punch(const struct dev_file *d, const struct stat *st)
{
	char path[96], text[32] = "";

	if (d->dev.read_only)
		return false;
	if (!d->is_block)
		return fallocate(d->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				 (off_t)((uint64_t)st->st_size + FILE_ALIGN) & ~(off_t)4095,
				 FILE_ALIGN) == 0;
	for (int partition = 0; partition < 2; partition++) {
		CLEANUP_FCLOSE FILE *f = NULL;

		snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%squeue/discard_max_bytes",
			 major(st->st_rdev), minor(st->st_rdev), partition ? "../" : "");
		f = fopen(path, "re");
		if (f && fgets(text, sizeof(text), f))
			return strtoull(text, NULL, 10) > 0;
	}
	return false;
}

static int dev_file_setup(struct dev_file *d, const struct dev_file_open *p, const struct stat *st,
			  struct err *err)
{
	bool in_memory = dev_file_in_memory(d);
	int r = dev_file_size(d, &d->dev.size_bytes);

	if (r < 0)
		return err_sys(err, r, "%s: size", d->dev.name);
	d->direct = !in_memory && !p->buffered && dev_file_try_direct(d);
	d->dev.can_punch = dev_file_can_punch(d, st);
	d->uring = !in_memory && !p->plain && dev_ring_open(d) == 0;
	d->dev.ops = d->uring ? &dev_ring_ops : &dev_plain_ops;
	d->dev.sparse = !d->is_block;
	d->dev.blocking = !d->uring;
	r = d->uring ? 0 : dev_plain_open(d);
	return r < 0 ? err_sys(err, r, "%s: eventfd", d->dev.name) : 0;
}

int dev_file_open(const char *path, const struct dev_file_open *params, struct thin_dev **ret_dev,
		  struct err *err)
{
	struct dev_file *d = calloc(1, sizeof(*d));
	struct stat st;
	int r;

	if (!d)
		return err_set(err, -ENOMEM, "%s: out of memory", path);
	d->fd = d->event_fd = -1;
	d->dev.read_only = params->read_only;
	snprintf(d->dev.name, sizeof(d->dev.name), "%s", path);
	dev_queue_init(&d->done);
	dev_queue_init(&d->backlog);
	r = dev_file_open_fd(d, path, params, &st, err);
	if (r < 0)
		goto fail;
	if (!params->no_lock)
		r = dev_file_lock(d, &st, err);
	if (r == 0 && params->create)
		r = dev_file_create(d, path, params->size_bytes, err);
	if (r == 0)
		r = dev_file_setup(d, params, &st, err);
	if (r < 0 && params->create)
		unlink(path);
	if (r < 0)
		goto fail;
	*ret_dev = &d->dev;
	return 0;
fail:
	dev_file_close(&d->dev);
	return r;
}

void dev_file_close(struct thin_dev *dev)
{
	struct dev_file *d = dev_file_of(dev);

	if (d->uring)
		dev_ring_close(d);
	if (d->event_fd >= 0)
		close(d->event_fd);
	if (d->fd >= 0)
		close(d->fd);
	free(d);
}

const char *dev_file_mode(const struct thin_dev *dev)
{
	const struct dev_file *d = (const struct dev_file *)dev;

	if (d->uring)
		return d->direct ? "io_uring, direct" : "io_uring, buffered";
	return d->direct ? "plain calls, direct" : "plain calls, buffered";
}
