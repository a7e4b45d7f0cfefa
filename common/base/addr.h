/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Addresses, prefixes and address ranges of IPv4 and IPv6, and MAC addresses.
 *
 * Values, not objects: copied freely, compared by the functions below, no allocation, any
 * thread.  Bytes are in network order.  An all-zero struct addr is "none" (family 0).
 *
 * Parsers return 0 or -EINVAL with "found ..., expected ..." in `err` and leave *ret alone on
 * failure.  IPv4 is dotted decimal without leading zeros; IPv6 has no zone.
 */
#ifndef COMMON_BASE_ADDR_H
#define COMMON_BASE_ADDR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"

struct addr {
	uint8_t family; /* 0 none, 4, 6 */
	uint8_t b[16];	/* v4 uses the first four, the rest is zero */
};

/* An address with a length.  Host bits may be set ("10.0.0.1/24" of an interface). */
struct prefix {
	struct addr addr;
	uint8_t len;
};

/* first <= last, both of one family. */
struct addr_range {
	struct addr first, last;
};

struct mac {
	uint8_t b[6];
};

#define ADDR_TEXT_MAX	    48 /* address with NUL */
#define PREFIX_TEXT_MAX	    52 /* "address/len" */
#define ADDR_RANGE_TEXT_MAX 96 /* "address-address" */
#define MAC_TEXT_MAX	    18
#define ADDR_CHECKED	    __attribute__((warn_unused_result, nonnull(1, 2)))

int addr_parse(const char *text, struct addr *ret, struct err *err) ADDR_CHECKED;
/* "address/len"; without "/len" the whole address.  Host bits are kept. */
int prefix_parse(const char *text, struct prefix *ret, struct err *err) ADDR_CHECKED;
/* As prefix_parse(), but host bits must be zero; the error names the network meant. */
int prefix_parse_network(const char *text, struct prefix *ret, struct err *err) ADDR_CHECKED;
/* "first-last", a single address, or a network "address/len" (all of its addresses). */
int addr_range_parse(const char *text, struct addr_range *ret, struct err *err) ADDR_CHECKED;
/* "52:54:00:00:00:01" */
int mac_parse(const char *text, struct mac *ret, struct err *err) ADDR_CHECKED;

/* Text into `buf` of the size named above; they return it.  None prints as "none". */
char *addr_format(const struct addr *a, char *buf) __attribute__((nonnull));
char *prefix_format(const struct prefix *p, char *buf) __attribute__((nonnull));
char *addr_range_format(const struct addr_range *r, char *buf) __attribute__((nonnull));
char *mac_format(const struct mac *m, char *buf) __attribute__((nonnull));

struct addr addr_from_v4(uint32_t host_order);
struct addr addr_from_bytes(uint8_t family, const void *bytes); /* family 4 or 6 */
uint32_t addr_to_v4(const struct addr *a);			/* host order; asserts family 4 */
unsigned addr_bits(const struct addr *a);			/* 32, 128; 0 for none */
/* Order: none, v4, v6, then numerically.  Returns <0, 0, >0. */
int addr_compare(const struct addr *a, const struct addr *b) __attribute__((nonnull));
bool addr_equal(const struct addr *a, const struct addr *b) __attribute__((nonnull));
/* The next address; false (and *ret untouched) behind the last one of the family. */
bool addr_next(const struct addr *a, struct addr *ret) __attribute__((nonnull));
bool addr_is_multicast(const struct addr *a);
bool addr_is_loopback(const struct addr *a);
bool addr_is_link_local(const struct addr *a);
bool addr_is_unspecified(const struct addr *a); /* 0.0.0.0, :: */

struct prefix prefix_network(const struct prefix *p);	/* host bits cleared */
struct addr prefix_last(const struct prefix *p);	/* host bits set */
struct addr_range prefix_range(const struct prefix *p); /* all its addresses */
bool prefix_contains(const struct prefix *p, const struct addr *a);
bool prefix_contains_prefix(const struct prefix *outer, const struct prefix *inner);
bool prefix_overlaps(const struct prefix *a, const struct prefix *b);
int prefix_compare(const struct prefix *a, const struct prefix *b); /* by network, then length */

bool addr_range_contains(const struct addr_range *r, const struct addr *a);
bool addr_range_overlaps(const struct addr_range *a, const struct addr_range *b);
/* Number of addresses, UINT64_MAX when it does not fit. */
uint64_t addr_range_count(const struct addr_range *r);

int mac_compare(const struct mac *a, const struct mac *b);
bool mac_is_unicast(const struct mac *m); /* not group, not all zero */

#undef ADDR_CHECKED
#endif
