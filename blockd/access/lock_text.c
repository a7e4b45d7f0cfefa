// SPDX-License-Identifier: GPL-2.0-or-later
/* Owners of write locks as text: whom a target names, whom a fence keeps out, what a refusal says.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "blockd/access/lock.h"

#define HOLDER_MAX 64u

static bool begins(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

static const char *token_of(const char *owner)
{
	const char *slash = strchr(owner, '/');

	return slash ? slash + 1 : owner;
}

static size_t scope_len(const char *owner)
{
	return strcspn(owner, "/");
}

bool lock_is_process(const char *owner)
{
	return begins(token_of(owner), "pid=");
}

bool lock_is_holder(const char *owner)
{
	return begins(token_of(owner), "holder=");
}

bool lock_holder_valid(const char *id, size_t len)
{
	if (!len || len > HOLDER_MAX)
		return false;
	for (size_t i = 0; i < len; i++)
		if (!((id[i] >= 'a' && id[i] <= 'z') || (id[i] >= 'A' && id[i] <= 'Z') ||
		      (id[i] >= '0' && id[i] <= '9') || (id[i] && strchr("._-:", id[i]))))
			return false;
	return true;
}

/* Printable, no blanks: what an owner text may have. */
static bool plain(const char *text)
{
	for (; *text; text++)
		if (*text <= ' ' || *text > '~' || *text == '"' || *text == '\\')
			return false;
	return true;
}

int lock_target_check(const char *text, char ret[LOCK_TEXT_MAX + 1], struct err *err)
{
	static const char *const keys[] = { "holder=", "pid=", "uid=", "addr=" };
	size_t len = strlen(text);

	if (len && len < LOCK_TEXT_MAX - 8 && plain(text)) {
		if (strcmp(text, "any") == 0) {
			strcpy(ret, text);
			return 0;
		}
		for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
			if (begins(text, keys[i]) && text[strlen(keys[i])]) {
				strcpy(ret, text);
				return 0;
			}
		if (lock_holder_valid(text, len)) {
			snprintf(ret, LOCK_TEXT_MAX + 1, "holder=%s", text);
			return 0;
		}
	}
	return err_set(err, -EINVAL,
		       "\"%.80s\" names nobody: expected a holder's ID, holder=ID, pid=N, uid=N, "
		       "addr=ADDRESS, a whole owner as lock show prints it, or any",
		       text);
}

bool lock_target_matches(const char *target, const char *owner)
{
	const char *token = token_of(owner);
	size_t len = strlen(target);

	if (strcmp(target, "any") == 0 || strcmp(target, owner) == 0)
		return true;
	if (begins(target, "pid="))
		return begins(token, target) && (token[len] == '.' || !token[len]);
	if (begins(target, "holder="))
		return strcmp(token, target) == 0;
	return len == scope_len(owner) && strncmp(owner, target, len) == 0;
}

/* A connection without a token of its own comes back under another: all such of its scope. */
void lock_fence_of(const char *owner, char ret[LOCK_TEXT_MAX + 1])
{
	if (begins(token_of(owner), "conn="))
		snprintf(ret, LOCK_TEXT_MAX + 1, "%.*s/conn=*", (int)scope_len(owner), owner);
	else
		snprintf(ret, LOCK_TEXT_MAX + 1, "%s", owner);
}

void lock_fence_add(const char *owner, char fences[LOCK_TEXT_MAX + 1])
{
	char fence[LOCK_TEXT_MAX + 1], all[2 * LOCK_TEXT_MAX + 2];
	const char *from = all;

	lock_fence_of(owner, fence);
	snprintf(all, sizeof(all), "%s%s%s", fences, fences[0] ? " " : "", fence);
	while (strlen(from) > LOCK_TEXT_MAX)
		from += strcspn(from, " ") + 1;
	strcpy(fences, from);
}

static bool fence_matches(const char *fence, size_t len, const char *owner)
{
	size_t scope = scope_len(fence);

	if (scope < len && len - scope == strlen("/conn=*") && begins(token_of(fence), "conn=*"))
		return scope == scope_len(owner) && strncmp(fence, owner, scope) == 0 &&
		       begins(token_of(owner), "conn=");
	return strlen(owner) == len && strncmp(fence, owner, len) == 0;
}

bool lock_fence_matches(const char *fences, const char *owner)
{
	while (*fences) {
		size_t len = strcspn(fences, " ");

		if (fence_matches(fences, len, owner))
			return true;
		fences += len + (fences[len] == ' ');
	}
	return false;
}

static const char *time_text(uint64_t s, char buf[32])
{
	time_t t = (time_t)s;
	struct tm tm;

	if (!gmtime_r(&t, &tm) || !strftime(buf, 32, "%Y-%m-%d %H:%M:%SZ", &tm))
		return "?";
	return buf;
}

#define INSTEAD "; to read needs no lock (\";ro\" behind the name, or @SNAPSHOT)"

void lock_refusal(const struct lock *lock, const struct lock_conn *conn, char *text, size_t size)
{
	const char *vol = lock->name[0] ? lock->name : "VOL";
	unsigned long long epoch = lock->epoch;
	char since[32];

	if (lock_fence_matches(lock->fenced, conn->owner))
		snprintf(text, size,
			 "write lock: %s has been fenced, epoch %llu; \"vdiskctl lock allow %s\" "
			 "lets it in again" INSTEAD,
			 conn->owner, epoch, vol);
	else if (lock->save_error)
		snprintf(text, size, "write lock: cannot be recorded in the pool (%s)" INSTEAD,
			 strerror(-lock->save_error));
	else if (lock->owner[0])
		snprintf(text, size,
			 "write lock: held by %s since %s, epoch %llu%s; \"vdiskctl lock break "
			 "%s\" fences it, \"vdiskctl lock handover %s --to ID\" passes the lock "
			 "on" INSTEAD,
			 lock->owner, time_text(lock->since_s, since), epoch,
			 lock->active ? "" : " (its connection is lost, it may come back)", vol,
			 vol);
	else
		snprintf(text, size,
			 "write lock: reserved for %s since %s, epoch %llu; \"vdiskctl lock "
			 "handover %s --cancel\" frees it" INSTEAD,
			 lock->heir, time_text(lock->since_s, since), epoch, vol);
}
