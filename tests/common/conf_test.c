/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The config parser: typed values, the tree, printing that parses again, changing, includes,
 * errors.  Exact error sentences are golden files: see conf_golden_test.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tests/common/conf_schema.h"

static struct conf *read_text(const char *text)
{
	struct conf *c = conf_new(&schema_root);

	assert_non_null(c);
	conf_read_text(c, "t", text, strlen(text));
	conf_finish(c);
	return c;
}

/* The n-th error, or "" */
static const char *error_of(struct conf *c, size_t n)
{
	const char *text = conf_error_text(c, n);

	return text ? text : "";
}

static void test_every_type(void **state)
{
	struct conf *c = read_text(
		"comment = \"a \\\"b\\\" \\\\ \xc3\xa4\"\n"
		"pool main { path = /dev/vda size = 64G cache=8K create = yes even = 4 }\n"
		"vlan 010 { name = web address = { 10.0.0.1/24, \"fd00::1/64\", }\n"
		"  dhcp = 10.0.0.5-10.0.0.9 mac = 52:54:00:00:00:01 nat = on timeout = 1m30s\n"
		"  dns { server = 10.0.0.53 ttl = 5s } }\n"
		"forward \"ssh\" { proto = udp listen = 8000-8010 to = \"[fd00::2]:22\"\n"
		"  trunk = \"1,20,100-200\" }");
	struct conf_section *pool, *vlan, *forward, *dns;
	const struct conf_value *v;

	assert_string_equal(error_of(c, 0), "");
	assert_string_equal(conf_text(conf_root(c), "comment"), "a \"b\" \\ \xc3\xa4");
	assert_string_equal(conf_text(conf_root(c), "control"), "/run/x.sock");
	assert_false(conf_is_set(conf_root(c), "control"));

	pool = conf_section_find(c, conf_root(c), "pool", "main");
	assert_non_null(pool);
	assert_int_equal(conf_number(pool, "size"), 64ULL << 30);
	assert_int_equal(conf_number(pool, "cache"), 8192);
	assert_true(conf_flag(pool, "create"));
	assert_int_equal(conf_pos_of(pool, "size")->line, 2);

	vlan = conf_section_find(c, conf_root(c), "vlan", "10");
	assert_non_null(vlan);
	assert_int_equal(vlan->number, 10);
	assert_int_equal(conf_entry(vlan, "address")->count, 2);
	v = &conf_entry(vlan, "address")->values[1];
	assert_int_equal(v->prefix.addr.family, 6);
	assert_int_equal(v->prefix.len, 64);
	assert_int_equal(addr_range_count(&conf_value(vlan, "dhcp")->addr_range), 5);
	assert_int_equal(conf_value(vlan, "mac")->mac.b[5], 1);
	assert_int_equal(conf_number(vlan, "timeout"), 90000);
	assert_int_equal(conf_entry(vlan, "deny")->count, 2);
	assert_true(conf_entry(vlan, "deny")->is_preset);
	dns = conf_section_find(c, vlan, "dns", "");
	assert_non_null(dns);
	assert_int_equal(conf_entry(dns, "server")->count, 1);
	assert_int_equal(conf_number(dns, "ttl"), 5000);

	forward = conf_section_first(conf_root(c), "forward");
	assert_int_equal(conf_number(forward, "proto"), 1);
	assert_int_equal(conf_value(forward, "listen")->range.last, 8010);
	assert_int_equal(conf_value(forward, "to")->endpoint.ports.first, 22);
	assert_int_equal(conf_value(forward, "trunk")->ranges.count, 3);
	assert_int_equal(conf_value(forward, "trunk")->ranges.items[2].last, 200);
	assert_null(conf_section_next(forward, "forward"));
	/* A required section without title is made with its defaults. */
	assert_int_equal(conf_number(conf_section_first(conf_root(c), "log"), "mode"), 0600);
	conf_free(c);
}

