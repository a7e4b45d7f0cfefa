// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The write locks of a reactor's volumes: what stands around access/lock.h.
 *
 * A volume's lock lives on the thread of its pool's reactor, like the volume and all connections to
 * it: no two threads ever look at it.  The control thread asks by letter and is answered by letter:
 *
 *	control				reactor
 *	reactor_ask_lock -- letter -->	lock_open ... decided
 *	answered <---------- letter --
 *	reactor_adopt ------------->	the session has it from then on, to its end
 *	or reactor_drop_lock ------>	closed, left
 *	freed <--------------------
 *
 * A drop may cross the answer on its way; the mailboxes keep their order, so the answer is opened
 * first, is nobody's, and what comes behind it frees.
 *
 * Saves are engine requests, one at a time and lock.  Owners that are processes are watched by
 * pidfd once they have lost their last connection, so that who asks next need not wait for a grace.
 * A peer that has closed its socket is looked for when somebody else asks: its DISC may still be
 * in the socket, and the letter of the next client overtakes it.
 */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "blockd/access/identity.h"
#include "blockd/reactor_priv.h"

struct vol_lock {
	LIST_ENTRY(vol_lock) link;
	struct lock lock;
	struct reactor *reactor;
	struct reactor_vol *vol;
	struct thin_req req;
	struct thin_lock record;
	struct reactor_lock_task *waiters;
	int pidfd; /* of an owner without a connection; -1 */
};

struct reactor_lock {
	struct lock_conn conn; /* first */
	struct reactor *reactor;
	struct vol_lock *vl;
	struct letter letter, drop;
	struct session *session; /* NULL: not adopted yet */
	uint64_t vol_id;
	int pidfd;
	bool cut; /* before it was adopted */
	enum lock_verdict verdict;
	char text[ERR_TEXT_MAX];
	/* the control thread's */
	bool dropped;
	void (*answered)(void *user, enum lock_verdict verdict, const char *text);
	void *user;
};

static struct reactor_lock *of_conn(struct lock_conn *conn)
{
	return (struct reactor_lock *)conn;
}

struct lock_conn *reactor_lock_conn(struct reactor_lock *lock)
{
	return &lock->conn;
}

void reactor_lock_free(struct reactor_lock *lock)
{
	if (!lock)
		return;
	if (lock->pidfd >= 0)
		close(lock->pidfd);
	free(lock);
}

/* ---- a lock's surroundings ---- */

static void watch_process(struct vol_lock *vl, int pidfd)
{
	/* Wakes the loop; which lock it is about is looked at there. */
	struct epoll_event event = { .events = EPOLLIN | EPOLLET };

	if (vl->pidfd >= 0) {
		close(vl->pidfd);
		vl->reactor->mourning--;
	}
	vl->pidfd = pidfd;
	if (pidfd < 0)
		return;
	vl->reactor->mourning++;
	epoll_ctl(vl->reactor->epoll_fd, EPOLL_CTL_ADD, pidfd, &event);
}

/* Name and clock, before anything is asked of the lock. */
static struct lock *now(struct vol_lock *vl)
{
	struct thin_vol_stat stat;

	lock_set_now(&vl->lock, vl->reactor->now_ms, (uint64_t)time(NULL));
	if (!thin_lineage_next(vl->reactor->pool, vl->vol->id - 1, &stat) && stat.id == vl->vol->id)
		snprintf(vl->lock.name, sizeof(vl->lock.name), "%s", stat.path);
	return &vl->lock;
}

static void fill_info(const struct vol_lock *vl, struct reactor_lock_info *info);

/* Whatever was done to a lock: answer the verbs, and when is something due next? */
static void look(struct vol_lock *vl)
{
	struct reactor *r = vl->reactor;
	struct reactor_lock_task **at = &vl->waiters, *task;
	uint64_t due;

	while ((task = *at)) {
		bool settled = lock_is_settled(&vl->lock, task->change, task->epoch);

		if (!settled && (!vl->lock.save_error || vl->lock.saving)) {
			at = &task->next;
			continue;
		}
		*at = task->next;
		fill_info(vl, &task->info);
		reactor_task_finish(&task->task,
				    settled ? 0
					    : err_set(&task->err, vl->lock.save_error,
						      "the lock cannot be recorded in the pool: %s",
						      strerror(-vl->lock.save_error)));
	}
	if (vl->lock.active || !vl->lock.owner[0])
		watch_process(vl, -1);
	due = lock_deadline_ms(&vl->lock);
	if (due < r->locks_at_ms)
		r->locks_at_ms = due;
}

