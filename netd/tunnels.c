/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One `struct one` a tunnel:
 *
 *	prepare: fresh -------apply-------> in force --dies--> restart, backing off
 *		   `--abort: stopped	       `--gone from the config: stopped
 *
 * What netd-wg has is asked for before it is told anything (tunnel_delta()), so that the same
 * function serves a first start, a reload, a netd-wg that went on while netd was away, and one that
 * was started again.
 */
#include "netd/tunnels.h"

#include <dirent.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/cleanup.h"
#include "common/daemon/log.h"
#include "netd/tunnel_link.h"
#include "netd/wg/host.h"
#include "vpn/vpn.h"

#define RESTART_FIRST_MS 100 /* after a second death; the first is answered at once */
#define RESTART_LAST_MS	 10000
#define STABLE_MS	 10000 /* alive that long: the next death is a first one again */
#define LOOK_MS		 5000  /* while there is something to wait for */
#define STALE_S		 180   /* a session ends with it */
#define ASK_FIRST_MS	 5000
#define ASK_LAST_MS	 300000
#define RETIRE_S	 185 /* sessions of an old key have ended */
#define DEFAULT_RUN	 "/run/netd"

/* What is known of a peer beyond its configuration. */
struct known {
	uint8_t key[KEY_LEN];
	char name[IFNAMSIZ];
	char *text;		  /* of its endpoint; NULL: none */
	union endpoint_addr addr; /* family 0: not known yet */
	bool told;		  /* netd-wg has it */
	uint64_t asked_ms, wait_ms;
	char why[96];
	uint8_t old_key[KEY_LEN]; /* zero, or the key that it takes over from */
};

struct one {
	struct tunnels *set;
	char name[IFNAMSIZ];
	const struct tunnel_want *want; /* NULL: it is to go */
	struct wg_host *host;
	bool fresh; /* prepared, not yet in force */
	uint16_t port, old_port;
	uint32_t mark, old_mark;
	uint16_t mtu;
	sd_event_source *source;
	struct loop_timer *restart;
	uint64_t restart_ms, started_ms;
	struct known *known;
	size_t known_count;
	uint64_t crash_count, unresolved_count, retire_ms;
	struct one *next;
};

struct tunnels {
	struct loop *loop;
	struct nl *nl;
	char *run, *uapi;
	struct resolver *resolver;
	struct loop_timer *look;
	struct one *first;
	const struct tunnel_want *want; /* all, also those that could not be prepared */
	size_t want_count;
	bool swept; /* what an earlier netd left was looked for */
};

static const uint8_t zero_key[KEY_LEN];

/* --- the list -------------------------------------------------------------------------------- */

static struct one *find(struct tunnels *t, const char *name)
{
	struct one *o = t->first;

	while (o && strcmp(o->name, name) != 0)
		o = o->next;
	return o;
}

static void clear_known(struct known *v, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(v[i].text);
	free(v);
}

static void unlink_one(struct one *o)
{
	struct one **at = &o->set->first;

	while (*at != o)
		at = &(*at)->next;
	*at = o->next;
	sd_event_source_disable_unref(o->source);
	loop_timer_free(o->restart);
	clear_known(o->known, o->known_count);
	free(o);
}

static void stop(struct one *o)
{
	wg_host_stop(o->host);
	unlink_one(o);
}

static struct known *known_of(struct one *o, const uint8_t key[KEY_LEN])
{
	for (size_t i = 0; i < o->known_count; i++)
		if (memcmp(o->known[i].key, key, KEY_LEN) == 0)
			return &o->known[i];
	return NULL;
}

/* --- telling netd-wg -----------------------------------------------------------------------------
 */

static int view_of(struct one *o, struct tunnel_view *ret, struct err *err)
{
	char *text = NULL;
	int r = wg_host_get(o->host, &text, err);
	size_t len;

	if (r < 0)
		return r;
	len = strlen(text);
	r = tunnel_view_parse(text, ret);
	OPENSSL_cleanse(text, len);
	free(text);
	return r < 0 ? err_sys(err, r, "tunnel %s: what netd-wg says", o->name) : 0;
}

