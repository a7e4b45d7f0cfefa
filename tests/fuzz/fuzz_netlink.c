/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Netlink messages: a stream of them as the kernel would send it, each cut out by its own length
 * (which the socket layer has checked against what it read), into everything that looks at them.
 */
#include <linux/netlink.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "nat/nat.h"
#include "nat/wire.h"
#include "vlan/vlan.h"
#include "vlan/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void feed(const uint8_t *bytes, size_t len, struct nat_state *n, struct vlan_state *v)
{
	/* Of its exact size with its padding, so that a byte too many is seen. */
	struct nlmsghdr *copy = malloc(NLMSG_ALIGN(len));
	struct nlbuf b = { 0 };
	struct nat_flow flow;

	memset(copy, 0xff, NLMSG_ALIGN(len));
	memcpy(copy, bytes, len);
	copy->nlmsg_len = (uint32_t)len;
	(void)!nat_observe_message(n, copy);
	(void)!vlan_observe_message(v, copy);
	(void)!nat_wire_flow_parse(copy, &flow);
	(void)!nat_wire_flow_delete(&b, copy);
	nlbuf_clear(&b);
	free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct nat_state n = { 0 };
	struct vlan_state v = { 0 };

	while (len >= sizeof(struct nlmsghdr)) {
		struct nlmsghdr h;
		size_t size;

		memcpy(&h, data, sizeof(h));
		size = h.nlmsg_len % 1024;
		if (size < sizeof(h) || size > len)
			size = len;
		feed(data, size, &n, &v);
		size = NLMSG_ALIGN(size) < len ? NLMSG_ALIGN(size) : len;
		data += size;
		len -= size;
	}
	(void)!nat_observe_finish(&n);
	(void)!vlan_observe_finish(&v);
	nat_state_clear(&n);
	vlan_state_clear(&v);
	return 0;
}
