/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Keys as text and the files that keep them: who may read one, what may be in it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "netd/conf.h"
#include "netd/keyfile.h"
#include "vpn/vpn.h"

#define GOOD "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk="

static char folder[] = "/tmp/keyfile-XXXXXX";
static char path[64];

static void write_file(const char *text, mode_t mode)
{
	FILE *f;

	unlink(path);
	f = fopen(path, "we");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	assert_int_equal(chmod(path, mode), 0);
}

static void refused(int code, const char *word)
{
	uint8_t key[KEY_LEN];
	struct err err = { 0 };

	assert_int_equal(keyfile_read(path, key, &err), code);
	assert_non_null(strstr(err.text, word));
	assert_non_null(strstr(err.text, path));
	assert_null(strstr(err.text, "yAnz")); /* never the key */
}

static void text_of_keys(void **state)
{
	static const char *const bad[] = {
		"",
		"yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk",	 /* too short */
		"yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk==", /* too long */
		"yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBml=",	 /* bits behind the end */
		"yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fB=k=",
		"yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3f\nmk=",
		"yAnz5TF+lXXJte14tji3zlMNq hd2rYUIgJBgB3fBmk=",
		"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", /* zero */
	};
	uint8_t key[KEY_LEN], again[KEY_LEN];
	char text[KEY_TEXT_MAX], hex[KEY_HEX_MAX];

	(void)state;
	assert_int_equal(key_parse(GOOD, key, NULL), 0);
	assert_string_equal(key_format(key, text), GOOD);
	assert_string_equal(key_format_hex(key, hex),
			    "c809f3e5317e9575c9b5ed78b638b7ce530dabe85ddab614220241801ddf0669");
	assert_int_equal(key_parse_hex(hex, again), 0);
	assert_memory_equal(key, again, KEY_LEN);
	hex[5] = 'g';
	assert_int_equal(key_parse_hex(hex, again), -EINVAL);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		if (key_parse(bad[i], key, NULL) != -EINVAL)
			fail_msg("\"%s\" was taken", bad[i]);
}

/* Where a key stands in a text, and what only looks a little like one. */
static void keys_are_hidden(void **state)
{
#define HEX "c809f3e5317e9575c9b5ed78b638b7ce530dabe85ddab614220241801ddf0669"
	static const char *const texts[][2] = {
		{ "found \"" GOOD "\", expected", "found \"(a key)\", expected" },
		{ GOOD, "(a key)" },
		{ "/" GOOD ": no such file", "(a key): no such file" },
		{ "a " HEX ".", "a (a key)." },
		{ "found \"yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk\"", "found \"(a key)\"" },
		{ GOOD " and " GOOD, "(a key) and (a key)" },
		{ HEX GOOD, "(a key)" },
		{ "/etc/netd/mesh.key: there is no such file", NULL },
		{ "/etc/netd/tunnels/between/hosts/in/racks/mesh/key: others can read it", NULL },
		{ "/srv/Vms2/tunnels.d/between_hosts/of-racks/mesh.key", NULL },
		{ "fd00:1234:5678:9abc:def0:1234:5678:9abc/64", NULL },
		{ "a = b", NULL },
		{ "a === b", NULL },
		{ "", NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		char text[256];

		strcpy(text, texts[i][0]);
		key_hide(text);
		assert_string_equal(text, texts[i][1] ? texts[i][1] : texts[i][0]);
	}
}

static void files(void **state)
{
	uint8_t key[KEY_LEN], again[KEY_LEN];
	char long_text[600];
	struct stat sb;

	(void)state;
	unlink(path);
	refused(-ENOENT, "vnetctl tunnel genkey");
	for (mode_t bit = 1; bit <= 040; bit <<= 1) {
		write_file(GOOD "\n", 0600 | bit);
		refused(-EPERM, "others can read it");
	}
	write_file(GOOD "\n", 0600);
	assert_int_equal(keyfile_read(path, key, NULL), 0);
	write_file(" " GOOD, 0600);
	refused(-EINVAL, "base64");
	write_file(GOOD " \r\n\n", 0400);
	assert_int_equal(keyfile_read(path, key, NULL), 0);
	write_file("", 0600);
	refused(-EINVAL, "base64");
	memset(long_text, 'y', sizeof(long_text));
	long_text[sizeof(long_text) - 1] = '\0';
	write_file(long_text, 0600);
	refused(-EINVAL, "one key");
	write_file("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n", 0600);
	refused(-EINVAL, "zeroes");
	unlink(path);
	assert_int_equal(mkdir(path, 0700), 0);
	refused(-EINVAL, "regular file");
	rmdir(path);
	assert_int_equal(mkfifo(path, 0600), 0); /* never waited for */
	refused(-EINVAL, "regular file");
	unlink(path);
	assert_int_equal(keyfile_write(path, key, NULL), 0);
	assert_int_equal(stat(path, &sb), 0);
	assert_int_equal(sb.st_mode & 07777, 0600);
	assert_int_equal(keyfile_read(path, again, NULL), 0);
	assert_memory_equal(key, again, KEY_LEN);
	if (geteuid() == 0) {
		assert_int_equal(chown(path, 65534, (gid_t)-1), 0);
		refused(-EPERM, "belongs to user 65534");
	}
	unlink(path);
}

/* A peer whose public key is that of the tunnel's file. */
static void a_peer_is_not_oneself(void **state)
{
	struct conf *c = conf_new(&netd_conf_schema);
	uint8_t key[KEY_LEN], public[KEY_LEN];
	char text[KEY_TEXT_MAX], conf[1024];

	(void)state;
	assert_int_equal(vpn_private_key_new(key), 0);
	assert_int_equal(vpn_public_key(key, public), 0);
	assert_int_equal(keyfile_write(path, key, NULL), 0);
	snprintf(conf, sizeof(conf),
		 "tunnel \"m\" { address = \"10.9.0.1/24\" private_key_file = \"%s\" }\n"
		 "peer \"p\" { tunnel = \"m\" public_key = \"%s\" address = \"10.9.0.2\"\n"
		 " preshared_key_file = \"/nowhere/psk\" }\n",
		 path, key_format(public, text));
	assert_int_equal(conf_read_text(c, "f", conf, strlen(conf)), 0);
	assert_int_equal(conf_finish(c), 0);
	netd_conf_check(c);
	assert_int_equal(conf_error_count(c), 0);
	netd_conf_check_keys(c);
	assert_int_equal(conf_error_count(c), 2);
	assert_non_null(strstr(conf_error_text(c, 0), "own tunnel \"m\""));
	assert_non_null(strstr(conf_error_text(c, 1), "/nowhere/psk"));
	conf_free(c);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_of_keys),
		cmocka_unit_test(keys_are_hidden),
		cmocka_unit_test(files),
		cmocka_unit_test(a_peer_is_not_oneself),
	};
	int r;

	if (!mkdtemp(folder))
		return 1;
	snprintf(path, sizeof(path), "%s/key", folder);
	r = cmocka_run_group_tests(tests, NULL, NULL);
	rmdir(folder);
	return r;
}
