/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sets of VLAN ids: a bitmap of 4096, walked as runs because the kernel takes ranges (one message
 * for 2-4094).  Bits 0 and 4095 are never set by parsing.  Stateless, any thread.
 */
#include "vlan/vlan.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool vlan_vids_has(const struct vlan_vids *s, unsigned vid)
{
	return vid <= VLAN_VID_MAX && (s->bits[vid / 64] >> (vid % 64) & 1);
}

void vlan_vids_add(struct vlan_vids *s, unsigned first, unsigned last)
{
	assert(first >= 1 && first <= last && last <= VLAN_VID_MAX);
	for (unsigned v = first; v <= last; v++)
		s->bits[v / 64] |= UINT64_C(1) << (v % 64);
}

bool vlan_vids_empty(const struct vlan_vids *s)
{
	for (size_t i = 0; i < 64; i++)
		if (s->bits[i])
			return false;
	return true;
}

unsigned vlan_vids_count(const struct vlan_vids *s)
{
	unsigned n = 0;

	for (size_t i = 0; i < 64; i++)
		n += (unsigned)__builtin_popcountll(s->bits[i]);
	return n;
}

bool vlan_vids_next(const struct vlan_vids *s, unsigned from, unsigned *ret_first,
		    unsigned *ret_last)
{
	unsigned first = from;
	unsigned last;

	while (first <= VLAN_VID_MAX && !vlan_vids_has(s, first))
		first++;
	if (first > VLAN_VID_MAX)
		return false;
	for (last = first; vlan_vids_has(s, last + 1); last++)
		;
	*ret_first = first;
	*ret_last = last;
	return true;
}

/* One number; moves *p behind it.  -1 when there is none from 1 to 4094. */
static int parse_vid(const char **p)
{
	unsigned v = 0;
	const char *c = *p;

	if (!isdigit((unsigned char)*c))
		return -1;
	for (; isdigit((unsigned char)*c); c++) {
		v = v * 10 + (unsigned)(*c - '0');
		if (v > VLAN_VID_MAX)
			return -1;
	}
	*p = c;
	return v ? (int)v : -1;
}

static const char *skip_space(const char *p)
{
	while (*p == ' ' || *p == '\t')
		p++;
	return p;
}

int vlan_vids_parse(const char *text, struct vlan_vids *ret, struct err *err)
{
	struct vlan_vids s = { 0 };
	const char *p = text;

	for (;;) {
		int first, last;

		p = skip_space(p);
		first = last = parse_vid(&p);
		p = skip_space(p);
		if (first > 0 && *p == '-') {
			p = skip_space(p + 1);
			last = parse_vid(&p);
			p = skip_space(p);
		}
		if (first < 0 || last < first || (*p && *p != ','))
			break;
		vlan_vids_add(&s, (unsigned)first, (unsigned)last);
		if (!*p) {
			*ret = s;
			return 0;
		}
		p++;
	}
	return err_set(err, -EINVAL,
		       "found \"%.60s\", expected VLAN ids from 1 to 4094 like \"10,20,100-200\"",
		       text);
}

char *vlan_vids_format(const struct vlan_vids *s, char *buf, size_t size)
{
	unsigned first, last, from = 1;
	size_t used = 0;

	assert(size >= 4);
	buf[0] = '\0';
	while (vlan_vids_next(s, from, &first, &last)) {
		char run[16];
		int n;

		if (first == last)
			n = snprintf(run, sizeof(run), "%s%u", used ? "," : "", first);
		else
			n = snprintf(run, sizeof(run), "%s%u-%u", used ? "," : "", first, last);
		if (used + (size_t)n >= size) {
			strcpy(buf + (used + 4 > size ? size - 4 : used), "...");
			break;
		}
		memcpy(buf + used, run, (size_t)n + 1);
		used += (size_t)n;
		from = last + 1;
	}
	return buf;
}
