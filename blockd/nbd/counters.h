/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is counted of a connection (since it began) and of a volume (since the process began). */
#ifndef BLOCKD_NBD_COUNTERS_H
#define BLOCKD_NBD_COUNTERS_H

#include <stdint.h>

struct io_counters {
	uint64_t reads, writes, flushes, trims, zeroes, others; /* requests, refused ones too */
	uint64_t read_bytes, written_bytes, trimmed_bytes, zeroed_bytes; /* of admitted ones */
	uint64_t errors; /* requests answered with an error */
};

#endif
