// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The write lock under simulation: clients race for open, write, handover, break, disconnect, late
 * delivery and restart, on the real lock and the real transmission phase, over an engine in memory
 * whose requests take effect late and in any order.
 *
 *	client --bytes, in pieces, any time later--> transmit --admitted?--> engine --effect-->
 *judge lock ---- record ----^
 *
 * The judge sees every effect and every durable record, and knows which connection each write came
 * from.  A history is one that a single writer at a time could have made when
 *	- epochs of effects never go back, each epoch belongs to one owner, none is used before it
 *	  is durable, and no epoch is given out again after a restart;
 *	- once a break has been answered, or a successor let in, nothing older takes effect, and
 *	  nothing of a closed connection once its owner has been let in anew;
 *	- who was fenced is not let in before another held the lock, or an administrator allowed it;
 *	- while an owner that can come back may do so, because it has changed something and lost its
 *	  connections without a goodbye, nobody else is let in, and none that has changed anything
 *	  is taken for one that never wrote;
 *	- a write that was answered well took effect once, one that was refused never, a refusal is
 *	  EPERM, and a FLUSH is never refused.
 *
 * usage: sim_lock [--seed N] [--seconds N] [--steps N]
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "blockd/nbd/transmit.h"
#include "blockd/nbd/wire.h"
#include "tests/lib/fake_thin.h"
#include "tests/lib/rng.h"

#define OWNERS	   6
#define CONNS	   16
#define WRITES_MAX 4096u
#define WIRE_MAX   65536u
#define BLOCK	   512u

struct conn {
	bool used, dead, open, closing, hung, bye;
	int owner;
	unsigned id;
	struct lock_conn lock;
	struct transmit *t;
	uint8_t wire[WIRE_MAX];
	size_t wire_len, wire_at; /* sent by the client; delivered */
	uint8_t in[256];
	size_t in_len;
	bool superseded; /* its owner was let in anew after it had been closed */
};

enum outcome { UNANSWERED, DONE, REFUSED_EPERM, FAILED };

struct change {
	unsigned conn;
	unsigned effects;
	enum outcome outcome;
	bool flush;
};

static struct sim {
	uint64_t seed, step;
	struct rng rng;
	struct thin_pool *pool;
	struct thin_vol *vol;
	struct bufpool *bufs;
	struct io_counters counters;
	struct lock lock;
	struct thin_req save_req;
	struct thin_lock record;
	bool saving, restarting;
	uint64_t now_ms;
	struct conn conns[CONNS];
	unsigned conn_ids;
	char incarnation[8];
	/* the judge */
	struct change changes[WRITES_MAX];
	unsigned change_count;
	uint64_t last_epoch, barrier;
	char last_owner[LOCK_TEXT_MAX + 1];
	char fenced[LOCK_TEXT_MAX + 1];
	bool wrote; /* the owner, since it took the lock from nobody or was handed it */
	char holder[LOCK_TEXT_MAX + 1]; /* was let in, and holds the lock since */
	char kept_for[LOCK_TEXT_MAX + 1];
	uint64_t kept_until_ms, unwritten_epoch;
	uint64_t break_epoch, break_change;
	bool break_waits;
	char break_fences[LOCK_TEXT_MAX + 1];
	/* what was seen */
	uint64_t effects, grants, breaks, handovers, takes, restarts, refusals, replies, unwritten;
} * sim;

static struct {
	uint64_t runs, steps, effects, grants, breaks, handovers, takes, restarts, refusals,
		replies, unwritten;
} totals;

__attribute__((noreturn, format(printf, 1, 2))) static void failed(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	printf("seed %llu step %llu: ", (unsigned long long)sim->seed,
	       (unsigned long long)sim->step);
	vprintf(fmt, ap);
	printf("\n");
	va_end(ap);
	exit(1);
}

/* ---- the judge ---- */