/* Pre-shared keys, endpoints and former keys, in the order of the peers. */
static int gather_more(struct one *o, const struct tunnel_want *w, struct tunnel_peer_more *more,
		       struct err *err)
{
	for (size_t i = 0; i < w->peer_count; i++) {
		const struct tunnel_peer_want *p = &w->peers[i];
		const struct known *k = known_of(o, p->key);
		int r = p->psk_file ? keyfile_read(p->psk_file, more[i].psk, err) : 0;

		if (r < 0)
			return err_context(err, "peer %s", p->name);
		if (!k)
			continue;
		if (!k->told)
			more[i].endpoint = k->addr;
		memcpy(more[i].old_key, k->old_key, KEY_LEN);
	}
	return 0;
}

static int tell(struct one *o, const struct tunnel_want *w, const struct tunnel_peer_more *more,
		const uint8_t private_key[KEY_LEN], struct err *err)
{
	struct tunnel_view view;
	char *text = NULL;
	int r = view_of(o, &view, err);

	if (r < 0)
		return r;
	r = tunnel_delta(w, private_key, more, &view, NULL, NULL, &text);
	if (r < 0)
		err_sys(err, r, "tunnel %s", o->name);
	if (r == 0 && text)
		r = wg_host_set(o->host, text, err);
	tunnel_text_free(text);
	tunnel_view_clear(&view);
	for (size_t i = 0; r == 0 && i < o->known_count; i++)
		o->known[i].told = o->known[i].told || o->known[i].addr.sa.sa_family != 0;
	return r;
}

static int sync_peers(struct one *o, const struct tunnel_want *w, struct err *err)
{
	struct tunnel_peer_more *more = calloc(w->peer_count + 1, sizeof(*more));
	uint8_t private_key[KEY_LEN] = { 0 };
	int r = more ? keyfile_read(w->key_file, private_key, err) : -ENOMEM;

	r = r < 0 ? r : gather_more(o, w, more, err);
	r = r < 0 ? r : tell(o, w, more, private_key, err);
	OPENSSL_cleanse(private_key, sizeof(private_key));
	if (more)
		OPENSSL_cleanse(more, (w->peer_count + 1) * sizeof(*more));
	free(more);
	return r;
}

static int set_mtu(struct one *o, const struct tunnel_want *w, struct err *err)
{
	CLEANUP_FREE union endpoint_addr *ways = calloc(o->known_count + 1, sizeof(*ways));
	uint16_t mtu = w->mtu;
	int r = 0;

	if (!ways)
		return -ENOMEM;
	for (size_t i = 0; i < o->known_count; i++)
		ways[i] = o->known[i].addr;
	if (!mtu)
		mtu = tunnel_link_mtu(ways, o->known_count, w->mark);
	if (mtu != o->mtu)
		r = wg_host_set_mtu(o->host, mtu, err);
	if (r == 0)
		o->mtu = mtu;
	return r;
}

/* All of it, for a netd-wg of whatever past. */
static int sync_all(struct one *o, const struct tunnel_want *w, struct err *err)
{
	size_t count;
	int r = sync_peers(o, w, err);

	r = r < 0 ? r : set_mtu(o, w, err);
	return r < 0 ? r : tunnel_link_sync(o->set->nl, w, true, NULL, NULL, &count, err);
}

/* --- a netd-wg that dies -------------------------------------------------------------------------
 */

static void watch(struct one *o);

static int start_again(struct one *o, struct err *err)
{
	int r = wg_host_restart(o->host, err);

	if (r < 0)
		return r;
	o->started_ms = loop_now_ms();
	o->mtu = 0;
	for (size_t i = 0; i < o->known_count; i++)
		o->known[i].told = false;
	watch(o);
	if (!o->want)
		return 0;
	r = sync_all(o, o->want, err);
	/* the last known endpoints, above what the configuration says */
	return r < 0 ? r : wg_host_restore(o->host, err);
}

