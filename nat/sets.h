/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The sets of the ruleset: their types, and how a key is put together.  Internal to nat/.
 */
#ifndef NAT_SETS_H
#define NAT_SETS_H

#include "nat/nat.h"

/* Fields of a concatenation; each takes a multiple of four bytes. */
enum nat_field {
	NAT_FIELD_END,
	NAT_FIELD_PROTO,   /* 1 byte */
	NAT_FIELD_PORT,	   /* 2, network order */
	NAT_FIELD_IP4,	   /* 4 */
	NAT_FIELD_IP6,	   /* 16 */
	NAT_FIELD_IFNAME,  /* 16, NUL-padded */
	NAT_FIELD_ETHER,   /* 6 */
	NAT_FIELD_NFPROTO, /* 1 */
	NAT_FIELD_VERDICT, /* data only */
	NAT_FIELD_COUNT,
};

enum nat_family {
	NAT_FAMILY_INET,
	NAT_FAMILY_BRIDGE,
	NAT_FAMILY_COUNT,
};

#define NAT_FIELDS_MAX 4

struct nat_set_info {
	const char *name;
	enum nat_family family;
	bool interval;	    /* keys are ranges (pipapo) */
	bool data_interval; /* data is a range, "first-last" */
	enum nat_field key[NAT_FIELDS_MAX], data[NAT_FIELDS_MAX]; /* data: END first: a set */
};

extern const struct nat_set_info nat_set_info[NAT_SET_COUNT];

struct nat_field_info {
	const char *type_name; /* in nft text */
	uint32_t type_id;      /* nft's number of the data type, for `nft list` */
	uint8_t len_bytes;     /* without padding */
};

extern const struct nat_field_info nat_field_info[NAT_FIELD_COUNT];

bool nat_set_is_map(enum nat_set_id set);
bool nat_set_is_vmap(enum nat_set_id set);
/* Lengths with padding; of a lone field without. */
size_t nat_key_len(enum nat_set_id set);
size_t nat_data_len(enum nat_set_id set);

/* nft's type number of a concatenation. */
uint32_t nat_fields_type(const enum nat_field *fields);

/* A key or data under construction: append fields in the order of the set. */
struct nat_bytes {
	uint8_t *p;
	size_t used, size;
};
void nat_put(struct nat_bytes *b, const void *bytes, size_t len);
void nat_put_u8(struct nat_bytes *b, uint8_t v);
void nat_put_port(struct nat_bytes *b, uint16_t port);
void nat_put_addr(struct nat_bytes *b, const struct addr *a);
void nat_put_ifname(struct nat_bytes *b, const char *name);

/* Append a zeroed element; NULL without memory. */
struct nat_elem *nat_elems_add(struct nat_elems *l);
/* By key.  Two elements with the same key: the index of the second in *ret_dup, -EEXIST. */
int nat_elems_sort(struct nat_elems *l, size_t *ret_dup);
int nat_elem_compare_key(const struct nat_elem *a, const struct nat_elem *b);
bool nat_elem_equal(const struct nat_elem *a, const struct nat_elem *b);

#endif
