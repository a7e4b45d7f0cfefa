/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The main loop: what it tells systemd, signals, wakers, timers, passed sockets, the pid file.
 * Everything runs in children, since it changes the process.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/daemon/log.h"
#include "common/daemon/loop.h"

static char folder[] = "/tmp/ashlar-loop.XXXXXX";
static char notify_path[64];
static int notify_fd;

static int start(void **state)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct timeval limit = { .tv_sec = 60 };

	assert_non_null(mkdtemp(folder));
	snprintf(notify_path, sizeof(notify_path), "%s/notify", folder);
	strcpy(sa.sun_path, notify_path);
	notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	setsockopt(notify_fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	return bind(notify_fd, (struct sockaddr *)&sa, sizeof(sa));
}

static int stop(void **state)
{
	unlink(notify_path);
	return rmdir(folder);
}

/* The next message to systemd whose text begins so; fails after a minute of silence. */
static void expect_notify(const char *text)
{
	char got[256];
	ssize_t n;

	do {
		n = recv(notify_fd, got, sizeof(got) - 1, 0);
		if (n < 0)
			fail_msg("no %s within a minute", text);
		got[n] = '\0';
	} while (strncmp(got, text, strlen(text)) != 0);
}

struct daemon {
	struct loop *loop;
	unsigned watchdog_calls;
	bool reloaded;
};

static bool on_watchdog(void *ctx)
{
	struct daemon *d = ctx;

	return ++d->watchdog_calls < 5; /* then it falls ill */
}

static void on_reload(void *ctx)
{
	((struct daemon *)ctx)->reloaded = true;
}

static void on_stop(void *ctx)
{
	struct daemon *d = ctx;

	loop_quit(d->loop, d->reloaded ? 7 : 8);
}

/* fork() for a child that dies with us and says nothing on stderr. */
static pid_t child(void)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		log_set_level(LOG_LEVEL_ERROR - 1);
	}
	return pid;
}

