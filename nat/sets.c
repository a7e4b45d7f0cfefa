/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The sets of the ruleset.  One table says what each is made of; everything that builds, parses
 * or prints elements walks it.  In the kernel a concatenation is its fields in registers of four
 * bytes: each field starts on a multiple of four and unused bytes are zero, so elements compare
 * with memcmp().  A range element has two keys of that form, both inclusive, field by field.
 */
#include "nat/sets.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define F(x) NAT_FIELD_##x

const struct nat_set_info nat_set_info[NAT_SET_COUNT] = {
	[NAT_SET_FWD4] = { "fwd4", .key = { F(PROTO), F(IP4), F(PORT) },
			   .data = { F(IP4), F(PORT) } },
	[NAT_SET_FWD4_RANGE] = { "fwd4_range", .interval = true,
				 .key = { F(PROTO), F(IP4), F(PORT) }, .data = { F(IP4) } },
	[NAT_SET_FWD4_ANY] = { "fwd4_any", .key = { F(PROTO), F(PORT) },
			       .data = { F(IP4), F(PORT) } },
	[NAT_SET_FWD4_ANY_RANGE] = { "fwd4_any_range", .interval = true,
				     .key = { F(PROTO), F(PORT) }, .data = { F(IP4) } },
	[NAT_SET_FWD6] = { "fwd6", .key = { F(PROTO), F(IP6), F(PORT) },
			   .data = { F(IP6), F(PORT) } },
	[NAT_SET_FWD6_RANGE] = { "fwd6_range", .interval = true,
				 .key = { F(PROTO), F(IP6), F(PORT) }, .data = { F(IP6) } },
	[NAT_SET_FWD6_ANY] = { "fwd6_any", .key = { F(PROTO), F(PORT) },
			       .data = { F(IP6), F(PORT) } },
	[NAT_SET_FWD6_ANY_RANGE] = { "fwd6_any_range", .interval = true,
				     .key = { F(PROTO), F(PORT) }, .data = { F(IP6) } },
	[NAT_SET_GATEWAY4] = { "gateway4", .key = { F(IP4) } },
	[NAT_SET_GATEWAY6] = { "gateway6", .key = { F(IP6) } },
	[NAT_SET_SNAT4] = { "snat4", .data_interval = true, .key = { F(IFNAME), F(IFNAME) },
			    .data = { F(IP4) } },
	[NAT_SET_SNAT6] = { "snat6", .data_interval = true, .key = { F(IFNAME), F(IFNAME) },
			    .data = { F(IP6) } },
	[NAT_SET_MASQ_OUT] = { "masq_out", .key = { F(NFPROTO), F(IFNAME), F(IFNAME) } },
	[NAT_SET_MASQ] = { "masq", .key = { F(NFPROTO), F(IFNAME) } },
	[NAT_SET_VLANS] = { "vlans", .key = { F(IFNAME) } },
	[NAT_SET_HOST] = { "vlan_host", .key = { F(IFNAME) }, .data = { F(VERDICT) } },
	[NAT_SET_FROM] = { "vlan_out", .key = { F(IFNAME) }, .data = { F(VERDICT) } },
	[NAT_SET_TO] = { "vlan_in", .key = { F(IFNAME) }, .data = { F(VERDICT) } },
	[NAT_SET_SAME] = { "same_vlan", .key = { F(IFNAME), F(IFNAME) } },
	[NAT_SET_POLICY] = { "policy_pairs", .key = { F(IFNAME), F(IFNAME) } },
	[NAT_SET_SERVICES] = { "services", .key = { F(PROTO), F(PORT) } },
	[NAT_SET_MOVING] = { "moving_ports", NAT_FAMILY_BRIDGE, .key = { F(IFNAME) } },
	[NAT_SET_GUESTS] = { "guest_ports", NAT_FAMILY_BRIDGE, .key = { F(IFNAME) } },
	[NAT_SET_ACCESS] = { "access_ports", NAT_FAMILY_BRIDGE, .key = { F(IFNAME) } },
	[NAT_SET_MAC_PORTS] = { "mac_ports", NAT_FAMILY_BRIDGE, .key = { F(IFNAME) } },
	[NAT_SET_MACS] = { "macs", NAT_FAMILY_BRIDGE, .key = { F(IFNAME), F(ETHER) } },
	[NAT_SET_IP4_PORTS] = { "ip4_ports", NAT_FAMILY_BRIDGE, .key = { F(IFNAME) } },
	[NAT_SET_IP4S] = { "ip4s", NAT_FAMILY_BRIDGE, .key = { F(IFNAME), F(IP4) } },
	[NAT_SET_IP6_PORTS] = { "ip6_ports", NAT_FAMILY_BRIDGE, .key = { F(IFNAME) } },
	[NAT_SET_IP6S] = { "ip6s", NAT_FAMILY_BRIDGE, .key = { F(IFNAME), F(IP6) } },
};

