/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Disk and wire integers as bytes: one-field structs, so that a value in foreign byte order can
 * not be used by accident.  le for the disk, be for the wire.
 */
#ifndef COMMON_BASE_BYTES_H
#define COMMON_BASE_BYTES_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

#define BYTES_TYPE(order, bits)                                                                    \
	typedef struct {                                                                           \
		uint8_t b[(bits) / 8];                                                             \
	} order##bits##_t;                                                                         \
	static inline uint##bits##_t order##bits##_get(order##bits##_t v)                          \
	{                                                                                          \
		uint##bits##_t raw;                                                                \
		memcpy(&raw, v.b, sizeof(raw));                                                    \
		return order##bits##toh(raw);                                                      \
	}                                                                                          \
	static inline order##bits##_t order##bits##_put(uint##bits##_t v)                          \
	{                                                                                          \
		order##bits##_t r;                                                                 \
		uint##bits##_t raw = hto##order##bits(v);                                          \
		memcpy(r.b, &raw, sizeof(raw));                                                    \
		return r;                                                                          \
	}

BYTES_TYPE(le, 16)
BYTES_TYPE(le, 32)
BYTES_TYPE(le, 64)
BYTES_TYPE(be, 16)
BYTES_TYPE(be, 32)
BYTES_TYPE(be, 64)
#undef BYTES_TYPE

#endif
