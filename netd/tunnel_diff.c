/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What an apply would do to tunnels, and what is asked of them; see tunnels.h. */
#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "netd/tunnel_link.h"
#include "netd/tunnels_private.h"

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

	if (!more || tunnels_view(o, &view, NULL) < 0) {
		free(more);
		say(c, "~ tunnel %s: netd-wg does not answer", w->name);
		return;
	}
	for (size_t i = 0; i < w->peer_count; i++) {
		const struct known *k = tunnels_known(o, w->peers[i].key);

		const uint8_t *former =
			k ? k->old_key
			  : tunnels_former_key(o, w, w->peers[i].name, w->peers[i].key);

		if (former)
			memcpy(more[i].old_key, former, KEY_LEN);
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
		struct one *o = tunnels_find(t, want[i].name);

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
	struct one *o = tunnels_find(t, name);
	int r = 0;

	*ret_view = (struct tunnel_view){ 0 };
	if (!o)
		return err_set(err, -ENOENT, "there is no tunnel \"%.32s\"", name);
	if (wg_host_fd(o->host) >= 0)
		r = tunnels_view(o, ret_view, err);
	tunnels_notice_death(o);
	*ret_facts = (struct tunnel_facts){ .pid = wg_host_pid(o->host),
					    .mtu = o->mtu,
					    .crash_count = o->crash_count,
					    .unresolved_count = o->unresolved_count };
	return r;
}

const struct tunnel_want *tunnels_wanted(struct tunnels *t, const char *name)
{
	struct one *o = tunnels_find(t, name);

	return o ? o->want : NULL;
}

const char *tunnels_why_unresolved(struct tunnels *t, const char *name, const uint8_t peer[KEY_LEN])
{
	struct one *o = tunnels_find(t, name);
	const struct known *k = o ? tunnels_known(o, peer) : NULL;

	return k ? k->why : "";
}
