/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Endpoints: comparison and the one form that each address has. */
#include <string.h>

#include "vpn/vpn.h"

void vpn_endpoint_normalize(struct vpn_endpoint *e)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET };
	struct in_addr source;

	if (e->sa.sa_family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&e->v6.sin6_addr))
		return;
	v4.sin_port = e->v6.sin6_port;
	memcpy(&v4.sin_addr, e->v6.sin6_addr.s6_addr + 12, 4);
	memset(&e->v6, 0, sizeof(e->v6));
	e->v4 = v4;
	memcpy(&source, e->src6.s6_addr + 12, 4);
	if (!IN6_IS_ADDR_V4MAPPED(&e->src6)) {
		source.s_addr = INADDR_ANY;
		e->src_ifindex = 0;
	}
	memset(&e->src6, 0, sizeof(e->src6));
	e->src4 = source;
}

bool vpn_endpoint_equal(const struct vpn_endpoint *a, const struct vpn_endpoint *b)
{
	if (a->sa.sa_family != b->sa.sa_family)
		return false;
	switch (a->sa.sa_family) {
	case AF_INET:
		return a->v4.sin_addr.s_addr == b->v4.sin_addr.s_addr &&
		       a->v4.sin_port == b->v4.sin_port;
	case AF_INET6:
		return !memcmp(&a->v6.sin6_addr, &b->v6.sin6_addr, 16) &&
		       a->v6.sin6_port == b->v6.sin6_port &&
		       a->v6.sin6_scope_id == b->v6.sin6_scope_id;
	default:
		return true;
	}
}
