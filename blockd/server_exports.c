/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which exports there are: the handshake's questions, put to the reactors.
 *
 * A question costs one turn of a reactor (reactor_call), so nothing is kept here that could be out
 * of date.  Only a GO that asks for write access waits: for the volume's lock, and with it for
 * whatever that waits for; the answer comes by letter.  A bare name is looked for in every pool and
 * must be in one only; with more than one pool the canonical name, which LIST shows, is
 * pool/volume.
 */
#include "blockd/server_priv.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "blockd/access/identity.h"

#define BARRED "the administrator is changing this volume, try again in a moment"

struct lookup {
	const char *volume;
	struct thin_vol_stat stat;
	bool read_only;
};

static int look_up(struct reactor *r, void *arg)
{
	struct lookup *lookup = arg;
	struct thin_pool_stat stat;
	int rc = thin_vol_find(reactor_pool(r), lookup->volume, &lookup->stat);

	if (rc)
		return rc;
	thin_pool_stat(reactor_pool(r), &stat);
	lookup->read_only = stat.read_only || lookup->stat.state != THIN_VOL_LIVE;
	return 0;
}

/* The pool that holds the export, with the volume's state. */
static int find_pool(struct server *server, const struct export_name *name,
		     struct reactor **ret_reactor, struct lookup *ret_lookup, struct err *err)
{
	struct reactor *found = NULL;
	size_t i;

	if (server->stopping)
		return err_set(err, -ESHUTDOWN, "the server is being stopped");
	if (name->pool[0] && !server_find_pool(server, name->pool))
		return err_set(err, -ENOENT, "no such export: there is no such pool");
	for (i = 0; i < server->pool_count; i++) {
		struct lookup lookup = { .volume = name->volume };

		if (name->pool[0] && strcmp(reactor_name(server->pools[i]), name->pool))
			continue;
		if (reactor_call(server->pools[i], look_up, &lookup))
			continue;
		if (found)
			return err_set(err, -ENOENT,
				       "no such export: several pools have a volume of that name, "
				       "ask for %s/%s or %s/%s",
				       reactor_name(found), name->volume,
				       reactor_name(server->pools[i]), name->volume);
		found = server->pools[i];
		*ret_lookup = lookup;
	}
	if (!found)
		return err_set(err, -ENOENT, "no such export: there is no such volume");
	*ret_reactor = found;
	return 0;
}

static void canonical_name(const struct server *server, const struct reactor *r, const char *volume,
			   char *buf, size_t size)
{
	if (server->pool_count > 1)
		snprintf(buf, size, "%s/%s", reactor_name(r), volume);
	else
		snprintf(buf, size, "%s", volume);
}

static void describe(const struct server *server, const struct reactor *r, const char *volume,
		     char *buf, size_t size)
{
	buf[0] = '\0';
	if (server->params.describe)
		server->params.describe(server->params.describe_user, reactor_name(r), volume, buf,
					size);
}

static void fill(const struct server *server, const struct reactor *r,
		 const struct thin_vol_stat *stat, bool read_only, struct handshake_export *export)
{
	export->size_bytes = stat->size_bytes;
	export->read_only = read_only;
	canonical_name(server, r, stat->path, export->name, sizeof(export->name));
	describe(server, r, stat->path, export->description, sizeof(export->description));
}

static bool bars(const struct server_bar *bar, const char *path)
{
	size_t len = strlen(bar->volume);

	return !strncmp(path, bar->volume, len) &&
	       (!path[len] || (bar->snapshots && path[len] == '@'));
}

static bool is_barred(const struct server *server, const struct reactor *r, const char *path)
{
	for (const struct server_bar *bar = server->bars; bar; bar = bar->next)
		if (bar->reactor == r && bars(bar, path))
			return true;
	return false;
}

static int refuse_barred(const struct server *server, const struct reactor *r, const char *volume,
			 struct err *err)
{
	if (!is_barred(server, r, volume))
		return 0;
	return err_set(err, -EBUSY, BARRED);
}

/* ---- the write lock ---- */

static void identify(const struct client *client, const struct export_name *name,
		     struct reactor_lock_ask *ask)
{
	*ask = (struct reactor_lock_ask){ .standby = name->standby, .single = name->single };
	identity_of(client->fd, name->holder, client->id, client->server->boot, ask->owner,
		    sizeof(ask->owner), &ask->pidfd);
}

/* Exactly those would be let in beside it that are the same owner. */
static bool is_exclusive(const struct reactor_lock_ask *ask)
{
	struct lock_conn conn = { .single = ask->single };

	memcpy(conn.owner, ask->owner, sizeof(conn.owner));
	return !lock_shares(&conn);
}

