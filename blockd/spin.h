/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether to poll for a moment before sleeping.
 *
 * Sleeping and being woken costs both sides: the sender pays for waking us (an interrupt to another
 * processor; in a virtual machine an exit), we pay for falling asleep and waking, and the request
 * waits for all of it.  Polling costs the processor for as long as nothing comes.  So an account is
 * kept of what polling has brought: what comes while polling has saved `saves_us`, polling in
 * vain has cost the bound.  In debt there is no polling for SPIN_QUIET_US, then one more try.
 *
 * So an idle pool polls once more and sleeps; traffic that mostly comes later than the bound is
 * slept for; and so is a client that waits for the very processor on which we would poll (its
 * requests come as soon as we sleep, never while polling).  Where the processor was taken away
 * while polling, others want it: quiet at once.
 *
 * What the device owes comes later than a client's next request, and surely; a disk takes some 50
 * to 200 us.  Waiting for it has an account of its own, with SPIN_DEVICE_BOUNDS times the bound,
 * and lets others run between two polls: the kernel's thread that carries out a flush may have been
 * queued behind us.
 *
 * No clock: time is passed in.
 */
#ifndef BLOCKD_SPIN_H
#define BLOCKD_SPIN_H

#include <stdbool.h>
#include <stdint.h>

#define SPIN_SAVES_US	     20u /* measured: 18 to 25 for both sides together */
#define SPIN_SAVES_DEVICE_US 40u /* measured: 35 to 45, an interrupt through a kernel thread */
#define SPIN_DEVICE_BOUNDS   4u
#define SPIN_CREDIT_BOUNDS   4u	  /* so often may the bound be lost before the account is empty */
#define SPIN_STOLEN_US	     200u /* between two polls: the processor is not ours alone */
#define SPIN_QUIET_US	     100000u /* a try in vain so often costs a thousandth at most */

struct spin {
	uint32_t bound_us; /* 0: never */
	uint32_t saves_us;
	uint32_t credit_us;
	uint64_t quiet_until_us;
};

static inline bool spin_is_worth(const struct spin *spin, uint64_t now_us)
{
	return spin->bound_us && now_us >= spin->quiet_until_us;
}

/* Something came while polling. */
static inline void spin_found(struct spin *spin)
{
	spin->credit_us += spin->saves_us;
	if (spin->credit_us > SPIN_CREDIT_BOUNDS * spin->bound_us)
		spin->credit_us = SPIN_CREDIT_BOUNDS * spin->bound_us;
}

static inline void spin_rest(struct spin *spin, uint64_t now_us)
{
	spin->credit_us = 0;
	spin->quiet_until_us = now_us + SPIN_QUIET_US;
}

/* Nothing came within the bound. */
static inline void spin_vain(struct spin *spin, uint64_t now_us)
{
	if (spin->credit_us >= spin->bound_us)
		spin->credit_us -= spin->bound_us;
	else
		spin_rest(spin, now_us);
}

/* Two polls lay `apart_us` from each other: true if polling is to end for now. */
static inline bool spin_stolen(struct spin *spin, uint64_t apart_us, uint64_t now_us)
{
	if (apart_us < SPIN_STOLEN_US)
		return false;
	spin_rest(spin, now_us);
	return true;
}

#endif
