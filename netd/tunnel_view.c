/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tunnels as text and back; see tunnel_view.h. */
#include "netd/tunnel_view.h"

#include <errno.h>
#include <inttypes.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "netd/wg/text.h"

static const uint8_t zero_key[KEY_LEN];

/* --- reading -------------------------------------------------------------------------------- */

static int compare_key(const void *key, const void *peer)
{
	return memcmp(key, ((const struct tunnel_view_peer *)peer)->key, KEY_LEN);
}

static int compare_peers(const void *a, const void *b)
{
	return compare_key(((const struct tunnel_view_peer *)a)->key, b);
}

struct tunnel_view_peer *tunnel_view_find(const struct tunnel_view *v, const uint8_t key[KEY_LEN])
{
	if (!v->peer_count)
		return NULL;
	return bsearch(key, v->peers, v->peer_count, sizeof(*v->peers), compare_key);
}

static int add_peer(struct tunnel_view *v, size_t *capacity, const char *key)
{
	if (v->peer_count == *capacity) {
		size_t more = *capacity ? *capacity * 2 : 16;
		struct tunnel_view_peer *p = calloc(more, sizeof(*p));

		if (!p)
			return -ENOMEM;
		if (v->peer_count)
			memcpy(p, v->peers, v->peer_count * sizeof(*p));
		if (v->peers)
			OPENSSL_cleanse(v->peers, v->peer_count * sizeof(*p));
		free(v->peers);
		v->peers = p;
		*capacity = more;
	}
	v->peers[v->peer_count++].heard_ms = UINT64_MAX;
	return key_parse_hex(key, v->peers[v->peer_count - 1].key) < 0 ? -EPROTO : 0;
}

static int add_allowed(struct tunnel_view_peer *p, const char *text)
{
	if (p->allowed_count == p->allowed_capacity) {
		size_t more = p->allowed_capacity ? p->allowed_capacity * 2 : 4;
		struct prefix *v = reallocarray(p->allowed, more, sizeof(*v));

		if (!v)
			return -ENOMEM;
		p->allowed = v;
		p->allowed_capacity = more;
	}
	return prefix_parse(text, &p->allowed[p->allowed_count++], NULL) < 0 ? -EPROTO : 0;
}

static uint64_t number(const char *text)
{
	return strtoull(text, NULL, 10);
}

static int take_of_peer(struct tunnel_view_peer *p, const char *key, const char *value)
{
	const struct {
		const char *key;
		uint64_t *to;
	} numbers[] = {
		{ "last_handshake_time_sec", &p->handshake_s },
		{ "tx_bytes", &p->tx_bytes },
		{ "rx_bytes", &p->rx_bytes },
		{ "tx_packets", &p->tx_packets },
		{ "rx_packets", &p->rx_packets },
		{ "rx_lost", &p->rx_lost },
		{ "rx_refused", &p->rx_refused },
		{ "handshakes", &p->handshakes },
		{ "last_received_ago_ms", &p->heard_ms },
	};

	for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++)
		if (strcmp(key, numbers[i].key) == 0) {
			*numbers[i].to = number(value);
			return 0;
		}
	if (strcmp(key, "allowed_ip") == 0)
		return add_allowed(p, value);
	if (strcmp(key, "preshared_key") == 0)
		return key_parse_hex(value, p->psk) < 0 ? -EPROTO : 0;
	if (strcmp(key, "successor") == 0) {
		p->replaced = true;
		return key_parse_hex(value, p->successor) < 0 ? -EPROTO : 0;
	}
	if (strcmp(key, "endpoint") == 0)
		snprintf(p->endpoint, sizeof(p->endpoint), "%s", value);
	else if (strcmp(key, "persistent_keepalive_interval") == 0)
		p->keepalive_s = (uint16_t)number(value);
	else if (strcmp(key, "session") == 0)
		p->session = number(value) != 0;
	return 0;
}

static int take_of_device(struct tunnel_view *v, const char *key, const char *value)
{
	if (strcmp(key, "private_key") == 0)
		return key_parse_hex(value, v->private_key) < 0 ? -EPROTO : 0;
	if (strcmp(key, "listen_port") == 0)
		v->port = (uint16_t)number(value);
	else if (strcmp(key, "fwmark") == 0)
		v->mark = (uint32_t)number(value);
	else if (strcmp(key, "mtu") == 0)
		v->mtu = (uint16_t)number(value);
	else if (strcmp(key, "aead") == 0)
		snprintf(v->aead, sizeof(v->aead), "%s", value);
	else if (strncmp(key, "count_", 6) == 0 && v->counter_count < TUNNEL_COUNTER_MAX) {
		snprintf(v->counters[v->counter_count].name, sizeof(v->counters[0].name), "%s",
			 key + 6);
		v->counters[v->counter_count++].value = number(value);
	}
	return 0;
}

