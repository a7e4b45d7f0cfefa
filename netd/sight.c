/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is there, and the way from it to what is wanted; see sight.h. */
#include "netd/sight.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "netd/observe.h"

void sight_clear(struct sight *s)
{
	vlan_state_clear(&s->links);
	if (!s->nat_lent)
		nat_state_clear(&s->nat);
	free(s->host_links);
	free(s->host_addrs);
	*s = (struct sight){ 0 };
}

/* The links as the checks of the conf see them: without the addresses that are ours. */
static int sight_host(struct sight *s, const struct vlan_caps *caps, uint64_t mac_salt)
{
	size_t total = 0, at = 0;

	for (size_t i = 0; i < s->links.link_count; i++)
		total += s->links.links[i].addr_count;
	s->host_links = calloc(s->links.link_count + 1, sizeof(*s->host_links));
	s->host_addrs = calloc(total + 1, sizeof(*s->host_addrs));
	if (!s->host_links || !s->host_addrs)
		return -ENOMEM;
	for (size_t i = 0; i < s->links.link_count; i++) {
		const struct vlan_link *l = &s->links.links[i];
		struct netd_conf_link *h = &s->host_links[i];

		memcpy(h->name, l->name, sizeof(h->name));
		h->ours = vlan_link_is_ours(l);
		h->loopback = strcmp(l->name, "lo") == 0;
		h->addrs = s->host_addrs + at;
		for (size_t a = 0; a < l->addr_count; a++)
			if (!l->addrs[a].ours)
				s->host_addrs[at + h->addr_count++] = l->addrs[a].prefix;
		at += h->addr_count;
	}
	s->host = (struct netd_conf_host){ .links = s->host_links,
					   .link_count = s->links.link_count,
					   .caps = caps,
					   .mac_salt = mac_salt };
	return 0;
}

int sight_take(struct nl *nl, const struct vlan_caps *caps, uint64_t mac_salt, struct sight *s,
	       struct err *err)
{
	int rc = observe_vlan(nl, caps, &s->links, err);

	rc = rc < 0 ? rc : observe_nat(nl, &s->nat, err);
	if (rc < 0)
		return rc;
	rc = sight_host(s, caps, mac_salt);
	return rc < 0 ? err_sys(err, rc, "host") : 0;
}

int sight_take_links(struct nl *nl, const struct vlan_caps *caps, uint64_t mac_salt,
		     const struct nat_state *nat, struct sight *s, struct err *err)
{
	int rc = observe_vlan(nl, caps, &s->links, err);

	if (rc < 0)
		return rc;
	s->nat = *nat;
	s->nat_lent = true;
	rc = sight_host(s, caps, mac_salt);
	return rc < 0 ? err_sys(err, rc, "host") : 0;
}

/* --- plans ----------------------------------------------------------------------------------- */

/* Everything that leads from `s` to `want`: nat before, links, nat after. */
int sight_plan(const struct sight *s, const struct netd_desired *want, struct plan *plan,
	       struct err *err)
{
	struct vlan_names moving = { 0 };
	struct plan links = { 0 };
	bool one_batch;
	int r = vlan_plan(&want->links, &s->links, &links, &moving, err);
	size_t moved = 0;

	one_batch = links.count == 0;
	if (r == 0)
		r = nat_plan(&want->nat, &s->nat, NAT_STAGE_BEFORE, one_batch, moving.names,
			     moving.count, plan, err);
	while (r == 0 && moved < links.count) {
		r = plan_add(plan, links.ops[moved]);
		moved += r == 0;
	}
	if (r == 0 && !one_batch)
		r = nat_plan(&want->nat, &s->nat, NAT_STAGE_AFTER, false, moving.names,
			     moving.count, plan, err);
	/* what went over belongs to `plan` now */
	if (moved)
		memmove(links.ops, links.ops + moved,
			(links.count - moved) * sizeof(struct plan_op *));
	links.count -= moved;
	plan_clear(&links);
	vlan_names_clear(&moving);
	return r;
}
