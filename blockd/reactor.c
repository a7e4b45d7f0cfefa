/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The reactor's thread: its loop, its tasks, its beginning and end.  The connections are
 * reactor_conns.c.
 *
 * One turn:
 *
 *	poll for a moment, while that pays (spin.h), then sleep, in epoll:
 *		for the device, the mailbox, the sockets, the pool's deadline
 *	open the letters: tasks, new connections
 *	deliver the device's completions
 *	each connection that has bytes: one receive, parse, submit		(fair turns)
 *	let the engine run; deliver and run again while the device answers at once
 *	each connection that has answers: one send; go on parsing if it had to stop
 *
 * so that the requests of one turn share the engine's commits and the answers of one turn share
 * their sends.  A turn that left something to do is followed by one that does not sleep.
 *
 * The end: drain the connections, wait for the last task, close the pool, leave.
 */
#include "blockd/reactor_priv.h"

#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define EVENTS_MAX  64
#define TICK_MS	    1000u
#define ENGINE_RUNS 8 /* of the engine in one turn, while the device answers at once */

static uint64_t clock_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

void reactor_wake(struct reactor *r, struct session *s)
{
	if (s->in_turn)
		return;
	s->in_turn = true;
	TAILQ_INSERT_TAIL(&r->turn, s, turn);
}

int reactor_epoll_fd(const struct reactor *r)
{
	return r->epoll_fd;
}

uint64_t reactor_now_ms(const struct reactor *r)
{
	return r->now_ms;
}

/* ---- tasks ---- */

static void task_home(struct letter *letter)
{
	struct reactor_task *task =
		(struct reactor_task *)((char *)letter - offsetof(struct reactor_task, letter));

	if (task->done)
		task->done(task, task->res);
}

void reactor_task_finish(struct reactor_task *task, int res)
{
	struct reactor *r = task->reactor;

	assert(r->open_tasks > 0);
	r->open_tasks--;
	task->res = res;
	task->letter.open = task_home;
	mailbox_post(r->home, &task->letter);
}

static void request_done(struct thin_req *req, int res)
{
	reactor_task_finish(req->user, res);
}

static void task_open(struct letter *letter)
{
	struct reactor_task *task =
		(struct reactor_task *)((char *)letter - offsetof(struct reactor_task, letter));
	struct reactor *r = task->reactor;

	r->open_tasks++;
	if (task->run) {
		task->run(r, task);
		return;
	}
	task->req.done = request_done;
	task->req.user = task;
	thin_submit(r->pool, &task->req);
}

void reactor_post(struct reactor *r, struct reactor_task *task)
{
	task->reactor = r;
	task->letter.open = task_open;
	mailbox_post(r->box, &task->letter);
}

/* A call that waits: the task's end is a semaphore instead of a letter home. */
struct call {
	struct letter letter;
	struct reactor *reactor;
	int (*fn)(struct reactor *r, void *arg);
	void *arg;
	struct thin_req *req;
	int res;
	sem_t done;
};

static void call_req_done(struct thin_req *req, int res)
{
	struct call *call = req->user;

	call->reactor->open_tasks--;
	call->res = res;
	sem_post(&call->done);
}

static void call_open(struct letter *letter)
{
	struct call *call = (struct call *)letter;

	if (call->req) {
		call->reactor->open_tasks++;
		call->req->done = call_req_done;
		call->req->user = call;
		thin_submit(call->reactor->pool, call->req);
		return;
	}
	call->res = call->fn(call->reactor, call->arg);
	sem_post(&call->done);
}

static int call_and_wait(struct call *call)
{
	call->letter.open = call_open;
	sem_init(&call->done, 0, 0);
	mailbox_post(call->reactor->box, &call->letter);
	while (sem_wait(&call->done))
		; /* EINTR */
	sem_destroy(&call->done);
	return call->res;
}

int reactor_call(struct reactor *r, int (*fn)(struct reactor *reactor, void *arg), void *arg)
{
	struct call call = { .reactor = r, .fn = fn, .arg = arg };

	return call_and_wait(&call);
}

int reactor_request(struct reactor *r, struct thin_req *req)
{
	struct call call = { .reactor = r, .req = req };

	return call_and_wait(&call);
}