int tunnel_view_parse(char *text, struct tunnel_view *ret)
{
	size_t capacity = 0;
	char *save = NULL;
	int r = 0;

	*ret = (struct tunnel_view){ 0 };
	for (char *line = strtok_r(text, "\n", &save); line && r == 0;
	     line = strtok_r(NULL, "\n", &save)) {
		char *value = strchr(line, '=');

		if (!value) {
			r = -EPROTO;
			break;
		}
		*value++ = '\0';
		if (strcmp(line, "public_key") == 0)
			r = add_peer(ret, &capacity, value);
		else if (ret->peer_count)
			r = take_of_peer(&ret->peers[ret->peer_count - 1], line, value);
		else
			r = take_of_device(ret, line, value);
	}
	if (r < 0)
		tunnel_view_clear(ret);
	else if (ret->peer_count)
		qsort(ret->peers, ret->peer_count, sizeof(*ret->peers), compare_peers);
	return r;
}

void tunnel_view_clear(struct tunnel_view *v)
{
	for (size_t i = 0; i < v->peer_count; i++)
		free(v->peers[i].allowed);
	if (v->peers)
		OPENSSL_cleanse(v->peers, v->peer_count * sizeof(*v->peers));
	free(v->peers);
	OPENSSL_cleanse(v, sizeof(*v));
}

bool tunnel_view_retires(const struct tunnel_view *v, const struct tunnel_view_peer *old,
			 uint64_t now_ms, uint64_t *at_ms)
{
	const struct tunnel_view_peer *new =
		old->replaced ? tunnel_view_find(v, old->successor) : NULL;

	if (!new || !new->allowed_count || old->allowed_count) {
		*at_ms = 0; /* not heard yet, or the networks came back */
		return false;
	}
	if (!*at_ms)
		*at_ms = now_ms + TUNNEL_RETIRE_MS;
	return now_ms >= *at_ms;
}

/* --- differences ----------------------------------------------------------------------------- */

static int compare_want(const void *key, const void *peer)
{
	return memcmp(key, ((const struct tunnel_peer_want *)peer)->key, KEY_LEN);
}

const struct tunnel_peer_want *tunnel_want_find(const struct tunnel_want *w,
						const uint8_t key[KEY_LEN])
{
	if (!w->peer_count)
		return NULL;
	return bsearch(key, w->peers, w->peer_count, sizeof(*w->peers), compare_want);
}

struct delta {
	const struct tunnel_want *want;
	const struct tunnel_view *view;
	struct wg_text text;
	void (*line)(void *ctx, const char *text);
	void *ctx;
};

static void __attribute__((format(printf, 2, 3))) say(struct delta *d, const char *fmt, ...)
{
	char text[160];
	va_list ap;

	if (!d->line)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	d->line(d->ctx, text);
}

static void put_key(struct delta *d, const char *name, const uint8_t key[KEY_LEN])
{
	wg_text_add_hex(&d->text, name, key, KEY_LEN);
}

/* Its lines begin with whose they are, once. */
struct head {
	const uint8_t *key;
	bool written;
};

static void begin(struct delta *d, struct head *h)
{
	if (h->written)
		return;
	put_key(d, "public_key", h->key);
	h->written = true;
}

static bool has_prefix(const struct prefix *v, size_t count, const struct prefix *p)
{
	for (size_t i = 0; i < count; i++)
		if (prefix_compare(&v[i], p) == 0)
			return true;
	return false;
}

/* Adding takes a network from whoever has it; taking one away means to say all again. */
static bool put_allowed(struct delta *d, struct head *h, const struct prefix *want, size_t count,
			const struct tunnel_view_peer *have)
{
	char text[PREFIX_TEXT_MAX];
	bool less = false, changed = false;

	for (size_t i = 0; have && i < have->allowed_count; i++)
		less = less || !has_prefix(want, count, &have->allowed[i]);
	if (less) {
		begin(d, h);
		wg_text_add(&d->text, "replace_allowed_ips=true\n");
		changed = true;
	}
	for (size_t i = 0; i < count; i++) {
		if (!less && have && has_prefix(have->allowed, have->allowed_count, &want[i]))
			continue;
		begin(d, h);
		wg_text_add(&d->text, "allowed_ip=%s\n", prefix_format(&want[i], text));
		changed = true;
	}
	return changed;
}