static void is_let_in(const struct lock_conn *conn, bool asked)
{
	sim->grants++;
	if (sim->fenced[0] && lock_fence_matches(sim->fenced, conn->owner))
		failed("%s is let in at epoch %llu though it was fenced", conn->owner,
		       (unsigned long long)conn->epoch);
	sim->fenced[0] = '\0';
	strcpy(sim->holder, conn->owner);
	if (sim->kept_for[0] && strcmp(sim->kept_for, conn->owner) &&
	    sim->now_ms < sim->kept_until_ms)
		failed("%s is let in though %s, which has written, may come back", conn->owner,
		       sim->kept_for);
	sim->kept_for[0] = '\0';
	for (unsigned i = 0; i < CONNS; i++) {
		struct conn *c = &sim->conns[i];

		if (asked && c->used && &c->lock != conn && (c->dead || c->hung) &&
		    strcmp(c->lock.owner, conn->owner) == 0)
			c->superseded = true;
	}
	if (conn->epoch > sim->barrier)
		sim->barrier = conn->epoch;
}

static void effect(void *user, const struct thin_req *req)
{
	uint64_t cookie;
	struct change *change;
	const struct conn *c;
	struct thin_lock record;
	struct thin_vol_stat stat;

	(void)user;
	if (req->op != THIN_WRITE && req->op != THIN_TRIM)
		return;
	cookie = req->offset / BLOCK; /* every change has a block of its own */
	change = &sim->changes[cookie];
	c = &sim->conns[change->conn % CONNS];
	sim->effects++;
	change->effects++;
	if (c->id != change->conn)
		failed("change %llu of a connection long gone takes effect",
		       (unsigned long long)cookie);
	if (c->superseded)
		failed("a change of a closed connection behind the return of its owner");
	thin_vol_stat(sim->vol, &stat);
	thin_lock_get(sim->pool, stat.id, &record);
	if (record.epoch < c->lock.epoch)
		failed("a change of epoch %llu, which is not durable (%llu)",
		       (unsigned long long)c->lock.epoch, (unsigned long long)record.epoch);
	if (c->lock.epoch < sim->last_epoch)
		failed("a change of epoch %llu behind one of %llu",
		       (unsigned long long)c->lock.epoch, (unsigned long long)sim->last_epoch);
	if (c->lock.epoch < sim->barrier)
		failed("a change of epoch %llu behind the fence of %llu",
		       (unsigned long long)c->lock.epoch, (unsigned long long)sim->barrier);
	if (c->lock.epoch == sim->last_epoch && strcmp(c->lock.owner, sim->last_owner))
		failed("epoch %llu belongs to %s and to %s", (unsigned long long)c->lock.epoch,
		       sim->last_owner, c->lock.owner);
	if (c->lock.epoch == sim->unwritten_epoch)
		failed("a change of epoch %llu, whose owner was said never to have written",
		       (unsigned long long)c->lock.epoch);
	sim->wrote |= c->lock.epoch == sim->lock.epoch;
	sim->last_epoch = c->lock.epoch;
	snprintf(sim->last_owner, sizeof(sim->last_owner), "%s", c->lock.owner);
}

static void is_answered(struct conn *c, uint64_t cookie, uint32_t error)
{
	struct change *change = &sim->changes[cookie];

	sim->replies++;
	if (cookie >= sim->change_count || change->conn != c->id)
		failed("a reply to a request of another");
	if (change->outcome != UNANSWERED)
		failed("request %llu is answered twice", (unsigned long long)cookie);
	change->outcome = error == 0 ? DONE : error == NBD_EPERM ? REFUSED_EPERM : FAILED;
	if (sim->restarting)
		return;
	if (change->flush) {
		if (error)
			failed("a FLUSH is answered with %u", error);
	} else if (error == 0 && change->effects != 1) {
		failed("a change answered well took effect %u times", change->effects);
	} else if (error == NBD_EPERM) {
		sim->refusals++;
	} else if (error) {
		failed("a change is answered with %u", error);
	}
}

static void judge_end(void)
{
	for (unsigned i = 0; i < sim->change_count; i++) {
		const struct change *change = &sim->changes[i];

		if (change->effects > 1 || (change->outcome == REFUSED_EPERM && change->effects))
			failed("change %u took effect %u times, outcome %d", i, change->effects,
			       change->outcome);
	}
}