static void restart_later(struct one *o)
{
	loop_timer_set(o->restart, o->restart_ms);
	o->restart_ms = o->restart_ms * 2 > RESTART_LAST_MS ? RESTART_LAST_MS : o->restart_ms * 2;
}

static void on_restart(void *ctx)
{
	struct one *o = ctx;
	struct err err = { 0 };

	if (start_again(o, &err) < 0) {
		log_limited(LOG_LEVEL_ERROR, o->name, "tunnel", "%s; trying again", err.text);
		restart_later(o);
	} else {
		log_info(o->name, "netd-wg (pid %d) carries the tunnel again",
			 (int)wg_host_pid(o->host));
	}
}

static void died(struct one *o)
{
	o->source = sd_event_source_disable_unref(o->source);
	o->crash_count++;
	log_limited(LOG_LEVEL_ERROR, o->name, "tunnel", "netd-wg died, starting it again");
	if (loop_now_ms() - o->started_ms > STABLE_MS) {
		o->restart_ms = RESTART_FIRST_MS;
		on_restart(o);
	} else {
		restart_later(o);
	}
}

static int on_readable(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct one *o = userdata;

	if (wg_host_process(o->host, NULL) < 0)
		died(o);
	return 0;
}

static void watch(struct one *o)
{
	int fd = wg_host_fd(o->host);

	o->source = sd_event_source_disable_unref(o->source);
	if (fd >= 0)
		sd_event_add_io(loop_event(o->set->loop), &o->source, fd, EPOLLIN, on_readable, o);
}

/* A call may have found it dead: then nobody will hear of it any more. */
static void notice_death(struct one *o)
{
	if (wg_host_fd(o->host) < 0 && o->source)
		died(o);
}

/* --- names --------------------------------------------------------------------------------------
 */

static void look_later(struct tunnels *t)
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
		waits = waits || o->retire_ms;
	for (size_t i = 0; i < t->want_count; i++)
		waits = waits || !find(t, t->want[i].name);
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
static void find_endpoint(struct one *o, struct known *k)
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
	    (sync_peers(o, o->want, &err) < 0 || set_mtu(o, o->want, &err) < 0))
		log_limited(LOG_LEVEL_WARNING, o->name, k->name, "peer %s: %s", k->name, err.text);
	else
		log_info(o->name, "peer %s: %s is %s", k->name, k->text,
			 endpoint_format(addrs, text));
	notice_death(o);
}

