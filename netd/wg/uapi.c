/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The configuration protocol; see uapi.h.  Each key is a row of a table: its name, whom it is about
 * (device, peer, new peer), who may say it, what it does.  `public_key` begins a peer: all that
 * follows is that peer's.  A peer that is ourselves, that `update_only` finds missing, or that was
 * removed is passed over to its end, as stock implementations do.  Errors repeat no value: it may
 * be a key.
 */
#include "netd/wg/uapi.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include "common/base/units.h"

#define TAI64N_LEN 12
#define NS_PER_S   1000000000u
#define NS_PER_MS  1000000u
/* A name that may be shown: anything else could be a key in the wrong place. */
#define NAME_MAX_SHOWN 32
#define NAME_LETTERS   "abcdefghijklmnopqrstuvwxyz_"

struct setting {
	struct uapi_device *d;
	struct uapi_wish *wish;
	uint64_t now_ns;
	uint64_t peer; /* VPN_NO_PEER: passed over */
	bool in_peer, created;
	struct vpn_peer_state state;
	struct err *err;
};

static int parse_key(const struct setting *s, const char *value, uint8_t ret[VPN_KEY_LEN])
{
	if (wg_hex_parse(value, ret, VPN_KEY_LEN))
		return 0;
	return err_set(s->err, -EINVAL, "expected a key as 64 hex digits");
}

static int parse_number(const struct setting *s, const char *value, uint64_t max, uint64_t *ret)
{
	if (!number_parse(value, 0, max, "a number", ret, NULL))
		return 0;
	return err_set(s->err, -EINVAL, "expected a number from 0 to %llu",
		       (unsigned long long)max);
}

/* ---- device ---- */

static int set_private_key(struct setting *s, const char *value)
{
	uint8_t key[VPN_KEY_LEN];
	int r = parse_key(s, value, key);

	if (!r)
		r = vpn_set_private_key(s->d->vpn, key, s->now_ns, NULL);
	OPENSSL_cleanse(key, sizeof(key));
	return r;
}

/* Other sockets are made when all is applied: ask for what differs from what there is. */
static void wish_sockets(struct setting *s, uint16_t port, uint32_t mark)
{
	s->wish->listen_port = port;
	s->wish->fwmark = mark;
	s->wish->bind = port != s->d->listen_port || mark != s->d->fwmark;
}

static int set_listen_port(struct setting *s, const char *value)
{
	uint64_t port;
	int r = parse_number(s, value, UINT16_MAX, &port);

	if (!r)
		wish_sockets(s, (uint16_t)port, s->wish->fwmark);
	return r;
}

static int set_fwmark(struct setting *s, const char *value)
{
	char *end;
	unsigned long long mark;

	errno = 0;
	mark = strtoull(value, &end, 0);
	if (errno || *end || end == value || *value == '-' || mark > UINT32_MAX)
		return err_set(s->err, -EINVAL, "expected a mark of 32 bits");
	wish_sockets(s, s->wish->listen_port, (uint32_t)mark);
	return 0;
}

static int set_mtu(struct setting *s, const char *value)
{
	uint64_t mtu;
	int r = parse_number(s, value, UINT16_MAX, &mtu);

	if (r)
		return r;
	s->wish->set_mtu = true;
	s->wish->mtu = (uint16_t)mtu;
	return 0;
}

static int need_true(const struct setting *s, const char *value)
{
	return strcmp(value, "true") ? err_set(s->err, -EINVAL, "expected \"true\"") : 0;
}

static int set_replace_peers(struct setting *s, const char *value)
{
	int r = need_true(s, value);
	uint64_t peer;

	if (r)
		return r;
	while ((peer = vpn_peer_next(s->d->vpn, VPN_NO_PEER)) != VPN_NO_PEER)
		vpn_peer_remove(s->d->vpn, peer);
	return 0;
}

/* ---- peer ---- */

