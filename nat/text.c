/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * States and elements as nft text, for people, golden files and the test that loads it with nft.
 * Everything printed comes from the same tables as the messages.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <linux/netfilter.h>
#include <string.h>

#include "nat/rules.h"
#include "nat/sets.h"

static const char *const family_names[NAT_FAMILY_COUNT] = {
	[NAT_FAMILY_INET] = "inet",
	[NAT_FAMILY_BRIDGE] = "bridge",
};

/* A text that is cut rather than overrun. */
struct text {
	char *p;
	size_t used, size;
};

static void __attribute__((format(printf, 2, 3))) put(struct text *t, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(t->p + t->used, t->size - t->used, fmt, ap);
	va_end(ap);
	if (n > 0)
		t->used += (size_t)n < t->size - t->used ? (size_t)n : t->size - t->used - 1;
}

static void put_proto(struct text *t, uint8_t proto)
{
	switch (proto) {
	case IPPROTO_TCP:
		put(t, "tcp");
		return;
	case IPPROTO_UDP:
		put(t, "udp");
		return;
	default:
		put(t, "%u", proto);
	}
}

static void put_address(struct text *t, uint8_t family, const uint8_t *p)
{
	struct addr a = addr_from_bytes(family, p);
	char text[ADDR_TEXT_MAX];

	put(t, "%s", addr_format(&a, text));
}

/* A name from a dump may hold anything: only what an interface name should have is shown as is. */
static void put_name(struct text *t, const uint8_t *p)
{
	put(t, "\"");
	for (size_t i = 0; i < NAT_NAME_MAX && p[i]; i++)
		put(t, "%c", p[i] > ' ' && p[i] < 0x7f && p[i] != '"' ? p[i] : '?');
	put(t, "\"");
}

static void put_field(struct text *t, enum nat_field f, const uint8_t *p)
{
	struct mac m;
	char text[MAC_TEXT_MAX];

	switch (f) {
	case NAT_FIELD_PROTO:
		put_proto(t, p[0]);
		break;
	case NAT_FIELD_PORT:
		put(t, "%u", p[0] << 8 | p[1]);
		break;
	case NAT_FIELD_IP4:
		put_address(t, 4, p);
		break;
	case NAT_FIELD_IP6:
		put_address(t, 6, p);
		break;
	case NAT_FIELD_IFNAME:
		put_name(t, p);
		break;
	case NAT_FIELD_ETHER:
		memcpy(m.b, p, sizeof(m.b));
		put(t, "%s", mac_format(&m, text));
		break;
	case NAT_FIELD_NFPROTO:
		put(t, "%s", p[0] == NFPROTO_IPV4 ? "ipv4" : p[0] == NFPROTO_IPV6 ? "ipv6" : "?");
		break;
	case NAT_FIELD_END:
	case NAT_FIELD_VERDICT:
	case NAT_FIELD_COUNT:
		break;
	}
}

/*
 * Fields joined by " . "; with `end` each as first-last where they differ, or (`always`, because
 * nft takes no single address for a range in a map's data) in any case.
 */
static void put_fields(struct text *t, const enum nat_field *fields, const uint8_t *p,
		       const uint8_t *end, bool always)
{
	for (size_t i = 0; i < NAT_FIELDS_MAX && fields[i] != NAT_FIELD_END; i++) {
		size_t len = nat_field_info[fields[i]].len_bytes;

		if (i)
			put(t, " . ");
		put_field(t, fields[i], p);
		if (end && (always || memcmp(p, end, len))) {
			put(t, "-");
			put_field(t, fields[i], end);
		}
		p += (len + 3) & ~(size_t)3;
		if (end)
			end += (len + 3) & ~(size_t)3;
	}
}

static const char *verdict_text(enum nat_verdict v)
{
	switch (v) {
	case NAT_VERDICT_ACCEPT:
		return "accept";
	case NAT_VERDICT_DROP:
		return "drop";
	case NAT_VERDICT_SERVICES:
		return "jump services";
	case NAT_VERDICT_OUTSIDE:
		return "jump outside";
	case NAT_VERDICT_NONE:
	case NAT_VERDICT_OTHER:
		break;
	}
	return "?";
}

