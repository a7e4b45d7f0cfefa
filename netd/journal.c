/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * DIR/changes.journal: a file of JOURNAL_BYTES zeros, overwritten from the front, so that a synced
 * append changes no size and no block map: one write of data and one flush of the disk.
 *
 *	SUM SEQUENCE BASE TEXT\n	SUM: first 16 hex digits of the SHA-256 of what follows it
 *	SUM SEQUENCE BASE TEXT\n
 *	\0\0\0...
 *
 * A line is written when the one before it is on disk.  So only the last one can be incomplete
 * after a loss of power, and an invalid line with a valid one behind it is damage.  A reset makes
 * a new file beside the old one and renames it: no old line can show up behind a new one.
 */
#include "netd/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/cleanup.h"
#include "netd/state.h"

#define SUM_LEN	 16
#define HEAD_MAX (SUM_LEN + 1 + 20 + 1 + STATE_HASH_LEN + 1) /* before the text */

struct journal {
	char *dir, *path;
	int fd; /* -1: nothing fits */
	size_t used;
	char **lines;
	size_t count, capacity;
};

static void forget_lines(struct journal *j)
{
	for (size_t i = 0; i < j->count; i++)
		free(j->lines[i]);
	j->count = 0;
	j->used = 0;
}

void journal_close(struct journal *j)
{
	if (!j)
		return;
	forget_lines(j);
	free(j->lines);
	if (j->fd >= 0)
		close(j->fd);
	free(j->path);
	free(j->dir);
	free(j);
}

static int remember_line(struct journal *j, const char *text, size_t len)
{
	if (j->count == j->capacity) {
		size_t capacity = j->capacity ? j->capacity * 2 : 64;
		char **lines = reallocarray(j->lines, capacity, sizeof(*lines));

		if (!lines)
			return -ENOMEM;
		j->lines = lines;
		j->capacity = capacity;
	}
	j->lines[j->count] = strndup(text, len);
	if (!j->lines[j->count])
		return -ENOMEM;
	j->count++;
	return 0;
}

/* --- reading --------------------------------------------------------------------------------- */

struct line {
	size_t sequence, len; /* of all of it, with the newline */
	const char *base, *text;
	size_t text_len;
};

static void sum_of(const char *text, size_t len, char ret[SUM_LEN + 1])
{
	char hash[STATE_HASH_LEN + 1];

	state_hash(text, len, hash);
	memcpy(ret, hash, SUM_LEN);
	ret[SUM_LEN] = '\0';
}

/* The line that begins here; false when none does. */
static bool parse_line(const char *at, const char *end, struct line *ret)
{
	const char *stop = memchr(at, '\n', (size_t)(end - at)), *p = at + SUM_LEN + 1;
	char sum[SUM_LEN + 1], *digits_end;

	if (!stop || stop - at < SUM_LEN + 4 || at[SUM_LEN] != ' ' ||
	    memchr(at, '\0', (size_t)(stop - at)))
		return false;
	sum_of(p, (size_t)(stop - p), sum);
	if (memcmp(sum, at, SUM_LEN) != 0)
		return false;
	ret->sequence = strtoul(p, &digits_end, 10);
	ret->base = digits_end + 1;
	ret->text = ret->base + STATE_HASH_LEN + 1;
	if (digits_end == p || *digits_end != ' ' || ret->text > stop || ret->text[-1] != ' ')
		return false;
	ret->text_len = (size_t)(stop - ret->text);
	ret->len = (size_t)(stop + 1 - at);
	return true;
}

static bool any_line_behind(const char *at, const char *end)
{
	struct line line;

	/* at any byte: it may be the newline in front of it that is damaged */
	for (at++; at + SUM_LEN < end; at++)
		if (at[SUM_LEN] == ' ' && parse_line(at, end, &line))
			return true;
	return false;
}

