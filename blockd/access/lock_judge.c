// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a connection may have, from the state of the write lock alone: nothing is changed here.
 * lock.c does what is found; INFO only asks.  See lock.h.
 */
#include <stdio.h>
#include <string.h>

#include "blockd/access/lock_priv.h"

/* ---- who is there ---- */

bool lock_owns(const struct lock *lock, const struct lock_conn *conn)
{
	return lock->owner[0] && strcmp(lock->owner, conn->owner) == 0;
}

bool lock_is_heir(const struct lock *lock, const struct lock_conn *conn)
{
	if (lock->bound[0])
		return strcmp(lock->bound, conn->owner) == 0;
	return lock->heir[0] && lock_target_matches(lock->heir, conn->owner);
}

/* A connection of the owner that counts: it has the lock, or is about to. */
bool lock_counts(const struct lock *lock, const struct lock_conn *conn)
{
	return conn->joined && !conn->gone && lock_owns(lock, conn) &&
	       (conn->role != LOCK_WRITER || conn->epoch == lock->epoch);
}

bool lock_owner_is_here(const struct lock *lock)
{
	const struct lock_conn *c;

	TAILQ_FOREACH (c, &lock->conns, link)
		if (lock_counts(lock, c))
			return true;
	return false;
}

/* All that the owner has are connections which their peer has closed. */
static bool owner_leaves(const struct lock *lock)
{
	const struct lock_conn *c;
	bool found = false;

	TAILQ_FOREACH (c, &lock->conns, link)
		if (lock_counts(lock, c)) {
			if (!c->leaving)
				return false;
			found = true;
		}
	return found;
}

/* Closed connections of this owner that have not ended yet. */
static bool has_remains(const struct lock *lock, const struct lock_conn *of)
{
	const struct lock_conn *c;

	TAILQ_FOREACH (c, &lock->conns, link)
		if (c != of && (c->gone || c->leaving) && strcmp(c->owner, of->owner) == 0)
			return true;
	return false;
}

static bool has_others(const struct lock *lock, const struct lock_conn *of)
{
	const struct lock_conn *c;

	TAILQ_FOREACH (c, &lock->conns, link)
		if (c != of && c->role != LOCK_ASKING && strcmp(c->owner, of->owner) == 0)
			return true;
	return false;
}

static bool is_drained(const struct lock *lock)
{
	const struct lock_conn *c;

	TAILQ_FOREACH (c, &lock->conns, link)
		if (c->admitted && c->epoch != lock->epoch)
			return false;
	return true;
}

bool lock_heir_is_here(const struct lock *lock)
{
	const struct lock_conn *c;

	TAILQ_FOREACH (c, &lock->conns, link)
		if (!c->gone && c->role == LOCK_STANDS && lock_is_heir(lock, c))
			return true;
	return false;
}

/* ---- what a connection may have ---- */

static enum lock_judgement judge_owner(const struct lock *lock, const struct lock_conn *conn)
{
	if (has_remains(lock, conn))
		return J_SETTLE;
	if (!lock->active || (conn->single && !conn->joined))
		return J_TAKE;
	return lock->saved_epoch == lock->epoch && is_drained(lock) ? J_GRANT : J_SETTLE;
}

static enum lock_judgement by_policy(const struct lock *lock, const struct lock_conn *conn)
{
	if (conn->role != LOCK_ASKING)
		return J_CONFLICT;
	if (conn->wants_standby)
		return J_STANDBY;
	switch (lock->policy.second_writer) {
	case LOCK_REFUSE:
		return J_CONFLICT;
	case LOCK_WAIT:
		return J_QUEUE;
	case LOCK_READONLY:
		return J_READER;
	case LOCK_STANDBY:
		return J_STANDBY;
	}
	return J_CONFLICT;
}

static enum lock_judgement judge_second(const struct lock *lock, const struct lock_conn *conn)
{
	if (lock_is_heir(lock, conn))
		return conn->role == LOCK_STANDS ? J_TAKE : J_STANDBY;
	if (conn->role == LOCK_ASKING && !conn->wants_standby &&
	    (owner_leaves(lock) || (!lock->active && lock_is_process(lock->owner) &&
				    lock->now_ms < conn->since_ms + LOCK_DEATH_MS)))
		return J_SOON;
	return by_policy(lock, conn);
}

enum lock_judgement lock_judge(const struct lock *lock, const struct lock_conn *conn)
{
	if (lock_fence_matches(lock->fenced, conn->owner))
		return J_FENCED;
	if (conn->single && conn->role == LOCK_ASKING && !conn->joined && has_others(lock, conn))
		return J_REPLACE;
	if (lock_owns(lock, conn))
		return judge_owner(lock, conn);
	if (lock->owner[0])
		return judge_second(lock, conn);
	if (lock->heir[0] && !lock_is_heir(lock, conn))
		return by_policy(lock, conn);
	return has_remains(lock, conn) ? J_SETTLE : J_TAKE;
}

enum lock_verdict lock_predict(const struct lock *lock, const struct lock_conn *conn, char *text,
			       size_t size)
{
	struct lock_conn asks = *conn;

	asks.role = LOCK_ASKING;
	asks.since_ms = lock->now_ms;
	switch (lock_judge(lock, &asks)) {
	case J_GRANT:
	case J_SETTLE:
	case J_REPLACE:
	case J_TAKE:
	case J_SOON:
	case J_QUEUE:
		return LOCK_AS_WRITER;
	case J_STANDBY:
		return LOCK_AS_STANDBY;
	case J_READER:
		return LOCK_AS_READER;
	case J_CONFLICT:
	case J_FENCED:
		break;
	}
	lock_refusal(lock, conn, text, size);
	return LOCK_REFUSED;
}