/* What GO would be answered now. */
static int predict(const struct client *client, struct reactor *r, const struct export_name *name,
		   const struct lookup *lookup, struct handshake_export *export, struct err *err)
{
	char text[ERR_TEXT_MAX] = "";
	struct reactor_lock_ask ask;
	enum lock_verdict verdict;
	bool shares;

	identify(client, name, &ask);
	verdict = reactor_predict_lock(r, lookup->stat.path, &ask, &shares, text, sizeof(text));
	if (ask.pidfd >= 0)
		close(ask.pidfd);
	if (verdict == LOCK_REFUSED)
		return err_set(err, -EACCES, "%s", text);
	export->read_only = verdict == LOCK_AS_READER;
	export->exclusive = !export->read_only && !shares;
	return 0;
}

static void drop_lock(struct client *client)
{
	if (client->lock)
		reactor_drop_lock(client->lock);
	client->lock = NULL;
}

/* No export for this client, as if it had never asked for one; it may go on asking. */
static void refuse_opening(struct client *client, int rc, const char *text)
{
	struct handshake_export none = { 0 };
	struct err err = { 0 };

	drop_lock(client);
	reactor_close(client->reactor, &client->handles);
	client->reactor = NULL;
	client->server->stat.refusals++;
	handshake_opened(client->handshake, err_set(&err, rc, "%s", text), &none, &err);
	server_client_resume(client);
}

static void lock_answered(void *user, enum lock_verdict verdict, const char *text)
{
	struct client *client = user;

	switch (verdict) {
	case LOCK_REFUSED:
		refuse_opening(client, client->server->stopping ? -ESHUTDOWN : -EACCES, text);
		return;
	case LOCK_AS_READER:
		drop_lock(client);
		client->opening.read_only = true;
		break;
	case LOCK_AS_WRITER:
	case LOCK_AS_STANDBY:
		break;
	}
	handshake_opened(client->handshake, 0, &client->opening, NULL);
	server_client_resume(client);
}

/* The volume is open: now the right to change it. */
static int ask_lock(struct client *client, const struct export_name *name, uint64_t vol_id,
		    const struct handshake_export *export, struct err *err)
{
	struct reactor_lock_ask ask;

	identify(client, name, &ask);
	client->opening = *export;
	client->opening.exclusive = is_exclusive(&ask);
	client->lock = reactor_ask_lock(client->reactor, vol_id, &ask, lock_answered, client);
	if (client->lock)
		return -EINPROGRESS;
	if (ask.pidfd >= 0)
		close(ask.pidfd);
	reactor_close(client->reactor, &client->handles);
	client->reactor = NULL;
	return err_set(err, -ENOMEM, "out of memory");
}

static int ops_find(void *user, const struct export_name *name, struct handshake_export *ret_export,
		    struct err *err)
{
	struct client *client = user;
	struct server *server = client->server;
	struct lookup lookup;
	struct reactor *r;
	int rc = find_pool(server, name, &r, &lookup, err);

	if (!rc)
		rc = refuse_barred(server, r, lookup.stat.path, err); /* as open would */
	if (rc)
		return rc;
	fill(server, r, &lookup.stat, lookup.read_only, ret_export);
	return lookup.read_only || name->read_only
		       ? 0
		       : predict(client, r, name, &lookup, ret_export, err);
}

/* "SNAP" of `volume` (which may be a snapshot itself), or "VOL@SNAP", as the engine calls it. */
static int base_path(const char *volume, const char *name, char to[THIN_PATH_MAX + 1])
{
	size_t len = strcspn(volume, "@");
	int n;

	if (strchr(name, '@'))
		n = snprintf(to, THIN_PATH_MAX + 1, "%s", name);
	else
		n = snprintf(to, THIN_PATH_MAX + 1, "%.*s@%s", (int)len, volume, name);
	return n <= (int)THIN_PATH_MAX ? 0 : -ENOENT;
}

/* Open the volume and what it is compared with. */
static int open_all(struct client *client, struct reactor *r, const char *volume,
		    const struct handshake_base *bases, size_t base_count,
		    struct reactor_opened *ret_opened, struct err *err)
{
	char paths[CONTEXTS_BITMAP_MAX][THIN_PATH_MAX + 1];
	const char *names[CONTEXTS_BITMAP_MAX];
	uint64_t ids[CONTEXTS_BITMAP_MAX];
	struct reactor_open_params params = { volume, names, ids, base_count };
	int rc = 0;