struct thin_pool *reactor_pool(struct reactor *r)
{
	return r->pool;
}

struct thin_dev *reactor_dev(struct reactor *r)
{
	return r->dev;
}

/* ---- the loop ---- */

static int sleep_ms(struct reactor *r)
{
	uint64_t deadline = thin_pool_deadline_ms(r->pool);
	uint64_t until = r->tick_ms + TICK_MS;

	if (r->again || reactor_conns_busy(r))
		return 0;
	if (deadline < until)
		until = deadline;
	if (r->locks_at_ms < until)
		until = r->locks_at_ms;
	return until > r->now_ms ? (int)(until - r->now_ms) : 0;
}

/* Ends with a poll that had nothing to deliver, or with a turn that does not sleep. */
static void run_engine(struct reactor *r)
{
	int i;

	for (i = 0; i < ENGINE_RUNS; i++) {
		thin_pool_run(r->pool, r->now_ms);
		if (r->dev->ops->poll(r->dev) <= 0)
			return;
	}
	r->again = true;
}

/* See spin.h. */
static int poll_before_sleep(struct reactor *r, struct spin *spin, struct epoll_event *events)
{
	uint64_t now_us = r->idle_us, before_us;

	do {
		int count = epoll_wait(r->epoll_fd, events, EVENTS_MAX, 0);

		before_us = now_us;
		now_us = clock_us();
		if (count) {
			r->stat.spins++;
			spin_found(spin);
			return count;
		}
		if (spin_stolen(spin, now_us - before_us, now_us))
			return 0;
		if (spin == &r->spin_device)
			sched_yield();
	} while (now_us - r->idle_us < spin->bound_us);
	spin_vain(spin, now_us);
	return 0;
}

static int wait_for_work(struct reactor *r, struct epoll_event *events)
{
	struct spin *spin = thin_pool_awaits_device(r->pool) ? &r->spin_device : &r->spin;
	int timeout = sleep_ms(r), count = 0;

	if (timeout)
		r->idle_us = clock_us();
	if (timeout && spin_is_worth(spin, r->idle_us))
		count = poll_before_sleep(r, spin, events);
	if (!count) {
		count = epoll_wait(r->epoll_fd, events, EVENTS_MAX, timeout);
		r->stat.sleeps += timeout != 0;
	}
	r->now_us = clock_us();
	return count;
}

static void turn(struct reactor *r)
{
	struct epoll_event events[EVENTS_MAX];
	int count = wait_for_work(r, events), i;

	r->now_ms = r->now_us / 1000;
	r->again = false;
	r->stat.turns++;
	for (i = 0; i < count; i++) {
		struct session *s = events[i].data.ptr;

		if (!s)
			continue; /* the device and the mailbox are looked at in every turn */
		session_event(s, events[i].events);
		reactor_wake(r, s);
	}
	mailbox_run(r->box);
	r->dev->ops->poll(r->dev);
	reactor_locks_run(r);
	reactor_conns_receive(r);
	run_engine(r);
	reactor_conns_send(r);
	if (r->now_ms - r->tick_ms >= TICK_MS) {
		r->tick_ms = r->now_ms;
		reactor_conns_tick(r);
	}
	atomic_fetch_add_explicit(&r->beat, 1, memory_order_relaxed);
}

/* ---- beginning and end ---- */