static int exit_code(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void test_service_life(void **state)
{
	struct daemon d = { 0 };
	struct loop_hooks hooks = { on_stop, on_reload, on_watchdog, &d };
	struct err err;
	char pid_text[16];
	pid_t pid = child();

	if (!pid) {
		setenv("NOTIFY_SOCKET", notify_path, 1);
		setenv("WATCHDOG_USEC", "150000", 1);
		snprintf(pid_text, sizeof(pid_text), "%d", getpid());
		setenv("WATCHDOG_PID", pid_text, 1);
		if (loop_new(&d.loop, &hooks, &err))
			_exit(1);
		loop_ready(d.loop, "2 pools");
		_exit(loop_run(d.loop));
	}
	expect_notify("READY=1\nSTATUS=2 pools");
	for (int i = 0; i < 4; i++)
		expect_notify("WATCHDOG=1");
	kill(pid, SIGHUP);
	expect_notify("RELOADING=1\nMONOTONIC_USEC=");
	expect_notify("READY=1");
	kill(pid, SIGTERM);
	expect_notify("STOPPING=1");
	assert_int_equal(exit_code(pid), 7);
}

/* A daemon that is not well stops feeding; one more WATCHDOG=1 would be a lie. */
static void test_ill_daemon_is_not_fed(void **state)
{
	struct daemon *d =
		mmap(NULL, sizeof(*d), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct loop_hooks hooks = { NULL, NULL, on_watchdog, d };
	struct err err;
	char got[64], pid_text[16];
	pid_t pid;

	assert_true(d != MAP_FAILED);
	d->watchdog_calls = 10;
	pid = child();
	if (!pid) {
		setenv("NOTIFY_SOCKET", notify_path, 1);
		setenv("WATCHDOG_USEC", "30000", 1);
		snprintf(pid_text, sizeof(pid_text), "%d", getpid());
		setenv("WATCHDOG_PID", pid_text, 1);
		if (loop_new(&d->loop, &hooks, &err))
			_exit(1);
		_exit(loop_run(d->loop));
	}
	while (__atomic_load_n(&d->watchdog_calls, __ATOMIC_RELAXED) < 15) {
		assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
		usleep(2000);
	}
	kill(pid, SIGTERM);
	assert_int_equal(recv(notify_fd, got, sizeof(got), 0), strlen("STOPPING=1"));
	assert_int_equal(exit_code(pid), 0);
	munmap(d, sizeof(*d));
}

static void never_stop(void *ctx)
{
}

static void test_second_signal_is_the_end(void **state)
{
	struct loop_hooks hooks = { .on_stop = never_stop };
	struct loop *l;
	struct err err;
	pid_t pid = child();

	if (!pid) {
		setenv("NOTIFY_SOCKET", notify_path, 1);
		if (loop_new(&l, &hooks, &err))
			_exit(9);
		loop_ready(l, "");
		_exit(loop_run(l));
	}
	expect_notify("READY=1");
	kill(pid, SIGTERM);
	expect_notify("STOPPING=1");
	kill(pid, SIGINT);
	assert_int_equal(exit_code(pid), 1);
}

/* ---- wakers and timers ---- */

struct counter {
	struct loop *loop;
	struct loop_waker *waker;
	struct loop_timer *timer;
	unsigned wakes, ticks;
};

static void on_wake(void *ctx)
{
	((struct counter *)ctx)->wakes++;
}

static void on_tick(void *ctx)
{
	struct counter *c = ctx;

	if (++c->ticks == 3) {
		loop_timer_free(c->timer);
		loop_quit(c->loop, 0);
	} else {
		loop_timer_set(c->timer, 20);
	}
}

static void *wake_many(void *ctx)
{
	for (int i = 0; i < 1000; i++)
		loop_waker_wake(((struct counter *)ctx)->waker);
	return NULL;
}

static void run_counter(void)
{
	struct counter c = { 0 };
	uint64_t start_ms = loop_now_ms();
	struct err err;
	pthread_t thread;

	if (loop_new(&c.loop, NULL, &err) || loop_waker_new(c.loop, on_wake, &c, &c.waker) ||
	    loop_timer_new(c.loop, on_tick, &c, &c.timer))
		_exit(1);
	loop_timer_set(c.timer, 10);
	loop_timer_stop(c.timer);
	loop_timer_set(c.timer, 20);
	pthread_create(&thread, NULL, wake_many, &c);
	if (loop_run(c.loop))
		_exit(2);
	pthread_join(thread, NULL);
	loop_waker_free(c.waker);
	loop_free(c.loop);
	if (c.ticks != 3 || !c.wakes || c.wakes > 1000 || loop_now_ms() - start_ms < 60)
		_exit(3);
	exit(0);
}

static void test_wakers_and_timers(void **state)
{
	pid_t pid = child();

	if (!pid)
		run_counter();
	assert_int_equal(exit_code(pid), 0);
}

/* ---- sockets from systemd ---- */

static void take_fds(void)
{
	int a = socket(AF_UNIX, SOCK_STREAM, 0), b = socket(AF_UNIX, SOCK_STREAM, 0), fd;
	char text[16], path[80];
	struct err err;
	bool owned = true;

	if (dup2(a, 3) < 0 || dup2(b, 4) < 0)
		_exit(1);
	snprintf(text, sizeof(text), "%d", getpid());
	setenv("LISTEN_PID", text, 1);
	setenv("LISTEN_FDS", "2", 1);
	setenv("LISTEN_FDNAMES", "nbd:control", 1);
	if (loop_listen_unix("control", "/nonexistent/x", 0600, &fd, &owned, &err) || fd != 4 ||
	    owned)
		_exit(2);
	if (loop_take_listen_fd("control") != -1 || loop_take_listen_fd("other") != -1)
		_exit(3);
	if (loop_take_listen_fd("nbd") != 3 || getenv("LISTEN_FDS"))
		_exit(4);
	/* Not passed: an own one, whose file is ours. */
	snprintf(path, sizeof(path), "%s/own", folder);
	if (loop_listen_unix("control", path, 0600, &fd, &owned, &err) || !owned || unlink(path))
		_exit(5);
	_exit(0);
}

static void test_passed_sockets(void **state)
{
	pid_t pid = child();

	if (!pid)
		take_fds();
	assert_int_equal(exit_code(pid), 0);
}

static void test_pid_file(void **state)
{
	char path[80], expected[200];
	struct err err;
	int fd, other;

	snprintf(path, sizeof(path), "%s/pid", folder);
	assert_int_equal(loop_lock_pidfile(path, &fd, &err), 0);
	assert_int_equal(loop_lock_pidfile(path, &other, &err), -EBUSY);
	snprintf(expected, sizeof(expected), "%s: already running (process %d)", path, getpid());
	assert_string_equal(err.text, expected);
	close(fd);
	assert_int_equal(loop_lock_pidfile(path, &fd, &err), 0);
	close(fd);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_service_life),
		cmocka_unit_test(test_ill_daemon_is_not_fed),
		cmocka_unit_test(test_second_signal_is_the_end),
		cmocka_unit_test(test_wakers_and_timers),
		cmocka_unit_test(test_passed_sockets),
		cmocka_unit_test(test_pid_file),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
