/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Links as the kernel knows them: storage, lookup, marks.  See vlan.h. */
#include "vlan/state.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct vlan_link *vlan_state_add(struct vlan_state *s)
{
	if (s->link_count == s->link_capacity) {
		size_t capacity = s->link_capacity ? s->link_capacity * 2 : 16;
		struct vlan_link *l = reallocarray(s->links, capacity, sizeof(*l));

		if (!l)
			return NULL;
		s->links = l;
		s->link_capacity = capacity;
	}
	memset(&s->links[s->link_count], 0, sizeof(s->links[0]));
	return &s->links[s->link_count++];
}

int vlan_link_add_addr(struct vlan_link *l, const struct prefix *p, bool ours)
{
	if (l->addr_count == l->addr_capacity) {
		size_t capacity = l->addr_capacity ? l->addr_capacity * 2 : 2;
		struct vlan_addr *a = reallocarray(l->addrs, capacity, sizeof(*a));

		if (!a)
			return -ENOMEM;
		l->addrs = a;
		l->addr_capacity = capacity;
	}
	l->addrs[l->addr_count++] = (struct vlan_addr){ .prefix = *p, .ours = ours };
	return 0;
}

struct vlan_membership *vlan_link_members(struct vlan_link *l)
{
	if (!l->members)
		l->members = calloc(1, sizeof(*l->members));
	return l->members;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(((const struct vlan_link *)a)->name, ((const struct vlan_link *)b)->name);
}

int vlan_state_sort(struct vlan_state *s, size_t *ret_dup)
{
	if (s->link_count)
		qsort(s->links, s->link_count, sizeof(s->links[0]), compare_names);
	for (size_t i = 1; i < s->link_count; i++) {
		if (!compare_names(&s->links[i - 1], &s->links[i])) {
			*ret_dup = i;
			return -EEXIST;
		}
	}
	return 0;
}

const struct vlan_link *vlan_state_find(const struct vlan_state *s, const char *name)
{
	size_t low = 0, high = s->link_count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int c = strcmp(s->links[mid].name, name);

		if (!c)
			return &s->links[mid];
		if (c < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

void vlan_state_clear(struct vlan_state *s)
{
	for (size_t i = 0; i < s->link_count; i++) {
		free(s->links[i].members);
		free(s->links[i].addrs);
	}
	free(s->links);
	memset(s, 0, sizeof(*s));
}

bool vlan_name_valid(const char *name)
{
	size_t len = strnlen(name, VLAN_NAME_MAX);

	if (!len || len >= VLAN_NAME_MAX || !strcmp(name, ".") || !strcmp(name, ".."))
		return false;
	for (size_t i = 0; i < len; i++)
		if (name[i] <= ' ' || name[i] == '/' || name[i] == ':' || name[i] == 0x7f)
			return false;
	return true;
}

void vlan_name_copy(char *dst, const char *src)
{
	size_t len = strlen(src);

	assert(len < VLAN_NAME_MAX);
	memset(dst, 0, VLAN_NAME_MAX);
	memcpy(dst, src, len);
}

char *vlan_gateway_name(const char *bridge, unsigned vid, char *buf)
{
	snprintf(buf, VLAN_NAME_MAX, "%.*s.%u", VLAN_BRIDGE_NAME_LEN_MAX, bridge, vid % 4096);
	return buf;
}

bool vlan_link_is_used(const struct vlan_link *l)
{
	return !strncmp(l->alias, VLAN_MARK_USE, strlen(VLAN_MARK_USE));
}

bool vlan_link_is_ours(const struct vlan_link *l)
{
	return !strncmp(l->alias, VLAN_MARK, strlen(VLAN_MARK)) && !vlan_link_is_used(l);
}

void vlan_use_mark(const struct vlan_link *observed, char *ret_alias)
{
	snprintf(ret_alias, VLAN_ALIAS_MAX, VLAN_MARK_USE "%u:%d:%.200s", observed->mtu,
		 observed->up, observed->alias);
}

bool vlan_use_parse(const char *alias, uint32_t *ret_mtu, bool *ret_up, const char **ret_old)
{
	unsigned mtu, up;
	int used = 0;

	if (sscanf(alias, VLAN_MARK_USE "%10u:%1u:%n", &mtu, &up, &used) != 2 || !used)
		return false;
	*ret_mtu = mtu;
	*ret_up = up != 0;
	*ret_old = alias + used;
	return true;
}

void vlan_names_clear(struct vlan_names *n)
{
	free(n->names);
	memset(n, 0, sizeof(*n));
}

const struct vlan_addr *vlan_uplink_address(const struct vlan_state *observed, const char *uplink)
{
	const struct vlan_link *l = vlan_state_find(observed, uplink);

	for (size_t i = 0; l && i < l->addr_count; i++)
		if (!addr_is_link_local(&l->addrs[i].prefix.addr) && !l->addrs[i].ours)
			return &l->addrs[i];
	return NULL;
}

enum vlan_backend vlan_backend_choose(const struct vlan_caps *caps)
{
	return caps->vlan_filtering && caps->dot1q ? VLAN_BACKEND_AWARE : VLAN_BACKEND_PER_VLAN;
}

const char *vlan_backend_name(enum vlan_backend b)
{
	return b == VLAN_BACKEND_AWARE ? "aware" : "per-vlan";
}