static int begin_peer(struct setting *s, const char *value)
{
	uint8_t key[VPN_KEY_LEN];
	int r = parse_key(s, value, key);

	if (r)
		return r;
	s->in_peer = true;
	s->state = (struct vpn_peer_state){ 0 };
	r = vpn_peer_add(s->d->vpn, key, s->now_ns, &s->peer, s->err);
	s->created = !r;
	if (r == -EADDRINUSE)
		s->peer = VPN_NO_PEER;
	return r == -EEXIST || r == -EADDRINUSE ? 0 : r;
}

static int set_remove(struct setting *s, const char *value)
{
	int r = need_true(s, value);

	if (!r)
		r = vpn_peer_remove(s->d->vpn, s->peer);
	s->peer = VPN_NO_PEER;
	return r;
}

static int set_update_only(struct setting *s, const char *value)
{
	int r = need_true(s, value);

	return r || !s->created ? r : set_remove(s, value);
}

static int set_preshared_key(struct setting *s, const char *value)
{
	uint8_t key[VPN_KEY_LEN];
	int r = parse_key(s, value, key);

	if (!r)
		r = vpn_peer_set_psk(s->d->vpn, s->peer, key);
	OPENSSL_cleanse(key, sizeof(key));
	return r;
}

/* "192.0.2.1:51820" or "[2001:db8::1%eth0]:51820" */
static bool parse_endpoint(const char *value, struct vpn_endpoint *ret)
{
	char host[INET6_ADDRSTRLEN + IF_NAMESIZE + 2];
	const char *colon = strrchr(value, ':');
	size_t len = colon ? (size_t)(colon - value) : 0;
	uint64_t port;
	char *scope;

	*ret = (struct vpn_endpoint){ 0 };
	if (!len || number_parse(colon + 1, 1, UINT16_MAX, "a port", &port, NULL))
		return false;
	if (value[0] == '[' && value[len - 1] == ']') {
		value++;
		len -= 2;
		ret->v6.sin6_family = AF_INET6;
		ret->v6.sin6_port = htons((uint16_t)port);
	} else {
		ret->v4.sin_family = AF_INET;
		ret->v4.sin_port = htons((uint16_t)port);
	}
	if (len >= sizeof(host))
		return false;
	memcpy(host, value, len);
	host[len] = 0;
	if (ret->sa.sa_family == AF_INET)
		return inet_pton(AF_INET, host, &ret->v4.sin_addr) == 1;
	scope = strchr(host, '%');
	if (scope) {
		uint64_t index;

		*scope++ = 0;
		/* Its number: names cannot be looked up behind the system call filter. */
		if (number_parse(scope, 1, UINT32_MAX, "an interface", &index, NULL))
			return false;
		ret->v6.sin6_scope_id = (uint32_t)index;
	}
	if (inet_pton(AF_INET6, host, &ret->v6.sin6_addr) != 1)
		return false;
	vpn_endpoint_normalize(ret);
	return true;
}

static int set_endpoint(struct setting *s, const char *value)
{
	struct vpn_endpoint to;

	if (!parse_endpoint(value, &to))
		return err_set(s->err, -EINVAL, "expected ADDRESS:PORT or [ADDRESS]:PORT, numeric");
	return vpn_peer_set_endpoint(s->d->vpn, s->peer, &to, s->now_ns);
}

static int set_keepalive(struct setting *s, const char *value)
{
	uint64_t interval_s;
	int r = parse_number(s, value, UINT16_MAX, &interval_s);

	return r ? r : vpn_peer_set_keepalive(s->d->vpn, s->peer, (uint16_t)interval_s, s->now_ns);
}

static int set_replace_allowed_ips(struct setting *s, const char *value)
{
	int r = need_true(s, value);

	return r ? r : vpn_allowed_clear(s->d->vpn, s->peer);
}

