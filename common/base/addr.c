/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Addresses, prefixes, ranges; see addr.h.  Stateless, any thread. */
#include "common/base/addr.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/base/units.h"

static size_t addr_size(const struct addr *a)
{
	return a->family == 4 ? 4 : a->family == 6 ? 16 : 0;
}

static bool scan_addr(const char *text, struct addr *ret)
{
	struct addr a = { 0 };

	if (inet_pton(AF_INET, text, a.b) == 1) {
		a.family = 4;
	} else {
		memset(a.b, 0, sizeof(a.b));
		if (inet_pton(AF_INET6, text, a.b) != 1)
			return false;
		a.family = 6;
	}
	*ret = a;
	return true;
}

int addr_parse(const char *text, struct addr *ret, struct err *err)
{
	if (!scan_addr(text, ret))
		return err_set(err, -EINVAL,
			       "found \"%.64s\", expected an address such as 192.0.2.1 or fd00::1",
			       text);
	return 0;
}

/* Split `text` at `sep` and parse what is before it; *ret_rest is NULL when there is no `sep`. */
static bool scan_addr_before(const char *text, char sep, struct addr *ret, const char **ret_rest)
{
	const char *at = strchr(text, sep);
	char head[ADDR_TEXT_MAX];
	size_t len = at ? (size_t)(at - text) : strlen(text);

	if (len >= sizeof(head))
		return false;
	memcpy(head, text, len);
	head[len] = '\0';
	*ret_rest = at ? at + 1 : NULL;
	return scan_addr(head, ret);
}

int prefix_parse(const char *text, struct prefix *ret, struct err *err)
{
	struct prefix p = { 0 };
	const char *rest;
	uint64_t len;

	if (!scan_addr_before(text, '/', &p.addr, &rest))
		return err_set(
			err, -EINVAL,
			"found \"%.64s\", expected a prefix such as 192.0.2.0/24 or fd00::/64",
			text);
	len = addr_bits(&p.addr);
	if (rest && number_parse(rest, 0, len, "", &len, NULL))
		return err_set(
			err, -EINVAL,
			"found \"%.64s\", expected a prefix length from 0 to %u behind \"/\"", text,
			addr_bits(&p.addr));
	p.len = (uint8_t)len;
	*ret = p;
	return 0;
}

int prefix_parse_network(const char *text, struct prefix *ret, struct err *err)
{
	char buf[PREFIX_TEXT_MAX];
	struct prefix p, net;
	int r = prefix_parse(text, &p, err);

	if (r)
		return r;
	net = prefix_network(&p);
	if (!addr_equal(&net.addr, &p.addr))
		return err_set(err, -EINVAL,
			       "found \"%.64s\", expected a network; did you mean \"%s\"?", text,
			       prefix_format(&net, buf));
	*ret = p;
	return 0;
}

