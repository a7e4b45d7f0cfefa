// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The ends of a copy: files and block devices by plain calls, NBD exports by libnbd.
 *
 * Files: the page cache and the kernel's readahead keep plain reads and writes short, and the
 * requests that overlap are those of the NBD side, so that one thread is enough.  Holes are found
 * with SEEK_DATA and SEEK_HOLE (a block device has none and is read whole), and made by not writing
 * to a new file, or by fallocate in one that held something before.
 *
 * NBD: one connection, any number of requests in flight.  Extents come from base:allocation in
 * batches of up to EXTENT_BATCH; the answer is kept until the copy has walked past it.  libnbd
 * forbids calls into the handle from its callbacks, which is why `done` here may only take notes.
 */
#include <errno.h>
#include <fcntl.h>
#include <libnbd.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blockd/ctl/end.h"

#define EXTENT_BATCH	 1024u
#define EXTENT_ASK_BYTES (1u << 30)
#define ALLOC_CONTEXT	 LIBNBD_CONTEXT_BASE_ALLOCATION

struct end {
	char *place;
	int fd;			/* file or device, else -1 */
	struct nbd_handle *nbd; /* export, else NULL */
	uint64_t size_bytes;
	bool source, device;
	bool made;	 /* this copy created the file */
	bool reads_zero; /* unwritten ranges read as zeroes */
	bool can_zero, can_map;
	/* NBD: the last answer to block status, from extent_offset on */
	struct end_extent extents[EXTENT_BATCH];
	unsigned extent_count;
};

/* A request's `done` travels through libnbd in one of these, freed by libnbd's free callback. */
struct request {
	end_done *done;
	void *user;
};

bool end_is_uri(const char *place)
{
	static const char *const schemes[] = { "nbd://",       "nbds://",      "nbd+unix://",
					       "nbds+unix://", "nbd+vsock://", "nbds+vsock://" };
	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++)
		if (strncasecmp(place, schemes[i], strlen(schemes[i])) == 0)
			return true;
	return false;
}

static int nbd_fail(struct err *err, const char *place)
{
	int code = nbd_get_errno();
	const char *text = nbd_get_error();
	return err_set(err, code > 0 ? -code : -EIO, "'%s': %s", place, text ? text : "NBD error");
}

static struct end *end_new(const char *place, bool source)
{
	struct end *end = calloc(1, sizeof(*end));
	if (!end)
		return NULL;
	end->fd = -1;
	end->source = source;
	end->place = strdup(place);
	if (!end->place) {
		free(end);
		return NULL;
	}
	return end;
}

void end_abort(struct end *end)
{
	/* nbd_close() frees what is in flight; it completes nothing and reads nothing more */
	nbd_close(end->nbd);
	end->nbd = NULL;
	if (end->fd >= 0)
		close(end->fd);
	end->fd = -1;
}

void end_close(struct end *end)
{
	if (!end)
		return;
	if (end->nbd) {
		/* a clean goodbye; a connection that is already dead has nobody to say it to */
		if (nbd_aio_is_ready(end->nbd) > 0)
			(void)nbd_shutdown(end->nbd, 0);
		nbd_close(end->nbd);
	}
	if (end->fd >= 0)
		close(end->fd);
	free(end->place);
	free(end);
}

void end_discard(struct end *end)
{
	if (end->made)
		(void)unlink(end->place);
	end->made = false;
}

uint64_t end_size_bytes(const struct end *end)
{
	return end->size_bytes;
}

bool end_reads_zero(const struct end *end)
{
	return end->reads_zero;
}

static int nbd_open(struct end *end, struct err *err)
{
	int64_t size;

	end->nbd = nbd_create();
	if (!end->nbd)
		return nbd_fail(err, end->place);
	if (nbd_add_meta_context(end->nbd, ALLOC_CONTEXT) < 0 ||
	    nbd_connect_uri(end->nbd, end->place) < 0)
		return nbd_fail(err, end->place);
	size = nbd_get_size(end->nbd);
	if (size < 0)
		return nbd_fail(err, end->place);
	end->size_bytes = (uint64_t)size;
	end->can_map = nbd_can_meta_context(end->nbd, ALLOC_CONTEXT) > 0;
	end->can_zero = nbd_can_zero(end->nbd) > 0;
	return 0;
}