static int set_allowed_ip(struct setting *s, const char *value)
{
	bool remove = value[0] == '-';
	struct prefix p;
	int r;

	if (prefix_parse(value + (remove || value[0] == '+'), &p, NULL))
		return err_set(s->err, -EINVAL, "expected ADDRESS/LENGTH");
	if (!remove)
		return vpn_allowed_add(s->d->vpn, s->peer, &p);
	r = vpn_allowed_remove(s->d->vpn, s->peer, &p);
	return r == -ENOENT ? 0 : r;
}

static int set_protocol_version(struct setting *s, const char *value)
{
	return strcmp(value, "1") ? err_set(s->err, -EINVAL, "only version 1 is known") : 0;
}

static int set_successor(struct setting *s, const char *value)
{
	static const uint8_t none[VPN_KEY_LEN];
	uint8_t key[VPN_KEY_LEN];
	uint64_t successor = VPN_NO_PEER;
	int r = parse_key(s, value, key);

	if (r)
		return r;
	if (memcmp(key, none, sizeof(key))) {
		successor = vpn_peer_find(s->d->vpn, key);
		if (successor == VPN_NO_PEER)
			return err_set(s->err, -ENOENT, "the successor is no peer");
	}
	return vpn_peer_set_successor(s->d->vpn, s->peer, successor);
}

static int set_handshake(struct setting *s, const char *value)
{
	(void)vpn_peer_handshake(s->d->vpn, s->peer, s->now_ns); /* without an endpoint: none */
	return 0;
}

static int set_timestamp(struct setting *s, const char *value, uint8_t *field)
{
	if (!wg_hex_parse(value, field, TAI64N_LEN))
		return err_set(s->err, -EINVAL, "expected a timestamp as 24 hex digits");
	return vpn_peer_set_state(s->d->vpn, s->peer, &s->state);
}

static int set_received_tai64n(struct setting *s, const char *value)
{
	return set_timestamp(s, value, s->state.received_tai64n);
}

static int set_sent_tai64n(struct setting *s, const char *value)
{
	return set_timestamp(s, value, s->state.sent_tai64n);
}

/* ---- the table ---- */

enum about { DEVICE, PEER, NEW_PEER };

static const struct row {
	const char *key;
	enum about about;
	bool trusted;
	int (*set)(struct setting *s, const char *value);
} rows[] = {
	{ "private_key", DEVICE, false, set_private_key },
	{ "listen_port", DEVICE, false, set_listen_port },
	{ "fwmark", DEVICE, false, set_fwmark },
	{ "replace_peers", DEVICE, false, set_replace_peers },
	{ "mtu", DEVICE, true, set_mtu },
	{ "public_key", NEW_PEER, false, begin_peer },
	{ "update_only", PEER, false, set_update_only },
	{ "remove", PEER, false, set_remove },
	{ "preshared_key", PEER, false, set_preshared_key },
	{ "endpoint", PEER, false, set_endpoint },
	{ "persistent_keepalive_interval", PEER, false, set_keepalive },
	{ "replace_allowed_ips", PEER, false, set_replace_allowed_ips },
	{ "allowed_ip", PEER, false, set_allowed_ip },
	{ "protocol_version", PEER, false, set_protocol_version },
	{ "successor", PEER, true, set_successor },
	{ "handshake", PEER, true, set_handshake },
	{ "received_tai64n", PEER, true, set_received_tai64n },
	{ "sent_tai64n", PEER, true, set_sent_tai64n },
};

static const struct row *find_row(const char *key, bool trusted)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (!strcmp(rows[i].key, key) && (trusted || !rows[i].trusted))
			return &rows[i];
	return NULL;
}