/* ---- the lock's surroundings ---- */

static void look_at_break(void)
{
	if (!sim->break_waits || !lock_is_settled(&sim->lock, sim->break_change, sim->break_epoch))
		return;
	/* the administrator is told: from now on nothing older may happen */
	sim->break_waits = false;
	if (sim->break_epoch > sim->barrier)
		sim->barrier = sim->break_epoch;
	if (sim->break_fences[0] && sim->lock.fenced[0])
		strcpy(sim->fenced, sim->break_fences);
}

static void save_done(struct thin_req *req, int res)
{
	(void)req;
	sim->saving = false;
	if (!sim->restarting)
		lock_saved(&sim->lock, res);
}

static void on_save(void *user, const struct thin_lock *record)
{
	struct thin_vol_stat stat;

	(void)user;
	if (sim->saving)
		failed("two saves at once");
	thin_vol_stat(sim->vol, &stat);
	sim->record = *record;
	sim->saving = true;
	sim->save_req = (struct thin_req){
		.op = THIN_LOCK, .id = stat.id, .lock = &sim->record, .done = save_done
	};
	thin_submit(sim->pool, &sim->save_req);
}

static struct conn *conn_of(struct lock_conn *lc)
{
	return (struct conn *)((char *)lc - offsetof(struct conn, lock));
}

static void on_decided(void *user, struct lock_conn *lc, enum lock_verdict verdict,
		       const char *text)
{
	struct conn *c = conn_of(lc);

	(void)user;
	if (verdict == LOCK_REFUSED && !strstr(text, "lock"))
		failed("a refusal without a word about the lock: %s", text);
	if (verdict == LOCK_AS_WRITER)
		is_let_in(lc, true);
	c->open = verdict == LOCK_AS_WRITER || verdict == LOCK_AS_STANDBY;
	c->closing |= !c->open;
}

static void on_resume(void *user, struct lock_conn *lc)
{
	(void)user;
	if (lock_admits(lc))
		is_let_in(lc, false);
}

static void on_cut(void *user, struct lock_conn *lc, const char *reason)
{
	(void)user;
	(void)reason;
	conn_of(lc)->closing = true;
}

static void on_event(void *user, enum lock_event event, const char *text)
{
	(void)user;
	sim->takes += event == LOCK_EV_TAKEN;
	if (event == LOCK_EV_RELEASED && strstr(text, "never wrote")) {
		if (sim->wrote)
			failed("who has written is said never to have: %s", text);
		sim->unwritten_epoch = sim->lock.epoch;
		sim->unwritten++;
	}
	if (event == LOCK_EV_RELEASED || event == LOCK_EV_EXPIRED || event == LOCK_EV_BROKEN) {
		sim->wrote = false;
		sim->holder[0] = '\0';
	} else if (event == LOCK_EV_TAKEN)
		sim->wrote = true; /* a guest's memory came along */
	if (event == LOCK_EV_BROKEN || event == LOCK_EV_HANDOVER)
		sim->kept_for[0] = '\0';
	if (getenv("SIM_VERBOSE"))
		printf("%llu %s: %s\n", (unsigned long long)sim->step, lock_event_name(event),
		       text);
}

static const struct lock_ops lock_ops = { on_save, on_decided, on_resume, on_cut, on_event };

static void clock_to(uint64_t ms)
{
	sim->now_ms = ms;
	lock_set_now(&sim->lock, ms, 1000000 + ms / 1000);
}

/* ---- connections ---- */

static void on_wake(void *user)
{
	(void)user;
}

/* Holders, processes, and clients that have only their connection. */
static void owner_text(struct conn *c)
{
	char *to = c->lock.owner;

	switch (c->owner % 3) {
	case 0:
		snprintf(to, LOCK_TEXT_MAX, "addr=10.0.0.%d/holder=vm%d", c->owner, c->owner);
		break;
	case 1:
		snprintf(to, LOCK_TEXT_MAX, "uid=0/pid=%d.77", 100 + c->owner);
		break;
	default:
		snprintf(to, LOCK_TEXT_MAX, "addr=10.0.0.%d/conn=%u.%s", c->owner, c->id,
			 sim->incarnation);
	}
	c->lock.can_return = c->owner % 3 != 2;
}

