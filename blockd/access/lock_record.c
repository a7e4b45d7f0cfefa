// SPDX-License-Identifier: GPL-2.0-or-later
/* The write lock's record in the pool, and what administrators do to a lock; see lock.h. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "blockd/access/lock_priv.h"

/* In the record. */
#define STATE_HELD	  1u
#define STATE_FENCED	  2u /* `owner` is whom to keep out */
#define STATE_HELD_FENCED 3u /* taken, nobody let in yet: `heir` is whom to keep out until then */

#define POLICY_SET	  (1u << 31)
#define POLICY_SECOND	  3u
#define POLICY_KEEP	  (1u << 2)
#define POLICY_DISCONNECT (1u << 3)

/* ---- the record ---- */

void lock_policy_load(const struct thin_lock *record, struct lock_policy *ret)
{
	*ret = (struct lock_policy){ .grace_ms = LOCK_GRACE_MS };
	if (!(record->policy & POLICY_SET))
		return;
	ret->second_writer = record->policy & POLICY_SECOND;
	ret->keep = record->policy & POLICY_KEEP;
	ret->disconnect = record->policy & POLICY_DISCONNECT;
	ret->wait_ms = record->wait_ms;
	ret->grace_ms = record->grace_ms;
}

static void keep_policy(struct lock *lock, const struct lock_policy *policy)
{
	lock->kept_policy = POLICY_SET | (uint32_t)policy->second_writer |
			    (policy->keep ? POLICY_KEEP : 0) |
			    (policy->disconnect ? POLICY_DISCONNECT : 0);
	lock->kept_wait_ms = policy->wait_ms;
	lock->kept_grace_ms = policy->grace_ms;
}

/* The fence stays in force until another has been let in, also over a restart; an heir that was
 * named meanwhile is recorded then. */
static void fill_record(const struct lock *lock, struct thin_lock *record)
{
	bool both = lock->owner[0] && lock->fenced[0];
	const char *owner = lock->owner[0] ? lock->owner : lock->fenced;
	const char *heir = both ? lock->fenced : lock->heir;

	record->state = both		  ? STATE_HELD_FENCED
			: lock->owner[0]  ? STATE_HELD
			: lock->fenced[0] ? STATE_FENCED
					  : 0;
	snprintf(record->owner, sizeof(record->owner), "%s", owner);
	snprintf(record->heir, sizeof(record->heir), "%s", heir);
	if (lock->heir[0] && lock->heir_until_ms > lock->now_ms)
		record->until_s = lock->now_s + (lock->heir_until_ms - lock->now_ms + 999) / 1000;
}

void lock_save(struct lock *lock)
{
	struct thin_lock record = { .epoch = lock->epoch,
				    .since_s = lock->since_s,
				    .policy = lock->kept_policy,
				    .wait_ms = lock->kept_wait_ms,
				    .grace_ms = lock->kept_grace_ms };

	if (lock->change == lock->saving_change || lock->saving)
		return;
	lock->saving = true;
	lock->saving_change = lock->change;
	lock->saving_epoch = lock->epoch;
	fill_record(lock, &record);
	lock->ops->save(lock->user, &record);
}

void lock_saved(struct lock *lock, int res)
{
	lock->saving = false;
	lock->save_error = res;
	if (res == 0) {
		lock->saved_epoch = lock->saving_epoch;
		lock->saved_change = lock->saving_change;
	} else {
		lock_tell(lock, LOCK_EV_FAILED, "cannot be recorded in the pool: %s",
			  strerror(-res));
	}
	lock_run(lock);
}

static void load_heir(struct lock *lock, const struct thin_lock *record, uint64_t loaded_ms)
{
	snprintf(lock->heir, sizeof(lock->heir), "%s", record->heir);
	lock->heir_until_ms = loaded_ms + lock->policy.grace_ms;
	/* it may have been connected before the restart, then time was of no account */
	if (record->until_s > lock->now_s)
		lock->heir_until_ms = lock->now_ms + (record->until_s - lock->now_s) * 1000;
}

void lock_init(struct lock *lock, const struct lock_ops *ops, void *user,
	       const struct thin_lock *record, const struct lock_policy *policy, bool owner_back,
	       uint64_t loaded_ms, uint64_t now_ms, uint64_t now_s)
{
	struct lock_policy own;

	lock_policy_load(record, &own);
	policy = policy ? policy : &own;
	*lock = (struct lock){ .ops = ops,
			       .user = user,
			       .epoch = record->epoch,
			       .saved_epoch = record->epoch,
			       .policy = *policy,
			       .kept_policy = record->policy,
			       .kept_wait_ms = record->wait_ms,
			       .kept_grace_ms = record->grace_ms,
			       .now_ms = now_ms,
			       .now_s = now_s,
			       .since_s = record->since_s };
	TAILQ_INIT(&lock->conns);
	if (record->state == STATE_FENCED)
		snprintf(lock->fenced, sizeof(lock->fenced), "%s", record->owner);
	else if (record->state == STATE_HELD_FENCED)
		snprintf(lock->fenced, sizeof(lock->fenced), "%s", record->heir);
	if (record->state != STATE_HELD_FENCED && record->heir[0])
		load_heir(lock, record, loaded_ms);
	if (record->state != STATE_HELD && record->state != STATE_HELD_FENCED)
		return;
	if (owner_back || policy->keep) {
		snprintf(lock->owner, sizeof(lock->owner), "%s", record->owner);
		lock->owner_until_ms = policy->keep ? UINT64_MAX : loaded_ms + policy->grace_ms;
		lock->written = true; /* for all we know */
		lock->unsure = record->state == STATE_HELD_FENCED;
	} else {
		lock->change++; /* whoever it was cannot come back */
	}
}

