/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Addresses, prefixes, ranges, MACs; and the byte cursor. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "common/base/addr.h"
#include "common/base/cursor.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static struct addr addr(const char *text)
{
	struct addr a;

	assert_int_equal(addr_parse(text, &a, NULL), 0);
	return a;
}

static struct prefix prefix(const char *text)
{
	struct prefix p;

	assert_int_equal(prefix_parse(text, &p, NULL), 0);
	return p;
}

static struct addr_range range(const char *text)
{
	struct addr_range r;

	assert_int_equal(addr_range_parse(text, &r, NULL), 0);
	return r;
}

static void test_addresses_print_as_read(void **state)
{
	static const char *const good[] = {
		"0.0.0.0", "255.255.255.255", "::", "::1", "fd00::1", "2001:db8::ff00:42:8329"
	};
	static const char *const bad[] = { "",	       "1.2.3",	   "1.2.3.4.5", "256.0.0.1",
					   "01.2.3.4", "1.2.3.4 ", "fd00:::1",	"fe80::1%eth0",
					   "x",	       "12345::" };
	char buf[ADDR_TEXT_MAX];
	struct addr a;

	for (size_t i = 0; i < COUNT(good); i++) {
		a = addr(good[i]);
		assert_string_equal(addr_format(&a, buf), good[i]);
	}
	for (size_t i = 0; i < COUNT(bad); i++)
		assert_int_equal(addr_parse(bad[i], &a, NULL), -EINVAL);
	a = (struct addr){ 0 };
	assert_string_equal(addr_format(&a, buf), "none");
}

static void test_prefixes(void **state)
{
	static const char *const bad[] = { "10.0.0.0/33",  "10.0.0.0/",	 "10.0.0.0/-1",
					   "10.0.0.0/8/8", "fd00::/129", "/24",
					   "10.0.0/8" };
	struct prefix p;
	struct err err;
	char buf[PREFIX_TEXT_MAX];

	for (size_t i = 0; i < COUNT(bad); i++)
		assert_int_equal(prefix_parse(bad[i], &p, NULL), -EINVAL);
	p = prefix("10.1.2.3/8");
	assert_string_equal(prefix_format(&p, buf), "10.1.2.3/8");
	p = prefix_network(&p);
	assert_string_equal(prefix_format(&p, buf), "10.0.0.0/8");
	p = prefix("10.1.2.3");
	assert_int_equal(p.len, 32);
	assert_int_equal(prefix_parse_network("fd00::1/64", &p, &err), -EINVAL);
	assert_string_equal(err.text, "found \"fd00::1/64\", expected a network; did you mean "
				      "\"fd00::/64\"?");
	assert_int_equal(prefix_parse_network("0.0.0.0/0", &p, &err), 0);
}

static void test_containment(void **state)
{
	static const struct {
		const char *outer, *inner;
		bool contains, overlaps;
	} cases[] = {
		{ "10.0.0.0/8", "10.1.0.0/16", true, true },
		{ "10.1.0.0/16", "10.0.0.0/8", false, true },
		{ "10.0.0.0/9", "10.128.0.0/9", false, false },
		{ "10.0.0.1/24", "10.0.0.200/24", true, true },
		{ "0.0.0.0/0", "203.0.113.7", true, true },
		{ "0.0.0.0/0", "::/0", false, false },
		{ "fd00::/64", "fd00::1:0:0:1", true, true },
		{ "fd00::/65", "fd00::8000:0:0:1", false, false },
		{ "::/0", "::ffff:10.0.0.1", true, true },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct prefix outer = prefix(cases[i].outer), inner = prefix(cases[i].inner);

		assert_int_equal(prefix_contains_prefix(&outer, &inner), cases[i].contains);
		assert_int_equal(prefix_overlaps(&outer, &inner), cases[i].overlaps);
		assert_int_equal(prefix_overlaps(&inner, &outer), cases[i].overlaps);
	}
}

static void test_ranges(void **state)
{
	static const struct {
		const char *text;
		uint64_t count;
	} good[] = {
		{ "10.0.0.1-10.0.0.1", 1 },
		{ "10.0.0.1", 1 },
		{ "10.0.0.255-10.0.1.0", 2 },
		{ "10.0.0.0/24", 256 },
		{ "0.0.0.0-255.255.255.255", 1ULL << 32 },
		{ "fd00::1-fd00::1:0", 65536 },
		{ "fd00::/65", 1ULL << 63 },
		{ "fd00::/63", UINT64_MAX },
		{ "fd00::/64", UINT64_MAX },
	};
	static const char *const bad[] = { "10.0.0.2-10.0.0.1", "10.0.0.1-",
					   "-10.0.0.1",		"10.0.0.1-fd00::1",
					   "10.0.0.1/24",	"10.0.0.1-10.0.0.2-10.0.0.3" };
	struct addr_range r, other = range("10.0.0.250-10.0.0.255");
	struct addr a = addr("10.0.0.255"), b = addr("10.0.1.1");
	char buf[ADDR_RANGE_TEXT_MAX];

	for (size_t i = 0; i < COUNT(good); i++) {
		r = range(good[i].text);
		assert_int_equal(addr_range_count(&r), good[i].count);
	}
	for (size_t i = 0; i < COUNT(bad); i++)
		assert_int_equal(addr_range_parse(bad[i], &r, NULL), -EINVAL);
	r = range("10.0.0.255-10.0.1.0");
	assert_string_equal(addr_range_format(&r, buf), "10.0.0.255-10.0.1.0");
	assert_true(addr_range_contains(&r, &a));
	assert_false(addr_range_contains(&r, &b));
	assert_true(addr_range_overlaps(&r, &other));
	other = range("10.0.1.1");
	assert_false(addr_range_overlaps(&r, &other));
	assert_string_equal(addr_range_format(&other, buf), "10.0.1.1");
}

