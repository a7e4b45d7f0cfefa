/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The reactor's connections: adoption, fair turns, memory, listing, closing.  The thread and its
 * loop are reactor.c.
 *
 * Three queues.  `sessions`: all.  `turn`: those that have something to do, in the order in which
 * they got it; each receives once and sends once, then queues up again behind the others if it has
 * more.  `hungry`: those whose parser waits for a buffer, in the order in which they came; tried
 * again, in that order, whenever a buffer has been given back.
 *
 * A session leaves only in the sending half of a turn, so nothing else has to fear that one
 * disappears under it.  Tasks that wait for sessions to end are looked at then.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "blockd/nbd/contexts.h"
#include "blockd/reactor_priv.h"

/* ---- volumes ---- */

static int vol_compare(struct reactor_vol *a, struct reactor_vol *b)
{
	return a->id < b->id ? -1 : a->id > b->id;
}

RB_GENERATE(reactor_vols, reactor_vol, by_id, vol_compare)

struct reactor_vol *reactor_vol_find(struct reactor *r, uint64_t id)
{
	struct reactor_vol key = { .id = id };

	return RB_FIND(reactor_vols, &r->vols, &key);
}

struct reactor_vol *reactor_vol_get(struct reactor *r, uint64_t id)
{
	struct reactor_vol *vol = reactor_vol_find(r, id);

	if (!vol) {
		vol = calloc(1, sizeof(*vol));
		if (!vol)
			return NULL;
		vol->id = id;
		RB_INSERT(reactor_vols, &r->vols, vol);
	}
	return vol;
}

static struct reactor_vol *vol_take(struct reactor *r, uint64_t id)
{
	struct reactor_vol *vol = reactor_vol_get(r, id);

	if (vol)
		vol->connections++;
	return vol;
}

/* ---- waiting for sessions to end ---- */

static bool cut_matches(const struct reactor_task *task, const struct session *s)
{
	return s->seq < task->cut_before && (!task->cut_id || s->adopt.id == task->cut_id) &&
	       (!task->cut_vol || session_pins(s, task->cut_vol, task->cut_snapshots));
}

static bool cut_is_over(const struct reactor *r, const struct reactor_task *task)
{
	const struct session *s;

	TAILQ_FOREACH (s, &r->sessions, link)
		if (cut_matches(task, s))
			return false;
	return true;
}

static void look_at_waiters(struct reactor *r)
{
	struct reactor_task **at = &r->cuts, *task;

	while ((task = *at)) {
		if (!cut_is_over(r, task)) {
			at = &task->next;
			continue;
		}
		*at = task->next;
		reactor_task_finish(task, task->res);
	}
	while (!r->session_count && (task = r->drains)) {
		r->drains = task->next;
		reactor_task_finish(task, 0);
	}
}

/* ---- handles ---- */

static void close_handles(const struct reactor_handles *handles)
{
	for (size_t i = 0; i < CONTEXTS_BITMAP_MAX; i++)
		thin_vol_close(handles->bases[i]);
	thin_vol_close(handles->vol);
}

static int run_close(struct reactor *r, void *arg)
{
	close_handles(arg);
	return 0;
}

void reactor_close(struct reactor *r, const struct reactor_handles *handles)
{
	struct reactor_handles own = *handles;

	reactor_call(r, run_close, &own);
}

struct open_call {
	const struct reactor_open_params *params;
	struct reactor_opened *opened;
};

static int open_base(struct reactor *r, const char *name, uint64_t id, struct thin_vol **ret_vol)
{
	struct thin_vol_stat stat;
	int rc = thin_vol_open(r->pool, name, ret_vol);

	if (rc)
		return rc == -ENOENT ? -ESTALE : rc;
	thin_vol_stat(*ret_vol, &stat);
	return stat.id == id ? 0 : -ESTALE; /* another one of that name */
}

static int run_open(struct reactor *r, void *arg)
{
	const struct reactor_open_params *params = ((struct open_call *)arg)->params;
	struct reactor_opened *opened = ((struct open_call *)arg)->opened;
	struct thin_pool_stat stat;
	int rc = thin_vol_open(r->pool, params->volume, &opened->handles.vol);

	for (size_t i = 0; i < params->base_count && !rc; i++)
		rc = open_base(r, params->bases[i], params->base_ids[i], &opened->handles.bases[i]);
	if (rc) {
		close_handles(&opened->handles);
		return rc;
	}
	thin_vol_stat(opened->handles.vol, &opened->stat);
	thin_pool_stat(r->pool, &stat);
	opened->read_only = stat.read_only || opened->stat.state != THIN_VOL_LIVE;
	return 0;
}