	for (size_t i = 0; i < base_count && !rc; i++) {
		rc = base_path(volume, bases[i].name, paths[i]);
		if (!rc && is_barred(client->server, r, paths[i]))
			rc = -ESTALE;
		names[i] = paths[i];
		ids[i] = bases[i].id;
	}
	if (!rc)
		rc = reactor_open(r, &params, ret_opened);
	if (!rc)
		return 0;
	client->server->stat.refusals++;
	if (rc == -ESTALE)
		return err_set(err, -ENOENT,
			       "a snapshot whose dirty bitmap was selected is gone or going");
	return err_set(err, rc,
		       rc == -ENOENT ? "no such export: just deleted"
				     : "the volume can not be opened");
}

static int ops_open(void *user, const struct export_name *name, const struct handshake_base *bases,
		    size_t base_count, struct handshake_export *ret_export, struct err *err)
{
	struct client *client = user;
	struct server *server = client->server;
	struct reactor_opened opened;
	struct lookup lookup;
	struct reactor *r;
	int rc;

	rc = find_pool(server, name, &r, &lookup, err);
	if (!rc)
		rc = refuse_barred(server, r, lookup.stat.path, err);
	if (rc)
		server->stat.refusals++;
	else
		rc = open_all(client, r, lookup.stat.path, bases, base_count, &opened, err);
	if (rc)
		return rc;
	client->reactor = r;
	client->handles = opened.handles;
	snprintf(client->export, sizeof(client->export), "%s/%s", reactor_name(r),
		 opened.stat.path);
	snprintf(client->volume, sizeof(client->volume), "%s", opened.stat.path);
	fill(server, r, &opened.stat, opened.read_only, ret_export);
	return opened.read_only || name->read_only
		       ? 0
		       : ask_lock(client, name, opened.stat.id, ret_export, err);
}

/* ---- what an export can be compared with ---- */

struct bases_call {
	const char *volume;
	struct handshake_list *list; /* NULL: find those that are there */
	struct handshake_base *bases;
	size_t count;
};

/* The volume that the export is, or is a snapshot of. */
static uint64_t volume_of(const struct thin_vol_stat *export)
{
	return export->of ? export->of : export->id;
}

static int run_find_bases(struct reactor *r, void *arg)
{
	struct bases_call *call = arg;
	struct thin_pool *pool = reactor_pool(r);
	struct thin_vol_stat export, base;
	char path[THIN_PATH_MAX + 1];

	if (thin_vol_find(pool, call->volume, &export))
		return 0;
	for (size_t i = 0; i < call->count; i++)
		if (!base_path(call->volume, call->bases[i].name, path) &&
		    !thin_vol_find(pool, path, &base) && base.state == THIN_VOL_SNAPSHOT &&
		    (base.of == volume_of(&export) ||
		     thin_lineage_related(pool, base.id, export.id)))
			call->bases[i].id = base.id;
	return 0;
}

static void take_base(struct bases_call *call, const struct thin_vol_stat *base, const char *name)
{
	struct handshake_base *to = &call->bases[call->count++];

	to->id = base->id;
	snprintf(to->name, sizeof(to->name), "%s", name);
}

/* Its volume's snapshots, then those it was cloned from. */
static int run_list_bases(struct reactor *r, void *arg)
{
	struct bases_call *call = arg;
	struct handshake_list *list = call->list;
	struct thin_pool *pool = reactor_pool(r);
	struct thin_vol_stat export, base;

	if (thin_vol_find(pool, call->volume, &export))
		return 0;
	while (call->count < HANDSHAKE_LIST_BATCH && !list->after_id &&
	       !thin_snapshot_next(pool, volume_of(&export), list->after, &base)) {
		memcpy(list->after, base.name, sizeof(list->after));
		if (base.id != export.id)
			take_base(call, &base, base.name);
	}
	while (call->count < HANDSHAKE_LIST_BATCH &&
	       !thin_ancestor_next(pool, list->after_id ? list->after_id : export.id,
				   volume_of(&export), &base)) {
		list->after_id = base.id;
		take_base(call, &base, base.path);
	}
	return 0;
}

static size_t call_bases(struct client *client, const struct export_name *name,
			 int (*run)(struct reactor *r, void *arg), struct bases_call *call)
{
	struct lookup lookup;
	struct reactor *r;
	struct err err = { 0 };

	if (find_pool(client->server, name, &r, &lookup, &err))
		return 0;
	call->volume = lookup.stat.path;
	reactor_call(r, run, call);
	return call->count;
}

