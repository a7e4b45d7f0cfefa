/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Random but valid configurations, from a seed. */
#ifndef TESTS_NET_RANDOM_CONFIG_H
#define TESTS_NET_RANDOM_CONFIG_H

#include <stdio.h>
#include <string.h>

#include "nat/nat.h"
#include "vlan/vlan.h"

struct random_config {
	struct vlan_bridge bridges[2];
	struct vlan_segment segments[8];
	struct prefix addresses[8][2];
	struct vlan_port ports[8];
	struct vlan_extra_addr extra[2];
	struct vlan_net vlan;
	struct nat_vlan vlans[8];
	struct nat_forward forwards[6];
	struct nat_policy policies[4];
	struct nat_port guards[8];
	struct nat_net nat;
	uint32_t seed;
};

static inline unsigned random_below(struct random_config *c, unsigned n)
{
	c->seed = c->seed * 1664525 + 1013904223;
	return (c->seed >> 10) % n;
}

static inline struct addr random_v4(unsigned a, unsigned b, unsigned d)
{
	uint8_t bytes[4] = { 10, (uint8_t)a, (uint8_t)b, (uint8_t)d };

	return addr_from_bytes(4, bytes);
}

static inline void random_segments(struct random_config *c)
{
	size_t n = 0;

	for (unsigned vid = 10; vid < 18; vid++) {
		struct vlan_segment *s = &c->segments[n];
		struct nat_vlan *v = &c->vlans[n];

		if (random_below(c, 3) == 0)
			continue;
		*s = (struct vlan_segment){ .vid = (uint16_t)vid, .addresses = c->addresses[n] };
		strcpy(s->bridge, vid & 1 ? "left" : "right");
		s->mtu = random_below(c, 3) ? 0 : 1300 + 100 * random_below(c, 3);
		s->address_count = random_below(c, 3);
		for (unsigned k = 0; k < 2; k++)
			c->addresses[n][k] = (struct prefix){ random_v4(vid, k, 1), 24 };
		*v = (struct nat_vlan){ .host = (enum nat_host)random_below(c, 3),
					.outside = random_below(c, 2),
					.masquerade4 = random_below(c, 2),
					.addresses = s->addresses,
					.address_count = s->address_count };
		vlan_gateway_name(s->bridge, vid, v->ifname);
		n++;
	}
	c->vlan.segment_count = c->nat.vlan_count = n;
}

static inline void random_ports(struct random_config *c, enum vlan_backend backend, bool trunks)
{
	size_t n = 0;

	for (unsigned i = 0; i < 7 && c->vlan.segment_count; i++) {
		const struct vlan_segment *s =
			&c->segments[random_below(c, (unsigned)c->vlan.segment_count)];
		struct vlan_port *p = &c->ports[n];

		if (random_below(c, 4) == 0)
			continue;
		*p = (struct vlan_port){ .access = s->vid,
					 .isolated = random_below(c, 2),
					 .owner = random_below(c, 2) ? 1000 + random_below(c, 2)
								     : (uid_t)-1,
					 .group = (gid_t)-1,
					 .queues = 1 + random_below(c, 2),
					 .vnet_hdr = random_below(c, 2) };
		strcpy(p->bridge, s->bridge);
		snprintf(p->name, sizeof(p->name), "vm%u", i);
		if (i == 6) { /* an interface that was there before */
			strcpy(p->name, "nic0");
			p->kind = VLAN_PORT_EXISTING;
		}
		if (trunks && backend == VLAN_BACKEND_AWARE && random_below(c, 3) == 0) {
			p->native = p->access;
			p->access = 0;
			vlan_vids_add(&p->tagged, 100, 100 + random_below(c, 100));
		}
		c->guards[n] = (struct nat_port){ .guard = true,
						  .trunk = !p->access,
						  .mac_given = random_below(c, 2) };
		c->guards[n].mac.b[5] = (uint8_t)i;
		strcpy(c->guards[n].ifname, p->name);
		n++;
	}
	c->vlan.port_count = c->nat.port_count = n;
}

static inline void random_forwards(struct random_config *c)
{
	size_t n = 0;

	for (unsigned i = 0; i < 6; i++) {
		uint16_t port = (uint16_t)(1000 * (i + 1));

		if (random_below(c, 2))
			c->forwards[n++] =
				(struct nat_forward){ random_below(c, 2) ? NAT_TCP : NAT_UDP,
						      random_below(c, 2) ? random_v4(200, 0, 1)
									 : (struct addr){ 0 },
						      port,
						      (uint16_t)(port + random_below(c, 3) * 10),
						      random_v4(10, 0, 10 + random_below(c, 3)),
						      port };
	}
	c->nat.forward_count = n;
	n = c->nat.vlan_count;
	for (unsigned i = 0; i < 3 && n > 1; i++) {
		strcpy(c->policies[i].from, c->vlans[random_below(c, (unsigned)n)].ifname);
		strcpy(c->policies[i].to, c->vlans[random_below(c, (unsigned)n)].ifname);
		c->nat.policy_count = i + 1;
	}
}

static inline void random_config(struct random_config *c, uint32_t seed, enum vlan_backend backend,
				 bool trunks)
{
	memset(c, 0, sizeof(*c));
	c->seed = seed * 2654435761u + 1;
	strcpy(c->bridges[0].name, "left");
	strcpy(c->bridges[1].name, "right");
	c->vlan.bridges = c->bridges;
	c->vlan.bridge_count = 2;
	c->vlan.segments = c->segments;
	c->vlan.ports = c->ports;
	c->vlan.extra = c->extra;
	c->vlan.mac_salt = 1;
	c->nat.vlans = c->vlans;
	c->nat.forwards = c->forwards;
	c->nat.policies = c->policies;
	c->nat.ports = c->guards;
	random_segments(c);
	random_ports(c, backend, trunks);
	random_forwards(c);
	for (unsigned i = 0; i < 2; i++) {
		if (random_below(c, 2) == 0)
			continue;
		strcpy(c->extra[c->vlan.extra_count].ifname, "eth0");
		c->extra[c->vlan.extra_count++].prefix =
			(struct prefix){ random_v4(201, 0, i), 32 };
	}
}

#endif