int reactor_open(struct reactor *r, const struct reactor_open_params *params,
		 struct reactor_opened *ret_opened)
{
	struct reactor_opened opened = { 0 };
	struct open_call call = { params, &opened };
	int rc = reactor_call(r, run_open, &call);

	if (!rc)
		*ret_opened = opened;
	return rc;
}

/* ---- life of a session ---- */

static void closed_home(struct letter *letter)
{
	struct session *s = (struct session *)((char *)letter - offsetof(struct session, letter));

	s->adopt.closed(s->adopt.user, s->adopt.id, s->reason);
	session_free(s);
}

static void end(struct reactor *r, struct session *s)
{
	if (s->in_turn)
		TAILQ_REMOVE(&r->turn, s, turn);
	if (s->in_hungry)
		TAILQ_REMOVE(&r->hungry, s, hungry);
	if (s->vol)
		s->vol->connections--;
	if (s->seq) {
		TAILQ_REMOVE(&r->sessions, s, link);
		r->session_count--;
	}
	if (s->fd >= 0)
		close(s->fd);
	transmit_abort(s->transmit, ""); /* gives all back; its memory goes with the session */
	if (s->adopt.lock) {
		reactor_lock_closed(s->adopt.lock, false, false);
		reactor_lock_left(s->adopt.lock);
	}
	close_handles(&s->adopt.handles);
	r->stat.recvs += s->recvs;
	r->stat.sends += s->sends;
	r->stat.protocol_drops += s->protocol_error;
	s->letter.open = closed_home;
	mailbox_post(r->home, &s->letter);
}

static void adopt_open(struct letter *letter)
{
	struct session *s = (struct session *)((char *)letter - offsetof(struct session, letter));
	struct reactor *r = s->reactor;
	bool may = !s->adopt.lock || reactor_lock_adopted(s->adopt.lock, s);
	struct thin_vol_stat stat;

	s->fd = s->adopt.fd;
	thin_vol_stat(s->adopt.handles.vol, &stat);
	s->vol = vol_take(r, stat.id);
	if (!s->vol || session_start(s, r->now_ms)) {
		snprintf(s->reason, sizeof(s->reason), "out of memory or descriptors");
		end(r, s);
		return;
	}
	s->seq = ++r->session_seq;
	TAILQ_INSERT_TAIL(&r->sessions, s, link);
	r->session_count++;
	reactor_wake(r, s);
	if (!may)
		session_cut(s, "its write lock was broken");
	else if (r->draining)
		session_stop(s);
}

int reactor_adopt(struct reactor *r, const struct reactor_adopt *adopt)
{
	struct session *s = session_new(r, adopt);

	if (!s) {
		close(adopt->fd);
		if (adopt->lock)
			reactor_drop_lock(adopt->lock);
		reactor_close(r, &adopt->handles);
		return -ENOMEM;
	}
	s->letter.open = adopt_open;
	mailbox_post(r->box, &s->letter);
	return 0;
}

/* ---- turns ---- */

void reactor_conns_receive(struct reactor *r)
{
	struct session *s;

	TAILQ_FOREACH (s, &r->turn, turn)
		session_receive(s);
}

static void look_for_hunger(struct reactor *r, struct session *s)
{
	if (s->in_hungry || s->fd < 0 || !transmit_wants_memory(s->transmit))
		return;
	s->in_hungry = true;
	r->stat.buffer_waits++;
	TAILQ_INSERT_TAIL(&r->hungry, s, hungry);
}

/* Someone waits for memory who does not sit on some himself. */
static bool is_pressed(const struct reactor *r)
{
	const struct session *s;

	TAILQ_FOREACH (s, &r->hungry, hungry)
		if (!transmit_client_holds_memory(s->transmit) && !transmit_in_flight(s->transmit))
			return true;
	return false;
}

/* Who sits on memory gets more only when nobody waits who does not. */
static void feed_hungry(struct reactor *r)
{
	struct session *s, *next;
	bool pressed;

	if (bufpool_freed(r->bufs) == r->freed_seen)
		return;
	pressed = is_pressed(r);
	r->freed_seen = bufpool_freed(r->bufs);
	for (s = TAILQ_FIRST(&r->hungry); s; s = next) {
		next = TAILQ_NEXT(s, hungry);
		if (pressed && transmit_client_holds_memory(s->transmit))
			continue;
		if (transmit_retry(s->transmit))
			r->again = true;
		if (transmit_wants_memory(s->transmit))
			continue;
		TAILQ_REMOVE(&r->hungry, s, hungry);
		s->in_hungry = false;
		reactor_wake(r, s);
	}
}