static void on_answer(void *ctx, const char *text, const union endpoint_addr *addrs, size_t count,
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

static void ask_stale_names(struct one *o, const struct tunnel_view *view)
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

/* The old half goes when the new one has its networks and the old sessions have ended. */
static void retire(struct one *o, const struct tunnel_view *view)
{
	uint64_t now = loop_now_ms();
	bool waiting = false;

	for (size_t i = 0; i < view->peer_count; i++) {
		const struct tunnel_view_peer *old = &view->peers[i];
		const struct tunnel_view_peer *new =
			old->replaced ? tunnel_view_find(view, old->successor) : NULL;
		char text[160], hex[KEY_HEX_MAX];
		struct known *k;

		if (!old->replaced)
			continue;
		waiting = true;
		if (!new || !new->allowed_count || old->allowed_count)
			continue; /* it was not heard yet */
		if (!o->retire_ms || o->retire_ms == 1)
			o->retire_ms = now + RETIRE_S * 1000;
		if (now < o->retire_ms)
			continue;
		snprintf(text, sizeof(text), "public_key=%s\nremove=true\n",
			 key_format_hex(old->key, hex));
		if (wg_host_set(o->host, text, NULL) == 0)
			log_info(o->name, "an old key of a peer is let go");
		k = known_of(o, old->successor);
		if (k)
			memset(k->old_key, 0, KEY_LEN);
		o->retire_ms = 1;
	}
	if (!waiting)
		o->retire_ms = 0;
	else if (!o->retire_ms)
		o->retire_ms = 1; /* something to wait for */
}

static int apply_one(struct tunnels *t, const struct tunnel_want *w, struct err *err);

static void on_look(void *ctx)
{
	struct tunnels *t = ctx;

	for (struct one *o = t->first; o; o = o->next) {
		struct tunnel_view view;

		if (wg_host_fd(o->host) < 0 || view_of(o, &view, NULL) < 0) {
			notice_death(o);
			continue;
		}
		ask_stale_names(o, &view);
		retire(o, &view);
		tunnel_view_clear(&view);
		if (o->want)
			(void)!set_mtu(o, o->want, NULL);
	}
	for (size_t i = 0; i < t->want_count; i++) {
		struct err err = { 0 };

		if (!find(t, t->want[i].name) && apply_one(t, &t->want[i], &err) < 0)
			log_limited(LOG_LEVEL_ERROR, t->want[i].name, "tunnel", "%s; trying again",
				    err.text);
	}
	look_later(t);
}

/* --- prepare -------------------------------------------------------------------------------------
 */

static int open_one(struct tunnels *t, const struct tunnel_want *w, struct one **ret,
		    struct err *err)
{
	struct wg_host_config config = { .run = t->run, .uapi = t->uapi };
	struct one *o = calloc(1, sizeof(*o));
	bool adopted;
	int r;

	if (!o || loop_timer_new(t->loop, on_restart, o, &o->restart) < 0) {
		free(o);
		return err_set(err, -ENOMEM, "tunnel %s: out of memory", w->name);
	}
	snprintf(o->name, sizeof(o->name), "%s", w->name);
	memcpy(config.name, o->name, sizeof(config.name));
	o->mtu = w->mtu ? w->mtu : tunnel_link_mtu(NULL, 0, w->mark);
	config.mtu = o->mtu;
	config.listen_port = w->port;
	config.mark = w->mark;
	o->set = t;
	r = wg_host_open(&config, &o->host, &adopted, err);
	if (r < 0) {
		loop_timer_free(o->restart);
		free(o);
		return r;
	}
	o->next = t->first;
	t->first = o;
	o->restart_ms = RESTART_FIRST_MS;
	o->started_ms = adopted ? 0 : loop_now_ms();
	o->fresh = !adopted;
	watch(o);
	*ret = o;
	return 0;
}

/* Its key is good, and the port and mark are ours. */
static int prepare_one(struct tunnels *t, const struct tunnel_want *w, struct err *err)
{
	struct one *o = find(t, w->name);
	uint8_t key[KEY_LEN];
	struct tunnel_view view;
	int r = keyfile_read(w->key_file, key, err);

	OPENSSL_cleanse(key, sizeof(key));
	if (r == 0 && !o)
		r = open_one(t, w, &o, err);
	r = r < 0 ? r : view_of(o, &view, err);
	if (r < 0)
		return r;
	o->port = o->old_port = view.port;
	o->mark = o->old_mark = view.mark;
	tunnel_view_clear(&view);
	if ((w->port && w->port != o->port) || w->mark != o->mark) {
		uint16_t port = w->port ? w->port : o->port;

		r = wg_host_bind(o->host, port, w->mark, err);
		if (r < 0)
			return r;
		o->port = port;
		o->mark = w->mark;
	}
	return 0;
}

int tunnels_prepare(struct tunnels *t, const struct tunnel_want *want, size_t count,
		    struct err *err)
{
	int r = 0;

	for (struct one *o = t->first; o; o = o->next) {
		o->fresh = false;
		o->old_port = o->port;
		o->old_mark = o->mark;
	}
	for (size_t i = 0; r == 0 && i < count; i++)
		r = prepare_one(t, &want[i], err);
	if (r < 0)
		tunnels_abort(t);
	return r;
}

void tunnels_abort(struct tunnels *t)
{
	for (struct one *o = t->first, *next; o; o = next) {
		next = o->next;
		if (o->fresh) {
			stop(o);
			continue;
		}
		if ((o->port != o->old_port || o->mark != o->old_mark) &&
		    wg_host_bind(o->host, o->old_port, o->old_mark, NULL) == 0) {
			o->port = o->old_port;
			o->mark = o->old_mark;
		}
	}
}

/* --- apply ---------------------------------------------------------------------------------------
 */

/* A peer of that name had another key. */
static void note_rotation(const struct one *o, const struct tunnel_want *w, struct known *k)
{
	for (size_t i = 0; i < o->known_count; i++) {
		const struct known *old = &o->known[i];

		if (strcmp(old->name, k->name) == 0 && memcmp(old->key, k->key, KEY_LEN) != 0 &&
		    !tunnel_want_find(w, old->key))
			memcpy(k->old_key, old->key, KEY_LEN);
	}
}

/* What is known of the wanted peers, from what was known before. */
static int renew_known(struct one *o, const struct tunnel_want *w)
{
	struct known *v = calloc(w->peer_count + 1, sizeof(*v));
	bool *asks = calloc(w->peer_count + 1, sizeof(*asks));

	if (!v || !asks) {
		free(v);
		free(asks);
		return -ENOMEM;
	}
	for (size_t i = 0; i < w->peer_count; i++) {
		const struct tunnel_peer_want *p = &w->peers[i];
		const struct known *was = known_of(o, p->key);

		if (was)
			v[i] = *was;
		memcpy(v[i].key, p->key, KEY_LEN);
		snprintf(v[i].name, sizeof(v[i].name), "%s", p->name);
		v[i].text = p->endpoint ? strdup(p->endpoint) : NULL;
		asks[i] = !was || !was->text || !p->endpoint || strcmp(was->text, p->endpoint) != 0;
		if (asks[i]) {
			v[i].addr = (union endpoint_addr){ 0 };
			v[i].told = false;
			v[i].why[0] = '\0';
		}
		if (!was)
			note_rotation(o, w, &v[i]);
	}
	clear_known(o->known, o->known_count);
	o->known = v;
	o->known_count = w->peer_count;
	for (size_t i = 0; i < o->known_count; i++)
		if (asks[i])
			find_endpoint(o, &o->known[i]);
	free(asks);
	return 0;
}

/*
 * netd was away: netd-wg knows better where a peer is than the configuration.  (Should that be
 * wrong, the handshake gets stale, and a name is asked for again.)
 */
static void leave_endpoints(struct one *o)
{
	struct tunnel_view view;

	if (view_of(o, &view, NULL) < 0)
		return;
	for (size_t i = 0; i < o->known_count; i++) {
		const struct tunnel_view_peer *p = tunnel_view_find(&view, o->known[i].key);

		if (p && p->endpoint[0] && p->session)
			o->known[i].told = true;
	}
	tunnel_view_clear(&view);
}

static int apply_one(struct tunnels *t, const struct tunnel_want *w, struct err *err)
{
	struct one *o = find(t, w->name);
	bool first;
	int r;

	if (!o) { /* it could not be prepared, and is tried again */
		r = prepare_one(t, w, err);
		o = find(t, w->name);
		if (r < 0)
			return r;
	}
	first = !o->want && !o->fresh;
	r = renew_known(o, w);
	if (r < 0)
		return err_set(err, r, "tunnel %s: out of memory", w->name);
	if (first)
		leave_endpoints(o);
	o->want = w;
	r = sync_all(o, w, err);
	o->fresh = false;
	notice_death(o);
	return r;
}

/* Those of an earlier netd that nobody wants any more; once. */
static void sweep(struct tunnels *t, const struct tunnel_want *want, size_t count)
{
	DIR *d = t->swept ? NULL : opendir(t->run);
	struct dirent *e;

	t->swept = true;
	while (d && (e = readdir(d))) {
		struct tunnel_want old = { 0 };
		size_t len = strlen(e->d_name);
		bool wanted = false;
		struct one *o;

		if (len <= 5 || len - 5 >= IFNAMSIZ || strcmp(e->d_name + len - 5, ".sock") != 0)
			continue;
		memcpy(old.name, e->d_name, len - 5);
		for (size_t i = 0; i < count; i++)
			wanted = wanted || strcmp(want[i].name, old.name) == 0;
		if (!wanted && !find(t, old.name) && open_one(t, &old, &o, NULL) == 0)
			stop(o);
	}
	if (d)
		closedir(d);
}

int tunnels_apply(struct tunnels *t, const struct tunnel_want *want, size_t count, struct err *err)
{
	int first = 0;

	sweep(t, want, count);
	for (struct one *o = t->first, *next; o; o = next) {
		bool wanted = false;

		next = o->next;
		for (size_t i = 0; i < count; i++)
			wanted = wanted || strcmp(want[i].name, o->name) == 0;
		if (!wanted)
			stop(o);
	}
	for (size_t i = 0; i < count; i++) {
		struct err sub = { 0 };
		int r = apply_one(t, &want[i], &sub);

		if (r < 0 && first == 0)
			first = err_set(err, r, "%s", sub.text);
	}
	look_later(t);
	return first;
}

void tunnels_rebase(struct tunnels *t, const struct tunnel_want *want, size_t count)
{
	t->want = want;
	t->want_count = count;
	for (struct one *o = t->first; o; o = o->next) {
		o->want = NULL;
		for (size_t i = 0; i < count; i++)
			if (strcmp(want[i].name, o->name) == 0)
				o->want = &want[i];
	}
	look_later(t);
}

/* --- diff ----------------------------------------------------------------------------------------
 */

struct counting {
	void (*line)(void *ctx, const char *text);
	void *ctx;
	size_t count;
};

static void count_line(void *ctx, const char *text)
{
	struct counting *c = ctx;

	c->count++;
	if (c->line)
		c->line(c->ctx, text);
}

static void __attribute__((format(printf, 2, 3))) say(struct counting *c, const char *fmt, ...)
{
	char text[128];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	count_line(c, text);
}

static void diff_new(const struct tunnel_want *w, struct counting *c)
{
	say(c, "+ tunnel %s", w->name);
	for (size_t i = 0; i < w->peer_count; i++)
		say(c, "+ peer %s", w->peers[i].name);
}

/* An endpoint that is looked for or that moved is no difference. */
static void diff_running(struct one *o, const struct tunnel_want *w, struct counting *c)
{
	struct tunnel_peer_more *more = calloc(w->peer_count + 1, sizeof(*more));
	uint8_t key[KEY_LEN] = { 0 };
	struct tunnel_view view;
	char *text = NULL;
	size_t links = 0;

	if (!more || view_of(o, &view, NULL) < 0) {
		free(more);
		say(c, "~ tunnel %s: netd-wg does not answer", w->name);
		return;
	}
	for (size_t i = 0; i < w->peer_count; i++) {
		const struct known *k = known_of(o, w->peers[i].key);

		if (w->peers[i].psk_file)
			(void)!keyfile_read(w->peers[i].psk_file, more[i].psk, NULL);
		if (w->peers[i].endpoint &&
		    (!k || !k->text || strcmp(k->text, w->peers[i].endpoint) != 0) &&
		    tunnel_view_find(&view, w->peers[i].key))
			say(c, "~ peer %s endpoint %s", w->peers[i].name, w->peers[i].endpoint);
	}
	if ((w->port && w->port != view.port) || w->mark != view.mark)
		say(c, "~ tunnel %s port %u mark %u -> port %u mark %u", w->name, view.port,
		    view.mark, w->port ? w->port : view.port, w->mark);
	if (w->mtu && w->mtu != view.mtu)
		say(c, "~ tunnel %s mtu %u -> %u", w->name, view.mtu, w->mtu);
	if (keyfile_read(w->key_file, key, NULL) == 0 &&
	    tunnel_delta(w, key, more, &view, count_line, c, &text) == 0)
		tunnel_text_free(text);
	if (tunnel_link_sync(o->set->nl, w, false, count_line, c, &links, NULL) < 0)
		say(c, "~ tunnel %s: its device is not there", w->name);
	OPENSSL_cleanse(key, sizeof(key));
	OPENSSL_cleanse(more, (w->peer_count + 1) * sizeof(*more));
	free(more);
	tunnel_view_clear(&view);
}

size_t tunnels_diff(struct tunnels *t, const struct tunnel_want *want, size_t count,
		    void (*line)(void *ctx, const char *text), void *ctx)
{
	struct counting c = { line, ctx, 0 };

	for (struct one *o = t->first; o; o = o->next) {
		bool wanted = false;

		for (size_t i = 0; i < count; i++)
			wanted = wanted || strcmp(want[i].name, o->name) == 0;
		if (!wanted)
			say(&c, "- tunnel %s", o->name);
	}
	for (size_t i = 0; i < count; i++) {
		struct one *o = find(t, want[i].name);

		if (o)
			diff_running(o, &want[i], &c);
		else
			diff_new(&want[i], &c);
	}
	return c.count;
}

/* --- questions
 * ------------------------------------------------------------------------------------ */

int tunnels_look(struct tunnels *t, const char *name, struct tunnel_facts *ret_facts,
		 struct tunnel_view *ret_view, struct err *err)
{
	struct one *o = find(t, name);
	int r = 0;

	*ret_view = (struct tunnel_view){ 0 };
	if (!o)
		return err_set(err, -ENOENT, "there is no tunnel \"%.32s\"", name);
	if (wg_host_fd(o->host) >= 0)
		r = view_of(o, ret_view, err);
	notice_death(o);
	*ret_facts = (struct tunnel_facts){ .pid = wg_host_pid(o->host),
					    .mtu = o->mtu,
					    .crash_count = o->crash_count,
					    .unresolved_count = o->unresolved_count };
	return r;
}

const struct tunnel_want *tunnels_wanted(struct tunnels *t, const char *name)
{
	struct one *o = find(t, name);

	return o ? o->want : NULL;
}

const char *tunnels_why_unresolved(struct tunnels *t, const char *name, const uint8_t peer[KEY_LEN])
{
	struct one *o = find(t, name);
	const struct known *k = o ? known_of(o, peer) : NULL;

	return k ? k->why : "";
}

int tunnels_rotate(struct tunnels *t, const char *name, uint8_t ret_public[KEY_LEN],
		   struct err *err)
{
	const struct tunnel_want *w = tunnels_wanted(t, name);
	uint8_t key[KEY_LEN];
	int r;

	if (!w)
		return err_set(err, -ENOENT, "there is no tunnel \"%.32s\"", name);
	r = vpn_private_key_new(key);
	r = r < 0 ? err_sys(err, r, "tunnel %s: a new key", name) : vpn_public_key(key, ret_public);
	r = r < 0 ? r : keyfile_write(w->key_file, key, err);
	OPENSSL_cleanse(key, sizeof(key));
	return r < 0 ? r : sync_peers(find(t, name), w, err);
}

/* --- life
 * ------------------------------------------------------------------------------------------ */

int tunnels_new(struct loop *loop, struct nl *nl, const char *run_dir, struct tunnels **ret)
{
	struct tunnels *t = calloc(1, sizeof(*t));
	bool default_place = strcmp(run_dir, DEFAULT_RUN) == 0;
	int r = -ENOMEM;

	if (!t)
		return r;
	t->loop = loop;
	t->nl = nl;
	if (asprintf(&t->run, "%s/wg", run_dir) < 0)
		t->run = NULL;
	/* where wg(8) looks; a netd beside the host's own keeps to its own folder */
	if (default_place)
		t->uapi = strdup("/run/wireguard");
	else if (asprintf(&t->uapi, "%s/wireguard", run_dir) < 0)
		t->uapi = NULL;
	if (t->run && t->uapi)
		r = resolver_new(loop, on_answer, t, &t->resolver);
	if (r == 0)
		r = loop_timer_new(loop, on_look, t, &t->look);
	if (r < 0) {
		tunnels_free(t);
		return r;
	}
	*ret = t;
	return 0;
}

void tunnels_free(struct tunnels *t)
{
	if (!t)
		return;
	resolver_free(t->resolver);
	while (t->first) {
		struct one *o = t->first;

		sd_event_source_disable_unref(o->source);
		o->source = NULL;
		wg_host_close(o->host);
		unlink_one(o);
	}
	loop_timer_free(t->look);
	free(t->run);
	free(t->uapi);
	free(t);
}
