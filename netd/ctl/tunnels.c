/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tunnels as JSON and as metrics; see tunnels.h. */
#include "netd/ctl/tunnels.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "vpn/vpn.h"

/* --- JSON ----------------------------------------------------------------------------------- */

static json_t *allowed_json(const struct tunnel_view_peer *p)
{
	json_t *list = json_array();
	char text[PREFIX_TEXT_MAX];

	for (size_t i = 0; i < p->allowed_count; i++)
		json_array_append_new(list, json_string(prefix_format(&p->allowed[i], text)));
	return list;
}

/* "up": heard within the life of a session; "silent": not; "rotating": an old key on its way out */
static const char *state_of(const struct tunnel_view_peer *p)
{
	if (p->replaced)
		return "rotating";
	return p->session && p->heard_ms < 180000 ? "up" : "silent";
}

static json_t *peer_json(struct tunnels *t, const struct tunnel_want *w,
			 const struct tunnel_view_peer *p)
{
	const struct tunnel_peer_want *want =
		w ? tunnel_want_find(w, p->replaced ? p->successor : p->key) : NULL;
	const char *why = w ? tunnels_why_unresolved(t, w->name, p->key) : "";
	char key[KEY_TEXT_MAX];
	json_t *o = json_pack("{s:s, s:s, s:s, s:o, s:b}", "peer", want ? want->name : "",
			      "public_key", key_format(p->key, key), "state", state_of(p),
			      "allowed", allowed_json(p), "session", p->session);
	const struct {
		const char *name;
		uint64_t value;
	} numbers[] = {
		{ "tx_bytes", p->tx_bytes },	 { "rx_bytes", p->rx_bytes },
		{ "tx_packets", p->tx_packets }, { "rx_packets", p->rx_packets },
		{ "rx_lost", p->rx_lost },	 { "rx_refused", p->rx_refused },
		{ "handshakes", p->handshakes }, { "keepalive_s", p->keepalive_s },
	};

	for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++)
		json_object_set_new(o, numbers[i].name, json_integer((json_int_t)numbers[i].value));
	if (p->endpoint[0])
		json_object_set_new(o, "endpoint", json_string(p->endpoint));
	if (want && want->endpoint)
		json_object_set_new(o, "endpoint_given", json_string(want->endpoint));
	if (why[0])
		json_object_set_new(o, "unresolved", json_string(why));
	if (p->handshake_s)
		json_object_set_new(
			o, "handshake_age_ms",
			json_integer((json_int_t)(time(NULL) - (time_t)p->handshake_s) * 1000));
	if (p->heard_ms != UINT64_MAX)
		json_object_set_new(o, "heard_age_ms", json_integer((json_int_t)p->heard_ms));
	return o;
}

static json_t *tunnel_json(struct tunnels *t, const char *name, struct err *err)
{
	const struct tunnel_want *w = tunnels_wanted(t, name);
	json_t *o, *counts = json_object(), *peers = json_array();
	uint8_t public[KEY_LEN];
	struct tunnel_facts facts = { 0 };
	struct tunnel_view view;
	char key[KEY_TEXT_MAX];
	int r = tunnels_look(t, name, &facts, &view, err);

	o = json_pack("{s:s, s:s, s:s, s:i, s:I, s:I}", "tunnel", name, "engine", "user", "state",
		      r < 0 || !facts.pid ? "down" : "up", "pid", (int)facts.pid, "crashes",
		      (json_int_t)facts.crash_count, "unresolved_names",
		      (json_int_t)facts.unresolved_count);
	for (size_t i = 0; i < view.counter_count; i++)
		json_object_set_new(counts, view.counters[i].name,
				    json_integer((json_int_t)view.counters[i].value));
	for (size_t i = 0; i < view.peer_count; i++)
		json_array_append_new(peers, peer_json(t, w, &view.peers[i]));
	if (r == 0 && facts.pid) {
		json_object_set_new(o, "listen_port", json_integer(view.port));
		json_object_set_new(o, "mtu", json_integer(view.mtu));
		json_object_set_new(o, "aead", json_string(view.aead));
		if (vpn_public_key(view.private_key, public) == 0)
			json_object_set_new(o, "public_key", json_string(key_format(public, key)));
	} else if (err && err->code) {
		json_object_set_new(o, "error", json_string(err->text));
	}
	json_object_set_new(o, "counts", counts);
	json_object_set_new(o, "peers", peers);
	tunnel_view_clear(&view);
	return o;
}

