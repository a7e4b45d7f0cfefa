/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What if it ended here?  At an event of a workload: every disk a power cut or the death of the
 * process may leave (testing.md, "Crash states"), each recovered, checked in full, compared with
 * the oracle; now and then cut again inside the recovery and recovered again.
 *
 * A disk that was seen before is not recovered again (by its hash), but what it recovered to is
 * compared with what the oracle demands now.
 */
#ifndef TESTS_CRASH_STATES_H
#define TESTS_CRASH_STATES_H

#include "tests/crash/world.h"

struct states;

struct states *states_new(struct world *w, unsigned percent, unsigned nested_percent);
void states_free(struct states *s);

/* An event of w->sim, or a reply. */
void states_event(struct states *s, enum sim_event what);

/* After a failed flush the death of the process is no crash state of its own: what the kernel (or
 * the disk's cache) still shows, and never will write, a successor cannot tell from what is safe.
 */
bool states_kill_allowed(const struct world *w);

/* One disk of those possible now, chosen by lot, as the world's next life: by a kill or a cut. */
struct dev_sim *states_choose(struct world *w, bool kill);

/* The disk after a cut that tears the write submitted last; of the others any part is there. */
struct dev_sim *states_tear_last(struct world *w);

#endif
