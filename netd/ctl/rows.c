/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A row is what the config says of an object (each key that is set or has a default, as text or a
 * list of texts), where it says so, and for ports and bridges what the kernel says.
 */
#include "netd/ctl/rows.h"

#include <stdio.h>
#include <string.h>

static json_t *value_json(const struct conf_entry *e, size_t i)
{
	switch (e->key->type) {
	case CONF_BOOL:
		return json_boolean(e->values[i].flag);
	case CONF_INT:
		return json_integer((json_int_t)e->values[i].number);
	case CONF_STRING:
	case CONF_PATH:
	case CONF_WORD:
	case CONF_MODE:
	case CONF_SIZE:
	case CONF_DURATION:
	case CONF_ADDRESS:
	case CONF_NETWORK:
	case CONF_IFADDR:
	case CONF_ADDRRANGE:
	case CONF_MAC:
	case CONF_PORTS:
	case CONF_ENDPOINT:
	case CONF_RANGES:
		break;
	}
	return json_string(e->values[i].text);
}

static json_t *entry_json(const struct conf_entry *e)
{
	json_t *list;

	if (!(e->key->flags & CONF_LIST))
		return value_json(e, 0);
	list = json_array();
	for (size_t i = 0; i < e->count; i++)
		json_array_append_new(list, value_json(e, i));
	return list;
}

/* none: there is no such link.  down, up: without and with somebody at the other end. */
static const char *link_word(const struct vlan_link *l)
{
	if (!l)
		return "missing";
	if (!l->up)
		return "down";
	return l->running ? "up" : "no carrier";
}

/*
 * What qemu must be given so that its flags match the TAP's: IFF_MULTI_QUEUE, which the kernel
 * insists on, is set by queues=N for N > 1.
 */
static void add_netdev(json_t *row, const struct conf_section *s)
{
	char line[192], queues[32] = "", mac[40] = "";
	unsigned int n = (unsigned int)conf_number(s, "queues");
	const struct conf_value *m = conf_value(s, "mac");

	if (n > 1)
		snprintf(queues, sizeof(queues), ",queues=%u", n);
	snprintf(line, sizeof(line), "-netdev tap,id=%s,ifname=%s,script=no,downscript=no%s%s",
		 s->title, s->title, queues, conf_flag(s, "vnet_hdr") ? "" : ",vnet_hdr=off");
	json_object_set_new(row, "netdev", json_string(line));
	if (m)
		snprintf(mac, sizeof(mac), ",mac=%s", m->text);
	queues[0] = '\0';
	if (n > 1) /* a vector for each direction of each queue, one for control, one for config */
		snprintf(queues, sizeof(queues), ",mq=on,vectors=%u", 2 * n + 2);
	snprintf(line, sizeof(line), "-device virtio-net-pci,netdev=%s%s%s", s->title, mac, queues);
	json_object_set_new(row, "device", json_string(line));
}

static void add_kernel_side(json_t *row, struct conf *c, const struct conf_section *s,
			    const struct vlan_state *links)
{
	const struct vlan_link *l = NULL;
	char gateway[IFNAMSIZ];

	if (strcmp(s->type->name, "port") == 0) {
		const struct conf_section *bridge = netd_conf_port_bridge(c, s);

		l = vlan_state_find(links, s->title);
		json_object_set_new(row, "state", json_string(link_word(l)));
		if (bridge)
			json_object_set_new(row, "bridge", json_string(bridge->title));
		if (!conf_flag(s, "existing"))
			add_netdev(row, s);
	} else if (strcmp(s->type->name, "vlan") == 0 && netd_conf_gateway_name(s, gateway)) {
		l = vlan_state_find(links, gateway);
		json_object_set_new(row, "interface", json_string(gateway));
		json_object_set_new(row, "state", json_string(link_word(l)));
	}
}

static json_t *row_of(struct conf *c, const struct conf_section *s, const struct vlan_state *links)
{
	json_t *row = json_object();
	char origin[512];

	if (s->type->title == CONF_TITLE_INT)
		json_object_set_new(row, "id", json_integer((json_int_t)s->number));
	else
		json_object_set_new(row, "id", json_string(s->title));
	for (const struct conf_key *k = s->type->keys; k->name; k++) {
		const struct conf_entry *e = conf_entry(s, k->name);

		if (e && e->count)
			json_object_set_new(row, k->name, entry_json(e));
	}
	snprintf(origin, sizeof(origin), "%s:%u", s->pos.file, s->pos.line);
	if (!s->pos.line)
		snprintf(origin, sizeof(origin), "vnetctl");
	json_object_set_new(row, "origin", json_string(origin));
	add_kernel_side(row, c, s, links);
	return row;
}

json_t *rows_of(struct conf *c, const char *kind, const struct vlan_state *links)
{
	struct conf_section *s = conf_section_first(conf_root(c), kind);
	json_t *rows = json_array();

	for (; s; s = conf_section_next(s, kind))
		json_array_append_new(rows, row_of(c, s, links));
	return rows;
}

void rows_add_finding(void *ctx, const struct doctor_finding *f)
{
	json_array_append_new(ctx, json_pack("{s:s, s:s, s:s, s:s}", "severity",
					     f->breaks ? "problem" : "notice", "subject",
					     f->subject, "what", f->what, "fix", f->fix));
}