/* Size and kind of what `fd` is open on; refuses what cannot be copied from or to. */
static int file_measure(struct end *end, struct err *err)
{
	struct stat st;

	if (fstat(end->fd, &st) < 0)
		return err_sys(err, -errno, "'%s'", end->place);
	if (S_ISBLK(st.st_mode)) {
		end->device = true;
		if (ioctl(end->fd, BLKGETSIZE64, &end->size_bytes) < 0)
			return err_sys(err, -errno, "'%s': size of the device", end->place);
	} else if (S_ISREG(st.st_mode)) {
		end->size_bytes = (uint64_t)st.st_size;
	} else {
		return err_set(err, -EINVAL, "'%s' is neither a file nor a block device",
			       end->place);
	}
	end->can_map = !end->device;
	end->can_zero = true;
	return 0;
}

int end_open_source(const char *place, struct end **ret_end, struct err *err)
{
	struct end *end = end_new(place, true);
	int rc;

	if (!end)
		return err_set(err, -ENOMEM, "out of memory");
	if (end_is_uri(place)) {
		rc = nbd_open(end, err);
	} else {
		/* O_NONBLOCK: opening a FIFO must not hang before it is refused */
		end->fd = open(place, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
		rc = end->fd < 0 ? err_sys(err, -errno, "'%s'", place) : file_measure(end, err);
		if (rc == 0)
			(void)posix_fadvise(end->fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	}
	if (rc < 0) {
		end_close(end);
		return rc;
	}
	*ret_end = end;
	return 0;
}

static int target_too_small(const struct end *end, uint64_t need, struct err *err)
{
	return err_set(err, -ENOSPC, "'%s' has %llu bytes, %llu are needed", end->place,
		       (unsigned long long)end->size_bytes, (unsigned long long)need);
}

static int target_open_nbd(struct end *end, const struct end_target *params, struct err *err)
{
	int rc = nbd_open(end, err);
	if (rc < 0)
		return rc;
	if (nbd_is_read_only(end->nbd) > 0)
		return err_set(err, -EROFS, "'%s' is read-only", end->place);
	if (end->size_bytes < params->size_bytes)
		return target_too_small(end, params->size_bytes, err);
	if (!params->reads_zero && !params->overwrite)
		return err_set(err, -EEXIST, "'%s' may hold data: --force overwrites it",
			       end->place);
	end->reads_zero = params->reads_zero;
	return 0;
}

static int target_open_file(struct end *end, const struct end_target *params, struct err *err)
{
	int rc;

	end->fd = open(end->place, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	end->made = end->fd >= 0;
	if (end->fd < 0 && errno == EEXIST)
		end->fd = open(end->place, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (end->fd < 0)
		return err_sys(err, -errno, "'%s'", end->place);
	rc = file_measure(end, err);
	if (rc < 0)
		return rc;
	if (!end->made && !params->overwrite)
		return err_set(err, -EEXIST, "'%s' exists: --force overwrites it", end->place);
	if (end->device)
		return end->size_bytes < params->size_bytes
			       ? target_too_small(end, params->size_bytes, err)
			       : 0;
	if (ftruncate(end->fd, 0) < 0 || ftruncate(end->fd, (off_t)params->size_bytes) < 0)
		return err_sys(err, -errno, "'%s': size", end->place);
	end->size_bytes = params->size_bytes;
	end->reads_zero = true;
	return 0;
}

int end_open_target(const char *place, const struct end_target *params, struct end **ret_end,
		    struct err *err)
{
	struct end *end = end_new(place, false);
	int rc;

	if (!end)
		return err_set(err, -ENOMEM, "out of memory");
	rc = end_is_uri(place) ? target_open_nbd(end, params, err)
			       : target_open_file(end, params, err);
	if (rc < 0) {
		end_discard(end);
		end_close(end);
		return rc;
	}
	*ret_end = end;
	return 0;
}

/* ---- extents ---- */

static int file_extent(struct end *end, struct end_extent *ext, struct err *err)
{
	off_t at = (off_t)ext->offset, data = lseek(end->fd, at, SEEK_DATA);
	off_t stop;

	if (data < 0 && errno == ENXIO) { /* a hole up to the end */
		ext->zero = true;
		return 0;
	}
	if (data < 0)
		return errno == EINVAL ? 0 : err_sys(err, -errno, "'%s': SEEK_DATA", end->place);
	if (data > at) {
		ext->zero = true;
		if ((uint64_t)(data - at) < ext->len_bytes)
			ext->len_bytes = (uint64_t)(data - at);
		return 0;
	}
	stop = lseek(end->fd, at, SEEK_HOLE);
	if (stop < 0)
		return err_sys(err, -errno, "'%s': SEEK_HOLE", end->place);
	if ((uint64_t)(stop - at) < ext->len_bytes)
		ext->len_bytes = (uint64_t)(stop - at);
	return 0;
}

static int extent_store(void *user, const char *context, uint64_t offset, uint32_t *entries,
			size_t entry_count, int *error)
{
	struct end *end = user;

	if (strcmp(context, ALLOC_CONTEXT) != 0)
		return 0;
	end->extent_count = 0;
	for (size_t i = 0; i + 1 < entry_count && end->extent_count < EXTENT_BATCH; i += 2) {
		struct end_extent *ext = &end->extents[end->extent_count++];
		ext->offset = offset;
		ext->len_bytes = entries[i];
		ext->zero = entries[i + 1] & LIBNBD_STATE_ZERO;
		offset += entries[i];
	}
	return 0;
}

static const struct end_extent *extent_lookup(const struct end *end, uint64_t offset)
{
	for (unsigned i = 0; i < end->extent_count; i++)
		if (offset >= end->extents[i].offset &&
		    offset - end->extents[i].offset < end->extents[i].len_bytes)
			return &end->extents[i];
	return NULL;
}

static int nbd_extent(struct end *end, struct end_extent *ext, struct err *err)
{
	const struct end_extent *known = extent_lookup(end, ext->offset);
	uint64_t left;

	if (!known) {
		uint64_t ask = end->size_bytes - ext->offset;
		nbd_extent_callback cb = { .callback = extent_store, .user_data = end };
		if (ask > EXTENT_ASK_BYTES)
			ask = EXTENT_ASK_BYTES;
		end->extent_count = 0;
		if (nbd_block_status(end->nbd, ask, ext->offset, cb, 0) < 0)
			return nbd_fail(err, end->place);
		known = extent_lookup(end, ext->offset);
		if (!known)
			return err_set(err, -EPROTO, "'%s': block status describes nothing at %llu",
				       end->place, (unsigned long long)ext->offset);
	}
	left = known->offset + known->len_bytes - ext->offset;
	if (left < ext->len_bytes)
		ext->len_bytes = left;
	ext->zero = known->zero;
	return 0;
}

int end_extent(struct end *end, uint64_t offset, uint64_t limit_bytes,
	       struct end_extent *ret_extent, struct err *err)
{
	struct end_extent ext = { .offset = offset, .len_bytes = end->size_bytes - offset };
	int rc = 0;

	if (limit_bytes < ext.len_bytes)
		ext.len_bytes = limit_bytes;
	if (end->can_map)
		rc = end->nbd ? nbd_extent(end, &ext, err) : file_extent(end, &ext, err);
	if (rc == 0)
		*ret_extent = ext;
	return rc;
}

/* ---- transfers ---- */

static int request_done(void *user, int *error)
{
	struct request *request = user;

	request->done(request->user, *error > 0 ? -*error : 0);
	return 1; /* retire the command */
}

static int request_make(nbd_completion_callback *ret_cb, end_done *done, void *user,
			struct err *err)
{
	struct request *request = malloc(sizeof(*request));
	if (!request)
		return err_set(err, -ENOMEM, "out of memory");
	request->done = done;
	request->user = user;
	*ret_cb = (nbd_completion_callback){ .callback = request_done,
					     .user_data = request,
					     .free = free };
	return 0;
}

/* libnbd frees the callback's data also when the call fails. */
static int request_started(struct end *end, int64_t cookie, struct err *err)
{
	return cookie < 0 ? nbd_fail(err, end->place) : 0;
}

int end_read(struct end *end, void *buf, size_t len, uint64_t offset, end_done *done, void *user,
	     struct err *err)
{
	nbd_completion_callback cb;
	size_t have = 0;
	int rc;

	if (end->nbd) {
		rc = request_make(&cb, done, user, err);
		return rc < 0 ? rc
			      : request_started(
					end, nbd_aio_pread(end->nbd, buf, len, offset, cb, 0), err);
	}
	while (have < len) {
		ssize_t n = pread(end->fd, (char *)buf + have, len - have, (off_t)(offset + have));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(err, -errno, "'%s': read at %llu", end->place,
				       (unsigned long long)(offset + have));
		if (n == 0)
			return err_set(err, -EIO, "'%s' became shorter while it was read",
				       end->place);
		have += (size_t)n;
	}
	done(user, 0);
	return 0;
}

static int file_write(struct end *end, const void *buf, size_t len, uint64_t offset,
		      struct err *err)
{
	for (size_t have = 0; have < len;) {
		ssize_t n = pwrite(end->fd, (const char *)buf + have, len - have,
				   (off_t)(offset + have));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(err, -errno, "'%s': write at %llu", end->place,
				       (unsigned long long)(offset + have));
		have += (size_t)n;
	}
	return 0;
}

int end_write(struct end *end, const void *buf, size_t len, uint64_t offset, end_done *done,
	      void *user, struct err *err)
{
	nbd_completion_callback cb;
	int rc;

	if (end->nbd) {
		rc = request_make(&cb, done, user, err);
		return rc < 0 ? rc
			      : request_started(end,
						nbd_aio_pwrite(end->nbd, buf, len, offset, cb, 0),
						err);
	}
	rc = file_write(end, buf, len, offset, err);
	if (rc == 0)
		done(user, 0);
	return rc;
}

/* Only devices come here: a regular target was emptied, so that its holes need nothing. */
static int file_zero(struct end *end, size_t len, uint64_t offset, struct err *err)
{
	static const char zeroes[1u << 18];

	if (fallocate(end->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
		      (off_t)len) == 0 ||
	    fallocate(end->fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
		      (off_t)len) == 0)
		return 0;
	while (len > 0) {
		size_t step = len < sizeof(zeroes) ? len : sizeof(zeroes);
		int rc = file_write(end, zeroes, step, offset, err);
		if (rc < 0)
			return rc;
		offset += step;
		len -= step;
	}
	return 0;
}

/* A server without WRITE_ZEROES gets the zeroes in full, one blocking write after the other. */
static int nbd_zero_by_hand(struct end *end, size_t len, uint64_t offset, struct err *err)
{
	static const char zeroes[1u << 18];

	while (len > 0) {
		size_t step = len < sizeof(zeroes) ? len : sizeof(zeroes);
		if (nbd_pwrite(end->nbd, zeroes, step, offset, 0) < 0)
			return nbd_fail(err, end->place);
		offset += step;
		len -= step;
	}
	return 0;
}

int end_zero(struct end *end, size_t len, uint64_t offset, end_done *done, void *user,
	     struct err *err)
{
	nbd_completion_callback cb;
	int rc;

	if (end->nbd && end->can_zero) {
		rc = request_make(&cb, done, user, err);
		return rc < 0 ? rc
			      : request_started(end, nbd_aio_zero(end->nbd, len, offset, cb, 0),
						err);
	}
	rc = end->nbd ? nbd_zero_by_hand(end, len, offset, err) : file_zero(end, len, offset, err);
	if (rc == 0)
		done(user, 0);
	return rc;
}

int end_flush(struct end *end, struct err *err)
{
	if (end->source)
		return 0;
	if (end->nbd)
		return nbd_can_flush(end->nbd) > 0 && nbd_flush(end->nbd, 0) < 0
			       ? nbd_fail(err, end->place)
			       : 0;
	return fsync(end->fd) < 0 ? err_sys(err, -errno, "'%s': fsync", end->place) : 0;
}

/* ---- progress ---- */

struct pollfd end_pollfd(const struct end *end)
{
	struct pollfd pfd = { .fd = -1 };
	unsigned direction;

	if (!end->nbd || nbd_aio_in_flight(end->nbd) <= 0)
		return pfd;
	direction = nbd_aio_get_direction(end->nbd);
	pfd.fd = nbd_aio_get_fd(end->nbd);
	if (direction & LIBNBD_AIO_DIRECTION_READ)
		pfd.events |= POLLIN;
	if (direction & LIBNBD_AIO_DIRECTION_WRITE)
		pfd.events |= POLLOUT;
	return pfd;
}

int end_turn(struct end *end, short revents, struct err *err)
{
	unsigned direction;

	if (!end->nbd || !revents)
		return 0;
	direction = nbd_aio_get_direction(end->nbd);
	if ((revents & (POLLIN | POLLHUP | POLLERR)) && (direction & LIBNBD_AIO_DIRECTION_READ)) {
		if (nbd_aio_notify_read(end->nbd) < 0)
			return nbd_fail(err, end->place);
	} else if ((revents & POLLOUT) && (direction & LIBNBD_AIO_DIRECTION_WRITE)) {
		if (nbd_aio_notify_write(end->nbd) < 0)
			return nbd_fail(err, end->place);
	}
	if (nbd_aio_is_dead(end->nbd) > 0 || nbd_aio_is_closed(end->nbd) > 0)
		return err_set(err, -ENOTCONN, "'%s': the server closed the connection",
			       end->place);
	return 0;
}