static void conn_open(void)
{
	struct transmit_params params = { .pool = sim->pool,
					  .vol = sim->vol,
					  .bufs = sim->bufs,
					  .volume_counters = &sim->counters,
					  .wake = on_wake };
	unsigned at = (unsigned)rng_below(&sim->rng, CONNS);
	struct conn *c = &sim->conns[at];

	if (c->used)
		return;
	memset(c, 0, sizeof(*c));
	c->used = true;
	c->id = (++sim->conn_ids) * CONNS + at;
	c->owner = (int)rng_below(&sim->rng, OWNERS);
	owner_text(c);
	c->lock.wants_standby = rng_percent(&sim->rng, 15);
	c->lock.single = rng_percent(&sim->rng, 15);
	params.lock = &c->lock;
	c->t = transmit_new(&params);
	lock_open(&sim->lock, &c->lock);
}

static void put(struct conn *c, const void *data, size_t len)
{
	memcpy(c->wire + c->wire_len, data, len);
	c->wire_len += len;
}

static void conn_request(struct conn *c)
{
	static const uint8_t payload[BLOCK];
	unsigned what = (unsigned)rng_below(&sim->rng, 10), i = sim->change_count;
	struct nbd_request q = { .magic = be32_put(NBD_REQUEST_MAGIC) };
	be64_t cookie = be64_put(i);

	if (!c->used || !c->open || c->dead || c->hung || c->wire_len + 2 * BLOCK > WIRE_MAX ||
	    i + 1 >= WRITES_MAX)
		return;
	q.type = be16_put(what < 6 ? NBD_CMD_WRITE : what < 8 ? NBD_CMD_TRIM : NBD_CMD_FLUSH);
	memcpy(q.cookie, &cookie, sizeof(cookie));
	if (what < 8) {
		q.offset = be64_put((uint64_t)i * BLOCK);
		q.len = be32_put(BLOCK);
	}
	sim->changes[i] = (struct change){ .conn = c->id, .flush = what >= 8 };
	sim->change_count++;
	put(c, &q, sizeof(q));
	if (what < 6)
		put(c, payload, BLOCK);
}

/* Some of what the client has sent arrives, perhaps in the middle of a payload. */
static void conn_deliver(struct conn *c)
{
	struct iovec iov[2];
	size_t left = c->wire_len - c->wire_at, some;
	int n;

	if (!c->used || !c->open || c->dead)
		return;
	if (!left && c->hung && transmit_state(c->t) == TRANSMIT_RUNNING)
		transmit_eof(c->t);
	some = rng_below(&sim->rng, left + 1);
	if (rng_percent(&sim->rng, 30))
		some = left;
	while (some) {
		size_t got = 0;

		n = transmit_rx_iov(c->t, iov);
		for (int k = 0; k < n; k++) {
			size_t part = iov[k].iov_len < some ? iov[k].iov_len : some;

			memcpy(iov[k].iov_base, c->wire + c->wire_at, part);
			c->wire_at += part;
			some -= part;
			got += part;
		}
		if (!got)
			break;
		transmit_received(c->t, got);
	}
	if (c->wire_at == c->wire_len)
		c->wire_at = c->wire_len = 0;
}

static void conn_replies(struct conn *c)
{
	struct iovec iov[8];
	int n;

	while ((n = transmit_tx_iov(c->t, iov, 8)) > 0)
		for (int k = 0; k < n; k++) {
			size_t len = iov[k].iov_len < sizeof(c->in) - c->in_len
					     ? iov[k].iov_len
					     : sizeof(c->in) - c->in_len;

			memcpy(c->in + c->in_len, iov[k].iov_base, len);
			c->in_len += len;
			transmit_sent(c->t, len);
			while (c->in_len >= sizeof(struct nbd_simple_reply)) {
				struct nbd_simple_reply r;
				be64_t cookie;

				memcpy(&r, c->in, sizeof(r));
				memcpy(&cookie, r.cookie, sizeof(cookie));
				c->in_len -= sizeof(r);
				memmove(c->in, c->in + sizeof(r), c->in_len);
				is_answered(c, be64_get(cookie), be32_get(r.error));
			}
			break; /* the pieces have moved */
		}
}