static int set_line(struct setting *s, char *line, bool trusted)
{
	char *value = strchr(line, '=');
	const struct row *row;
	int r;

	if (!value)
		return err_set(s->err, -EINVAL, "found a line without \"=\"");
	*value++ = 0;
	row = find_row(line, trusted);
	if (!row && strlen(line) <= NAME_MAX_SHOWN && !line[strspn(line, NAME_LETTERS)])
		return err_set(s->err, -EINVAL, "\"%s\" is not known", line);
	if (!row)
		return err_set(s->err, -EINVAL, "a setting of that name is not known");
	if (row->about == DEVICE && s->in_peer)
		return err_set(s->err, -EINVAL, "\"%s\" stands behind a peer", line);
	if (row->about == PEER && !s->in_peer)
		return err_set(s->err, -EINVAL, "\"%s\" stands before any peer", line);
	if (row->about == PEER && s->peer == VPN_NO_PEER)
		return 0;
	if (s->err)
		*s->err = (struct err){ 0 };
	r = row->set(s, value);
	if (r && s->err && !s->err->code)
		err_sys(s->err, r, "refused");
	return r ? err_context(s->err, "%s", line) : 0;
}

int uapi_set(struct uapi_device *d, char *text, bool trusted, uint64_t now_ns,
	     struct uapi_wish *ret_wish, struct err *err)
{
	struct err own = { 0 };
	struct setting s = { .d = d, .wish = ret_wish, .now_ns = now_ns, .err = err ? err : &own };
	char *line = text, *end;
	int r = 0;

	*ret_wish = (struct uapi_wish){ .listen_port = d->listen_port, .fwmark = d->fwmark };
	while (!r && *line) {
		size_t len;

		end = strchr(line, '\n');
		len = end ? (size_t)(end - line) : strlen(line);
		if (end)
			*end = 0;
		if (len)
			r = set_line(&s, line, trusted);
		OPENSSL_cleanse(line, len);
		line += len + !!end;
	}
	if (r)
		OPENSSL_cleanse(line, strlen(line));
	return r;
}

/* ---- answers ---- */

static void add_allowed(void *ctx, const struct prefix *p)
{
	char text[PREFIX_TEXT_MAX];

	wg_text_add(ctx, "allowed_ip=%s\n", prefix_format(p, text));
}

static void add_endpoint(const struct vpn_endpoint *e, struct wg_text *to)
{
	char host[INET6_ADDRSTRLEN];

	if (e->sa.sa_family == AF_INET) {
		inet_ntop(AF_INET, &e->v4.sin_addr, host, sizeof(host));
		wg_text_add(to, "endpoint=%s:%u\n", host, ntohs(e->v4.sin_port));
	} else if (e->sa.sa_family == AF_INET6) {
		inet_ntop(AF_INET6, &e->v6.sin6_addr, host, sizeof(host));
		if (e->v6.sin6_scope_id)
			wg_text_add(to, "endpoint=[%s%%%u]:%u\n", host, e->v6.sin6_scope_id,
				    ntohs(e->v6.sin6_port));
		else
			wg_text_add(to, "endpoint=[%s]:%u\n", host, ntohs(e->v6.sin6_port));
	}
}

static void add_trusted_peer(const struct uapi_device *d, uint64_t peer,
			     const struct vpn_peer_info *info, uint64_t now_ns, struct wg_text *to)
{
	struct vpn_peer_info successor;
	struct vpn_peer_state state;

	if (!vpn_peer_get_state(d->vpn, peer, &state)) {
		wg_text_add_hex(to, "received_tai64n", state.received_tai64n, TAI64N_LEN);
		wg_text_add_hex(to, "sent_tai64n", state.sent_tai64n, TAI64N_LEN);
	}
	wg_text_add(to, "tx_packets=%llu\nrx_packets=%llu\n", (unsigned long long)info->tx_packets,
		    (unsigned long long)info->rx_packets);
	wg_text_add(to, "rx_lost=%llu\nrx_refused=%llu\n", (unsigned long long)info->rx_lost,
		    (unsigned long long)info->rx_refused);
	wg_text_add(to, "handshakes=%llu\nsession=%d\n", (unsigned long long)info->handshakes,
		    info->session);
	if (info->last_received_ns)
		wg_text_add(to, "last_received_ago_ms=%llu\n",
			    (unsigned long long)((now_ns - info->last_received_ns) / NS_PER_MS));
	if (info->successor != VPN_NO_PEER &&
	    !vpn_peer_get_info(d->vpn, info->successor, &successor)) {
		wg_text_add_hex(to, "successor", successor.public_key, VPN_KEY_LEN);
		OPENSSL_cleanse(&successor, sizeof(successor));
	}
}