static int read_lines(struct journal *j, const char *text, const char *base, size_t *ret_foreign,
		      struct err *err)
{
	const char *at = text, *end = text + JOURNAL_BYTES;
	struct line line;

	while (parse_line(at, end, &line)) {
		if (strncmp(line.base, base, STATE_HASH_LEN) != 0)
			++*ret_foreign;
		else if (line.sequence != j->count)
			break;
		else if (remember_line(j, line.text, line.text_len) < 0)
			return err_set(err, -ENOMEM, "out of memory");
		at += line.len;
	}
	j->used = (size_t)(at - text);
	if (at < end && any_line_behind(at, end))
		return err_set(err, -EUCLEAN,
			       "%s: change %zu is damaged; move the file away to go on without it "
			       "and those behind it",
			       j->path, j->count + *ret_foreign + 1);
	return 0;
}

/* A line that was cut short would be in the way of the next one's end. */
static int wipe_rest(struct journal *j, const char *text)
{
	static const char zeros[4096];
	size_t last = JOURNAL_BYTES;

	while (last > j->used && !text[last - 1])
		last--;
	for (size_t at = j->used, n; at < last; at += n) {
		n = last - at < sizeof(zeros) ? last - at : sizeof(zeros);
		if (pwrite(j->fd, zeros, n, (off_t)at) != (ssize_t)n)
			return errno ? -errno : -EIO;
	}
	return last > j->used && fdatasync(j->fd) < 0 ? -errno : 0;
}

static int read_file(struct journal *j, const char *base, bool read_only, size_t *ret_foreign,
		     struct err *err)
{
	CLEANUP_FREE char *text = calloc(1, JOURNAL_BYTES + 1);
	int r;

	if (!text)
		return err_set(err, -ENOMEM, "out of memory");
	for (size_t used = 0; used < JOURNAL_BYTES;) {
		ssize_t n = pread(j->fd, text + used, JOURNAL_BYTES - used, (off_t)used);

		if (n <= 0)
			return err_sys(err, n ? -errno : -EUCLEAN, "%s", j->path);
		used += (size_t)n;
	}
	r = read_lines(j, text, base, ret_foreign, err);
	if (r < 0 || read_only)
		return r;
	if (*ret_foreign)
		return journal_reset(j, err);
	r = wipe_rest(j, text);
	return r < 0 ? err_sys(err, r, "%s", j->path) : 0;
}

/* --- writing --------------------------------------------------------------------------------- */

static int write_zeros(int fd)
{
	CLEANUP_FREE char *zeros = calloc(1, JOURNAL_BYTES);

	if (!zeros)
		return -ENOMEM;
	for (size_t used = 0; used < JOURNAL_BYTES;) {
		ssize_t n = pwrite(fd, zeros + used, JOURNAL_BYTES - used, (off_t)used);

		if (n < 0)
			return -errno;
		used += (size_t)n;
	}
	return fsync(fd) < 0 ? -errno : 0;
}

