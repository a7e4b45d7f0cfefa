/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A simulated disk behind the engine's device port: memory, a seeded order of completion, power
 * cuts, process kills, injected errors.
 *
 * Its rule of durability is the port's: a write is durable when it was a FUA write that has
 * completed, or when its done() was called before a FLUSH was submitted that has succeeded.
 * Everything else is pending: a power cut keeps any part of it.
 *
 *	submitted --kick--> under way --poll/wait--> completed --flush--> durable
 *	|<------------------- pending: a power cut keeps any of it ---->|
 *	|<--- a kill keeps any of it --->|<--- a kill keeps all of it -->|
 *
 * Stricter than the kernel where a mistake would hide: nothing starts before kick(); a read
 * buffer is filled with rubbish until it completes; a buffer that changes while its write is
 * under way, a request outside the device or out of shape, abort the process.
 */
#ifndef TESTS_LIB_DEV_SIM_H
#define TESTS_LIB_DEV_SIM_H

#include "tests/lib/rng.h"
#include "tests/lib/sim_image.h"
#include "thin/dev.h"

enum sim_event {
	SIM_WRITE, /* submitted; PUNCH too */
	SIM_WRITE_DONE,
	SIM_FLUSH,
	SIM_FLUSH_DONE,
	SIM_REPLY, /* made by the tests, when a client hears of its request */
};

struct dev_sim;

struct dev_sim *dev_sim_new(uint64_t size_bytes, uint64_t seed);
/* A disk that holds `image` (copied), all of it durable. */
struct dev_sim *dev_sim_new_image(const struct sim_image *image, uint64_t size_bytes,
				  uint64_t seed);
void dev_sim_free(struct dev_sim *sim);
struct thin_dev *dev_sim_port(struct dev_sim *sim);

/* Called at every event, before done(). */
void dev_sim_on_event(struct dev_sim *sim, void (*event)(void *user, enum sim_event what),
		      void *user);

/* How long requests take, in polls: 0 to `polls`, and twenty times that now and then. */
void dev_sim_set_delay(struct dev_sim *sim, unsigned polls);

/* What a reader sees now: completed writes included.  What would be left of a cut that loses all
 * pending writes. */
const struct sim_image *dev_sim_view(const struct dev_sim *sim);
const struct sim_image *dev_sim_durable(const struct dev_sim *sim);
size_t dev_sim_in_flight(const struct dev_sim *sim); /* requests of any kind */

/* Pending writes are numbered: the completed ones in order of completion, then those under way in
 * order of submission.  `sim_part` says what of each a cut keeps. */
enum sim_part {
	SIM_NONE,
	SIM_ALL,
	SIM_TORN_BLOCKS,  /* some of its blocks, seeded; of a single block as SIM_TORN_SECTORS */
	SIM_TORN_SECTORS, /* all but one block whole, that one with some of its 512-byte sectors */
	SIM_SPOILED,	  /* as before, and one of its sectors is neither old nor new */
};
size_t dev_sim_pending(const struct dev_sim *sim);
size_t dev_sim_pending_done(const struct dev_sim *sim); /* how many of them have completed */
bool dev_sim_last_is_fua(const struct dev_sim *sim);	/* the write submitted last is a FUA one */

/* The disk after a power cut.  `parts` has dev_sim_pending() entries.  Free the image. */
void dev_sim_cut(const struct dev_sim *sim, const uint8_t *parts, uint64_t seed,
		 struct sim_image *ret_image);
/* The disk after the death of the process: completed writes are there, and still pending; of
 * those under way the chosen `parts` are, too. */
struct dev_sim *dev_sim_kill(const struct dev_sim *sim, const uint8_t *parts, uint64_t seed);

/* The `nth` request of this kind from now (0: the next one) fails with `res`; what of a write
 * reaches the disk is then anything, what of a flush becomes durable is nothing, for ever. */
void dev_sim_fail(struct dev_sim *sim, enum dev_op op, unsigned nth, int res);
/* ... or each one with this probability. */
void dev_sim_fail_percent(struct dev_sim *sim, enum dev_op op, unsigned percent, int res);

/* How many of them have been answered with an injected error. */
unsigned dev_sim_failed(const struct dev_sim *sim, enum dev_op op);

/* Damage: one bit of a block, on the disk and in every view of it. */
void dev_sim_corrupt(struct dev_sim *sim, uint64_t block, uint64_t bit);
/* The same on an image. */
void sim_image_corrupt(struct sim_image *image, uint64_t block, uint64_t bit);

#endif