/* Print, parse what was printed, print again: the texts must be the same. */
static void check_print(struct conf *c, unsigned flags)
{
	char *first = NULL, *second = NULL;
	size_t first_len, second_len;
	struct conf *again;
	FILE *f = open_memstream(&first, &first_len);

	assert_int_equal(conf_print(c, f, flags), 0);
	fclose(f);
	again = conf_new(&schema_root);
	conf_read_text(again, "again", first, first_len);
	assert_int_equal(conf_finish(again), 0);
	f = open_memstream(&second, &second_len);
	conf_print(again, f, CONF_PRINT_PRESETS & flags);
	fclose(f);
	if (!(flags & CONF_PRINT_ORIGIN))
		assert_string_equal(first, second);
	conf_free(again);
	free(first);
	free(second);
}

static void test_print_parses_again(void **state)
{
	struct conf *c = read_text("control = \"/a b\\\\c\\\"\"\n"
				   "pool \"x \\\" y\" { path = /p }\n"
				   "vlan 7 { address = { } deny = 10.0.0.0/8 dns { } }\n"
				   "vlan 8 { nat = no }\n"
				   "forward f { listen = 1 trunk = 5 }");

	assert_int_equal(conf_error_count(c), 0);
	check_print(c, CONF_PRINT_SET);
	check_print(c, CONF_PRINT_PRESETS);
	check_print(c, CONF_PRINT_PRESETS | CONF_PRINT_ORIGIN);
	conf_free(c);
}

static void test_change_and_save(void **state)
{
	static const char *const two[] = { "10.0.0.1/24", "10.0.1.1/24" };
	static const char *const bad[] = { "10.0.0.1/33" }, *const evil[] = { "a\nb" };
	struct conf_pos own = { .file = "own" };
	struct conf *c = read_text("vlan 1 { nat = true }\nvlan 2 { }\n"), *again;
	struct conf_section *s, *same;
	char path[] = "/tmp/ashlar-conf.XXXXXX";
	struct err err = { 0 };
	struct stat st;
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(conf_section_put(c, conf_root(c), "vlan", "3", &own, &s, &err), 0);
	assert_int_equal(conf_section_put(c, conf_root(c), "vlan", "03", &own, &same, &err), 0);
	assert_ptr_equal(s, same);
	assert_int_equal(conf_section_put(c, conf_root(c), "vlan", "4095", &own, &same, &err),
			 -ERANGE);
	assert_string_equal(err.text, "found \"4095\", expected a number from 1 to 4094");
	assert_int_equal(conf_entry_set(c, s, "address", two, 2, &err), 0);
	assert_int_equal(conf_entry_set(c, s, "address", bad, 1, &err), -EINVAL);
	assert_string_equal(err.text, "address: found \"10.0.0.1/33\", expected a prefix length "
				      "from 0 to 32 behind \"/\"");
	assert_int_equal(conf_entry_set(c, s, "name", evil, 1, &err), -EINVAL);
	assert_int_equal(conf_entry_set(c, s, "name", two, 2, &err), -EINVAL);
	assert_int_equal(conf_entry(s, "address")->count, 2);
	conf_section_remove(c, conf_section_find(c, conf_root(c), "vlan", "2"));
	assert_null(conf_section_find(c, conf_root(c), "vlan", "2"));

	assert_int_equal(conf_save(c, "own", path, &err), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	again = conf_new(&schema_root);
	assert_int_equal(conf_read_file(again, path), 0);
	s = conf_section_first(conf_root(again), NULL);
	assert_int_equal(s->number, 3); /* vlan 1 is from another file */
	assert_null(conf_section_next(s, NULL));
	assert_int_equal(conf_entry(s, "address")->count, 2);
	assert_int_equal(conf_save(c, NULL, "/nonexistent/x", &err), -ENOENT);
	unlink(path);
	conf_free(again);
	conf_free(c);
}

static char *printed(struct conf *c)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	assert_int_equal(conf_print(c, f, CONF_PRINT_SET), 0);
	fclose(f);
	return text;
}

/* The titles of all VLANs, as the list of one kind has them. */
static void check_vlans(struct conf *c, const char *expected)
{
	char titles[64] = "";

	for (struct conf_section *s = conf_section_first(conf_root(c), "vlan"); s;
	     s = conf_section_next(s, "vlan"))
		strcat(strcat(titles, s->title), " ");
	assert_string_equal(titles, expected);
}