/* Something to send, to parse, or room for what the next turn receives. */
static bool has_more(struct session *s)
{
	struct iovec iov[2];

	if (s->fd >= 0 && (s->unsent || transmit_has_yielded(s->transmit)))
		return true;
	if (!session_can_receive(s))
		return false;
	return s->lingering || transmit_rx_iov(s->transmit, iov);
}

void reactor_conns_send(struct reactor *r)
{
	struct session_queue now = TAILQ_HEAD_INITIALIZER(now);
	struct session *s;
	bool ended = false;

	TAILQ_CONCAT(&now, &r->turn, turn);
	while ((s = TAILQ_FIRST(&now))) {
		TAILQ_REMOVE(&now, s, turn);
		s->in_turn = false;
		if (session_send(s))
			r->again = true;
		if (session_is_over(s)) {
			end(r, s);
			ended = true;
			continue;
		}
		look_for_hunger(r, s);
		if (has_more(s))
			reactor_wake(r, s);
	}
	feed_hungry(r);
	if (ended)
		look_at_waiters(r);
}

bool reactor_conns_busy(const struct reactor *r)
{
	return !TAILQ_EMPTY(&r->turn);
}

void reactor_conns_tick(struct reactor *r)
{
	bool overdue = r->draining && r->now_ms >= r->drain_until_ms;
	struct session *s, *worst = NULL;

	TAILQ_FOREACH (s, &r->sessions, link) {
		if (session_tick(s, r->now_ms) &&
		    (!worst ||
		     transmit_held_bytes(s->transmit) > transmit_held_bytes(worst->transmit)))
			worst = s;
		if (overdue)
			session_cut(s, "did not take its answers before the stop");
	}
	/* One at a time: the next second shows whether that was enough. */
	if (worst && is_pressed(r)) {
		r->stat.stalled_drops++;
		session_cut(worst, "stalled while others waited for its memory");
	}
}

void reactor_conns_drain(struct reactor *r, uint32_t drain_ms)
{
	struct session *s;

	r->draining = true;
	r->drain_until_ms = r->now_ms + drain_ms;
	reactor_locks_stop(r);
	TAILQ_FOREACH (s, &r->sessions, link)
		session_stop(s);
}

void reactor_conns_free(struct reactor *r)
{
	struct reactor_vol *vol;

	while ((vol = RB_ROOT(&r->vols))) {
		RB_REMOVE(reactor_vols, &r->vols, vol);
		free(vol);
	}
}

/* ---- closing ---- */

static void run_drain(struct reactor *r, struct reactor_task *task)
{
	reactor_conns_drain(r, task->drain_ms);
	task->next = r->drains;
	r->drains = task;
	look_at_waiters(r);
}

void reactor_drain(struct reactor *r, uint32_t drain_ms, struct reactor_task *task)
{
	task->run = run_drain;
	task->drain_ms = drain_ms;
	reactor_post(r, task);
}

static void run_cut(struct reactor *r, struct reactor_task *task)
{
	struct thin_vol_stat stat;
	struct session *s;

	task->res = 0;
	task->cut_vol = 0;
	if (task->cut_name[0] && thin_vol_find(r->pool, task->cut_name, &stat)) {
		reactor_task_finish(task, 0);
		return;
	}
	if (task->cut_name[0])
		task->cut_vol = stat.id;
	task->cut_before = r->session_seq + 1;
	TAILQ_FOREACH (s, &r->sessions, link) {
		if (!cut_matches(task, s))
			continue;
		if (s->fd >= 0)
			task->res++;
		session_cut(s, "closed by the administrator");
	}
	task->next = r->cuts;
	r->cuts = task;
	look_at_waiters(r);
}

void reactor_cut_conns(struct reactor *r, const char *volume, bool snapshots, uint64_t id,
		       struct reactor_task *task)
{
	task->run = run_cut;
	task->cut_id = id;
	task->cut_snapshots = snapshots;
	snprintf(task->cut_name, sizeof(task->cut_name), "%s", volume ? volume : "");
	reactor_post(r, task);
}
