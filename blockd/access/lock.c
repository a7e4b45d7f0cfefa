// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The write lock; see lock.h for what it promises and why.
 *
 * Everything that may change runs through lock_run(), which goes round until nothing changes any
 * more: time that is over, the owner's end, the record, then each connection that waits, in the
 * order of their coming.  What a connection may have is decided in one place (judge()), from the
 * lock's state alone, and done in another (act()); so INFO can ask without doing.
 *
 * The record and the administrators' verbs are lock_record.c.
 *
 * Callbacks may call back in (a cut connection is closed): a nested lock_run() only makes the outer
 * one go round again.
 */
#include "blockd/access/lock_priv.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- small things ---- */

void lock_tell(struct lock *lock, enum lock_event event, const char *fmt, ...)
{
	char text[2 * LOCK_TEXT_MAX + 128];
	va_list ap;

	lock->counts[event]++;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	lock->ops->event(lock->user, event, text);
}

void lock_touch(struct lock *lock)
{
	lock->change++;
	lock->again = true;
}

enum lock_state lock_state(const struct lock *lock)
{
	if (lock->active)
		return lock->heir[0] ? LOCK_HANDOVER : LOCK_HELD;
	return lock->owner[0] || lock->heir[0] ? LOCK_RESERVED : LOCK_FREE;
}

const char *lock_state_name(enum lock_state state)
{
	static const char *const names[] = { "free", "held", "reserved", "handover" };

	return names[state];
}

const char *lock_event_name(enum lock_event event)
{
	static const char *const names[] = { "acquired", "released", "refused", "reserved",
					     "expired",	 "handover", "taken",	"broken",
					     "allowed",	 "fenced",   "failed" };

	return names[event];
}

/* ---- owners come and go ---- */

void lock_no_heir(struct lock *lock)
{
	lock->heir[0] = lock->bound[0] = '\0';
}

void lock_release(struct lock *lock)
{
	lock->owner[0] = '\0';
	lock->active = lock->granted = lock->unsure = false;
	lock_touch(lock);
}

/* The lock is this one's from now on; granted when that is durable and others have drained. */
static void take(struct lock *lock, struct lock_conn *conn)
{
	bool from = lock->active && !lock_owns(lock, conn);

	if (from)
		lock_tell(lock, LOCK_EV_TAKEN, "%s takes the lock from %s, epoch %llu", conn->owner,
			  lock->owner, (unsigned long long)lock->epoch + 1);
	if (!lock_owns(lock, conn)) {
		lock->written = lock->owner[0] || lock->heir[0];
		lock->unsure = false;
	}
	snprintf(lock->owner, sizeof(lock->owner), "%s", conn->owner);
	lock->active = true;
	lock->granted = false;
	lock->since_s = lock->now_s;
	lock->epoch++;
	lock_no_heir(lock);
	conn->joined = true;
	lock_touch(lock);
}

/* Is the lock kept for the owner, whose last connection this was?  See lock.h for who is not. */
static bool may_return(const struct lock *lock, const struct lock_conn *last)
{
	if (lock->policy.keep)
		return true;
	if (!last->can_return || !lock->policy.grace_ms)
		return false;
	return lock->written || !last->leaving || !lock_is_process(lock->owner);
}

/* `last`: the connection that ended. */
static void owner_lost(struct lock *lock, const struct lock_conn *last, bool clean)
{
	if (!clean && lock->granted && may_return(lock, last)) {
		lock->active = lock->granted = false;
		lock->owner_until_ms =
			lock->policy.keep ? UINT64_MAX : lock->now_ms + lock->policy.grace_ms;
		lock_tell(lock, LOCK_EV_RESERVED, "the connection of %s is lost, epoch %llu; %s",
			  lock->owner, (unsigned long long)lock->epoch,
			  lock->policy.keep ? "kept until it comes back or the lock is broken"
					    : "it may come back during the grace");
		lock->again = true;
		return;
	}
	lock_tell(lock, LOCK_EV_RELEASED, "released by %s%s, epoch %llu", lock->owner,
		  clean || !lock->granted || lock->written ? "" : ", which never wrote",
		  (unsigned long long)lock->epoch);
	lock_release(lock);
}

/* ---- doing it ---- */

static void decide(struct lock *lock, struct lock_conn *conn, enum lock_verdict verdict)
{
	char text[2 * LOCK_TEXT_MAX + 256] = "";

	switch (verdict) {
	case LOCK_AS_WRITER:
		conn->role = LOCK_WRITER;
		break;
	case LOCK_AS_STANDBY:
		conn->role = LOCK_STANDS;
		if (lock_is_heir(lock, conn))
			snprintf(lock->bound, sizeof(lock->bound), "%s", conn->owner);
		break;
	case LOCK_REFUSED:
		lock_refusal(lock, conn, text, sizeof(text));
		lock_tell(lock, LOCK_EV_REFUSED, "%s refused: %s", conn->owner, text);
		__attribute__((fallthrough));
	case LOCK_AS_READER:
		conn->role = LOCK_OUT;
		conn->joined = false;
		break;
	}
	lock->ops->decided(lock->user, conn, verdict, text);
}

