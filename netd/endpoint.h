/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where a peer listens: "hostb.example:51820", "192.0.2.7:51820", "[2001:db8::7]:51820", and asking
 * for the addresses of names without waiting for the answer.
 */
#ifndef NETD_ENDPOINT_H
#define NETD_ENDPOINT_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "common/base/err.h"

#define ENDPOINT_HOST_MAX   254
#define ENDPOINT_TEXT_MAX   64 /* "[address]:port" with NUL */
#define ENDPOINT_ANSWER_MAX 8  /* addresses of a name that are looked at */

struct endpoint {
	char host[ENDPOINT_HOST_MAX];
	uint16_t port;
	bool numeric; /* host is an address */
};

union endpoint_addr {
	struct sockaddr sa;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

/* -EINVAL with "expected ..." in `err`. */
int endpoint_parse(const char *text, struct endpoint *ret, struct err *err)
	__attribute__((nonnull(1, 2), warn_unused_result));
/* Of a numeric one, without asking anybody. */
int endpoint_numeric(const struct endpoint *e, union endpoint_addr *ret)
	__attribute__((nonnull, warn_unused_result));
char *endpoint_format(const union endpoint_addr *a, char ret_text[ENDPOINT_TEXT_MAX])
	__attribute__((nonnull));
bool endpoint_addr_equal(const union endpoint_addr *a, const union endpoint_addr *b)
	__attribute__((nonnull));

/*
 * Names are asked for on a thread of their own, one after the other: a server that does not answer
 * holds up other names, but nothing else.  Answers come on the loop's thread: up to
 * ENDPOINT_ANSWER_MAX addresses with their port, or none and why.
 */
struct loop;
struct resolver;
typedef void (*resolver_fn)(void *ctx, const char *text, const union endpoint_addr *addrs,
			    size_t count, const char *why);
int resolver_new(struct loop *loop, resolver_fn answered, void *ctx, struct resolver **ret)
	__attribute__((nonnull(1, 2, 4), warn_unused_result));
/* Does not wait for an answer that is under way: nobody hears of it. */
void resolver_free(struct resolver *r);
/* "host:port"; asked for already: nothing more happens.  -ENOMEM, -EAGAIN (no thread). */
int resolver_ask(struct resolver *r, const char *text)
	__attribute__((nonnull, warn_unused_result));

#endif