static int watch(struct reactor *r, int fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = NULL };

	if (fd < 0)
		return 0;
	return epoll_ctl(r->epoll_fd, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

static int open_all(struct reactor *r)
{
	int rc;

	rc = bufpool_new(r->buffer_bytes, &r->bufs, &r->open_err);
	if (rc)
		return rc;
	rc = r->params.open(r->params.user, &r->dev, &r->pool, &r->open_err);
	if (rc)
		goto no_pool;
	r->dev->polled = true; /* run_engine() sees to that */
	rc = watch(r, mailbox_fd(r->box));
	if (!rc)
		rc = watch(r, r->dev->ops->event_fd ? r->dev->ops->event_fd(r->dev) : -1);
	if (!rc)
		return 0;
	err_sys(&r->open_err, rc, "epoll");
	r->params.close(r->params.user, r->dev, r->pool);
no_pool:
	bufpool_free(r->bufs);
	r->bufs = NULL;
	return rc;
}

static void *thread_main(void *arg)
{
	struct reactor *r = arg;

	r->open_rc = open_all(r);
	if (r->open_rc) {
		sem_post(&r->opened);
		return NULL;
	}
	r->now_ms = r->tick_ms = clock_us() / 1000;
	reactor_locks_start(r);
	sem_post(&r->opened);
	while (!r->stopping || r->session_count || r->open_tasks)
		turn(r);
	r->params.close(r->params.user, r->dev, r->pool);
	reactor_locks_free(r);
	reactor_conns_free(r);
	bufpool_free(r->bufs);
	return NULL;
}

static int start_thread(struct reactor *r)
{
	sigset_t all, before;
	char name[16];
	int rc;

	/* Signals are the control thread's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(&r->thread, NULL, thread_main, r);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc)
		return -rc;
	snprintf(name, sizeof(name), "pool:%.10s", r->name);
	pthread_setname_np(r->thread, name);
	return 0;
}

static void spin_set(struct reactor *r, uint32_t spin_us)
{
	r->spin.bound_us = spin_us;
	r->spin.saves_us = SPIN_SAVES_US;
	r->spin_device.bound_us = SPIN_DEVICE_BOUNDS * spin_us;
	r->spin_device.saves_us = SPIN_SAVES_DEVICE_US;
}

int reactor_start(const struct reactor_params *params, struct reactor **ret_reactor,
		  struct err *err)
{
	struct reactor *r = calloc(1, sizeof(*r));
	int rc;

	if (!r)
		return err_set(err, -ENOMEM, "out of memory");
	snprintf(r->name, sizeof(r->name), "%s", params->name);
	r->params = *params;
	r->params.name = r->name;
	r->home = params->home;
	spin_set(r, params->spin_us);
	r->buffer_bytes = params->buffer_bytes ? params->buffer_bytes : REACTOR_BUFFERS_DEFAULT;
	TAILQ_INIT(&r->sessions);
	TAILQ_INIT(&r->turn);
	TAILQ_INIT(&r->hungry);
	sem_init(&r->opened, 0, 0);
	r->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	rc = r->epoll_fd < 0 ? err_sys(err, -errno, "epoll") : mailbox_new(&r->box, err);
	if (rc)
		goto fail;
	rc = start_thread(r);
	if (rc) {
		err_sys(err, rc, "thread");
		goto fail;
	}
	*ret_reactor = r;
	return 0;
fail:
	mailbox_free(r->box);
	if (r->epoll_fd >= 0)
		close(r->epoll_fd);
	free(r);
	return rc;
}

int reactor_wait(struct reactor *r, struct err *err)
{
	if (!r->waited)
		while (sem_wait(&r->opened))
			; /* EINTR */
	r->waited = true;
	if (r->open_rc && err)
		*err = r->open_err;
	return r->open_rc;
}

static void stop_open(struct letter *letter)
{
	struct call *call = (struct call *)letter;

	reactor_conns_drain(call->reactor, *(uint32_t *)call->arg);
	call->reactor->stopping = true;
	sem_post(&call->done);
}

void reactor_stop_free(struct reactor *r, uint32_t drain_ms)
{
	struct call call = { .reactor = r, .arg = &drain_ms, .letter.open = stop_open };

	if (!r)
		return;
	if (!reactor_wait(r, NULL)) {
		sem_init(&call.done, 0, 0);
		mailbox_post(r->box, &call.letter);
		while (sem_wait(&call.done))
			; /* EINTR */
		sem_destroy(&call.done);
	}
	pthread_join(r->thread, NULL);
	mailbox_free(r->box);
	close(r->epoll_fd);
	sem_destroy(&r->opened);
	free(r);
}

static int set_spin(struct reactor *r, void *arg)
{
	spin_set(r, *(const uint32_t *)arg);
	return 0;
}

void reactor_set_spin(struct reactor *r, uint32_t spin_us)
{
	reactor_call(r, set_spin, &spin_us);
}

const char *reactor_name(const struct reactor *r)
{
	return r->name;
}

uint64_t reactor_beat(const struct reactor *r)
{
	return atomic_load_explicit(&((struct reactor *)r)->beat, memory_order_relaxed);
}