static void add_peer(const struct uapi_device *d, uint64_t peer, bool trusted, uint64_t now_ns,
		     struct wg_text *to)
{
	struct vpn_peer_info info;

	if (vpn_peer_get_info(d->vpn, peer, &info))
		return;
	wg_text_add_hex(to, "public_key", info.public_key, VPN_KEY_LEN);
	wg_text_add_hex(to, "preshared_key", info.psk, VPN_KEY_LEN);
	wg_text_add(to, "protocol_version=1\n");
	add_endpoint(&info.endpoint, to);
	wg_text_add(to, "last_handshake_time_sec=%llu\nlast_handshake_time_nsec=%llu\n",
		    (unsigned long long)(info.last_handshake_real_ns / NS_PER_S),
		    (unsigned long long)(info.last_handshake_real_ns % NS_PER_S));
	wg_text_add(to, "tx_bytes=%llu\nrx_bytes=%llu\n", (unsigned long long)info.tx_bytes,
		    (unsigned long long)info.rx_bytes);
	wg_text_add(to, "persistent_keepalive_interval=%u\n", info.keepalive_s);
	vpn_allowed_each(d->vpn, peer, add_allowed, to);
	if (trusted)
		add_trusted_peer(d, peer, &info, now_ns, to);
	OPENSSL_cleanse(&info, sizeof(info));
}

static void add_counters(const struct uapi_device *d, struct wg_text *to)
{
	struct vpn_counters c;

	vpn_get_counters(d->vpn, &c);
	for (unsigned v = 0; v < VPN_VERDICT_COUNT; v++)
		wg_text_add(to, "count_%s=%llu\n", vpn_verdict_name((enum vpn_verdict)v),
			    (unsigned long long)c.received[v]);
	wg_text_add(to, "count_under_load=%llu\ncount_gave_up=%llu\n",
		    (unsigned long long)c.under_load, (unsigned long long)c.gave_up);
}

void uapi_get(const struct uapi_device *d, bool trusted, uint64_t now_ns, struct wg_text *to)
{
	uint8_t key[VPN_KEY_LEN];

	if (vpn_get_private_key(d->vpn, key))
		wg_text_add_hex(to, "private_key", key, sizeof(key));
	OPENSSL_cleanse(key, sizeof(key));
	wg_text_add(to, "listen_port=%u\n", d->listen_port);
	if (d->fwmark)
		wg_text_add(to, "fwmark=%u\n", d->fwmark);
	if (trusted) {
		wg_text_add(to, "mtu=%u\naead=%s\n", d->mtu, vpn_aead_name(d->vpn));
		add_counters(d, to);
	}
	for (uint64_t peer = VPN_NO_PEER; (peer = vpn_peer_next(d->vpn, peer)) != VPN_NO_PEER;)
		add_peer(d, peer, trusted, now_ns, to);
}

void uapi_get_state(const struct uapi_device *d, uint64_t peer, struct wg_text *to)
{
	struct vpn_peer_info info;
	struct vpn_peer_state state;

	if (vpn_peer_get_info(d->vpn, peer, &info) || vpn_peer_get_state(d->vpn, peer, &state))
		return;
	wg_text_add_hex(to, "public_key", info.public_key, VPN_KEY_LEN);
	wg_text_add(to, "update_only=true\n");
	wg_text_add_hex(to, "received_tai64n", state.received_tai64n, TAI64N_LEN);
	wg_text_add_hex(to, "sent_tai64n", state.sent_tai64n, TAI64N_LEN);
	add_endpoint(&info.endpoint, to);
	wg_text_add(to, "handshake=1\n");
	OPENSSL_cleanse(&info, sizeof(info));
}