static void test_next_and_kinds(void **state)
{
	struct addr a = addr("10.0.0.255"), next;
	char buf[ADDR_TEXT_MAX];

	assert_true(addr_next(&a, &next));
	assert_string_equal(addr_format(&next, buf), "10.0.1.0");
	a = addr("255.255.255.255");
	assert_false(addr_next(&a, &next));
	a = addr("fd00::ffff");
	assert_true(addr_next(&a, &next));
	assert_string_equal(addr_format(&next, buf), "fd00::1:0");
	a = addr("239.1.1.1");
	assert_true(addr_is_multicast(&a));
	a = addr("ff02::1");
	assert_true(addr_is_multicast(&a));
	a = addr("127.0.0.2");
	assert_true(addr_is_loopback(&a));
	a = addr("febf::1");
	assert_true(addr_is_link_local(&a));
	a = addr("fec0::1");
	assert_false(addr_is_link_local(&a));
	a = addr("::");
	assert_true(addr_is_unspecified(&a));
	assert_int_equal(addr_to_v4(&(struct addr){ 4, { 1, 2, 3, 4 } }), 0x01020304);
}

static void test_macs(void **state)
{
	static const char *const bad[] = { "",
					   "52:54:00:00:00",
					   "52:54:00:00:00:1",
					   "52:54:00:00:00:0g",
					   "52-54-00-00-00-01",
					   "52:54:00:00:00:01:",
					   "525400000001" };
	char buf[MAC_TEXT_MAX];
	struct mac m;

	assert_int_equal(mac_parse("52:54:00:Ab:cD:01", &m, NULL), 0);
	assert_string_equal(mac_format(&m, buf), "52:54:00:ab:cd:01");
	assert_true(mac_is_unicast(&m));
	for (size_t i = 0; i < COUNT(bad); i++)
		assert_int_equal(mac_parse(bad[i], &m, NULL), -EINVAL);
	assert_int_equal(mac_parse("ff:ff:ff:ff:ff:ff", &m, NULL), 0);
	assert_false(mac_is_unicast(&m));
	assert_int_equal(mac_parse("00:00:00:00:00:00", &m, NULL), 0);
	assert_false(mac_is_unicast(&m));
}

static void test_cursor(void **state)
{
	static const uint8_t bytes[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 'a', 'b', 'c', 0, 'd' };
	struct cursor c = cursor_over(bytes, sizeof(bytes)), sub;
	char text[4];

	assert_int_equal(cursor_u8(&c), 1);
	assert_int_equal(cursor_be16(&c), 0x0203);
	assert_int_equal(cursor_le32(&c), 0x07060504);
	sub = cursor_sub(&c, 3);
	assert_int_equal(cursor_be16(&sub), 0x0809);
	assert_int_equal(cursor_be16(&sub), 0); /* one byte is left */
	assert_false(cursor_ok(&sub));
	assert_int_equal(cursor_u8(&sub), 0); /* the error stays */
	assert_true(cursor_ok(&c));
	assert_true(cursor_string(&c, 3, text, sizeof(text)));
	assert_string_equal(text, "abc");
	assert_int_equal(cursor_left(&c), 2);
	assert_false(cursor_string(&c, 2, text, sizeof(text))); /* a NUL inside */
	assert_string_equal(text, "");
	assert_false(cursor_ok(&c));

	c = cursor_over(bytes, sizeof(bytes));
	assert_false(cursor_string(&c, 4, text, sizeof(text))); /* no room for the NUL */
	c = cursor_over(bytes, sizeof(bytes));
	assert_null(cursor_bytes(&c, SIZE_MAX));
	assert_int_equal(cursor_left(&c), 0);
	c = cursor_over(bytes, 8);
	assert_int_equal(cursor_le64(&c), 0x0807060504030201);
	assert_true(cursor_done(&c));
	c = cursor_over(bytes, 5);
	cursor_skip(&c, 1);
	cursor_align(&c, bytes, 4);
	assert_int_equal(cursor_u8(&c), 5);
	cursor_align(&c, bytes, 4);
	assert_true(cursor_done(&c));
	c = cursor_over(NULL, 0);
	assert_true(cursor_done(&c));
	assert_false(cursor_skip(&c, 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_addresses_print_as_read),
		cmocka_unit_test(test_prefixes),
		cmocka_unit_test(test_containment),
		cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_next_and_kinds),
		cmocka_unit_test(test_macs),
		cmocka_unit_test(test_cursor),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
