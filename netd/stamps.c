/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A file is the same when device, inode, size and both times are.  The times of the kernel stand
 * still for up to 10 ms (a tick of 100 Hz): of a file that was changed within RACY_NS before it was
 * read, a second change may not show.  Such stamps are invalid; the next reading makes new ones.
 * vnetctl's own file is exempt, because netd itself writes it all the time.
 */
#include "netd/stamps.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "common/base/cleanup.h"

#define RACY_NS 20000000u

struct stamp {
	char *path;
	bool there;
	dev_t dev;
	ino_t ino;
	off_t size;
	struct timespec mtime, ctime;
};

uint64_t stamps_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static bool look(const char *path, struct stamp *ret)
{
	struct stat st;

	ret->there = stat(path, &st) == 0;
	if (!ret->there)
		return errno == ENOENT || errno == ENOTDIR;
	ret->dev = st.st_dev;
	ret->ino = st.st_ino;
	ret->size = st.st_size;
	ret->mtime = st.st_mtim;
	ret->ctime = st.st_ctim;
	return true;
}

static bool time_same(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static bool stamp_same(const struct stamp *a, const struct stamp *b)
{
	if (!a->there || !b->there)
		return a->there == b->there;
	return a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
	       time_same(&a->mtime, &b->mtime) && time_same(&a->ctime, &b->ctime);
}

static bool add(struct stamps *s, const char *path, uint64_t before_ns)
{
	struct stamp *v = reallocarray(s->v, s->count + 1, sizeof(*v));
	struct stamp *one;

	if (!v)
		return false;
	s->v = v;
	one = &v[s->count];
	memset(one, 0, sizeof(*one));
	one->path = strdup(path);
	if (!one->path)
		return false;
	s->count++;
	return look(path, one) &&
	       (!one->there ||
		(uint64_t)one->ctime.tv_sec * 1000000000u + (uint64_t)one->ctime.tv_nsec + RACY_NS <
			before_ns);
}

void stamps_take(struct stamps *s, const struct conf *c, const char *path, const char *own_path,
		 uint64_t before_ns)
{
	CLEANUP_FREE char *folder = NULL;

	stamps_clear(s);
	if (asprintf(&folder, "%s.d", path) < 0) {
		folder = NULL;
		return;
	}
	s->valid = !conf_has_globs(c) && add(s, folder, before_ns) && add(s, own_path, UINT64_MAX);
	for (size_t i = 0; s->valid && conf_file(c, i); i++)
		if (strcmp(conf_file(c, i), own_path) != 0)
			s->valid = add(s, conf_file(c, i), before_ns);
}

void stamps_renew(struct stamps *s, const char *path)
{
	for (size_t i = 0; s->valid && i < s->count; i++)
		if (strcmp(s->v[i].path, path) == 0)
			s->valid = look(path, &s->v[i]);
}

bool stamps_same(const struct stamps *s)
{
	bool same = s->valid;

	for (size_t i = 0; same && i < s->count; i++) {
		struct stamp now = { 0 };

		same = look(s->v[i].path, &now) && stamp_same(&now, &s->v[i]);
	}
	return same;
}

void stamps_clear(struct stamps *s)
{
	for (size_t i = 0; i < s->count; i++)
		free(s->v[i].path);
	free(s->v);
	*s = (struct stamps){ 0 };
}