static int replace(struct journal *j, const char *temp)
{
	CLEANUP_CLOSE int dir = open(j->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int fd, r;

	if (dir < 0)
		return -errno;
	fd = open(temp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	r = write_zeros(fd);
	if (r == 0 && (rename(temp, j->path) < 0 || fsync(dir) < 0))
		r = -errno;
	if (r < 0) {
		close(fd);
		unlink(temp);
		return r;
	}
	if (j->fd >= 0)
		close(j->fd);
	j->fd = fd;
	return 0;
}

int journal_reset(struct journal *j, struct err *err)
{
	CLEANUP_FREE char *temp = NULL;
	int r;

	if (asprintf(&temp, "%s.new", j->path) < 0) {
		temp = NULL;
		return err_set(err, -ENOMEM, "out of memory");
	}
	r = replace(j, temp);
	if (r < 0)
		return err_sys(err, r, "%s", j->path);
	forget_lines(j);
	return 0;
}

bool journal_fits(const struct journal *j, size_t len)
{
	return j->fd >= 0 && j->used + HEAD_MAX + len + 1 <= JOURNAL_BYTES;
}

/* The line that may or may not be on disk must not come back. */
static void take_back(struct journal *j, size_t len)
{
	CLEANUP_FREE char *zeros = calloc(1, len);

	if (zeros && pwrite(j->fd, zeros, len, (off_t)j->used) == (ssize_t)len &&
	    fdatasync(j->fd) == 0)
		return;
	close(j->fd);
	j->fd = -1;
}

int journal_append(struct journal *j, const char *base, const char *text, struct err *err)
{
	CLEANUP_FREE char *line = NULL;
	char sum[SUM_LEN + 1];
	int len, r = 0;

	if (!journal_fits(j, strlen(text)))
		return err_set(err, -ENOSPC, "%s: full", j->path);
	len = asprintf(&line, "%*s %zu %s %s\n", SUM_LEN, "", j->count, base, text);
	if (len < 0) {
		line = NULL;
		return err_set(err, -ENOMEM, "out of memory");
	}
	sum_of(line + SUM_LEN + 1, (size_t)len - SUM_LEN - 2, sum);
	memcpy(line, sum, SUM_LEN);
	if (remember_line(j, text, strlen(text)) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	if (pwrite(j->fd, line, (size_t)len, (off_t)j->used) != len)
		r = errno ? -errno : -EIO;
	if (r == 0 && fdatasync(j->fd) < 0)
		r = -errno;
	if (r < 0) {
		free(j->lines[--j->count]);
		take_back(j, (size_t)len);
		return err_sys(err, r, "%s", j->path);
	}
	j->used += (size_t)len;
	return 0;
}

/* --- life ------------------------------------------------------------------------------------ */

size_t journal_count(const struct journal *j)
{
	return j->count;
}

const char *journal_line(const struct journal *j, size_t index)
{
	return index < j->count ? j->lines[index] : NULL;
}

/* A disk that takes nothing now: the journal is read, and nothing fits. */
static bool is_unwritable(int r)
{
	return r == -ENOSPC || r == -EDQUOT || r == -EROFS;
}

static int open_file(struct journal *j, const char *base, size_t *ret_foreign, struct err *err)
{
	bool read_only = false;
	struct stat st;
	int r;

	j->fd = open(j->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (j->fd < 0 && errno == EROFS) {
		read_only = true;
		j->fd = open(j->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	}
	if (j->fd < 0 && errno == ENOENT) {
		r = journal_reset(j, err);
		return is_unwritable(r) ? 0 : r;
	}
	if (j->fd < 0 || fstat(j->fd, &st) < 0)
		return err_sys(err, -errno, "%s", j->path);
	if (!S_ISREG(st.st_mode) || st.st_size != JOURNAL_BYTES)
		return err_set(err, -EUCLEAN, "%s: not a journal of this version of netd", j->path);
	r = read_file(j, base, read_only, ret_foreign, err);
	if (read_only || is_unwritable(r)) {
		close(j->fd);
		j->fd = -1;
	}
	return is_unwritable(r) ? 0 : r;
}

int journal_open(const char *dir, const char *base, struct journal **ret, size_t *ret_foreign,
		 struct err *err)
{
	struct journal *j = calloc(1, sizeof(*j));
	int r;

	*ret_foreign = 0;
	if (!j)
		return err_set(err, -ENOMEM, "out of memory");
	j->fd = -1;
	j->dir = strdup(dir);
	if (!j->dir || asprintf(&j->path, "%s/changes.journal", dir) < 0) {
		j->path = NULL;
		r = err_set(err, -ENOMEM, "out of memory");
		goto fail;
	}
	r = open_file(j, base, ret_foreign, err);
	if (r < 0)
		goto fail;
	*ret = j;
	return 0;
fail:
	journal_close(j);
	return r;
}