char *nat_elem_format(enum nat_set_id set, const struct nat_elem *e, char *buf, size_t size)
{
	const struct nat_set_info *info = &nat_set_info[set];
	struct text t = { buf, 0, size };

	buf[0] = '\0';
	put_fields(&t, info->key, e->key, info->interval ? e->key_end : NULL, false);
	if (!nat_set_is_map(set))
		return buf;
	put(&t, " : ");
	if (nat_set_is_vmap(set)) {
		put(&t, "%s", verdict_text(e->verdict));
		return buf;
	}
	put_fields(&t, info->data, e->data,
		   info->data_interval ? e->data + nat_data_len(set) / 2 : NULL, true);
	return buf;
}

static void print_type(const enum nat_field *fields, FILE *f)
{
	for (size_t i = 0; i < NAT_FIELDS_MAX && fields[i] != NAT_FIELD_END; i++)
		fprintf(f, "%s%s", i ? " . " : "", nat_field_info[fields[i]].type_name);
}

static void print_set(const struct nat_state *s, enum nat_set_id id, FILE *f)
{
	const struct nat_set_info *set = &nat_set_info[id];
	const struct nat_elems *l = &s->sets[id];

	fprintf(f, "\t%s %s {\n\t\ttype ", nat_set_is_map(id) ? "map" : "set", set->name);
	print_type(set->key, f);
	if (nat_set_is_map(id)) {
		fputs(set->data_interval ? " : interval " : " : ", f);
		print_type(set->data, f);
	}
	fputs("\n", f);
	if (set->interval)
		fputs("\t\tflags interval\n", f);
	for (size_t i = 0; i < l->count; i++) {
		char text[256];

		fprintf(f, "%s%s%s", i ? "\t\t\t     " : "\t\telements = { ",
			nat_elem_format(id, &l->e[i], text, sizeof(text)),
			i + 1 < l->count ? ",\n" : " }\n");
	}
	fputs("\t}\n\n", f);
}

static void print_chain(enum nat_chain_id id, FILE *f)
{
	const struct nat_chain_info *chain = &nat_chain_info[id];

	fprintf(f, "\tchain %s {\n", chain->name);
	if (chain->type)
		fprintf(f, "\t\ttype %s hook %s priority %s; policy accept;\n", chain->type,
			chain->hook_text, chain->priority_text);
	for (size_t i = 0; i < nat_rule_count; i++) {
		if (nat_rules[i].chain != id)
			continue;
		if (nat_rules[i].text_new)
			fputs("\t\t# the next rule needs nft 1.0.8 to be written as text\n\t\t# ",
			      f);
		else
			fputs("\t\t", f);
		fprintf(f, "%s\n", nat_rules[i].text);
	}
	fputs("\t}\n\n", f);
}

/* Chains that are jumped to come first in the table: nft wants them defined. */
int nat_print(const struct nat_state *s, FILE *f)
{
	for (int family = 0; family < NAT_FAMILY_COUNT; family++) {
		fprintf(f, "table %s " NAT_TABLE " {\n", family_names[family]);
		for (int i = 0; i < NAT_CHAIN_COUNT; i++)
			if (!nat_chain_info[i].type && (int)nat_chain_info[i].family == family)
				fprintf(f, "\tchain %s {\n\t}\n", nat_chain_info[i].name);
		for (int i = 0; i < NAT_SET_COUNT; i++)
			if ((int)nat_set_info[i].family == family)
				print_set(s, (enum nat_set_id)i, f);
		for (int i = 0; i < NAT_CHAIN_COUNT; i++)
			if ((int)nat_chain_info[i].family == family)
				print_chain((enum nat_chain_id)i, f);
		fputs("}\n", f);
	}
	return ferror(f) ? -EIO : 0;
}