static void grant(struct lock *lock, struct lock_conn *conn)
{
	bool asked = conn->role == LOCK_ASKING, first = true;
	const struct lock_conn *c;

	TAILQ_FOREACH (c, &lock->conns, link)
		if (c != conn && c->role == LOCK_WRITER && c->epoch == lock->epoch)
			first = false;
	conn->epoch = lock->epoch;
	conn->role = LOCK_WRITER;
	conn->joined = true;
	conn->pending = conn->tired = false;
	lock->granted = true;
	lock->unsure = false;
	if (lock->fenced[0]) { /* another has held it now */
		lock->fenced[0] = '\0';
		lock_touch(lock);
	}
	if (first)
		lock_tell(lock, LOCK_EV_ACQUIRED, "held by %s, epoch %llu", conn->owner,
			  (unsigned long long)lock->epoch);
	if (asked)
		decide(lock, conn, LOCK_AS_WRITER);
	else
		lock->ops->resume(lock->user, conn);
}

static void give_up(struct lock *lock, struct lock_conn *conn)
{
	if (conn->role == LOCK_ASKING) {
		decide(lock, conn, LOCK_REFUSED);
		return;
	}
	conn->pending = false;
	conn->tired = true;
	lock_tell(lock, LOCK_EV_REFUSED, "a standby's change is refused: %s; epoch %llu",
		  conn->owner, (unsigned long long)lock->epoch);
	lock->ops->resume(lock->user, conn);
}

static void cut_others(struct lock *lock, const struct lock_conn *of)
{
	struct lock_conn *c, *next;

	TAILQ_FOREACH_SAFE (c, &lock->conns, link, next)
		if (c != of && !c->gone && c->role != LOCK_ASKING &&
		    strcmp(c->owner, of->owner) == 0)
			lock->ops->cut(lock->user, c, "replaced by a new connection of its owner");
}

/* A wait of at most `ms` since it began; a standby's change has its own bound. */
static void wait_or_give_up(struct lock *lock, struct lock_conn *conn, uint64_t ms)
{
	conn->until_ms = conn->since_ms + (conn->role == LOCK_STANDS ? LOCK_STANDBY_MS : ms);
	if (lock->now_ms >= conn->until_ms)
		give_up(lock, conn);
}

/* The owner-to-be waits for the record, for what is in the engine, for its own closed
 * connections. */
static void settle(struct lock *lock, struct lock_conn *conn)
{
	conn->joined = lock_owns(lock, conn) && lock->active;
	if (lock->save_error && !lock->saving) {
		give_up(lock, conn);
		conn->joined = false;
		lock->again = true;
	} else {
		wait_or_give_up(lock, conn, LOCK_LEAVE_MS);
	}
}

static void act(struct lock *lock, struct lock_conn *conn)
{
	switch (lock_judge(lock, conn)) {
	case J_GRANT:
		grant(lock, conn);
		break;
	case J_REPLACE:
		cut_others(lock, conn);
		wait_or_give_up(lock, conn, LOCK_LEAVE_MS);
		break;
	case J_SETTLE:
		settle(lock, conn);
		break;
	case J_TAKE:
		lock->save_error = 0;
		take(lock, conn);
		break;
	case J_STANDBY:
		decide(lock, conn, LOCK_AS_STANDBY);
		break;
	case J_READER:
		decide(lock, conn, LOCK_AS_READER);
		break;
	case J_SOON:
		wait_or_give_up(lock, conn, lock->active ? LOCK_LEAVE_MS : LOCK_DEATH_MS);
		break;
	case J_QUEUE:
		wait_or_give_up(lock, conn, lock->policy.wait_ms);
		break;
	case J_CONFLICT:
		wait_or_give_up(lock, conn, 0);
		break;
	case J_FENCED:
		give_up(lock, conn);
		break;
	}
}

static void expire(struct lock *lock)
{
	if (lock->heir[0] && lock->now_ms >= lock->heir_until_ms && !lock_heir_is_here(lock)) {
		lock_tell(lock, LOCK_EV_EXPIRED,
			  "the handover to %s is over, nobody came; epoch %llu", lock->heir,
			  (unsigned long long)lock->epoch);
		lock_no_heir(lock);
		lock_touch(lock);
	} else if (lock->bound[0] && !lock_heir_is_here(lock)) {
		lock->bound[0] = '\0'; /* another that was named may come */
	}
	if (lock->owner[0] && !lock->active && lock->now_ms >= lock->owner_until_ms) {
		lock_tell(lock, LOCK_EV_EXPIRED, "the grace of %s is over, epoch %llu", lock->owner,
			  (unsigned long long)lock->epoch);
		lock_release(lock);
	}
}

