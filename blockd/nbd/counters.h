/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is counted of a connection (since it began) and of a volume (since the process began). */
#ifndef BLOCKD_NBD_COUNTERS_H
#define BLOCKD_NBD_COUNTERS_H

#include <stdint.h>

#include "common/base/histogram.h"

struct io_counters {
	uint64_t reads, writes, flushes, trims, zeroes, others; /* requests, refused ones too */
	uint64_t read_bytes, written_bytes, trimmed_bytes, zeroed_bytes; /* of admitted ones */
	uint64_t errors; /* requests answered with an error */
};

enum io_kind { IO_READ, IO_WRITE, IO_FLUSH, IO_OTHER };
#define IO_KIND_COUNT 4

/* How long requests took, refused ones too: from their last byte's receipt until their answer was
 * given to the socket. */
struct io_latency {
	struct histogram kinds[IO_KIND_COUNT];
};

#endif