static void ops_find_bases(void *user, const struct export_name *name, struct handshake_base *bases,
			   size_t count)
{
	call_bases(user, name, run_find_bases,
		   &(struct bases_call){ .bases = bases, .count = count });
}

static size_t ops_list_bases(void *user, const struct export_name *name,
			     struct handshake_list *list,
			     struct handshake_base bases[HANDSHAKE_LIST_BATCH])
{
	return call_bases(user, name, run_list_bases,
			  &(struct bases_call){ .list = list, .bases = bases });
}

static const char *ops_preset(void *user)
{
	const struct client *client = user;

	return client->preset[0] ? client->preset : NULL;
}

struct batch {
	const char *after;
	struct thin_vol_stat stats[HANDSHAKE_LIST_BATCH];
	size_t count;
};

static int next_batch(struct reactor *r, void *arg)
{
	struct batch *batch = arg;
	const char *after = batch->after;

	while (batch->count < HANDSHAKE_LIST_BATCH &&
	       !thin_vol_next(reactor_pool(r), after, &batch->stats[batch->count]))
		after = batch->stats[batch->count++].name;
	return 0;
}

static void list_one(const struct server *server, const struct reactor *r, const char *volume,
		     struct handshake_listed *to)
{
	canonical_name(server, r, volume, to->name, sizeof(to->name));
	describe(server, r, volume, to->description, sizeof(to->description));
}

static size_t ops_list(void *user, struct handshake_list *list,
		       struct handshake_listed exports[HANDSHAKE_LIST_BATCH])
{
	struct client *client = user;
	struct server *server = client->server;
	size_t i;

	for (; list->pool_index < server->pool_count; list->pool_index++) {
		struct reactor *r = server->pools[list->pool_index];
		struct batch batch = { .after = list->after };

		reactor_call(r, next_batch, &batch);
		if (!batch.count) {
			list->after[0] = '\0';
			continue;
		}
		for (i = 0; i < batch.count; i++)
			list_one(server, r, batch.stats[i].name, &exports[i]);
		snprintf(list->after, sizeof(list->after), "%s", batch.stats[batch.count - 1].name);
		return batch.count;
	}
	return 0;
}

const struct handshake_ops server_handshake_ops = {
	.find = ops_find,
	.open = ops_open,
	.find_bases = ops_find_bases,
	.list_bases = ops_list_bases,
	.preset = ops_preset,
	.list = ops_list,
};

void server_refuse_waiting(struct server *server, const struct reactor *r, const char *volume)
{
	struct client *client, *next;

	for (client = TAILQ_FIRST(&server->clients); client; client = next) {
		next = TAILQ_NEXT(client, link);
		if (client->lock && client->handshake && handshake_is_opening(client->handshake) &&
		    client->reactor == r && (!volume || !strcmp(client->volume, volume)))
			refuse_opening(client, -EBUSY, BARRED);
	}
}

void server_bar(struct server *server, struct server_bar *bar)
{
	bar->next = server->bars;
	server->bars = bar;
	server_refuse_waiting(server, bar->reactor, bar->volume);
}

void server_unbar(struct server *server, struct server_bar *bar)
{
	struct server_bar **link = &server->bars;

	while (*link && *link != bar)
		link = &(*link)->next;
	if (*link)
		*link = bar->next;
}

/* ---- pools ---- */

int server_add_pool(struct server *server, struct reactor *reactor, struct err *err)
{
	if (server_find_pool(server, reactor_name(reactor)))
		return err_set(err, -EEXIST, "there is a pool \"%s\" already",
			       reactor_name(reactor));
	if (server->pool_count == SERVER_POOLS_MAX)
		return err_set(err, -ENOSPC, "no more than %u pools", SERVER_POOLS_MAX);
	server->pools[server->pool_count++] = reactor;
	return 0;
}

void server_remove_pool(struct server *server, struct reactor *reactor)
{
	size_t i;

	for (i = 0; i < server->pool_count; i++)
		if (server->pools[i] == reactor) {
			memmove(&server->pools[i], &server->pools[i + 1],
				(server->pool_count - i - 1) * sizeof(server->pools[0]));
			server->pool_count--;
			return;
		}
}

void server_order_pools(struct server *server, struct reactor *const *reactors, size_t count)
{
	assert(count == server->pool_count);
	memcpy(server->pools, reactors, count * sizeof(*reactors));
}

struct reactor *server_find_pool(const struct server *server, const char *name)
{
	size_t i;

	for (i = 0; i < server->pool_count; i++)
		if (!strcmp(reactor_name(server->pools[i]), name))
			return server->pools[i];
	return NULL;
}