/* One that took the lock and was refused after all (no record): it is nobody's. */
static void check_owner(struct lock *lock)
{
	if (!lock->active || lock_owner_is_here(lock))
		return;
	lock_tell(lock, LOCK_EV_RELEASED, "released by %s, epoch %llu", lock->owner,
		  (unsigned long long)lock->epoch);
	lock_release(lock);
}

static bool waits_for_us(const struct lock_conn *conn)
{
	return !conn->gone && (conn->role == LOCK_ASKING || conn->pending);
}

void lock_run(struct lock *lock)
{
	struct lock_conn *c;

	if (lock->running) {
		lock->again = true;
		return;
	}
	lock->running = true;
	do {
		lock->again = false;
		expire(lock);
		check_owner(lock);
		/* a callback may have taken others out: begin anew after each that did something */
		TAILQ_FOREACH (c, &lock->conns, link) {
			bool waiting = waits_for_us(c);

			if (!waiting)
				continue;
			act(lock, c);
			if (lock->again)
				break;
			if (!waits_for_us(c)) {
				lock->again = true;
				break;
			}
		}
		lock_save(lock);
	} while (lock->again);
	lock->running = false;
}

void lock_refuse_all(struct lock *lock, const char *why)
{
	struct lock_conn *c;

	TAILQ_FOREACH (c, &lock->conns, link)
		if (!c->gone && c->role == LOCK_ASKING) {
			c->role = LOCK_OUT;
			c->joined = false;
			lock->ops->decided(lock->user, c, LOCK_REFUSED, why);
		}
	lock_run(lock);
}

uint64_t lock_deadline_ms(const struct lock *lock)
{
	uint64_t at = UINT64_MAX;
	const struct lock_conn *c;

	if (lock->heir[0] && !lock_heir_is_here(lock))
		at = lock->heir_until_ms;
	if (lock->owner[0] && !lock->active && lock->owner_until_ms < at)
		at = lock->owner_until_ms;
	TAILQ_FOREACH (c, &lock->conns, link)
		if (waits_for_us(c) && c->until_ms < at)
			at = c->until_ms;
	return at;
}

/* ---- connections ---- */

void lock_open(struct lock *lock, struct lock_conn *conn)
{
	conn->lock = lock;
	conn->epoch = LOCK_NO_EPOCH;
	conn->role = LOCK_ASKING;
	conn->since_ms = conn->until_ms = lock->now_ms;
	TAILQ_INSERT_TAIL(&lock->conns, conn, link);
	lock_run(lock);
}

bool lock_shares(const struct lock_conn *conn)
{
	const char *slash = strchr(conn->owner, '/');

	return !conn->single && !(slash && strncmp(slash + 1, "conn=", 5) == 0);
}

enum lock_wait lock_change(struct lock_conn *conn)
{
	struct lock *lock = conn->lock;
	enum lock_judgement j;

	if (conn->role != LOCK_STANDS) {
		if (!conn->announced)
			lock_tell(
				lock, LOCK_EV_FENCED,
				"a change of %s, which no longer holds the lock, is refused; epoch "
				"%llu",
				conn->owner, (unsigned long long)lock->epoch);
		conn->announced = true;
		return lock->policy.disconnect ? LOCK_CUT : LOCK_MAY_NOT;
	}
	j = lock_judge(lock, conn);
	if (j == J_FENCED || (j == J_CONFLICT && conn->tired))
		return LOCK_MAY_NOT;
	conn->pending = true;
	conn->since_ms = conn->until_ms = lock->now_ms;
	lock_run(lock);
	if (conn->pending)
		return LOCK_PARK;
	return lock_admits(conn) ? LOCK_MAY : LOCK_MAY_NOT;
}

void lock_hung_up(struct lock_conn *conn)
{
	if (conn->leaving || conn->gone)
		return;
	conn->leaving = true;
	lock_run(conn->lock);
}

void lock_close(struct lock_conn *conn, bool clean)
{
	struct lock *lock = conn->lock;
	bool counted = lock_counts(lock, conn);

	if (conn->gone)
		return;
	conn->gone = true;
	conn->pending = false;
	if (conn->changed && lock_owns(lock, conn))
		lock->written = true;
	if (counted && lock->active && !lock_owner_is_here(lock))
		owner_lost(lock, conn, clean);
	lock_run(lock);
}

void lock_leave(struct lock_conn *conn)
{
	struct lock *lock = conn->lock;

	assert(conn->gone && !conn->admitted);
	TAILQ_REMOVE(&lock->conns, conn, link);
	conn->lock = NULL;
	lock_run(lock);
}

void lock_drained(struct lock *lock)
{
	lock_run(lock);
}

void lock_owner_died(struct lock *lock)
{
	if (!lock->owner[0] || lock->active || lock->owner_until_ms == UINT64_MAX)
		return;
	lock_tell(lock, LOCK_EV_EXPIRED, "%s has ended, epoch %llu", lock->owner,
		  (unsigned long long)lock->epoch);
	lock_release(lock);
	lock_run(lock);
}