/* The last connection of an owner that has written is lost: for whom must the lock be kept? */
static void judge_loss(const struct conn *lost)
{
	const struct lock *l = &sim->lock;

	if (lost->bye || !sim->wrote || !lost->lock.can_return || l->heir[0] ||
	    lost->lock.role != LOCK_WRITER || lost->lock.epoch != l->epoch)
		return;
	for (unsigned i = 0; i < CONNS; i++)
		if (sim->conns[i].used && !sim->conns[i].dead &&
		    !strcmp(sim->conns[i].lock.owner, lost->lock.owner))
			return;
	strcpy(sim->kept_for, lost->lock.owner);
	sim->kept_until_ms = l->policy.keep ? UINT64_MAX : sim->now_ms + l->policy.grace_ms;
}

static void conn_turn(struct conn *c)
{
	enum transmit_state state;

	if (!c->used)
		return;
	if (!c->dead) {
		conn_replies(c);
		transmit_retry(c->t);
		if (c->hung && transmit_wants_lock(c->t))
			c->closing = true; /* it waits for the lock, and its client has gone */
		state = transmit_state(c->t);
		if (state == TRANSMIT_DONE || state == TRANSMIT_BROKEN || c->closing) {
			c->dead = true;
			c->bye = state == TRANSMIT_DONE && transmit_has_said_goodbye(c->t);
			transmit_abort(c->t, "");
			judge_loss(c);
			lock_close(&c->lock, c->bye);
		}
	}
	if (c->dead && !transmit_in_flight(c->t)) {
		if (c->lock.lock)
			lock_leave(&c->lock);
		transmit_free(c->t);
		c->used = false;
	}
}

static void conn_end(struct conn *c)
{
	struct nbd_request q = { .magic = be32_put(NBD_REQUEST_MAGIC),
				 .type = be16_put(NBD_CMD_DISC) };

	if (c->dead || c->hung)
		return;
	switch (rng_below(&sim->rng, 4)) {
	case 0: /* at once, what is on the way is lost */
		c->closing = true;
		break;
	case 1: /* closed by the client, behind what it has sent */
		c->hung = true;
		lock_hung_up(&c->lock);
		break;
	default:
		if (c->open && c->wire_len + sizeof(q) <= WIRE_MAX) {
			put(c, &q, sizeof(q));
			c->hung = true;
			lock_hung_up(&c->lock);
		}
	}
}

/* ---- administrators, time, death ---- */

static void some_target(char *to, size_t size)
{
	int owner = (int)rng_below(&sim->rng, OWNERS);

	switch (rng_below(&sim->rng, 5)) {
	case 0:
		snprintf(to, size, "any");
		break;
	case 1:
		snprintf(to, size, "addr=10.0.0.%d", owner);
		break;
	default:
		if (owner % 3 == 0)
			snprintf(to, size, "vm%d", owner);
		else
			snprintf(to, size, "pid=%d", 100 + owner);
	}
}

static void do_break(void)
{
	char to[64] = "";
	uint64_t before = sim->lock.epoch;

	if (sim->break_waits)
		return;
	if (rng_percent(&sim->rng, 40))
		some_target(to, sizeof(to));
	sim->break_fences[0] = '\0';
	if (sim->lock.owner[0] && strcmp(sim->lock.owner, sim->holder) == 0)
		lock_fence_of(sim->lock.owner, sim->break_fences);
	sim->break_waits = true;
	sim->break_epoch = before + 1;
	sim->break_change = UINT64_MAX;
	if (lock_break(&sim->lock, to[0] ? to : NULL, 0, NULL))
		failed("break");
	sim->break_change = sim->lock.saving ? sim->lock.change : sim->lock.saved_change;
	sim->breaks++;
}