int addr_range_parse(const char *text, struct addr_range *ret, struct err *err)
{
	struct addr_range r;
	struct prefix p;
	const char *rest;
	int e;

	if (strchr(text, '/')) {
		e = prefix_parse_network(text, &p, err);
		if (!e)
			*ret = prefix_range(&p);
		return e;
	}
	if (!scan_addr_before(text, '-', &r.first, &rest) || (rest && !scan_addr(rest, &r.last)))
		return err_set(err, -EINVAL,
			       "found \"%.96s\", expected an address range such as "
			       "192.0.2.10-192.0.2.20",
			       text);
	if (!rest)
		r.last = r.first;
	if (r.first.family != r.last.family)
		return err_set(err, -EINVAL,
			       "found \"%.96s\", expected two addresses of one family", text);
	if (addr_compare(&r.first, &r.last) > 0)
		return err_set(err, -EINVAL, "found \"%.96s\", expected the lower address first",
			       text);
	*ret = r;
	return 0;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int mac_parse(const char *text, struct mac *ret, struct err *err)
{
	const char *p = text;
	struct mac m;

	for (int i = 0; i < 6; i++, p += 3) {
		int hi = hex_digit(p[0]), lo = hi < 0 ? -1 : hex_digit(p[1]);

		if (lo < 0 || p[2] != (i < 5 ? ':' : '\0'))
			return err_set(err, -EINVAL,
				       "found \"%.64s\", expected a MAC address such as "
				       "52:54:00:12:34:56",
				       text);
		m.b[i] = (uint8_t)(hi << 4 | lo);
	}
	*ret = m;
	return 0;
}

char *addr_format(const struct addr *a, char *buf)
{
	if (!a->family || !inet_ntop(a->family == 4 ? AF_INET : AF_INET6, a->b, buf, ADDR_TEXT_MAX))
		strcpy(buf, "none");
	return buf;
}

char *prefix_format(const struct prefix *p, char *buf)
{
	addr_format(&p->addr, buf);
	sprintf(buf + strlen(buf), "/%u", p->len);
	return buf;
}

char *addr_range_format(const struct addr_range *r, char *buf)
{
	addr_format(&r->first, buf);
	if (!addr_equal(&r->first, &r->last)) {
		size_t len = strlen(buf);

		buf[len] = '-';
		addr_format(&r->last, buf + len + 1);
	}
	return buf;
}

char *mac_format(const struct mac *m, char *buf)
{
	snprintf(buf, MAC_TEXT_MAX, "%02x:%02x:%02x:%02x:%02x:%02x", m->b[0], m->b[1], m->b[2],
		 m->b[3], m->b[4], m->b[5]);
	return buf;
}

struct addr addr_from_v4(uint32_t host_order)
{
	uint32_t wire = htonl(host_order);

	return addr_from_bytes(4, &wire);
}

struct addr addr_from_bytes(uint8_t family, const void *bytes)
{
	struct addr a = { .family = family };

	assert(family == 4 || family == 6);
	memcpy(a.b, bytes, addr_size(&a));
	return a;
}

uint32_t addr_to_v4(const struct addr *a)
{
	uint32_t wire;

	assert(a->family == 4);
	memcpy(&wire, a->b, 4);
	return ntohl(wire);
}

unsigned addr_bits(const struct addr *a)
{
	return (unsigned)addr_size(a) * 8;
}

int addr_compare(const struct addr *a, const struct addr *b)
{
	if (a->family != b->family)
		return a->family < b->family ? -1 : 1;
	return memcmp(a->b, b->b, sizeof(a->b));
}

bool addr_equal(const struct addr *a, const struct addr *b)
{
	return addr_compare(a, b) == 0;
}

bool addr_next(const struct addr *a, struct addr *ret)
{
	struct addr n = *a;

	for (size_t i = addr_size(a); i-- > 0;)
		if (++n.b[i]) {
			*ret = n;
			return true;
		}
	return false;
}

bool addr_is_multicast(const struct addr *a)
{
	return a->family == 4 ? a->b[0] >> 4 == 0xe : a->family == 6 && a->b[0] == 0xff;
}

bool addr_is_loopback(const struct addr *a)
{
	static const uint8_t one[16] = { [15] = 1 };

	return a->family == 4 ? a->b[0] == 127 : a->family == 6 && !memcmp(a->b, one, 16);
}

bool addr_is_link_local(const struct addr *a)
{
	if (a->family == 4)
		return a->b[0] == 169 && a->b[1] == 254;
	return a->family == 6 && a->b[0] == 0xfe && (a->b[1] & 0xc0) == 0x80;
}

bool addr_is_unspecified(const struct addr *a)
{
	static const uint8_t zero[16];

	return a->family && !memcmp(a->b, zero, 16);
}

/* Clear (or set) the bits behind the first `len`. */
static struct addr addr_fill_host(const struct addr *a, unsigned len, bool set)
{
	struct addr r = *a;

	for (unsigned i = 0; i < addr_size(a); i++) {
		unsigned net =
			len > i * 8 ? len - i * 8 : 0; /* network bits in this byte, capped */
		uint8_t host = net >= 8 ? 0 : (uint8_t)(0xff >> net);

		r.b[i] = set ? r.b[i] | host : r.b[i] & (uint8_t)~host;
	}
	return r;
}

struct prefix prefix_network(const struct prefix *p)
{
	return (struct prefix){ addr_fill_host(&p->addr, p->len, false), p->len };
}

struct addr prefix_last(const struct prefix *p)
{
	return addr_fill_host(&p->addr, p->len, true);
}

struct addr_range prefix_range(const struct prefix *p)
{
	return (struct addr_range){ prefix_network(p).addr, prefix_last(p) };
}

bool prefix_contains(const struct prefix *p, const struct addr *a)
{
	struct addr want, got;

	if (!a->family || p->addr.family != a->family)
		return false;
	want = addr_fill_host(&p->addr, p->len, false);
	got = addr_fill_host(a, p->len, false);
	return addr_equal(&want, &got);
}

bool prefix_contains_prefix(const struct prefix *outer, const struct prefix *inner)
{
	return outer->len <= inner->len && prefix_contains(outer, &inner->addr);
}

bool prefix_overlaps(const struct prefix *a, const struct prefix *b)
{
	return a->len <= b->len ? prefix_contains(a, &b->addr) : prefix_contains(b, &a->addr);
}

int prefix_compare(const struct prefix *a, const struct prefix *b)
{
	struct prefix na = prefix_network(a), nb = prefix_network(b);
	int c = addr_compare(&na.addr, &nb.addr);

	return c ? c : (int)a->len - (int)b->len;
}

bool addr_range_contains(const struct addr_range *r, const struct addr *a)
{
	return a->family == r->first.family && addr_compare(&r->first, a) <= 0 &&
	       addr_compare(a, &r->last) <= 0;
}

bool addr_range_overlaps(const struct addr_range *a, const struct addr_range *b)
{
	return a->first.family == b->first.family && addr_compare(&a->first, &b->last) <= 0 &&
	       addr_compare(&b->first, &a->last) <= 0;
}

uint64_t addr_range_count(const struct addr_range *r)
{
	size_t size = addr_size(&r->first);
	unsigned borrow = 0;
	uint64_t low = 0;
	bool high = false;

	for (size_t i = size; i-- > 0;) { /* schoolbook subtraction, lowest byte first */
		int d = (int)r->last.b[i] - (int)r->first.b[i] - (int)borrow;
		size_t place = size - 1 - i;

		borrow = d < 0;
		d &= 0xff;
		if (place < 8)
			low |= (uint64_t)d << (8 * place);
		else if (d)
			high = true;
	}
	return high || low == UINT64_MAX ? UINT64_MAX : low + 1;
}

int mac_compare(const struct mac *a, const struct mac *b)
{
	return memcmp(a->b, b->b, sizeof(a->b));
}

bool mac_is_unicast(const struct mac *m)
{
	static const struct mac zero;

	return !(m->b[0] & 1) && mac_compare(m, &zero);
}
