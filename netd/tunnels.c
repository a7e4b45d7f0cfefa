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
#include "netd/tunnels_private.h"

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
#include "vpn/vpn.h"

#define RESTART_FIRST_MS 100 /* after a second death; the first is answered at once */
#define RESTART_LAST_MS	 10000
#define STABLE_MS	 10000 /* alive that long: the next death is a first one again */
#define DEFAULT_RUN	 "/run/netd"

/* --- the list -------------------------------------------------------------------------------- */

struct one *tunnels_find(struct tunnels *t, const char *name)
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

struct known *tunnels_known(struct one *o, const uint8_t key[KEY_LEN])
{
	for (size_t i = 0; i < o->known_count; i++)
		if (memcmp(o->known[i].key, key, KEY_LEN) == 0)
			return &o->known[i];
	return NULL;
}

/* --- telling netd-wg -----------------------------------------------------------------------------
 */

int tunnels_view(struct one *o, struct tunnel_view *ret, struct err *err)
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
		const struct known *k = tunnels_known(o, p->key);
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
	int r = tunnels_view(o, &view, err);

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

int tunnels_sync_peers(struct one *o, const struct tunnel_want *w, struct err *err)
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

int tunnels_set_mtu(struct one *o, const struct tunnel_want *w, struct err *err)
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
	int r = tunnels_sync_peers(o, w, err);

	r = r < 0 ? r : tunnels_set_mtu(o, w, err);
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

void tunnels_notice_death(struct one *o)
{
	if (wg_host_fd(o->host) < 0 && o->source)
		died(o);
}

static int apply_one(struct tunnels *t, const struct tunnel_want *w, struct err *err);

static void on_look(void *ctx)
{
	struct tunnels *t = ctx;

	for (struct one *o = t->first; o; o = o->next) {
		struct tunnel_view view;

		if (wg_host_fd(o->host) < 0 || tunnels_view(o, &view, NULL) < 0) {
			tunnels_notice_death(o);
			continue;
		}
		tunnels_ask_stale(o, &view);
		tunnels_retire(o, &view);
		tunnel_view_clear(&view);
		if (o->want)
			(void)!tunnels_set_mtu(o, o->want, NULL);
	}
	for (size_t i = 0; i < t->want_count; i++) {
		struct err err = { 0 };

		if (!tunnels_find(t, t->want[i].name) && apply_one(t, &t->want[i], &err) < 0)
			log_limited(LOG_LEVEL_ERROR, t->want[i].name, "tunnel", "%s; trying again",
				    err.text);
	}
	tunnels_look_later(t);
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
	struct one *o = tunnels_find(t, w->name);
	uint8_t key[KEY_LEN];
	struct tunnel_view view;
	int r = keyfile_read(w->key_file, key, err);

	OPENSSL_cleanse(key, sizeof(key));
	if (r == 0 && !o)
		r = open_one(t, w, &o, err);
	r = r < 0 ? r : tunnels_view(o, &view, err);
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

const uint8_t *tunnels_former_key(const struct one *o, const struct tunnel_want *w,
				  const char *name, const uint8_t key[KEY_LEN])
{
	for (size_t i = 0; i < o->known_count; i++) {
		const struct known *old = &o->known[i];

		if (strcmp(old->name, name) == 0 && memcmp(old->key, key, KEY_LEN) != 0 &&
		    !tunnel_want_find(w, old->key))
			return old->key;
	}
	return NULL;
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
		const struct known *was = tunnels_known(o, p->key);
		const uint8_t *former = was ? NULL : tunnels_former_key(o, w, p->name, p->key);

		if (was)
			v[i] = *was;
		if (former)
			memcpy(v[i].old_key, former, KEY_LEN);
		memcpy(v[i].key, p->key, KEY_LEN);
		snprintf(v[i].name, sizeof(v[i].name), "%s", p->name);
		v[i].text = p->endpoint ? strdup(p->endpoint) : NULL;
		asks[i] = !was || !was->text || !p->endpoint || strcmp(was->text, p->endpoint) != 0;
		if (asks[i]) {
			v[i].addr = (union endpoint_addr){ 0 };
			v[i].told = false;
			v[i].why[0] = '\0';
		}
	}
	clear_known(o->known, o->known_count);
	o->known = v;
	o->known_count = w->peer_count;
	for (size_t i = 0; i < o->known_count; i++)
		if (asks[i])
			tunnels_find_endpoint(o, &o->known[i]);
	free(asks);
	return 0;
}

/*
 * netd was away: netd-wg knows better where a peer is than the configuration (should that be wrong,
 * the handshake gets stale, and a name is asked for again), and which keys are being rotated.
 */
static void learn_from(struct one *o)
{
	struct tunnel_view view;

	if (tunnels_view(o, &view, NULL) < 0)
		return;
	for (size_t i = 0; i < o->known_count; i++) {
		const struct tunnel_view_peer *p = tunnel_view_find(&view, o->known[i].key);

		if (p && p->endpoint[0] && p->session)
			o->known[i].told = true;
	}
	for (size_t i = 0; i < view.peer_count; i++)
		o->rotates = o->rotates || view.peers[i].replaced;
	tunnel_view_clear(&view);
}

static int apply_one(struct tunnels *t, const struct tunnel_want *w, struct err *err)
{
	struct one *o = tunnels_find(t, w->name);
	bool first;
	int r;

	if (!o) { /* it could not be prepared, and is tried again */
		r = prepare_one(t, w, err);
		o = tunnels_find(t, w->name);
		if (r < 0)
			return r;
	}
	first = !o->want && !o->fresh;
	r = renew_known(o, w);
	if (r < 0)
		return err_set(err, r, "tunnel %s: out of memory", w->name);
	if (first)
		learn_from(o);
	o->want = w;
	r = sync_all(o, w, err);
	o->fresh = false;
	tunnels_notice_death(o);
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
		if (!wanted && !tunnels_find(t, old.name) && open_one(t, &old, &o, NULL) == 0)
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
	tunnels_look_later(t);
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
	tunnels_look_later(t);
}

/* --- this host's key ----------------------------------------------------------------------------
 */

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
	return r < 0 ? r : tunnels_sync_peers(tunnels_find(t, name), w, err);
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
		r = resolver_new(loop, tunnels_on_answer, t, &t->resolver);
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