static void administer(void)
{
	char to[64];

	switch (rng_below(&sim->rng, 6)) {
	case 0:
	case 1:
		do_break();
		break;
	case 2:
	case 3:
		some_target(to, sizeof(to));
		sim->handovers +=
			!lock_handover(&sim->lock, to, rng_below(&sim->rng, 60000), 0, NULL);
		break;
	case 4:
		(void)lock_cancel(&sim->lock, NULL);
		break;
	default:
		if (!sim->break_waits && !lock_allow(&sim->lock, NULL))
			sim->fenced[0] = '\0';
	}
}

static void load(void)
{
	struct thin_lock record;
	struct thin_vol_stat stat;
	struct lock_policy policy = { .second_writer = (enum lock_second)rng_below(&sim->rng, 4),
				      .wait_ms = 20000,
				      .grace_ms = 30000,
				      .keep = rng_percent(&sim->rng, 20),
				      .disconnect = rng_percent(&sim->rng, 30) };

	thin_vol_stat(sim->vol, &stat);
	thin_lock_get(sim->pool, stat.id, &record);
	lock_init(&sim->lock, &lock_ops, NULL, &record, &policy, !strstr(record.owner, "/conn="),
		  sim->now_ms, sim->now_ms, 1000000 + sim->now_ms / 1000);
	snprintf(sim->incarnation, sizeof(sim->incarnation), "%llx",
		 (unsigned long long)rng_below(&sim->rng, 1u << 20));
	if (!sim->lock.owner[0]) {
		sim->wrote = false;
		sim->holder[0] = '\0';
	}
	if (sim->now_ms >= sim->kept_until_ms)
		sim->kept_for[0] = '\0';
	if (!policy.keep && sim->kept_for[0])
		sim->kept_until_ms = sim->now_ms + policy.grace_ms;
	lock_run(&sim->lock);
}

static void restart(void)
{
	sim->restarts++;
	sim->restarting = true;
	sim->break_waits = false; /* its answer never came */
	for (unsigned i = 0; i < CONNS; i++)
		if (sim->conns[i].used)
			transmit_abort(sim->conns[i].t, "");
	fake_thin_forget(sim->pool);
	for (unsigned i = 0; i < CONNS; i++)
		if (sim->conns[i].used) {
			transmit_free(sim->conns[i].t);
			sim->conns[i].used = false;
		}
	sim->restarting = false;
	load();
}

static void pass_time(void)
{
	static const uint64_t steps[] = { 1, 10, 500, 2000, 31000, 400000 };

	clock_to(sim->now_ms + steps[rng_below(&sim->rng, 6)]);
	if (rng_percent(&sim->rng, 20) && lock_is_process(sim->lock.owner) && !sim->lock.active) {
		sim->kept_for[0] = '\0';
		lock_owner_died(&sim->lock);
	}
	lock_run(&sim->lock);
}

static void one_step(void)
{
	struct conn *c = &sim->conns[rng_below(&sim->rng, CONNS)];
	unsigned what = (unsigned)rng_below(&sim->rng, 1000);

	if (what < 100)
		conn_open();
	else if (what < 450)
		conn_request(c);
	else if (what < 700)
		conn_deliver(c);
	else if (what < 720 && c->used)
		conn_end(c);
	else if (what < 735)
		administer();
	else if (what < 745)
		pass_time();
	else if (what < 747)
		restart();
	else
		thin_pool_run(sim->pool, 0);
	for (unsigned i = 0; i < CONNS; i++)
		conn_turn(&sim->conns[i]);
	look_at_break();
}