static void on_saved(struct thin_req *req, int res)
{
	struct vol_lock *vl = req->user;

	vl->reactor->open_tasks--;
	lock_set_now(&vl->lock, vl->reactor->now_ms, (uint64_t)time(NULL));
	lock_saved(&vl->lock, res);
	look(vl);
}

static void on_save(void *user, const struct thin_lock *record)
{
	struct vol_lock *vl = user;

	vl->record = *record;
	vl->req = (struct thin_req){ .op = THIN_LOCK,
				     .id = vl->vol->id,
				     .lock = &vl->record,
				     .done = on_saved,
				     .user = vl };
	vl->reactor->open_tasks++;
	thin_submit(vl->reactor->pool, &vl->req);
	vl->reactor->again = true;
}

static void answer_home(struct letter *letter)
{
	struct reactor_lock *lock =
		(struct reactor_lock *)((char *)letter - offsetof(struct reactor_lock, letter));

	if (!lock->dropped)
		lock->answered(lock->user, lock->verdict, lock->text);
}

static void on_decided(void *user, struct lock_conn *conn, enum lock_verdict verdict,
		       const char *text)
{
	struct vol_lock *vl = user;
	struct reactor_lock *lock = of_conn(conn);

	lock->verdict = verdict;
	snprintf(lock->text, sizeof(lock->text), "%s", text);
	lock->letter.open = answer_home;
	mailbox_post(vl->reactor->home, &lock->letter);
}

static void on_resume(void *user, struct lock_conn *conn)
{
	struct vol_lock *vl = user;

	if (of_conn(conn)->session)
		reactor_wake(vl->reactor, of_conn(conn)->session);
	vl->reactor->again = true;
}

static void on_cut(void *user, struct lock_conn *conn, const char *reason)
{
	struct reactor_lock *lock = of_conn(conn);

	(void)user;
	if (lock->session)
		session_cut(lock->session, reason);
	else
		lock->cut = true;
}

static void on_event(void *user, enum lock_event event, const char *text)
{
	struct vol_lock *vl = user;
	const struct reactor_params *params = &vl->reactor->params;

	if (params->lock_event)
		params->lock_event(params->user, vl->lock.name, event, text);
}

static const struct lock_ops lock_ops = { on_save, on_decided, on_resume, on_cut, on_event };

/* ---- locks ---- */

static const struct lock_policy *declared(const struct reactor *r, const char *name)
{
	for (size_t i = 0; i < r->policy_count; i++)
		if (!strcmp(r->policies[i].volume, name))
			return &r->policies[i].policy;
	return NULL;
}

/* The lock of a volume, as the pool has it if nobody has asked before.  NULL without memory. */
static struct vol_lock *lock_of(struct reactor *r, const struct thin_vol_stat *stat)
{
	struct reactor_vol *vol = reactor_vol_get(r, stat->id);
	struct thin_lock record = { 0 };
	struct vol_lock *vl;
	int pidfd;

	if (!vol)
		return NULL;
	if (vol->lock) {
		now(vol->lock);
		return vol->lock;
	}
	vl = calloc(1, sizeof(*vl));
	if (!vl)
		return NULL;
	vl->reactor = r;
	vl->vol = vol;
	vl->pidfd = -1;
	(void)thin_lock_get(r->pool, stat->id, &record);
	pidfd = identity_find(record.owner);
	lock_init(&vl->lock, &lock_ops, vl, &record, declared(r, stat->path),
		  pidfd >= 0 || lock_is_holder(record.owner), r->opened_ms, r->now_ms,
		  (uint64_t)time(NULL));
	vol->lock = vl;
	LIST_INSERT_HEAD(&r->locks, vl, link);
	if (pidfd >= 0)
		watch_process(vl, pidfd);
	lock_run(now(vl));
	look(vl);
	return vl;
}

static struct vol_lock *lock_by_name(struct reactor *r, const char *name)
{
	struct thin_vol_stat stat;

	if (thin_vol_find(r->pool, name, &stat) || stat.state != THIN_VOL_LIVE)
		return NULL;
	return lock_of(r, &stat);
}

