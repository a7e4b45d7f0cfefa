/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sizes that an administrator need not think about; blockd.conf(5) has the table.
 *
 * All pools together get a quarter of the memory that there is for blockd: the host's, or what a
 * cgroup leaves of it.  Each has an equal share of that quarter:
 *
 *	cache		pool / 64: four times the maps of a full pool; 16M to share / 4
 *	buffers		share / 16; 34M to 128M.  The engine takes half as much again
 *	data_cache	what is left of the share, at most half of it, and no more than the pool
 *	journal		pool / 64; 4M to 256M, no more than half of the pool
 *
 * So the sum stays within the quarter, but where the least sizes (67M a pool) are more.
 *
 * Why four times the maps: a checkpoint is due when a sixth of the node cache has been changed.
 * Random writes over more leaves than that change a leaf for each block, so that half of all work
 * is the map's, with a stall at each cut; over fewer, a leaf is written once for as many blocks as
 * the journal allows.  In memory, 4 KiB at random over 1 GiB, 32 at a time, in a pool of 2.3 GiB:
 * 180k/s at 5.5 us, p99 729 us with 16M; 224k/s at 4.2 us, p99 223 us with 37M.
 */
#ifndef BLOCKD_DEFAULTS_H
#define BLOCKD_DEFAULTS_H

#include <stddef.h>
#include <stdint.h>

#define DEFAULTS_MEMORY_MIN (64ull << 20)

struct defaults {
	uint64_t cache_bytes, data_cache_bytes, buffer_bytes, journal_bytes;
};

/* Pure.  `pool_count` at least 1; `pool_bytes` 0: not known, as if it were small. */
void defaults_derive(uint64_t memory_bytes, size_t pool_count, uint64_t pool_bytes,
		     struct defaults *ret_defaults);

/*
 * The memory there is: the host's, or the least limit of the cgroups this process is in (memory.max
 * and memory.high of version 2, memory.limit_in_bytes of version 1).  `root` stands before /proc
 * and /sys, "" but for tests.  Blocking: reads a few files.
 */
uint64_t defaults_memory(const char *root);

/* The size of a file or block device, 0 when there is none.  Opens nothing. */
uint64_t defaults_file_bytes(const char *path);

#endif