/* Whatever has happened: an administrator can always get the volume to a client that asks. */
static void ends_well(void)
{
	struct conn *c;

	for (unsigned i = 0; i < CONNS; i++)
		if (sim->conns[i].used)
			sim->conns[i].closing = true;
	for (unsigned round = 0; round < 2000; round++) {
		thin_pool_run(sim->pool, 0);
		for (unsigned i = 0; i < CONNS; i++)
			conn_turn(&sim->conns[i]);
	}
	look_at_break();
	(void)lock_break(&sim->lock, NULL, 0, NULL);
	(void)lock_allow(&sim->lock, NULL);
	sim->fenced[0] = '\0';
	for (unsigned i = 0; i < CONNS; i++)
		if (sim->conns[i].used)
			failed("a connection never ends: dead %d, in flight %u, admitted %u, state "
			       "%d",
			       sim->conns[i].dead, transmit_in_flight(sim->conns[i].t),
			       sim->conns[i].lock.admitted, transmit_state(sim->conns[i].t));
	conn_open();
	for (c = sim->conns; !c->used; c++)
		;
	/* one that asks to be a standby, too: the lock is free */
	for (unsigned round = 0; round < 2000 && !c->open && c->used; round++) {
		clock_to(sim->now_ms + 1);
		lock_run(&sim->lock);
		thin_pool_run(sim->pool, 0);
		conn_turn(c);
	}
	if (!c->open || c->lock.role != LOCK_WRITER)
		failed("after a break nobody is let in");
}

static void run(uint64_t seed, uint64_t steps)
{
	sim = calloc(1, sizeof(*sim));
	sim->seed = seed;
	sim->rng.state = seed;
	sim->pool = fake_thin_new(seed + 1);
	fake_thin_add(sim->pool, "v", (uint64_t)WRITES_MAX * BLOCK);
	if (thin_vol_open(sim->pool, "v", &sim->vol) || bufpool_new(36u << 20, &sim->bufs, NULL))
		failed("no memory");
	fake_thin_slow(sim->pool, true);
	fake_thin_watch(sim->pool, effect, NULL);
	load();
	clock_to(1000);
	for (sim->step = 0; sim->step < steps; sim->step++)
		one_step();
	ends_well();
	restart();
	judge_end();
	totals.runs++;
	totals.steps += steps;
	totals.effects += sim->effects;
	totals.grants += sim->grants;
	totals.breaks += sim->breaks;
	totals.handovers += sim->handovers;
	totals.takes += sim->takes;
	totals.restarts += sim->restarts;
	totals.refusals += sim->refusals;
	totals.replies += sim->replies;
	totals.unwritten += sim->unwritten;
	fake_thin_settle(sim->pool);
	fake_thin_forget(sim->pool);
	thin_vol_close(sim->vol);
	fake_thin_free(sim->pool);
	bufpool_free(sim->bufs);
	free(sim);
}

int main(int argc, char **argv)
{
	uint64_t seed = 1, seconds = 2, steps = 4000;
	time_t end;

	for (int i = 1; i + 1 < argc; i += 2) {
		uint64_t value = strtoull(argv[i + 1], NULL, 0);

		if (strcmp(argv[i], "--seed") == 0)
			seed = value;
		else if (strcmp(argv[i], "--seconds") == 0)
			seconds = value;
		else if (strcmp(argv[i], "--steps") == 0)
			steps = value;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	end = time(NULL) + (time_t)seconds;
	do
		run(seed++, steps);
	while (time(NULL) < end);
	printf("note: write lock: %llu races, %llu steps, %llu changes took effect, %llu grants, "
	       "%llu refused changes, %llu breaks, %llu handovers (%llu taken), %llu restarts, "
	       "%llu replies, %llu that never wrote\n",
	       (unsigned long long)totals.runs, (unsigned long long)totals.steps,
	       (unsigned long long)totals.effects, (unsigned long long)totals.grants,
	       (unsigned long long)totals.refusals, (unsigned long long)totals.breaks,
	       (unsigned long long)totals.handovers, (unsigned long long)totals.takes,
	       (unsigned long long)totals.restarts, (unsigned long long)totals.replies,
	       (unsigned long long)totals.unwritten);
	return totals.unwritten && totals.takes && totals.refusals && totals.restarts ? 0 : 1;
}
