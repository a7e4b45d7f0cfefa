/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Damage: what the disk holds changes by itself.  Of a pool at rest, each block in use is damaged
 * in turn (one bit).  Then: never wrong data, never a crash, verify sees it, and a damaged data
 * block costs nothing but itself.
 */
#ifndef TESTS_CRASH_DAMAGE_H
#define TESTS_CRASH_DAMAGE_H

#include "tests/crash/world.h"

void damage_run(struct world *w);

#endif
