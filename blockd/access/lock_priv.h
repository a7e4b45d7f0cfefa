/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What lock.c (the machine), lock_judge.c (what a connection may have) and lock_record.c (the
 * lock's record, its administrators) share. */
#ifndef BLOCKD_ACCESS_LOCK_PRIV_H
#define BLOCKD_ACCESS_LOCK_PRIV_H

#include "blockd/access/lock.h"

/* ---- lock.c ---- */

__attribute__((format(printf, 3, 4))) void lock_tell(struct lock *lock, enum lock_event event,
						     const char *fmt, ...);
/* The record has changed. */
void lock_touch(struct lock *lock);
void lock_no_heir(struct lock *lock);
/* Nobody owns it. */
void lock_release(struct lock *lock);

/* ---- lock_judge.c ---- */

enum lock_judgement {
	J_GRANT,   /* is the owner, all is ready */
	J_SETTLE,  /* is the owner; durability, drain or its own closed connections are awaited */
	J_REPLACE, /* is the owner and single: its other connections are closed first */
	J_TAKE,	   /* becomes the owner */
	J_STANDBY, /* may be there and read */
	J_READER,
	J_SOON,	    /* the owner is about to leave */
	J_QUEUE,    /* policy: wait */
	J_CONFLICT, /* not now */
	J_FENCED,
};

enum lock_judgement lock_judge(const struct lock *lock, const struct lock_conn *conn);
bool lock_owns(const struct lock *lock, const struct lock_conn *conn);
bool lock_is_heir(const struct lock *lock, const struct lock_conn *conn);
/* A connection of the owner that counts: it has the lock, or is about to. */
bool lock_counts(const struct lock *lock, const struct lock_conn *conn);
bool lock_owner_is_here(const struct lock *lock);
bool lock_heir_is_here(const struct lock *lock);

/* ---- lock_record.c ---- */

/* Begin to make the record durable if it has changed. */
void lock_save(struct lock *lock);

#endif
