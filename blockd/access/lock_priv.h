/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What lock.c (the machine) and lock_record.c (its record, its administrators) share. */
#ifndef BLOCKD_ACCESS_LOCK_PRIV_H
#define BLOCKD_ACCESS_LOCK_PRIV_H

#include "blockd/access/lock.h"

/* ---- lock.c ---- */

__attribute__((format(printf, 3, 4))) void lock_tell(struct lock *lock, enum lock_event event,
						     const char *fmt, ...);
/* The record has changed. */
void lock_touch(struct lock *lock);
bool lock_owns(const struct lock *lock, const struct lock_conn *conn);
bool lock_is_heir(const struct lock *lock, const struct lock_conn *conn);
void lock_no_heir(struct lock *lock);
/* Nobody owns it. */
void lock_release(struct lock *lock);

/* ---- lock_record.c ---- */

/* Begin to make the record durable if it has changed. */
void lock_save(struct lock *lock);

#endif