/* Whatever is removed and put back, or changed and restored, is as it was. */
static void test_undo(void **state)
{
	static const char *const titles[] = { "1", "2", "3" };
	static const char *const on[] = { "true" };
	struct conf *c = read_text("vlan 1 { }\npool a { path = /a }\nvlan 2 { name = x }\n"
				   "forward f { listen = 1 trunk = 5 }\nvlan 3 { }\n");
	char *before = printed(c), *after;
	struct conf_section *s, *at;
	struct conf_entry **saved;

	for (size_t i = 0; i < 3; i++) {
		s = conf_section_find(c, conf_root(c), "vlan", titles[i]);
		at = conf_section_before(s);
		conf_section_remove(c, s);
		check_vlans(c, i == 0 ? "2 3 " : i == 1 ? "1 3 " : "1 2 ");
		conf_section_put_back(c, s, at);
		check_vlans(c, "1 2 3 ");
		assert_ptr_equal(conf_section_find(c, conf_root(c), "vlan", titles[i]), s);
	}
	s = conf_section_find(c, conf_root(c), "vlan", "2");
	saved = conf_section_save(c, s);
	assert_int_equal(conf_entry_set(c, s, "nat", on, 1, NULL), 0);
	conf_entry_unset(c, s, "name");
	assert_int_equal(conf_section_finish(c, s), 0);
	assert_true(conf_flag(s, "nat"));
	conf_section_restore(s, saved);
	assert_string_equal(conf_text(s, "name"), "x");
	after = printed(c);
	assert_string_equal(before, after);
	conf_error(c, &s->pos, "wrong");
	conf_errors_clear(c);
	assert_int_equal(conf_error_count(c), 0);
	assert_null(conf_error_text(c, 0));
	free(before);
	free(after);
	conf_free(c);
}

static void write_file(const char *dir, const char *name, const char *text)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void test_includes(void **state)
{
	char dir[] = "/tmp/ashlar-conf.XXXXXX", path[256], sub[256], expected[600];
	struct conf *c = conf_new(&schema_root);

	assert_non_null(mkdtemp(dir));
	snprintf(sub, sizeof(sub), "%s/conf.d", dir);
	mkdir(sub, 0700);
	write_file(dir, "main.conf",
		   "include \"conf.d/*.conf\"\nvlan 1 { }\n"
		   "include \"none/*.conf\"\ninclude missing.conf\n");
	write_file(sub, "b.conf", "vlan 2 { }\nvlan 1 { }\n");
	write_file(sub, "a.conf", "vlan 3 { }\n");
	write_file(sub, "c.conf~", "what is this");
	snprintf(path, sizeof(path), "%s/main.conf", dir);
	assert_int_equal(conf_read_file(c, path), -EINVAL);
	assert_int_equal(conf_error_count(c), 2);
	snprintf(expected, sizeof(expected),
		 "%s:2: found a second vlan 1, expected it once (first at %s/conf.d/b.conf:2)",
		 path, dir);
	assert_string_equal(error_of(c, 0), expected);
	snprintf(expected, sizeof(expected),
		 "%s:4: %s/missing.conf cannot be read: No such file or directory", path, dir);
	assert_string_equal(error_of(c, 1), expected);
	assert_int_equal(conf_section_first(conf_root(c), "vlan")->number, 3);
	conf_free(c);

	/* A file that includes itself ends with an error, also by a glob that multiplies. */
	write_file(dir, "main.conf", "include \"*.conf\"\n");
	write_file(dir, "second.conf", "include \"*.conf\"\n");
	write_file(dir, "third.conf", "include \"*.conf\"\n");
	c = conf_new(&schema_root);
	assert_int_equal(conf_read_file(c, path), -EINVAL);
	assert_true(conf_error_count(c) > 1);
	conf_free(c);
	c = conf_new(&schema_root);
	assert_int_equal(conf_read_file(c, dir), -EINVAL);
	snprintf(expected, sizeof(expected), "%s: cannot be read: Is a directory", dir);
	assert_string_equal(error_of(c, 0), expected);
	conf_free(c);
	snprintf(path, sizeof(path), "rm -r '%s'", dir);
	assert_int_equal(system(path), 0);
}

