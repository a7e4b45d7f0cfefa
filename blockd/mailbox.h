/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A mailbox: the only way one thread of blockd hands work to another.
 *
 * Letters are intrusive and belong to whoever holds them: the sender until mailbox_post(), the
 * mailbox until the owner's mailbox_run() calls `open`, the receiver from then on (it may free
 * the letter, post it elsewhere or reuse it).  First in, first out over all senders.
 */
#ifndef BLOCKD_MAILBOX_H
#define BLOCKD_MAILBOX_H

#include <stddef.h>

#include "common/base/err.h"

struct mailbox;

struct letter {
	void (*open)(struct letter *letter); /* on the owner's thread */
	struct letter *next;
};

int mailbox_new(struct mailbox **ret_box, struct err *err) __attribute__((warn_unused_result));
/* Letters still inside are not opened.  NULL is fine. */
void mailbox_free(struct mailbox *box);

/* Readable while letters are waiting; for the owner's epoll. */
int mailbox_fd(const struct mailbox *box);

/* Any thread; never blocks, never fails. */
void mailbox_post(struct mailbox *box, struct letter *letter);

/* Open all letters that are there now; the owner's thread.  Returns how many. */
size_t mailbox_run(struct mailbox *box);

#endif
