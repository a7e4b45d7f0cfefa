/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * DIR/state.json            roles: confirmed, previous, rejected, pending; kernel settings
 * DIR/config-<hash>.conf    canonical text of a configuration that has a role
 * DIR/config-<hash>.own     what vnetctl's own file held with it
 * DIR/vnetctl.conf          vnetctl's own file, read after the config files
 *
 *   begin:    write config-H.*  -> state.json {pending: H}           -> kernel operations
 *   confirm:  state.json {previous: confirmed, confirmed: H}         -> remove unnamed configs
 *   reject:   write vnetctl.conf as it was -> state.json {rejected: H} -> kernel operations
 *
 * Invariant: every hash in state.json has its two files on disk, synced, before state.json says so.
 * reject puts vnetctl.conf back before the role changes: a crash in between repeats the same step,
 * because the trial's deadline has passed or the verb is simply given again.
 */
#include "netd/state.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/base/cleanup.h"

#define STATE_VERSION  1
#define STATE_FILE_MAX (64u << 20) /* a canonical text of a million lines */

/* --- files ---------------------------------------------------------------------------------- */

static int state_path(const struct state *st, const char *name, char *ret, size_t size)
{
	int n = snprintf(ret, size, "%s/%s", st->dir, name);

	return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

static int write_all(int fd, const char *data, size_t len)
{
	while (len) {
		ssize_t n = write(fd, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		data += n;
		len -= (size_t)n;
	}
	return 0;
}

static int sync_dir(const char *dir)
{
	CLEANUP_CLOSE int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	return fsync(fd) < 0 ? -errno : 0;
}

/* Durable on return: temporary file, sync, rename, sync of the directory. */
static int write_file(const struct state *st, const char *name, const char *data, struct err *err)
{
	char path[512], tmp[528];
	CLEANUP_CLOSE int fd = -1;
	int r = state_path(st, name, path, sizeof(path));

	if (r < 0)
		return err_sys(err, r, "%s/%s", st->dir, name);
	snprintf(tmp, sizeof(tmp), "%s.tmp", path);
	fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_sys(err, -errno, "%s", tmp);
	r = write_all(fd, data, strlen(data));
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (r == 0 && rename(tmp, path) < 0)
		r = -errno;
	if (r == 0)
		r = sync_dir(st->dir);
	if (r < 0) {
		unlink(tmp);
		return err_sys(err, r, "%s", path);
	}
	return 0;
}

static int read_file(const struct state *st, const char *name, char **ret_text, struct err *err)
{
	char path[512];
	CLEANUP_CLOSE int fd = -1;
	CLEANUP_FREE char *text = NULL;
	struct stat sb;
	size_t used = 0;
	int r = state_path(st, name, path, sizeof(path));

	if (r < 0)
		return err_sys(err, r, "%s/%s", st->dir, name);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* never wait for a pipe */
	if (fd < 0 || fstat(fd, &sb) < 0)
		return err_sys(err, -errno, "%s", path);
	if (!S_ISREG(sb.st_mode) || sb.st_size > STATE_FILE_MAX)
		return err_set(err, -EUCLEAN, "%s: not a file of netd", path);
	text = malloc((size_t)sb.st_size + 1);
	if (!text)
		return -ENOMEM;
	while (used < (size_t)sb.st_size) {
		ssize_t n = read(fd, text + used, (size_t)sb.st_size - used);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(err, -errno, "%s", path);
		if (n == 0)
			break;
		used += (size_t)n;
	}
	text[used] = '\0';
	*ret_text = text;
	text = NULL;
	return 0;
}

/* --- state.json ----------------------------------------------------------------------------- */

static bool hash_valid(const char *s)
{
	return strlen(s) == STATE_HASH_LEN && strspn(s, "0123456789abcdef") == STATE_HASH_LEN;
}

/* A string member; missing leaves `ret` empty.  False when it is of another type or too long. */
static bool take_string(const json_t *o, const char *key, char *ret, size_t size)
{
	const json_t *v = json_object_get(o, key);

	ret[0] = '\0';
	if (!v)
		return true;
	if (!json_is_string(v) || json_string_length(v) >= size)
		return false;
	memcpy(ret, json_string_value(v), json_string_length(v) + 1);
	return true;
}

static bool take_hash(const json_t *o, const char *key, char ret[STATE_HASH_LEN + 1])
{
	return take_string(o, key, ret, STATE_HASH_LEN + 1) && (!ret[0] || hash_valid(ret));
}

static bool take_pending(const json_t *o, struct state_pending *p)
{
	const json_t *v = json_object_get(o, "pending");

	if (!v)
		return true;
	p->active = true;
	p->since_wall_s = json_integer_value(json_object_get(v, "since"));
	p->deadline_boot_ms = (uint64_t)json_integer_value(json_object_get(v, "deadline_ms"));
	return json_is_object(v) && take_hash(v, "hash", p->hash) && p->hash[0] &&
	       take_string(v, "who", p->who, sizeof(p->who)) &&
	       take_string(v, "boot", p->boot_id, sizeof(p->boot_id));
}

/* Below /proc/sys and nowhere else; "a..b" is a name that an interface may have. */
static bool sysctl_path_valid(const char *path)
{
	size_t len = strlen(path);

	return len && path[0] != '/' && strncmp(path, "../", 3) != 0 && !strstr(path, "/../") &&
	       !(len >= 2 && strcmp(path + len - 2, "..") == 0 &&
		 (len == 2 || path[len - 3] == '/'));
}

static bool take_sysctls(const json_t *o, struct state *st)
{
	const json_t *all = json_object_get(o, "sysctls");
	const char *path;
	json_t *value;

	if (!all)
		return true;
	if (!json_is_object(all) || json_object_size(all) > STATE_SYSCTL_MAX)
		return false;
	json_object_foreach((json_t *)all, path, value)
	{
		struct state_sysctl *s = &st->sysctls[st->sysctl_count];

		if (!json_is_string(value) || strlen(path) >= sizeof(s->path) ||
		    json_string_length(value) >= sizeof(s->value) || !sysctl_path_valid(path))
			return false;
		strcpy(s->path, path);
		strcpy(s->value, json_string_value(value));
		st->sysctl_count++;
	}
	return true;
}

static int state_parse(struct state *st, const char *text, struct err *err)
{
	json_error_t je;
	json_t *o = json_loads(text, 0, &je);
	bool ok;

	if (!o)
		return err_set(err, -EUCLEAN, "%s/state.json:%d: %s", st->dir, je.line, je.text);
	ok = json_is_object(o) &&
	     json_integer_value(json_object_get(o, "version")) == STATE_VERSION &&
	     take_hash(o, "confirmed", st->confirmed) && take_hash(o, "previous", st->previous) &&
	     take_hash(o, "rejected", st->rejected) &&
	     take_string(o, "rejected_who", st->rejected_who, sizeof(st->rejected_who)) &&
	     take_pending(o, &st->pending) && take_sysctls(o, st);
	st->rejected_wall_s = json_integer_value(json_object_get(o, "rejected_at"));
	json_decref(o);
	if (!ok)
		return err_set(err, -EUCLEAN,
			       "%s/state.json: not written by this version of netd; move the "
			       "directory away to start without a history",
			       st->dir);
	return 0;
}

static json_t *pending_json(const struct state_pending *p)
{
	return json_pack("{s:s, s:s, s:I, s:I, s:s}", "hash", p->hash, "who", p->who, "since",
			 (json_int_t)p->since_wall_s, "deadline_ms",
			 (json_int_t)p->deadline_boot_ms, "boot", p->boot_id);
}

static json_t *sysctls_json(const struct state *st)
{
	json_t *o = json_object();

	for (size_t i = 0; i < st->sysctl_count; i++)
		json_object_set_new(o, st->sysctls[i].path, json_string(st->sysctls[i].value));
	return o;
}

/* Remove the texts no role names any more; best effort, they are only space. */
static void remove_unnamed(const struct state *st)
{
	DIR *d = opendir(st->dir);
	struct dirent *e;

	if (!d)
		return;
	while ((e = readdir(d))) {
		char hash[STATE_HASH_LEN + 1];

		if (strncmp(e->d_name, "config-", 7) != 0 || strlen(e->d_name) < 7 + STATE_HASH_LEN)
			continue;
		memcpy(hash, e->d_name + 7, STATE_HASH_LEN);
		hash[STATE_HASH_LEN] = '\0';
		if (strcmp(hash, st->confirmed) != 0 && strcmp(hash, st->previous) != 0 &&
		    !(st->pending.active && strcmp(hash, st->pending.hash) == 0))
			unlinkat(dirfd(d), e->d_name, 0);
	}
	closedir(d);
}

static int state_save(const struct state *st, struct err *err)
{
	json_t *o = json_pack("{s:i, s:s, s:s, s:s, s:s, s:I}", "version", STATE_VERSION,
			      "confirmed", st->confirmed, "previous", st->previous, "rejected",
			      st->rejected, "rejected_who", st->rejected_who, "rejected_at",
			      (json_int_t)st->rejected_wall_s);
	CLEANUP_FREE char *text = NULL;

	if (!o)
		return err_set(err, -ENOMEM, "%s: out of memory", st->dir);
	if (st->pending.active)
		json_object_set_new(o, "pending", pending_json(&st->pending));
	json_object_set_new(o, "sysctls", sysctls_json(st));
	text = json_dumps(o, JSON_INDENT(2) | JSON_SORT_KEYS);
	json_decref(o);
	if (!text)
		return err_set(err, -ENOMEM, "%s: out of memory", st->dir);
	return write_file(st, "state.json", text, err);
}

/* A transition: `next` becomes the state if it reaches the disk, else nothing has changed. */
static int state_switch(struct state *st, const struct state *next, struct err *err)
{
	int r = state_save(next, err);

	if (r < 0)
		return r;
	*st = *next;
	remove_unnamed(st);
	return 0;
}

/* --- open, time, hash ----------------------------------------------------------------------- */

int state_open(const char *dir, struct state **ret_st, struct err *err)
{
	struct state *st = calloc(1, sizeof(*st));
	CLEANUP_FREE char *text = NULL;
	struct err sub = { 0 };
	int r;

	if (!st)
		return err_set(err, -ENOMEM, "%s: out of memory", dir);
	st->dir = strdup(dir);
	if (!st->dir || asprintf(&st->own_path, "%s/vnetctl.conf", dir) < 0) {
		st->own_path = NULL;
		r = err_set(err, -ENOMEM, "%s: out of memory", dir);
		goto fail;
	}
	if (mkdir(dir, 0700) < 0 && errno != EEXIST) {
		r = err_sys(err, -errno, "state directory %s", dir);
		goto fail;
	}
	r = read_file(st, "state.json", &text, &sub);
	if (r == 0)
		r = state_parse(st, text, err);
	else if (r == -ENOENT)
		r = 0;
	else
		err_set(err, r, "%s", sub.text);
	if (r < 0)
		goto fail;
	*ret_st = st;
	return 0;
fail:
	state_close(st);
	return r;
}

void state_close(struct state *st)
{
	if (!st)
		return;
	free(st->own_path);
	free(st->dir);
	free(st);
}

void state_now(struct state_now *ret_now)
{
	struct timespec ts;
	FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");

	memset(ret_now, 0, sizeof(*ret_now));
	if (f) {
		if (!fgets(ret_now->boot_id, sizeof(ret_now->boot_id), f))
			ret_now->boot_id[0] = '\0';
		ret_now->boot_id[strcspn(ret_now->boot_id, "\n")] = '\0';
		fclose(f);
	}
	clock_gettime(CLOCK_BOOTTIME, &ts);
	ret_now->boot_ms = (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
	ret_now->wall_s = time(NULL);
}

void state_hash(const char *text, size_t len, char ret_hash[STATE_HASH_LEN + 1])
{
	unsigned char raw[EVP_MAX_MD_SIZE] = { 0 };
	unsigned int raw_len = 0;

	if (!EVP_Digest(text, len, raw, &raw_len, EVP_sha256(), NULL) || raw_len != 32)
		abort(); /* OpenSSL without SHA-256: nothing can be named */
	for (unsigned int i = 0; i < raw_len; i++)
		snprintf(ret_hash + 2 * i, 3, "%02x", raw[i]);
}

/* --- decisions ------------------------------------------------------------------------------ */

uint64_t state_pending_left(const struct state *st, const struct state_now *now)
{
	const struct state_pending *p = &st->pending;

	if (!p->active || strcmp(p->boot_id, now->boot_id) != 0 ||
	    now->boot_ms >= p->deadline_boot_ms)
		return 0;
	return p->deadline_boot_ms - now->boot_ms;
}

enum state_choice state_choose(const struct state *st, const char *files_hash,
			       const struct state_now *now)
{
	if (st->pending.active)
		return state_pending_left(st, now) ? STATE_RUN_PENDING : STATE_RUN_ROLLBACK;
	if (st->rejected[0] && strcmp(st->rejected, files_hash) == 0 &&
	    strcmp(st->confirmed, files_hash) != 0)
		return STATE_RUN_CONFIRMED;
	return STATE_RUN_FILES;
}

/* --- transitions ---------------------------------------------------------------------------- */

static int keep_config(const struct state *st, const char *hash, const char *text, const char *own,
		       struct err *err)
{
	char name[STATE_HASH_LEN + 16];
	int r;

	snprintf(name, sizeof(name), "config-%s.conf", hash);
	r = write_file(st, name, text, err);
	if (r < 0)
		return r;
	snprintf(name, sizeof(name), "config-%s.own", hash);
	return write_file(st, name, own, err);
}

static int refuse_busy(const struct state *st, struct err *err)
{
	char when[32] = "?";
	time_t t = (time_t)st->pending.since_wall_s;
	struct tm tm;

	if (localtime_r(&t, &tm))
		strftime(when, sizeof(when), "%F %T", &tm);
	return err_set(err, -EBUSY,
		       "%s applied a configuration at %s and has not confirmed it yet (vnetctl "
		       "confirm, or vnetctl rollback)",
		       st->pending.who, when);
}

int state_begin(struct state *st, const char *text, const char *own, const char *who,
		uint64_t window_ms, const struct state_now *now, struct err *err)
{
	struct state next = *st;
	int r;

	if (st->pending.active)
		return refuse_busy(st, err);
	next.pending = (struct state_pending){ .active = true,
					       .since_wall_s = now->wall_s,
					       .deadline_boot_ms = now->boot_ms + window_ms };
	state_hash(text, strlen(text), next.pending.hash);
	snprintf(next.pending.who, sizeof(next.pending.who), "%s", who);
	memcpy(next.pending.boot_id, now->boot_id, sizeof(next.pending.boot_id));
	r = keep_config(st, next.pending.hash, text, own, err);
	return r < 0 ? r : state_switch(st, &next, err);
}

/* `hash` becomes the confirmed configuration of `next`. */
static void promote(struct state *next, const char *hash)
{
	if (strcmp(next->confirmed, hash) != 0) {
		memcpy(next->previous, next->confirmed, sizeof(next->previous));
		memmove(next->confirmed, hash, STATE_HASH_LEN + 1);
	}
	if (strcmp(next->rejected, hash) == 0)
		next->rejected[0] = '\0';
}

int state_confirm(struct state *st, struct err *err)
{
	struct state next = *st;

	if (!st->pending.active)
		return err_set(err, -ENOENT, "no configuration waits for a confirm");
	promote(&next, st->pending.hash);
	next.pending = (struct state_pending){ 0 };
	return state_switch(st, &next, err);
}

static bool is_confirmed(const struct state *st, const char *hash, const char *own)
{
	CLEANUP_FREE char *text = NULL;
	CLEANUP_FREE char *kept = NULL;

	return strcmp(st->confirmed, hash) == 0 && strcmp(st->rejected, hash) != 0 &&
	       state_load_config(st, hash, &text, NULL) == 0 &&
	       state_load_own(st, hash, &kept, NULL) == 0 && strcmp(kept, own) == 0;
}

int state_commit(struct state *st, const char *text, const char *own, struct err *err)
{
	struct state next = *st;
	char hash[STATE_HASH_LEN + 1];
	int r;

	if (st->pending.active)
		return refuse_busy(st, err);
	state_hash(text, strlen(text), hash);
	if (is_confirmed(st, hash, own))
		return 0; /* also where the disk is read-only */
	r = keep_config(st, hash, text, own, err);
	if (r < 0)
		return r;
	promote(&next, hash);
	return state_switch(st, &next, err);
}

int state_advance(struct state *st, const char *before, const char *before_own, const char *text,
		  const char *own, struct err *err)
{
	struct state next = *st;
	char hash[STATE_HASH_LEN + 1];
	int r;

	state_hash(before, strlen(before), hash);
	promote(&next, hash);
	r = keep_config(st, hash, before, before_own, err);
	state_hash(text, strlen(text), hash);
	promote(&next, hash);
	r = r < 0 ? r : keep_config(st, hash, text, own, err);
	r = r < 0 ? r : state_write_own(st, own, err);
	return r < 0 ? r : state_switch(st, &next, err);
}

/* vnetctl's file as it was with configuration `hash`; no such configuration: empty. */
static int restore_own(struct state *st, const char *hash, struct err *err)
{
	CLEANUP_FREE char *own = NULL;
	int r;

	if (!hash[0])
		return state_write_own(st, "", err);
	r = state_load_own(st, hash, &own, err);
	return r < 0 ? r : state_write_own(st, own, err);
}

static void mark_rejected(struct state *next, const char *hash, const char *who,
			  const struct state_now *now)
{
	memmove(next->rejected, hash, STATE_HASH_LEN + 1);
	memmove(next->rejected_who, who, strlen(who) + 1);
	next->rejected_wall_s = now->wall_s;
}

int state_reject(struct state *st, const struct state_now *now, struct err *err)
{
	struct state next = *st;
	int r;

	if (!st->pending.active)
		return err_set(err, -ENOENT, "no configuration waits for a confirm");
	r = restore_own(st, st->confirmed, err);
	if (r < 0)
		return r;
	/* a trial of what is already confirmed has nothing to reject */
	if (strcmp(st->pending.hash, st->confirmed) != 0)
		mark_rejected(&next, st->pending.hash, st->pending.who, now);
	next.pending = (struct state_pending){ 0 };
	return state_switch(st, &next, err);
}

int state_step_back(struct state *st, const char *who, const struct state_now *now, struct err *err)
{
	struct state next = *st;
	int r;

	if (st->pending.active)
		return refuse_busy(st, err);
	if (!st->previous[0])
		return err_set(err, -ENOENT, "there is no earlier configuration to go back to");
	r = restore_own(st, st->previous, err);
	if (r < 0)
		return r;
	mark_rejected(&next, st->confirmed, who, now);
	memcpy(next.confirmed, st->previous, sizeof(next.confirmed));
	next.previous[0] = '\0';
	return state_switch(st, &next, err);
}

int state_cancel(struct state *st, struct err *err)
{
	struct state next = *st;

	next.pending = (struct state_pending){ 0 };
	return state_switch(st, &next, err);
}

int state_idle(const struct state *st, struct err *err)
{
	return st->pending.active ? refuse_busy(st, err) : 0;
}

/* --- texts ---------------------------------------------------------------------------------- */

static int load_named(const struct state *st, const char *hash, const char *ext, char **ret_text,
		      struct err *err)
{
	char name[STATE_HASH_LEN + 16];

	if (!hash_valid(hash))
		return err_set(err, -ENOENT, "there is no such configuration");
	snprintf(name, sizeof(name), "config-%s.%s", hash, ext);
	return read_file(st, name, ret_text, err);
}

int state_load_config(const struct state *st, const char *hash, char **ret_text, struct err *err)
{
	char found[STATE_HASH_LEN + 1];
	char *text = NULL;
	int r = load_named(st, hash, "conf", &text, err);

	if (r < 0)
		return r;
	state_hash(text, strlen(text), found);
	if (strcmp(found, hash) != 0) {
		free(text);
		return err_set(err, -EUCLEAN, "%s/config-%s.conf is damaged", st->dir, hash);
	}
	*ret_text = text;
	return 0;
}

int state_load_own(const struct state *st, const char *hash, char **ret_text, struct err *err)
{
	return load_named(st, hash, "own", ret_text, err);
}

const char *state_own_path(const struct state *st)
{
	return st->own_path;
}

int state_write_own(struct state *st, const char *text, struct err *err)
{
	return write_file(st, "vnetctl.conf", text, err);
}

/* --- kernel settings ------------------------------------------------------------------------ */

int state_keep_sysctl(struct state *st, const char *path, const char *value, struct err *err)
{
	struct state_sysctl *s = &st->sysctls[st->sysctl_count];
	int r;

	for (size_t i = 0; i < st->sysctl_count; i++)
		if (strcmp(st->sysctls[i].path, path) == 0)
			return 0;
	if (st->sysctl_count == STATE_SYSCTL_MAX || strlen(path) >= sizeof(s->path) ||
	    strlen(value) >= sizeof(s->value))
		return err_set(err, -ENOSPC, "too many kernel settings to remember (%d)",
			       STATE_SYSCTL_MAX);
	strcpy(s->path, path);
	strcpy(s->value, value);
	st->sysctl_count++;
	r = state_save(st, err);
	if (r < 0)
		st->sysctl_count--;
	return r;
}

int state_forget_sysctls(struct state *st, const char *prefix, struct err *err)
{
	struct state next = *st;

	next.sysctl_count = 0;
	for (size_t i = 0; i < st->sysctl_count; i++)
		if (strncmp(st->sysctls[i].path, prefix, strlen(prefix)) != 0)
			next.sysctls[next.sysctl_count++] = st->sysctls[i];
	return next.sysctl_count == st->sysctl_count ? 0 : state_switch(st, &next, err);
}