/* Its peers that have closed their sockets, perhaps with a DISC that has not been read yet. */
static void look_for_leavers(struct vol_lock *vl)
{
	struct reactor *r = vl->reactor;
	struct session *s;

	TAILQ_FOREACH (s, &r->sessions, link) {
		struct pollfd p = { .fd = s->fd, .events = POLLRDHUP };

		if (s->vol != vl->vol || !s->adopt.lock || s->fd < 0 || s->hung_up)
			continue;
		if (poll(&p, 1, 0) > 0) {
			session_event(s, EPOLLIN | EPOLLRDHUP);
			reactor_wake(r, s);
		}
	}
}

bool reactor_lock_forget(struct vol_lock *vl)
{
	if (!TAILQ_EMPTY(&vl->lock.conns) || vl->lock.saving || vl->waiters)
		return false;
	watch_process(vl, -1);
	LIST_REMOVE(vl, link);
	free(vl);
	return true;
}

/* ---- connections ---- */

static void ask_open(struct letter *letter)
{
	struct reactor_lock *lock =
		(struct reactor_lock *)((char *)letter - offsetof(struct reactor_lock, letter));
	struct reactor *r = lock->reactor;
	struct thin_vol_stat stat;

	r->open_tasks++;
	if (!thin_lineage_next(r->pool, lock->vol_id - 1, &stat) && stat.id == lock->vol_id)
		lock->vl = lock_of(r, &stat);
	if (!lock->vl || r->draining) {
		lock->verdict = LOCK_REFUSED;
		snprintf(lock->text, sizeof(lock->text), "%s",
			 r->draining ? "the server is being stopped" : "out of memory");
		lock->letter.open = answer_home;
		mailbox_post(r->home, &lock->letter);
		return;
	}
	look_for_leavers(lock->vl);
	lock_open(&lock->vl->lock, &lock->conn);
	look(lock->vl);
}

struct reactor_lock *
reactor_ask_lock(struct reactor *r, uint64_t vol_id, const struct reactor_lock_ask *ask,
		 void (*answered)(void *user, enum lock_verdict verdict, const char *text),
		 void *user)
{
	struct reactor_lock *lock = calloc(1, sizeof(*lock));

	if (!lock)
		return NULL;
	snprintf(lock->conn.owner, sizeof(lock->conn.owner), "%s", ask->owner);
	lock->conn.wants_standby = ask->standby;
	lock->conn.single = ask->single;
	lock->conn.can_return = ask->pidfd >= 0 || lock_is_holder(ask->owner);
	lock->reactor = r;
	lock->vol_id = vol_id;
	lock->pidfd = ask->pidfd;
	lock->answered = answered;
	lock->user = user;
	lock->letter.open = ask_open;
	mailbox_post(r->box, &lock->letter);
	return lock;
}

static void drop_home(struct letter *letter)
{
	reactor_lock_free(
		(struct reactor_lock *)((char *)letter - offsetof(struct reactor_lock, drop)));
}

static void drop_open(struct letter *letter)
{
	struct reactor_lock *lock =
		(struct reactor_lock *)((char *)letter - offsetof(struct reactor_lock, drop));
	struct reactor *r = lock->reactor;

	reactor_lock_closed(lock, true, false); /* nothing has ever come through it */
	reactor_lock_left(lock);
	r->open_tasks--;
	lock->drop.open = drop_home;
	mailbox_post(r->home, &lock->drop);
}

void reactor_drop_lock(struct reactor_lock *lock)
{
	lock->dropped = true;
	lock->drop.open = drop_open;
	mailbox_post(lock->reactor->box, &lock->drop);
}

bool reactor_lock_adopted(struct reactor_lock *lock, struct session *s)
{
	lock->session = s;
	lock->reactor->open_tasks--;
	return !lock->cut;
}

void reactor_lock_hung_up(struct reactor_lock *lock)
{
	now(lock->vl);
	lock_hung_up(&lock->conn);
	look(lock->vl);
}

void reactor_lock_closed(struct reactor_lock *lock, bool clean, bool hung_up)
{
	struct vol_lock *vl = lock->vl;

	if (!lock->conn.lock || lock->conn.gone)
		return;
	if (lock->pidfd >= 0)
		lock->conn.can_return = identity_is_alive(lock->pidfd);
	lock->conn.leaving |= hung_up;
	now(vl);
	lock_close(&lock->conn, clean);
	if (vl->lock.owner[0] && !vl->lock.active && vl->pidfd < 0 && lock->pidfd >= 0 &&
	    !strcmp(vl->lock.owner, lock->conn.owner))
		watch_process(vl, dup(lock->pidfd));
	look(vl);
}

