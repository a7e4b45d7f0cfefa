/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Mailboxes; see mailbox.h.
 *
 * A singly linked list under a mutex that is held for a few instructions, and an eventfd that is
 * written only when the list was empty: a burst of letters costs one wake-up.
 */
#include "blockd/mailbox.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct mailbox {
	pthread_mutex_t lock;
	struct letter *first, **last;
	int fd;
};

int mailbox_new(struct mailbox **ret_box, struct err *err)
{
	struct mailbox *box = calloc(1, sizeof(*box));

	if (!box)
		return err_set(err, -ENOMEM, "out of memory");
	box->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (box->fd < 0) {
		free(box);
		return err_sys(err, -errno, "eventfd");
	}
	pthread_mutex_init(&box->lock, NULL);
	box->last = &box->first;
	*ret_box = box;
	return 0;
}

void mailbox_free(struct mailbox *box)
{
	if (!box)
		return;
	close(box->fd);
	pthread_mutex_destroy(&box->lock);
	free(box);
}

int mailbox_fd(const struct mailbox *box)
{
	return box->fd;
}

void mailbox_post(struct mailbox *box, struct letter *letter)
{
	bool was_empty;

	letter->next = NULL;
	pthread_mutex_lock(&box->lock);
	was_empty = !box->first;
	*box->last = letter;
	box->last = &letter->next;
	/* Within the lock: once the owner has opened the letter it may free the box. */
	if (was_empty)
		eventfd_write(box->fd, 1);
	pthread_mutex_unlock(&box->lock);
}

size_t mailbox_run(struct mailbox *box)
{
	struct letter *letter, *next;
	eventfd_t ignored;
	size_t count = 0;

	pthread_mutex_lock(&box->lock);
	letter = box->first;
	box->first = NULL;
	box->last = &box->first;
	if (letter)
		(void)!eventfd_read(box->fd, &ignored);
	pthread_mutex_unlock(&box->lock);
	for (; letter; letter = next) {
		next = letter->next;
		letter->open(letter);
		count++;
	}
	return count;
}