/* Type numbers: nft's enum datatypes (include/datatype.h), stable because they are in userdata. */
const struct nat_field_info nat_field_info[NAT_FIELD_COUNT] = {
	[NAT_FIELD_PROTO] = { "inet_proto", 12, 1 },
	[NAT_FIELD_PORT] = { "inet_service", 13, 2 },
	[NAT_FIELD_IP4] = { "ipv4_addr", 7, 4 },
	[NAT_FIELD_IP6] = { "ipv6_addr", 8, 16 },
	[NAT_FIELD_IFNAME] = { "ifname", 41, 16 },
	[NAT_FIELD_ETHER] = { "ether_addr", 9, 6 },
	[NAT_FIELD_NFPROTO] = { "nf_proto", 2, 1 },
	[NAT_FIELD_VERDICT] = { "verdict", 0xffffff00, 0 },
};

const char *nat_set_name(enum nat_set_id set)
{
	return nat_set_info[set].name;
}

bool nat_set_is_map(enum nat_set_id set)
{
	return nat_set_info[set].data[0] != NAT_FIELD_END;
}

bool nat_set_is_vmap(enum nat_set_id set)
{
	return nat_set_info[set].data[0] == NAT_FIELD_VERDICT;
}

static size_t fields_len(const enum nat_field *fields)
{
	size_t len = 0;

	if (fields[0] != NAT_FIELD_END && fields[1] == NAT_FIELD_END)
		return nat_field_info[fields[0]].len_bytes;
	for (size_t i = 0; i < NAT_FIELDS_MAX && fields[i] != NAT_FIELD_END; i++)
		len += (nat_field_info[fields[i]].len_bytes + 3u) & ~3u;
	return len;
}

size_t nat_key_len(enum nat_set_id set)
{
	return fields_len(nat_set_info[set].key);
}

size_t nat_data_len(enum nat_set_id set)
{
	return fields_len(nat_set_info[set].data) * (nat_set_info[set].data_interval ? 2 : 1);
}

uint32_t nat_fields_type(const enum nat_field *fields)
{
	uint32_t type = 0;

	if (fields[0] == NAT_FIELD_VERDICT)
		return nat_field_info[NAT_FIELD_VERDICT].type_id;
	for (size_t i = 0; i < NAT_FIELDS_MAX && fields[i] != NAT_FIELD_END; i++)
		type = type << 6 | nat_field_info[fields[i]].type_id; /* nft's TYPE_BITS */
	return type;
}

void nat_put(struct nat_bytes *b, const void *bytes, size_t len)
{
	assert(b->used + len <= b->size);
	memcpy(b->p + b->used, bytes, len);
	b->used += (len + 3) & ~(size_t)3;
}

void nat_put_u8(struct nat_bytes *b, uint8_t v)
{
	nat_put(b, &v, 1);
}

void nat_put_port(struct nat_bytes *b, uint16_t port)
{
	uint16_t be = htons(port);

	nat_put(b, &be, 2);
}

void nat_put_addr(struct nat_bytes *b, const struct addr *a)
{
	assert(a->family == 4 || a->family == 6);
	nat_put(b, a->b, a->family == 4 ? 4 : 16);
}

void nat_put_ifname(struct nat_bytes *b, const char *name)
{
	char padded[NAT_NAME_MAX] = { 0 };

	assert(strlen(name) < NAT_NAME_MAX);
	memcpy(padded, name, strlen(name));
	nat_put(b, padded, sizeof(padded));
}

struct nat_elem *nat_elems_add(struct nat_elems *l)
{
	if (l->count == l->capacity) {
		size_t capacity = l->capacity ? l->capacity * 2 : 8;
		struct nat_elem *e = reallocarray(l->e, capacity, sizeof(*e));

		if (!e)
			return NULL;
		l->e = e;
		l->capacity = capacity;
	}
	memset(&l->e[l->count], 0, sizeof(l->e[0]));
	return &l->e[l->count++];
}

int nat_elem_compare_key(const struct nat_elem *a, const struct nat_elem *b)
{
	return memcmp(a->key, b->key, sizeof(a->key));
}

bool nat_elem_equal(const struct nat_elem *a, const struct nat_elem *b)
{
	return a->verdict == b->verdict && !memcmp(a->key, b->key, sizeof(a->key)) &&
	       !memcmp(a->key_end, b->key_end, sizeof(a->key_end)) &&
	       !memcmp(a->data, b->data, sizeof(a->data));
}

static int compare_keys(const void *a, const void *b)
{
	return nat_elem_compare_key(a, b);
}

int nat_elems_sort(struct nat_elems *l, size_t *ret_dup)
{
	if (l->count)
		qsort(l->e, l->count, sizeof(l->e[0]), compare_keys);
	for (size_t i = 1; i < l->count; i++) {
		if (!nat_elem_compare_key(&l->e[i - 1], &l->e[i])) {
			*ret_dup = i;
			return -EEXIST;
		}
	}
	return 0;
}

void nat_state_clear(struct nat_state *s)
{
	for (size_t i = 0; i < NAT_SET_COUNT; i++)
		free(s->sets[i].e);
	free(s->scratch);
	memset(s, 0, sizeof(*s));
}
