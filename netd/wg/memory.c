/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is remembered of peers; see memory.h.  What comes from netd-wg is not trusted: each value is
 * checked for its form before it is kept. */
#include "netd/wg/memory.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <bsd/sys/queue.h>
#include <bsd/sys/tree.h>

#include "common/base/units.h"

#define KEY_LEN	     32
#define TAI64N_LEN   12
#define ENDPOINT_MAX 80 /* "[IPv6%scope]:port" */

struct peer {
	RB_ENTRY(peer) entry;
	uint8_t key[KEY_LEN];
	uint8_t received[TAI64N_LEN], sent[TAI64N_LEN];
	char endpoint[ENDPOINT_MAX];
};

static int compare(struct peer *a, struct peer *b)
{
	return memcmp(a->key, b->key, sizeof(a->key));
}

RB_HEAD(wg_memory_peers, peer);
RB_PROTOTYPE(wg_memory_peers, peer, entry, compare)
RB_GENERATE(wg_memory_peers, peer, entry, compare)

struct wg_memory {
	struct wg_memory_peers peers;
	size_t count;
};

int wg_memory_new(struct wg_memory **ret)
{
	struct wg_memory *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	RB_INIT(&m->peers);
	*ret = m;
	return 0;
}

void wg_memory_free(struct wg_memory *m)
{
	struct peer *p, *next;

	if (!m)
		return;
	for (p = RB_MIN(wg_memory_peers, &m->peers); p; p = next) {
		next = RB_NEXT(wg_memory_peers, &m->peers, p);
		RB_REMOVE(wg_memory_peers, &m->peers, p);
		free(p);
	}
	free(m);
}

static struct peer *find_or_add(struct wg_memory *m, const uint8_t *key)
{
	struct peer wanted, *p;

	memcpy(wanted.key, key, KEY_LEN);
	p = RB_FIND(wg_memory_peers, &m->peers, &wanted);
	if (p || m->count == MEMORY_PEERS_MAX)
		return p;
	p = calloc(1, sizeof(*p));
	if (!p)
		return NULL;
	memcpy(p->key, key, KEY_LEN);
	RB_INSERT(wg_memory_peers, &m->peers, p);
	m->count++;
	return p;
}

/* Exactly what uapi.c accepts: one that it refuses would keep the others from being given back. */
static bool is_endpoint(const char *value)
{
	char host[ENDPOINT_MAX], *end, *scope;
	unsigned char address[sizeof(struct in6_addr)];
	uint64_t number;
	bool v6 = value[0] == '[';

	if (strlen(value) >= sizeof(host))
		return false;
	strcpy(host, value + v6);
	end = strrchr(host, ':');
	if (!end || number_parse(end + 1, 1, UINT16_MAX, "a port", &number, NULL))
		return false;
	if (v6 && (end == host || *--end != ']'))
		return false;
	*end = 0;
	scope = v6 ? strchr(host, '%') : NULL;
	if (scope) {
		*scope++ = 0;
		if (number_parse(scope, 1, UINT32_MAX, "an interface", &number, NULL))
			return false;
	}
	return inet_pton(v6 ? AF_INET6 : AF_INET, host, address) == 1;
}

static void learn_line(struct wg_memory *m, struct peer **peer, const char *key, const char *value)
{
	uint8_t bytes[KEY_LEN];

	if (!strcmp(key, "public_key"))
		*peer = wg_hex_parse(value, bytes, KEY_LEN) ? find_or_add(m, bytes) : NULL;
	else if (!*peer)
		return;
	else if (!strcmp(key, "endpoint") && is_endpoint(value))
		strcpy((*peer)->endpoint, value);
	else if (!strcmp(key, "received_tai64n") && wg_hex_parse(value, bytes, TAI64N_LEN))
		memcpy((*peer)->received, bytes, TAI64N_LEN);
	else if (!strcmp(key, "sent_tai64n") && wg_hex_parse(value, bytes, TAI64N_LEN))
		memcpy((*peer)->sent, bytes, TAI64N_LEN);
}

void wg_memory_learn(struct wg_memory *m, const char *text)
{
	struct peer *peer = NULL;
	char line[256];

	while (*text) {
		size_t len = strcspn(text, "\n");
		char *equals;

		if (len < sizeof(line)) {
			memcpy(line, text, len);
			line[len] = 0;
			equals = strchr(line, '=');
			if (equals) {
				*equals = 0;
				learn_line(m, &peer, line, equals + 1);
			}
		}
		text += len + (text[len] == '\n');
	}
	explicit_bzero(line, sizeof(line)); /* a GET has keys in it */
}

size_t wg_memory_count(const struct wg_memory *m)
{
	return m->count;
}

void wg_memory_recall(const struct wg_memory *m, struct wg_text *to)
{
	static const uint8_t never[TAI64N_LEN];
	struct peer *p;

	RB_FOREACH(p, wg_memory_peers, (struct wg_memory_peers *)&m->peers)
	{
		if (!memcmp(p->received, never, TAI64N_LEN) && !memcmp(p->sent, never, TAI64N_LEN))
			continue;
		wg_text_add_hex(to, "public_key", p->key, KEY_LEN);
		wg_text_add(to, "update_only=true\n");
		wg_text_add_hex(to, "received_tai64n", p->received, TAI64N_LEN);
		wg_text_add_hex(to, "sent_tai64n", p->sent, TAI64N_LEN);
		if (p->endpoint[0])
			wg_text_add(to, "endpoint=%s\nhandshake=1\n", p->endpoint);
	}
}