static void test_limits(void **state)
{
	size_t len = 0, size = 600000;
	char *text = malloc(size);
	struct conf *c;

	/* 5000 errors: 1000 are kept, all are counted. */
	for (int i = 0; i < 5000; i++)
		len += (size_t)snprintf(text + len, size - len, "nonsense%d = 1\n", i);
	c = read_text(text);
	assert_int_equal(conf_error_count(c), 5000);
	assert_non_null(conf_error_text(c, 999));
	assert_null(conf_error_text(c, 1000));
	conf_free(c);

	/* A word of the greatest length, and one byte more. */
	memcpy(text, "comment = ", 10);
	memset(text + 10, 'x', CONF_TOKEN_BYTES_MAX);
	text[10 + CONF_TOKEN_BYTES_MAX] = '\0';
	c = read_text(text);
	assert_int_equal(conf_error_count(c), 0);
	conf_free(c);
	memcpy(text + 10 + CONF_TOKEN_BYTES_MAX, "x", 2);
	c = read_text(text);
	assert_string_equal(error_of(c, 0), "t:1: syntax: found a word or string over 4096 bytes, "
					    "expected a shorter one");
	conf_free(c);

	/* Nesting. */
	for (len = 0; len < 2000; len += 2)
		memcpy(text + len, "a{", 3);
	c = read_text(text);
	assert_true(conf_error_count(c) > 0);
	conf_free(c);

	/* A list of the greatest length, and one more. */
	len = (size_t)sprintf(text, "vlan 1 { deny = {");
	for (unsigned i = 0; i < CONF_LIST_COUNT_MAX; i++)
		len += (size_t)sprintf(text + len, "::/0,");
	strcpy(text + len, "} }");
	c = read_text(text);
	assert_int_equal(conf_error_count(c), 0);
	conf_free(c);
	strcpy(text + len, "::/0 } }");
	c = read_text(text);
	assert_string_equal(error_of(c, 0), "t:1: syntax: found \"::/0\", expected at most 65536 "
					    "values in a list");
	conf_free(c);
	free(text);
}

static void test_own_checks_are_sorted_in(void **state)
{
	struct conf *c = read_text("vlan 5 {\n dhcp = 10.0.0.1\n}\n\nbogus = 1\n");
	struct conf_section *s = conf_section_first(conf_root(c), "vlan");

	conf_error_at(c, s, "dhcp", "found no address, expected one");
	conf_error_at(c, s, NULL, "found trouble");
	conf_error_at(c, s, "nat", "is not there");
	assert_string_equal(error_of(c, 0), "t:1: vlan 5: found trouble");
	assert_string_equal(error_of(c, 1), "t:1: vlan 5: nat: is not there");
	assert_string_equal(error_of(c, 2), "t:2: vlan 5: dhcp: found no address, expected one");
	assert_string_equal(error_of(c, 3), "t:5: found unknown key \"bogus\", expected one of "
					    "control, comment");
	conf_free(c);
}

static double seconds(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* 50,000 lines, checked and with defaults, in under 0.2 s (of processor time: others use the
 * machine as well); under a sanitizer only that it works. */
static void test_50k_lines(void **state)
{
	size_t size = 4 << 20, len = 0;
	char *text = malloc(size);
	struct conf *c = conf_new(&schema_root);
	double start, spent;
	int lines = 0;

	for (int i = 0; i < 12500; i++, lines += 4)
		len += (size_t)snprintf(text + len, size - len,
					"forward \"f%d\" {\n\tproto = udp  listen = %d\n"
					"\tto = \"10.%d.%d.1:22\"\n}\n",
					i, i % 65535 + 1, i / 256 % 256, i % 256);
	assert_int_equal(lines, 50000);
	start = seconds(CLOCK_PROCESS_CPUTIME_ID);
	assert_int_equal(conf_read_text(c, "big", text, len), 0);
	assert_int_equal(conf_finish(c), 0);
	spent = seconds(CLOCK_PROCESS_CPUTIME_ID) - start;
	print_message("50,000 lines in %.0f ms\n", spent * 1000);
	assert_non_null(conf_section_find(c, conf_root(c), "forward", "f12499"));
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	assert_true(spent < 0.2);
#endif
	conf_free(c);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_type),
		cmocka_unit_test(test_print_parses_again),
		cmocka_unit_test(test_change_and_save),
		cmocka_unit_test(test_undo),
		cmocka_unit_test(test_includes),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_own_checks_are_sorted_in),
		cmocka_unit_test(test_50k_lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
