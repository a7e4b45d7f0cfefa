/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether answers should wait for more, to leave together.
 *
 * Every message costs the client a buffer to be freed and both sides a lock that the other one
 * holds.  A client that sends its requests singly gets its answers singly, when the server is the
 * faster of the two.  But then it does not wait for them: there are others in its socket that it
 * has not taken.  So while HOLD_UNREAD bytes lie there, up to HOLD_QUEUED of answers are kept back;
 * they leave when the client has come down to that mark, which is some six answers of 4 KiB before
 * it would have to wait.  (Measured: with 7 KiB it runs dry and falls asleep at queue depths up to
 * 8, with 48 KiB there is nothing to gain up to 10.)
 *
 * Somebody has to look whether the client has taken something: the reactor does not sleep while
 * answers are held.  A client that takes nothing for HOLD_US gets what there is, and for a while
 * nothing is held back from it.
 *
 * No clock, no socket: time and bytes are passed in.
 */
#ifndef BLOCKD_HOLD_H
#define BLOCKD_HOLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HOLD_UNREAD   32000u /* with the kernel's bookkeeping: some 5000 for an answer of 4 KiB */
#define HOLD_QUEUED   (32u << 10)
#define HOLD_US	      100u
#define HOLD_QUIET_US 100000u /* a hold in vain so often costs a thousandth at most */

struct hold {
	bool on;
	uint64_t since_us, quiet_until_us;
};

/* May `queued` bytes be held back?  If so, hold_is_worth() is to be asked. */
static inline bool hold_may(struct hold *hold, size_t queued, uint64_t now_us)
{
	if (queued && queued < HOLD_QUEUED && now_us >= hold->quiet_until_us)
		return true;
	hold->on = false;
	return false;
}

/* The client has so many bytes that it has not taken yet: hold back what there is? */
static inline bool hold_is_worth(struct hold *hold, size_t unread, uint64_t now_us)
{
	if (unread < HOLD_UNREAD) {
		hold->on = false;
		return false;
	}
	if (!hold->on)
		hold->since_us = now_us;
	hold->on = now_us - hold->since_us < HOLD_US;
	if (!hold->on)
		hold->quiet_until_us = now_us + HOLD_QUIET_US;
	return hold->on;
}

#endif
