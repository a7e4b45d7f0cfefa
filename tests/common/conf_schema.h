/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The schema that the config tests share: every type, every kind of title, nesting. */
#ifndef TESTS_COMMON_CONF_SCHEMA_H
#define TESTS_COMMON_CONF_SCHEMA_H

#include <errno.h>
#include <string.h>

#include "common/daemon/conf.h"

static int schema_check_even(const struct conf_value *v, struct err *err)
{
	if (v->number % 2)
		return err_set(err, -EINVAL, "found \"%s\", expected an even number", v->text);
	return 0;
}

static int schema_check_ifname(const char *title, struct err *err)
{
	if (strchr(title, '/'))
		return err_set(err, -EINVAL, "found \"%s\", expected a name without \"/\"", title);
	return 0;
}

static const char *const schema_protocols[] = { "tcp", "udp", "both", NULL };

static const struct conf_key schema_pool_keys[] = {
	{ "path", CONF_PATH, CONF_REQUIRED },
	{ "size", CONF_SIZE, 0, "64M", 1 << 20, 1ULL << 50 },
	{ "cache", CONF_SIZE, 0, NULL, 4096 },
	{ "create", CONF_BOOL, 0, "false" },
	{ "even", CONF_INT, 0, "2", 0, 100, .check = schema_check_even },
	{ NULL },
};

static const struct conf_key schema_dns_keys[] = {
	{ "server", CONF_ADDRESS, CONF_LIST },
	{ "ttl", CONF_DURATION, 0, "60s", 1000, 86400000 },
	{ NULL },
};

static const struct conf_section_type schema_vlan_sections[] = {
	{ "dns", .keys = schema_dns_keys },
	{ NULL },
};

static const struct conf_key schema_vlan_keys[] = {
	{ "name", CONF_STRING, 0, NULL, 1, 15 },
	{ "address", CONF_IFADDR, CONF_LIST },
	{ "deny", CONF_NETWORK, CONF_LIST, "{ 192.0.2.0/24, fd00::/8 }" },
	{ "dhcp", CONF_ADDRRANGE },
	{ "mac", CONF_MAC },
	{ "nat", CONF_BOOL },
	{ "timeout", CONF_DURATION, 0, "5s" },
	{ NULL },
};

static const struct conf_key schema_forward_keys[] = {
	{ "proto", CONF_WORD, 0, "tcp", .words = schema_protocols },
	{ "listen", CONF_PORTS, CONF_REQUIRED },
	{ "to", CONF_ENDPOINT },
	{ "trunk", CONF_RANGES, 0, NULL, 1, 4094 },
	{ NULL },
};

static const struct conf_key schema_log_keys[] = {
	{ "mode", CONF_MODE, 0, "0600" },
	{ NULL },
};

static const struct conf_section_type schema_sections[] = {
	{ "pool", CONF_TITLE_STRING, .keys = schema_pool_keys },
	{ "vlan", CONF_TITLE_INT, 1, 4094, .keys = schema_vlan_keys,
	  .sections = schema_vlan_sections },
	{ "forward", CONF_TITLE_STRING, 0, 15, .title_check = schema_check_ifname,
	  .keys = schema_forward_keys },
	{ "log", .keys = schema_log_keys, .required = true },
	{ NULL },
};

static const struct conf_key schema_root_keys[] = {
	{ "control", CONF_PATH, 0, "/run/x.sock" },
	{ "comment", CONF_STRING },
	{ NULL },
};

static const struct conf_section_type schema_root = {
	"",
	.keys = schema_root_keys,
	.sections = schema_sections,
};

#endif
