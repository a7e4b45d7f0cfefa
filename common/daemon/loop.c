/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The main loop of a daemon on sd-event; see loop.h for what it promises. */
#include "common/daemon/loop.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <systemd/sd-daemon.h>

#include "common/daemon/log.h"

struct loop {
	sd_event *event;
	struct loop_hooks hooks;
	sd_event_source *signals[3];
	sd_event_source *watchdog;
	uint64_t watchdog_usec; /* 0: not asked for */
	bool stopping;
	bool reloading; /* READY=1 is due */
};

struct loop_waker {
	int fd;
	sd_event_source *source;
	void (*fn)(void *ctx);
	void *ctx;
};

struct loop_timer {
	sd_event_source *source;
	void (*fn)(void *ctx);
	void *ctx;
};

uint64_t loop_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* ---- signals ---- */

static int on_stop_signal(sd_event_source *s, const struct signalfd_siginfo *si, void *ctx)
{
	struct loop *l = ctx;

	if (l->stopping) {
		log_warning(NULL, "second signal: stopping at once");
		loop_quit(l, 1);
		return 0;
	}
	l->stopping = true;
	log_info(NULL, "stopping (signal %u)", si->ssi_signo);
	sd_notify(0, "STOPPING=1");
	if (l->hooks.on_stop)
		l->hooks.on_stop(l->hooks.ctx);
	else
		loop_quit(l, 0);
	return 0;
}

static int on_reload_signal(sd_event_source *s, const struct signalfd_siginfo *si, void *ctx)
{
	struct loop *l = ctx;

	if (!l->hooks.on_reload) {
		log_warning(NULL, "SIGHUP does nothing here");
		return 0;
	}
	if (l->stopping)
		return 0;
	sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long)loop_now_ms() * 1000);
	l->reloading = false;
	l->hooks.on_reload(l->hooks.ctx);
	if (!l->reloading)
		sd_notify(0, "READY=1");
	return 0;
}

void loop_reload_defer(struct loop *l)
{
	l->reloading = true;
}

void loop_reload_done(struct loop *l)
{
	if (l->reloading)
		sd_notify(0, "READY=1");
	l->reloading = false;
}

static int add_signals(struct loop *l)
{
	static const int numbers[3] = { SIGTERM, SIGINT, SIGHUP };
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	for (int i = 0; i < 3; i++)
		sigaddset(&set, numbers[i]);
	if (sigprocmask(SIG_BLOCK, &set, NULL))
		return -errno;
	for (int i = 0; i < 3; i++) {
		int r = sd_event_add_signal(
			l->event, &l->signals[i], numbers[i],
			numbers[i] == SIGHUP ? on_reload_signal : on_stop_signal, l);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- watchdog ---- */

static int on_watchdog_time(sd_event_source *s, uint64_t usec, void *ctx)
{
	struct loop *l = ctx;
	uint64_t now;

	if (!l->hooks.on_watchdog || l->hooks.on_watchdog(l->hooks.ctx))
		sd_notify(0, "WATCHDOG=1");
	else
		log_limited(LOG_LEVEL_ERROR, "watchdog", NULL, "not well: watchdog is not fed");
	sd_event_now(l->event, CLOCK_MONOTONIC, &now);
	sd_event_source_set_time(s, now + l->watchdog_usec / 3);
	return sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
}

static int add_watchdog(struct loop *l)
{
	int r = sd_watchdog_enabled(0, &l->watchdog_usec);

	if (r <= 0)
		return r;
	return sd_event_add_time_relative(l->event, &l->watchdog, CLOCK_MONOTONIC, 0, 0,
					  on_watchdog_time, l);
}

/* ---- the loop ---- */

int loop_new(struct loop **ret, const struct loop_hooks *hooks, struct err *err)
{
	struct loop *l = calloc(1, sizeof(*l));
	int r;

	if (!l)
		return err_set(err, -ENOMEM, "out of memory");
	if (hooks)
		l->hooks = *hooks;
	r = sd_event_new(&l->event);
	if (r >= 0)
		r = add_signals(l);
	if (r >= 0)
		r = add_watchdog(l);
	if (r < 0) {
		loop_free(l);
		return err_sys(err, r, "event loop");
	}
	*ret = l;
	return 0;
}

void loop_free(struct loop *l)
{
	if (!l)
		return;
	for (int i = 0; i < 3; i++)
		sd_event_source_disable_unref(l->signals[i]);
	sd_event_source_disable_unref(l->watchdog);
	sd_event_unref(l->event);
	free(l);
}

sd_event *loop_event(struct loop *l)
{
	return l->event;
}

void loop_ready(struct loop *l, const char *status)
{
	sd_notifyf(0, "READY=1\nSTATUS=%s", status);
}

void loop_status(struct loop *l, const char *status)
{
	sd_notifyf(0, "STATUS=%s", status);
}

int loop_run(struct loop *l)
{
	int r = sd_event_loop(l->event);

	if (r < 0)
		log_error(NULL, "event loop: %s", strerror(-r));
	return r;
}

void loop_quit(struct loop *l, int code)
{
	sd_event_exit(l->event, code);
}

/* ---- wakers ---- */

static int on_wake(sd_event_source *s, int fd, uint32_t revents, void *ctx)
{
	struct loop_waker *w = ctx;
	uint64_t count;

	if (read(fd, &count, sizeof(count)) == sizeof(count))
		w->fn(w->ctx);
	return 0;
}

int loop_waker_new(struct loop *l, void (*fn)(void *ctx), void *ctx, struct loop_waker **ret)
{
	struct loop_waker *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return -ENOMEM;
	w->fn = fn;
	w->ctx = ctx;
	w->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	r = w->fd < 0 ? -errno : sd_event_add_io(l->event, &w->source, w->fd, EPOLLIN, on_wake, w);
	if (r < 0) {
		loop_waker_free(w);
		return r;
	}
	*ret = w;
	return 0;
}

void loop_waker_free(struct loop_waker *w)
{
	if (!w)
		return;
	sd_event_source_disable_unref(w->source);
	if (w->fd >= 0)
		close(w->fd);
	free(w);
}

void loop_waker_wake(struct loop_waker *w)
{
	uint64_t one = 1;

	/* EAGAIN means that it is full, so that a wakeup is on its way. */
	while (write(w->fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

/* ---- timers ---- */

static int on_time(sd_event_source *s, uint64_t usec, void *ctx)
{
	struct loop_timer *t = ctx;

	t->fn(t->ctx); /* may free t */
	return 0;
}

int loop_timer_new(struct loop *l, void (*fn)(void *ctx), void *ctx, struct loop_timer **ret)
{
	struct loop_timer *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return -ENOMEM;
	t->fn = fn;
	t->ctx = ctx;
	r = sd_event_add_time(l->event, &t->source, CLOCK_MONOTONIC, UINT64_MAX, 1000, on_time, t);
	if (r >= 0)
		r = sd_event_source_set_enabled(t->source, SD_EVENT_OFF);
	if (r < 0) {
		loop_timer_free(t);
		return r;
	}
	*ret = t;
	return 0;
}

void loop_timer_set(struct loop_timer *t, uint64_t after_ms)
{
	uint64_t at = (loop_now_ms() + after_ms) * 1000;

	sd_event_source_set_time(t->source, at);
	sd_event_source_set_enabled(t->source, SD_EVENT_ONESHOT);
}

void loop_timer_stop(struct loop_timer *t)
{
	sd_event_source_set_enabled(t->source, SD_EVENT_OFF);
}

void loop_timer_free(struct loop_timer *t)
{
	if (!t)
		return;
	sd_event_source_disable_unref(t->source);
	free(t);
}
