/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is waited for while a tunnel runs: the address of a peer's name, a new key's first
 * handshake.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/daemon/log.h"
#include "netd/tunnels_private.h"

#define LOOK_MS	     5000 /* while there is something to wait for */
#define STALE_S	     180  /* a session ends with it */
#define ASK_FIRST_MS 5000
#define ASK_LAST_MS  300000

static const uint8_t zero_key[KEY_LEN];

/* --- names --------------------------------------------------------------------------------------
 */

void tunnels_look_later(struct tunnels *t)
{
	bool waits = false;

	for (struct one *o = t->first; o; o = o->next)
		for (size_t i = 0; i < o->known_count; i++) {
			const struct known *k = &o->known[i];
			struct endpoint e;
			bool named =
				k->text && endpoint_parse(k->text, &e, NULL) == 0 && !e.numeric;

			waits = waits || named || memcmp(k->old_key, zero_key, KEY_LEN) != 0;
		}
	for (struct one *o = t->first; o; o = o->next)
		waits = waits || o->rotates;
	for (size_t i = 0; i < t->want_count; i++)
		waits = waits || !tunnels_find(t, t->want[i].name);
	if (waits)
		loop_timer_set(t->look, LOOK_MS);
	else
		loop_timer_stop(t->look);
}

static void ask_name(struct one *o, struct known *k)
{
	k->asked_ms = loop_now_ms();
	k->wait_ms = k->wait_ms * 2 > ASK_LAST_MS ? ASK_LAST_MS : k->wait_ms * 2;
	if (resolver_ask(o->set->resolver, k->text) < 0)
		log_limited(LOG_LEVEL_WARNING, o->name, "tunnel",
			    "peer %s: no thread to ask for %s", k->name, k->text);
}

/* Numeric ones are known at once. */
void tunnels_find_endpoint(struct one *o, struct known *k)
{
	struct endpoint e;

	if (!k->text || endpoint_parse(k->text, &e, NULL) < 0 ||
	    endpoint_numeric(&e, &k->addr) == 0)
		return;
	k->wait_ms = ASK_FIRST_MS / 2;
	ask_name(o, k);
}

/* Another address than the one that did not answer, if there is one. */
static const union endpoint_addr *choose(const struct known *k, const union endpoint_addr *addrs,
					 size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (endpoint_addr_equal(&addrs[i], &k->addr))
			return &addrs[(i + 1) % count];
	return &addrs[0];
}

static void take_answer(struct one *o, struct known *k, const union endpoint_addr *addrs,
			size_t count, const char *why)
{
	struct err err = { 0 };
	char text[ENDPOINT_TEXT_MAX];

	if (!count) {
		o->unresolved_count++;
		snprintf(k->why, sizeof(k->why), "%s", why);
		log_limited(LOG_LEVEL_WARNING, o->name, k->name,
			    "peer %s: %s does not resolve: %s; trying again", k->name, k->text,
			    why);
		return;
	}
	k->why[0] = '\0';
	addrs = choose(k, addrs, count);
	if (endpoint_addr_equal(addrs, &k->addr) && k->told)
		return;
	k->addr = *addrs;
	k->told = false;
	if (o->want && wg_host_fd(o->host) >= 0 &&
	    (tunnels_sync_peers(o, o->want, &err) < 0 || tunnels_set_mtu(o, o->want, &err) < 0))
		log_limited(LOG_LEVEL_WARNING, o->name, k->name, "peer %s: %s", k->name, err.text);
	else
		log_info(o->name, "peer %s: %s is %s", k->name, k->text,
			 endpoint_format(addrs, text));
	tunnels_notice_death(o);
}

void tunnels_on_answer(void *ctx, const char *text, const union endpoint_addr *addrs, size_t count,
		       const char *why)
{
	struct tunnels *t = ctx;

	for (struct one *o = t->first; o; o = o->next)
		for (size_t i = 0; i < o->known_count; i++)
			if (o->known[i].text && strcmp(o->known[i].text, text) == 0)
				take_answer(o, &o->known[i], addrs, count, why);
}

static bool is_stale(const struct tunnel_view_peer *p)
{
	uint64_t now = (uint64_t)time(NULL);

	return !p || !p->handshake_s || now > p->handshake_s + STALE_S;
}

void tunnels_ask_stale(struct one *o, const struct tunnel_view *view)
{
	for (size_t i = 0; i < o->known_count; i++) {
		struct known *k = &o->known[i];
		struct endpoint e;

		if (!k->text || endpoint_parse(k->text, &e, NULL) < 0 || e.numeric)
			continue;
		if (!is_stale(tunnel_view_find(view, k->key)))
			k->wait_ms = ASK_FIRST_MS / 2;
		else if (loop_now_ms() - k->asked_ms >= k->wait_ms)
			ask_name(o, k);
	}
}

/* --- rotated keys
 * ---------------------------------------------------------------------------------
 */

void tunnels_retire(struct one *o, const struct tunnel_view *view)
{
	o->rotates = false;
	for (size_t i = 0; i < view->peer_count; i++) {
		const struct tunnel_view_peer *old = &view->peers[i];
		struct known *k = old->replaced ? tunnels_known(o, old->successor) : NULL;
		char text[160], hex[KEY_HEX_MAX];

		o->rotates = o->rotates || old->replaced;
		if (!k || !tunnel_view_retires(view, old, loop_now_ms(), &k->retire_ms))
			continue;
		snprintf(text, sizeof(text), "public_key=%s\nremove=true\n",
			 key_format_hex(old->key, hex));
		if (wg_host_set(o->host, text, NULL) < 0)
			continue;
		log_info(o->name, "peer %s: its old key is let go", k->name);
		memset(k->old_key, 0, KEY_LEN);
		k->retire_ms = 0;
	}
}