void lock_set_now(struct lock *lock, uint64_t now_ms, uint64_t now_s)
{
	lock->now_ms = now_ms;
	lock->now_s = now_s;
}

void lock_set_policy(struct lock *lock, const struct lock_policy *policy)
{
	bool kept = lock->owner[0] && !lock->active && lock->owner_until_ms == UINT64_MAX;
	struct thin_lock record = { .policy = lock->kept_policy,
				    .wait_ms = lock->kept_wait_ms,
				    .grace_ms = lock->kept_grace_ms };

	if (policy)
		lock->policy = *policy;
	else
		lock_policy_load(&record, &lock->policy);
	if (kept && !lock->policy.keep)
		lock->owner_until_ms = lock->now_ms + lock->policy.grace_ms;
	lock_run(lock);
}

void lock_keep_policy(struct lock *lock, const struct lock_policy *policy, bool in_force)
{
	keep_policy(lock, policy);
	lock_touch(lock);
	if (in_force)
		lock_set_policy(lock, policy);
	else
		lock_run(lock);
}

/* ---- administrators ---- */

static void set_heir(struct lock *lock, const char *to, uint64_t ttl_ms)
{
	struct lock_conn *c;

	lock_no_heir(lock);
	snprintf(lock->heir, sizeof(lock->heir), "%s", to);
	lock->heir_until_ms = lock->now_ms + ttl_ms;
	if (!lock->owner[0])
		lock->since_s = lock->now_s;
	TAILQ_FOREACH (c, &lock->conns, link)
		if (!c->gone && c->role == LOCK_STANDS && !lock_owns(lock, c) &&
		    lock_is_heir(lock, c)) {
			c->tired = false;
			snprintf(lock->bound, sizeof(lock->bound), "%s", c->owner);
			break;
		}
	lock_touch(lock);
}

static int check_epoch(const struct lock *lock, uint64_t if_epoch, struct err *err)
{
	if (!if_epoch || if_epoch == lock->epoch)
		return 0;
	return err_set(err, -ESTALE, "the lock's epoch is %llu, not %llu: nothing done",
		       (unsigned long long)lock->epoch, (unsigned long long)if_epoch);
}

int lock_handover(struct lock *lock, const char *to, uint64_t ttl_ms, uint64_t if_epoch,
		  struct err *err)
{
	char target[LOCK_TEXT_MAX + 1];
	int rc = lock_target_check(to, target, err);

	if (!rc)
		rc = check_epoch(lock, if_epoch, err);
	if (rc)
		return rc;
	if (lock->owner[0] && strcmp(target, "any") && lock_target_matches(target, lock->owner) &&
	    (target[0] == 'p' || target[0] == 'h' || strchr(target, '/')))
		return err_set(err, -EEXIST, "%s holds the lock already", lock->owner);
	lock_tell(lock, LOCK_EV_HANDOVER, "handover to %s announced, epoch %llu", target,
		  (unsigned long long)lock->epoch);
	set_heir(lock, target, ttl_ms);
	lock_run(lock);
	return 0;
}

int lock_cancel(struct lock *lock, struct err *err)
{
	if (!lock->heir[0])
		return err_set(err, -ENOENT, "no handover is announced");
	lock_tell(lock, LOCK_EV_HANDOVER, "handover to %s cancelled, epoch %llu", lock->heir,
		  (unsigned long long)lock->epoch);
	lock_no_heir(lock);
	lock_touch(lock);
	lock_run(lock);
	return 0;
}

static void cut_fenced(struct lock *lock)
{
	struct lock_conn *c, *next;

	TAILQ_FOREACH_SAFE (c, &lock->conns, link, next)
		if (!c->gone && c->role == LOCK_WRITER && c->epoch != lock->epoch)
			lock->ops->cut(lock->user, c, "its write lock was broken");
}

int lock_break(struct lock *lock, const char *to, uint64_t if_epoch, struct err *err)
{
	char target[LOCK_TEXT_MAX + 1] = "";
	int rc = to ? lock_target_check(to, target, err) : 0;

	if (!rc)
		rc = check_epoch(lock, if_epoch, err);
	if (rc)
		return rc;
	lock_tell(lock, LOCK_EV_BROKEN, "broken, %s%s; epoch %llu",
		  lock->owner[0] ? lock->owner : "nobody",
		  lock->owner[0] ? " is fenced" : " held it", (unsigned long long)lock->epoch + 1);
	/* one that has not been let in yet does not end the fence of the one before it */
	if (lock->owner[0] && (lock->granted || !lock->fenced[0]))
		lock_fence_of(lock->owner, lock->fenced);
	else if (lock->owner[0] && lock->unsure)
		lock_fence_add(lock->owner, lock->fenced);
	lock_no_heir(lock);
	lock_release(lock);
	lock->epoch++;
	lock->since_s = lock->now_s;
	if (target[0])
		set_heir(lock, target, LOCK_HANDOVER_TTL_MS);
	if (lock->policy.disconnect)
		cut_fenced(lock);
	lock_run(lock);
	return 0;
}

int lock_allow(struct lock *lock, struct err *err)
{
	if (!lock->fenced[0])
		return err_set(err, -ENOENT, "nobody is fenced");
	lock_tell(lock, LOCK_EV_ALLOWED, "%s is let in again, epoch %llu", lock->fenced,
		  (unsigned long long)lock->epoch);
	lock->fenced[0] = '\0';
	lock_touch(lock);
	lock_run(lock);
	return 0;
}

bool lock_is_settled(const struct lock *lock, uint64_t change, uint64_t epoch)
{
	const struct lock_conn *c;

	TAILQ_FOREACH (c, &lock->conns, link)
		if (c->admitted && c->epoch < epoch)
			return false;
	return lock->saved_change >= change;
}