void reactor_lock_left(struct reactor_lock *lock)
{
	if (!lock->conn.lock)
		return;
	now(lock->vl);
	lock_leave(&lock->conn);
	look(lock->vl);
}

/* ---- time ---- */

void reactor_locks_start(struct reactor *r)
{
	LIST_INIT(&r->locks);
	r->opened_ms = r->now_ms;
	r->locks_at_ms = UINT64_MAX;
}

static void look_for_the_dead(struct reactor *r)
{
	struct vol_lock *vl;

	LIST_FOREACH (vl, &r->locks, link)
		if (vl->pidfd >= 0 && !identity_is_alive(vl->pidfd)) {
			watch_process(vl, -1);
			lock_owner_died(now(vl));
			look(vl);
		}
}

void reactor_locks_run(struct reactor *r)
{
	struct vol_lock *vl;

	if (r->mourning)
		look_for_the_dead(r);
	if (r->now_ms < r->locks_at_ms)
		return;
	r->locks_at_ms = UINT64_MAX;
	LIST_FOREACH (vl, &r->locks, link) {
		if (lock_deadline_ms(&vl->lock) <= r->now_ms)
			lock_run(now(vl));
		look(vl);
	}
}

void reactor_locks_stop(struct reactor *r)
{
	struct vol_lock *vl;

	LIST_FOREACH (vl, &r->locks, link)
		lock_refuse_all(now(vl), "the server is being stopped");
}

void reactor_locks_free(struct reactor *r)
{
	struct vol_lock *vl;

	while ((vl = LIST_FIRST(&r->locks))) {
		watch_process(vl, -1);
		LIST_REMOVE(vl, link);
		free(vl);
	}
	free(r->policies);
}

/* ---- to look at ---- */

static void fill_info(const struct vol_lock *vl, struct reactor_lock_info *info)
{
	const struct lock *l = &vl->lock;
	const struct lock_conn *c;
	bool heir_here = l->bound[0];

	memset(info, 0, sizeof(*info));
	snprintf(info->volume, sizeof(info->volume), "%.127s", l->name);
	info->state = lock_state(l);
	info->epoch = l->epoch;
	info->since_s = l->since_s;
	info->connected = l->active;
	info->left_ms = UINT64_MAX;
	if (l->owner[0] && !l->active && l->owner_until_ms != UINT64_MAX)
		info->left_ms = l->owner_until_ms > l->now_ms ? l->owner_until_ms - l->now_ms : 0;
	info->heir_ms = UINT64_MAX;
	if (l->heir[0] && !heir_here)
		info->heir_ms = l->heir_until_ms > l->now_ms ? l->heir_until_ms - l->now_ms : 0;
	memcpy(info->owner, l->owner, sizeof(info->owner));
	memcpy(info->fenced, l->fenced, sizeof(info->fenced));
	memcpy(info->heir, l->bound[0] ? l->bound : l->heir, sizeof(info->heir));
	info->policy = l->policy;
	memcpy(info->counts, l->counts, sizeof(info->counts));
	TAILQ_FOREACH (c, &l->conns, link) {
		info->writers += !c->gone && c->role == LOCK_WRITER && c->epoch == l->epoch;
		info->standbys += !c->gone && c->role == LOCK_STANDS;
		info->waiting += !c->gone && (c->pending || c->role == LOCK_ASKING);
	}
}

struct lock_list {
	struct reactor_lock_info *items;
	size_t count;
};

static int list_locks(struct reactor *r, void *arg)
{
	struct lock_list *list = arg;
	struct vol_lock *vl;
	size_t count = 0;

	LIST_FOREACH (vl, &r->locks, link)
		count++;
	list->items = calloc(count + 1, sizeof(*list->items));
	if (!list->items)
		return -ENOMEM;
	LIST_FOREACH (vl, &r->locks, link) {
		now(vl);
		fill_info(vl, &list->items[list->count++]);
	}
	return 0;
}

int reactor_list_locks(struct reactor *r, struct reactor_lock_info **ret_list, size_t *ret_count)
{
	struct lock_list list = { 0 };
	int rc = reactor_call(r, list_locks, &list);

	if (!rc) {
		*ret_list = list.items;
		*ret_count = list.count;
	}
	return rc;
}

struct lock_get {
	const char *volume;
	struct reactor_lock_info *info;
};

