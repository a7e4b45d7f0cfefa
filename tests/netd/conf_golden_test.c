/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Golden errors of netd.conf: for each N.in of the folder given as argument, the errors must be
 * exactly N.ok; without errors N.ok holds what -nv prints, which must parse to the same again.
 * The host is made up: lo, eth0 with 192.0.2.2/24 and 2001:db8::2/64, eth1 and eth2 without
 * addresses, user libvirt-qemu; a kernel without VLAN filtering unless the first line of the file
 * is "# kernel: aware".  UPDATE=1 in the environment writes the .ok files: read the diff.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <glob.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "netd/conf.h"

static glob_t inputs;

static char *slurp(const char *path)
{
	FILE *f = fopen(path, "re");
	char *text = calloc(1, 1 << 20);

	if (f) {
		if (!fread(text, 1, (1 << 20) - 1, f))
			text[0] = '\0';
		fclose(f);
	}
	return text;
}

static int find_user(const char *name, uint32_t *ret_id)
{
	if (strcmp(name, "libvirt-qemu") != 0)
		return -ENOENT;
	*ret_id = 64055;
	return 0;
}

static struct prefix prefix_of(const char *text)
{
	struct prefix p = { 0 };

	assert_int_equal(prefix_parse(text, &p, NULL), 0);
	return p;
}

static void check_all(struct conf *c, bool aware)
{
	const struct prefix lo[] = { prefix_of("127.0.0.1/8") };
	const struct prefix eth0[] = { prefix_of("192.0.2.2/24"), prefix_of("2001:db8::2/64"),
				       prefix_of("fe80::1/64") };
	const struct prefix eth2[] = { prefix_of("fe80::2/64") };
	const struct netd_conf_link links[] = {
		{ .name = "eth0", .addrs = eth0, .addr_count = 3 },
		{ .name = "eth1" },
		{ .name = "eth2", .addrs = eth2, .addr_count = 1 },
		{ .name = "lo", .loopback = true, .addrs = lo, .addr_count = 1 },
		{ .name = "old.5", .ours = true },
	};
	const struct vlan_caps caps = {
		.vlan_filtering = aware, .dot1q = aware, .isolated = true, .tun = true
	};
	const struct netd_conf_host host = { .links = links,
					     .link_count = sizeof(links) / sizeof(*links),
					     .caps = &caps,
					     .skip_keys = true,
					     .find_user = find_user,
					     .find_group = find_user };

	conf_finish(c);
	netd_conf_check(c);
	netd_conf_check_host(c, &host);
}

static char *answer(const char *in, bool aware, bool *ret_good)
{
	struct conf *c = conf_new(&netd_conf_schema);
	char *got = NULL;
	size_t len;
	FILE *f = open_memstream(&got, &len);

	netd_conf_read(c, in);
	check_all(c, aware);
	*ret_good = conf_error_count(c) == 0;
	if (!*ret_good)
		conf_print_errors(c, f);
	else
		conf_print(c, f, CONF_PRINT_PRESETS);
	fclose(f);
	conf_free(c);
	return got;
}

/* What was printed parses, and prints the same. */
static void assert_prints_the_same_again(const char *text, bool aware)
{
	struct conf *c = conf_new(&netd_conf_schema);
	char *again = NULL;
	size_t len;
	FILE *f = open_memstream(&again, &len);

	assert_int_equal(conf_read_text(c, "again", text, strlen(text)), 0);
	check_all(c, aware);
	assert_int_equal(conf_error_count(c), 0);
	conf_print(c, f, CONF_PRINT_PRESETS);
	fclose(f);
	assert_string_equal(text, again);
	free(again);
	conf_free(c);
}

static void run_golden(void **state)
{
	const char *in = *state;
	char ok[512], *text = slurp(in), *got, *want;
	bool aware = strncmp(text, "# kernel: aware\n", 16) == 0, good;

	got = answer(in, aware, &good);
	snprintf(ok, sizeof(ok), "%.*s.ok", (int)strlen(in) - 3, in);
	if (getenv("UPDATE")) {
		FILE *f = fopen(ok, "we");

		fputs(got, f);
		fclose(f);
	}
	want = slurp(ok);
	assert_string_equal(got, want);
	if (good)
		assert_prints_the_same_again(got, aware);
	free(want);
	free(got);
	free(text);
}

int main(int argc, char **argv)
{
	struct CMUnitTest *tests;

	if (argc != 2 || chdir(argv[1]) < 0 || glob("*.in", 0, NULL, &inputs) != 0 ||
	    inputs.gl_pathc == 0)
		return 1;
	tests = calloc(inputs.gl_pathc, sizeof(*tests));
	for (size_t i = 0; i < inputs.gl_pathc; i++)
		tests[i] = (struct CMUnitTest){ .name = inputs.gl_pathv[i],
						.test_func = run_golden,
						.initial_state = inputs.gl_pathv[i] };
	return _cmocka_run_group_tests("netd.conf", tests, inputs.gl_pathc, NULL, NULL);
}
