/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Endpoints as text, and names asked for without waiting. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "common/daemon/loop.h"
#include "netd/endpoint.h"

static void texts(void **state)
{
	static const char *const good[] = { "192.0.2.7:51820", "[2001:db8::7]:1" };
	static const char *const names[] = { "hostb.example:51820", "localhost:65535", "a_b-c.de:9",
					     "host.example.:7" };
	static const char *const bad[] = {
		"",	     ":",	 "hostb",     "hostb:",	     "hostb:0",	  "hostb:65536",
		"hostb:x",   ":51820",	 "[::1]",     "[::1]:",	     "::1:51820", "[]:5",
		"[a.b]:5",   "a b:5",	 "a..b:5",    ".a:5",	     "300.1.2.3:5", "1.2.3:4",
		"[1.2.3]:4", "a/b:5",	 "[::1:5",    "a:b:5",	     "\x01:5",	  "a:-5",
	};
	char text[ENDPOINT_TEXT_MAX], longer[400];
	union endpoint_addr a;
	struct endpoint e;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		assert_int_equal(endpoint_parse(good[i], &e, NULL), 0);
		assert_int_equal(endpoint_numeric(&e, &a), 0);
		assert_string_equal(endpoint_format(&a, text), good[i]);
		assert_true(endpoint_addr_equal(&a, &a));
	}
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		assert_int_equal(endpoint_parse(names[i], &e, NULL), 0);
		assert_int_equal(endpoint_numeric(&e, &a), -EAGAIN);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		if (endpoint_parse(bad[i], &e, NULL) != -EINVAL)
			fail_msg("\"%s\" was taken", bad[i]);
	memset(longer, 'a', sizeof(longer));
	strcpy(longer + sizeof(longer) - 4, ":51");
	assert_int_equal(endpoint_parse(longer, &e, NULL), -EINVAL);
}

struct asked {
	struct loop *loop;
	int good, bad, left;
};

static void on_answer(void *ctx, const char *text, const union endpoint_addr *addrs, size_t count,
		      const char *why)
{
	struct asked *a = ctx;

	if (strcmp(text, "localhost:77") == 0) {
		assert_true(count >= 1);
		assert_int_equal(addrs[0].sa.sa_family == AF_INET ? addrs[0].v4.sin_port
								  : addrs[0].v6.sin6_port,
				 htons(77));
		a->good++;
	} else {
		assert_int_equal(count, 0);
		assert_true(why[0] != '\0');
		a->bad++;
	}
	if (--a->left == 0)
		loop_quit(a->loop, 0);
}

static void names(void **state)
{
	const struct loop_hooks hooks = { 0 };
	struct asked a = { .left = 2 };
	struct resolver *r, *gone;

	(void)state;
	assert_int_equal(loop_new(&a.loop, &hooks, NULL), 0);
	assert_int_equal(resolver_new(a.loop, on_answer, &a, &r), 0);
	assert_int_equal(resolver_new(a.loop, on_answer, &a, &gone), 0);
	assert_int_equal(resolver_ask(gone, "localhost:78"), 0);
	resolver_free(gone); /* its answer is nobody's */
	assert_int_equal(resolver_ask(r, "nobody.invalid:77"), 0);
	assert_int_equal(resolver_ask(r, "localhost:77"), 0);
	assert_int_equal(resolver_ask(r, "localhost:77"), 0); /* once */
	assert_int_equal(loop_run(a.loop), 0);
	assert_int_equal(a.good, 1);
	assert_int_equal(a.bad, 1);
	resolver_free(r);
	loop_free(a.loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(texts), cmocka_unit_test(names) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