static void put_values(struct delta *d, struct head *h, const struct tunnel_peer_want *w,
		       const struct tunnel_peer_more *more, const struct tunnel_view_peer *have)
{
	static const struct tunnel_view_peer nothing;
	const struct tunnel_view_peer *v = have ? have : &nothing;
	char text[ENDPOINT_TEXT_MAX];

	if (more && CRYPTO_memcmp(more->psk, v->psk, KEY_LEN) != 0) {
		begin(d, h);
		put_key(d, "preshared_key", more->psk);
		if (have)
			say(d, "~ peer %s preshared key", w->name);
	}
	if (more && more->endpoint.sa.sa_family &&
	    strcmp(endpoint_format(&more->endpoint, text), v->endpoint) != 0) {
		begin(d, h);
		wg_text_add(&d->text, "endpoint=%s\n", text);
		if (have)
			say(d, "~ peer %s endpoint %s", w->name, text);
	}
	if (w->keepalive_s != v->keepalive_s) {
		begin(d, h);
		wg_text_add(&d->text, "persistent_keepalive_interval=%u\n", w->keepalive_s);
		if (have)
			say(d, "~ peer %s keepalive %u s -> %u s", w->name, v->keepalive_s,
			    w->keepalive_s);
	}
}

/*
 * While a key is rotated, the networks are the old key's, until netd-wg moves them: `holder` is
 * who has them.
 */
static void put_peer(struct delta *d, const struct tunnel_peer_want *w,
		     const struct tunnel_peer_more *more)
{
	const struct tunnel_view_peer *have = tunnel_view_find(d->view, w->key), *old = NULL;
	struct head own = { .key = w->key }, former = { 0 };
	bool rotates = more && memcmp(more->old_key, zero_key, KEY_LEN) != 0;

	for (size_t i = 0; i < d->view->peer_count; i++)
		if (d->view->peers[i].replaced &&
		    memcmp(d->view->peers[i].successor, w->key, KEY_LEN) == 0)
			old = &d->view->peers[i];
	if (!old && rotates && !have)
		old = tunnel_view_find(d->view, more->old_key);
	if (old && have && have->allowed_count)
		old = NULL; /* it has taken over */
	if (!have) {
		begin(d, &own);
		say(d,
		    old ? "~ peer %s key (the old one stays until the new one was heard)"
			: "+ peer %s",
		    w->name);
	}
	put_values(d, &own, w, more, have);
	if (!old) {
		if (put_allowed(d, &own, w->allowed, w->allowed_count, have) && have)
			say(d, "~ peer %s allowed", w->name);
		return;
	}
	former.key = old->key;
	if (put_allowed(d, &former, w->allowed, w->allowed_count, old))
		say(d, "~ peer %s allowed", w->name);
	if (!old->replaced) {
		begin(d, &former);
		put_key(d, "successor", w->key);
	}
}

/* Nobody wants it, nor its successor. */
static bool goes(const struct delta *d, const struct tunnel_view_peer *p,
		 const struct tunnel_peer_more *more)
{
	if (tunnel_want_find(d->want, p->key) ||
	    (p->replaced && tunnel_want_find(d->want, p->successor)))
		return false;
	for (size_t i = 0; more && i < d->want->peer_count; i++)
		if (memcmp(more[i].old_key, p->key, KEY_LEN) == 0 &&
		    !tunnel_view_find(d->view, d->want->peers[i].key))
			return false;
	return true;
}

int tunnel_delta(const struct tunnel_want *want, const uint8_t private_key[KEY_LEN],
		 const struct tunnel_peer_more *more, const struct tunnel_view *view,
		 void (*line)(void *ctx, const char *text), void *ctx, char **ret_text)
{
	struct delta d = { .want = want, .view = view, .line = line, .ctx = ctx };
	char short_key[KEY_TEXT_MAX];

	if (CRYPTO_memcmp(private_key, view->private_key, KEY_LEN) != 0) {
		put_key(&d, "private_key", private_key);
		say(&d, "~ tunnel %s key", want->name);
	}
	for (size_t i = 0; i < view->peer_count; i++) {
		if (!goes(&d, &view->peers[i], more))
			continue;
		put_key(&d, "public_key", view->peers[i].key);
		wg_text_add(&d.text, "remove=true\n");
		say(&d, "- peer %.8s... of tunnel %s", key_format(view->peers[i].key, short_key),
		    want->name);
	}
	for (size_t i = 0; i < want->peer_count; i++)
		put_peer(&d, &want->peers[i], more ? &more[i] : NULL);
	if (d.text.failed) {
		wg_text_clear(&d.text);
		return -ENOMEM;
	}
	*ret_text = d.text.data; /* NULL: nothing was added */
	return 0;
}

void tunnel_text_free(char *text)
{
	if (text)
		OPENSSL_cleanse(text, strlen(text));
	free(text);
}