json_t *tunnels_json(struct tunnels *t, struct conf *c, const char *name, struct err *err)
{
	json_t *list = json_array();
	struct conf_section *s = c ? conf_section_first(conf_root(c), "tunnel") : NULL;

	for (; s; s = conf_section_next(s, "tunnel")) {
		struct err why = { 0 };

		if (!name || strcmp(s->title, name) == 0)
			json_array_append_new(list, tunnel_json(t, s->title, &why));
	}
	if (name && !json_array_size(list)) {
		err_set(err, -ENOENT, "there is no tunnel \"%.32s\"", name);
		json_decref(list);
		return NULL;
	}
	return list;
}

/* --- metrics -------------------------------------------------------------------------------- */

static const struct {
	const char *key, *name, *help;
	enum metrics_type type;
} peer_metrics[] = {
	{ "tx_bytes", "netd_peer_sent_bytes", "Sent to the peer, encrypted.", METRICS_COUNTER },
	{ "rx_bytes", "netd_peer_received_bytes", "Received from it.", METRICS_COUNTER },
	{ "tx_packets", "netd_peer_sent_packets", "Packets sent to it.", METRICS_COUNTER },
	{ "rx_packets", "netd_peer_received_packets", "Packets from it.", METRICS_COUNTER },
	{ "rx_lost", "netd_peer_lost_packets", "Packets of it that never came.", METRICS_COUNTER },
	{ "rx_refused", "netd_peer_refused_packets",
	  "Authenticated, but replayed, malformed or from a foreign source.", METRICS_COUNTER },
	{ "handshakes", "netd_peer_handshakes", "Handshakes that made a session.",
	  METRICS_COUNTER },
	{ "session", "netd_peer_sessions", "1 while there is a session.", METRICS_GAUGE },
};

static uint64_t number_of(const json_t *o, const char *key)
{
	const json_t *v = json_object_get(o, key);

	return json_is_true(v) ? 1 : (uint64_t)json_integer_value(v);
}

static const char *text_of(const json_t *o, const char *key)
{
	const char *text = json_string_value(json_object_get(o, key));

	return text ? text : "";
}

static void collect_peers(const json_t *all, struct metrics_writer *w)
{
	json_t *tunnel, *peer;
	size_t i, k;

	for (size_t m = 0; m < sizeof(peer_metrics) / sizeof(*peer_metrics); m++) {
		metrics_family(w, peer_metrics[m].name, peer_metrics[m].type, peer_metrics[m].help);
		json_array_foreach(all, i, tunnel)
			json_array_foreach(json_object_get(tunnel, "peers"), k, peer)
				metrics_u64(w, number_of(peer, peer_metrics[m].key), "tunnel",
					    text_of(tunnel, "tunnel"), "peer",
					    text_of(peer, "peer"), "public_key",
					    text_of(peer, "public_key"), NULL);
	}
	metrics_family(w, "netd_peer_handshake_age_seconds", METRICS_GAUGE,
		       "Since the last handshake.");
	json_array_foreach(all, i, tunnel)
		json_array_foreach(json_object_get(tunnel, "peers"), k,
				   peer) if (json_object_get(peer, "handshake_age_ms"))
			metrics_u64(w, number_of(peer, "handshake_age_ms") / 1000, "tunnel",
				    text_of(tunnel, "tunnel"), "peer", text_of(peer, "peer"),
				    "public_key", text_of(peer, "public_key"), NULL);
}

void tunnels_collect(struct tunnels *t, struct conf *c, struct metrics_writer *w)
{
	json_t *all = tunnels_json(t, c, NULL, NULL), *tunnel, *value;
	const char *key;
	size_t i;

	metrics_family(w, "netd_tunnel_crashes", METRICS_COUNTER, "Times that a netd-wg died.");
	json_array_foreach(all, i, tunnel) metrics_u64(w, number_of(tunnel, "crashes"), "tunnel",
						       text_of(tunnel, "tunnel"), NULL);
	metrics_family(w, "netd_tunnel_unresolved_names", METRICS_COUNTER,
		       "Questions for the address of a peer that had no answer.");
	json_array_foreach(all, i, tunnel) metrics_u64(w, number_of(tunnel, "unresolved_names"),
						       "tunnel", text_of(tunnel, "tunnel"), NULL);
	metrics_family(w, "netd_tunnel_messages", METRICS_COUNTER,
		       "Datagrams that came, by what they were.");
	json_array_foreach(all, i, tunnel)
		json_object_foreach(json_object_get(tunnel, "counts"), key, value)
			metrics_u64(w, (uint64_t)json_integer_value(value), "tunnel",
				    text_of(tunnel, "tunnel"), "kind", key, NULL);
	collect_peers(all, w);
	json_decref(all);
}