static int get_lock(struct reactor *r, void *arg)
{
	struct lock_get *get = arg;
	struct vol_lock *vl = lock_by_name(r, get->volume);

	if (!vl)
		return -ENOENT;
	fill_info(vl, get->info);
	return 0;
}

int reactor_get_lock(struct reactor *r, const char *volume, struct reactor_lock_info *ret_info)
{
	return reactor_call(r, get_lock, &(struct lock_get){ volume, ret_info });
}

struct lock_guess {
	const char *volume;
	const struct reactor_lock_ask *ask;
	bool shares;
	char *text;
	size_t size;
};

static int predict(struct reactor *r, void *arg)
{
	struct lock_guess *guess = arg;
	struct vol_lock *vl = lock_by_name(r, guess->volume);
	struct lock_conn conn = { .wants_standby = guess->ask->standby,
				  .single = guess->ask->single };

	if (!vl)
		return LOCK_REFUSED;
	snprintf(conn.owner, sizeof(conn.owner), "%s", guess->ask->owner);
	guess->shares = lock_shares(&conn);
	look_for_leavers(vl);
	return (int)lock_predict(&vl->lock, &conn, guess->text, guess->size);
}

enum lock_verdict reactor_predict_lock(struct reactor *r, const char *volume,
				       const struct reactor_lock_ask *ask, bool *ret_shares,
				       char *text, size_t size)
{
	struct lock_guess guess = { volume, ask, false, text, size };
	int verdict = reactor_call(r, predict, &guess);

	*ret_shares = guess.shares;
	return (enum lock_verdict)verdict;
}

/* ---- verbs ---- */

static int carry_out(struct vol_lock *vl, struct reactor_lock_task *task)
{
	struct lock *lock = &vl->lock;

	switch (task->verb) {
	case REACTOR_LOCK_SHOW:
		return 0;
	case REACTOR_LOCK_HANDOVER:
		return lock_handover(lock, task->to, task->ttl_ms, task->if_epoch, &task->err);
	case REACTOR_LOCK_CANCEL:
		return lock_cancel(lock, &task->err);
	case REACTOR_LOCK_BREAK:
		return lock_break(lock, task->to[0] ? task->to : NULL, task->if_epoch, &task->err);
	case REACTOR_LOCK_ALLOW:
		return lock_allow(lock, &task->err);
	case REACTOR_LOCK_SET:
		lock_keep_policy(lock, &task->policy, !declared(vl->reactor, lock->name));
		return 0;
	}
	return -EINVAL;
}

static void run_verb(struct reactor *r, struct reactor_task *t)
{
	struct reactor_lock_task *task = (struct reactor_lock_task *)t;
	struct vol_lock *vl = lock_by_name(r, task->volume);
	int rc;

	if (!vl) {
		reactor_task_finish(t,
				    err_set(&task->err, -ENOENT, "no volume '%s'", task->volume));
		return;
	}
	look_for_leavers(vl);
	rc = carry_out(vl, task);
	if (rc || task->verb == REACTOR_LOCK_SHOW) {
		fill_info(vl, &task->info);
		reactor_task_finish(t, rc);
	} else {
		task->change = vl->lock.change;
		task->epoch = task->verb == REACTOR_LOCK_BREAK ? vl->lock.epoch : 0;
		task->next = vl->waiters;
		vl->waiters = task;
	}
	look(vl);
}

void reactor_post_lock(struct reactor *r, struct reactor_lock_task *task)
{
	task->task.run = run_verb;
	reactor_post(r, &task->task);
}

/* ---- policies ---- */

struct policies {
	struct reactor_lock_policy *list;
	size_t count;
};

static int set_policies(struct reactor *r, void *arg)
{
	struct policies *p = arg;
	struct vol_lock *vl;

	free(r->policies);
	r->policies = p->list;
	r->policy_count = p->count;
	LIST_FOREACH (vl, &r->locks, link) {
		now(vl);
		lock_set_policy(&vl->lock, declared(r, vl->lock.name));
		look(vl);
	}
	return 0;
}

int reactor_set_lock_policies(struct reactor *r, const struct reactor_lock_policy *list,
			      size_t count)
{
	struct policies p = { calloc(count + 1, sizeof(*list)), count };

	if (!p.list)
		return -ENOMEM;
	if (count)
		memcpy(p.list, list, count * sizeof(*list));
	return reactor_call(r, set_policies, &p);
}
