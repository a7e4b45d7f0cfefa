/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * netd's config with every check behind it, also those against a host (a made-up one): no text
 * may crash them, and what they accept must be accepted again when printed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "netd/conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static int find_id(const char *name, uint32_t *ret_id)
{
	*ret_id = 64055;
	return strcmp(name, "libvirt-qemu") ? -ENOENT : 0;
}

/* The errors of one text, all checks made. */
static size_t check(const char *text, size_t len, struct conf **ret)
{
	static const struct prefix addrs[] = { { { 4, { 192, 0, 2, 2 } }, 24 } };
	static const struct netd_conf_link links[] = {
		{ "eth0", false, false, addrs, 1 },
		{ "eth1", false, false, NULL, 0 },
		{ "lo", false, true, NULL, 0 },
	};
	static const struct vlan_caps caps = { 0 };
	const struct netd_conf_host host = { .links = links,
					     .link_count = 3,
					     .caps = &caps, .skip_keys = true,
					     .find_user = find_id,
					     .find_group = find_id };
	struct conf *c = conf_new(&netd_conf_schema);

	conf_read_text(c, "fuzz", text, len);
	conf_finish(c);
	netd_conf_check(c);
	netd_conf_check_host(c, &host);
	*ret = c;
	return conf_error_count(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct conf *c, *again;
	char *text = NULL;
	size_t size;
	FILE *f;

	if (memmem(data, len, "include", 7)) /* would read files of this machine */
		return 0;
	if (!check((const char *)data, len, &c)) {
		f = open_memstream(&text, &size);
		conf_print(c, f, CONF_PRINT_PRESETS);
		fclose(f);
		if (check(text, size, &again))
			abort();
		conf_free(again);
		free(text);
	}
	conf_free(c);
	return 0;
}
