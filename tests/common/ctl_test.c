/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control protocol: a server in a child process (with shorter limits than the real ones, see
 * meson.build), the real client and raw sockets in the parent.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/daemon/ctl.h"
#include "common/daemon/log.h"

#define PATIENCE_MS 60000 /* with a server on a slow machine */

static char folder[] = "/tmp/ashlar-ctl.XXXXXX";
static char path[64];
static pid_t server_pid;

/* ---- the server's verbs ---- */

struct daemon {
	struct loop *loop;
	struct ctl_request *held;
	struct loop_timer *timer;
	unsigned hold_count, gone_count;
};

static void verb_echo(struct ctl_request *req, void *ctx)
{
	ctl_reply(req, json_deep_copy(ctl_request_args(req)));
}

static void verb_fail(struct ctl_request *req, void *ctx)
{
	ctl_fail(req, -ENOSPC, "pool \xffmain: %d blocks left", 3);
}

static void answer_held(void *ctx)
{
	struct daemon *d = ctx;
	struct ctl_request *req = d->held;

	d->held = NULL;
	if (req)
		ctl_reply(req, json_string("late"));
}

static void verb_later(struct ctl_request *req, void *ctx)
{
	struct daemon *d = ctx;

	d->held = req;
	for (int i = 0; i < 3; i++)
		ctl_progress(req, json_pack("{s:i}", "done", i));
	loop_timer_set(d->timer, 50);
}

static void on_gone(struct ctl_request *req, void *ctx)
{
	struct daemon *d = ctx;

	d->gone_count++;
	assert_true(ctl_request_gone(req));
	ctl_reply(req, NULL); /* dropped, frees it */
}

static void verb_hold(struct ctl_request *req, void *ctx)
{
	struct daemon *d = ctx;

	d->hold_count++;
	ctl_request_on_gone(req, on_gone, ctx);
}

static void verb_hold_count(struct ctl_request *req, void *ctx)
{
	struct daemon *d = ctx;

	ctl_reply(req, json_integer(d->hold_count));
}

static void verb_gone_count(struct ctl_request *req, void *ctx)
{
	struct daemon *d = ctx;

	ctl_reply(req, json_integer(d->gone_count));
}

static void verb_big(struct ctl_request *req, void *ctx)
{
	uint64_t size;
	char *text;

	if (ctl_arg_u64(req, "size", true, &size))
		return;
	text = malloc(size + 1);
	memset(text, 'x', size);
	text[size] = '\0';
	ctl_reply(req, json_string(text));
	free(text);
}

static void verb_peer(struct ctl_request *req, void *ctx)
{
	pid_t pid;
	uid_t uid;

	ctl_request_peer(req, &pid, &uid, NULL);
	ctl_reply(req, json_pack("{s:i, s:i}", "pid", pid, "uid", uid));
}

static void verb_args(struct ctl_request *req, void *ctx)
{
	const char *text = "none";
	uint64_t number = 7;
	bool flag = false;

	if (ctl_arg_text(req, "text", true, &text) || ctl_arg_u64(req, "number", false, &number) ||
	    ctl_arg_flag(req, "flag", &flag))
		return;
	ctl_reply(req, json_pack("{s:s, s:I, s:b}", "text", text, "number", (json_int_t)number,
				 "flag", flag));
}

static const struct ctl_verb verbs[] = {
	{ "echo", verb_echo },	      { "fail", verb_fail },
	{ "later", verb_later },      { "hold", verb_hold },
	{ "gone", verb_gone_count },  { "big", verb_big },
	{ "peer", verb_peer },	      { "args", verb_args },
	{ "holds", verb_hold_count }, { NULL },
};

static void serve(void)
{
	struct daemon d = { 0 };
	struct ctl_server *server;
	struct err err;
	bool owned;
	int fd;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	log_set_level(LOG_LEVEL_ERROR);
	if (loop_new(&d.loop, NULL, &err) || loop_timer_new(d.loop, answer_held, &d, &d.timer) ||
	    loop_listen_unix("none", path, 0600, &fd, &owned, &err) ||
	    ctl_server_new(d.loop, fd, verbs, &d, &server, &err))
		_exit(1);
	loop_run(d.loop);
	ctl_server_free(server);
	loop_timer_free(d.timer);
	loop_free(d.loop);
	unlink(path);
	exit(0);
}

static int start_server(void **state)
{
	struct stat st;

	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/ctl.sock", folder);
	server_pid = fork();
	if (!server_pid)
		serve();
	while (stat(path, &st)) {
		assert_int_equal(waitpid(server_pid, NULL, WNOHANG), 0);
		usleep(10000);
	}
	assert_int_equal(st.st_mode & 0777, 0600);
	return 0;
}

static int stop_server(void **state)
{
	int status;

	kill(server_pid, SIGTERM);
	assert_int_equal(waitpid(server_pid, &status, 0), server_pid);
	assert_int_equal(status, 0);
	assert_int_equal(rmdir(folder), 0);
	return 0;
}

/* ---- the parent's side ---- */

static struct ctl_client *client(void)
{
	struct ctl_client *c;
	struct err err;

	assert_int_equal(ctl_client_open(path, &c, &err), 0);
	return c;
}

/* Call and compare the result (or "CODE text") with `expected`. */
static void check_call(struct ctl_client *c, const char *verb, json_t *args, const char *expected)
{
	json_t *result = NULL;
	struct err err = { 0 };
	int r = ctl_client_call(c, verb, args, PATIENCE_MS, NULL, NULL, &result, &err);
	char *text = r ? NULL : json_dumps(result, JSON_COMPACT | JSON_ENCODE_ANY | JSON_SORT_KEYS);

	assert_string_equal(r ? err.text : text, expected);
	free(text);
	json_decref(result);
}

static int raw_connect(void)
{
	/* a test that fails must not hang */
	struct timeval limit = { .tv_sec = PATIENCE_MS / 1000 };
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	strcpy(sa.sun_path, path);
	assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	return fd;
}

/* All that comes until the end, at most `size`. */
static void raw_expect(int fd, const char *expected)
{
	char got[4096];
	size_t len = 0;
	ssize_t n;

	while (len < sizeof(got) - 1 && (n = read(fd, got + len, sizeof(got) - 1 - len)) > 0)
		len += (size_t)n;
	got[len] = '\0';
	assert_string_equal(got, expected);
	close(fd);
}

static void raw_send_bytes(int fd, const char *text, size_t len)
{
	while (len) {
		ssize_t n = send(fd, text, len, MSG_NOSIGNAL);

		if (n <= 0)
			return;
		text += n;
		len -= (size_t)n;
	}
}

static void raw_send(int fd, const char *text)
{
	raw_send_bytes(fd, text, strlen(text));
}

static void test_calls(void **state)
{
	struct ctl_client *c = client();

	check_call(c, "echo", json_pack("{s:s}", "a", "\xc3\xa4\n"), "{\"a\":\"\xc3\xa4\\n\"}");
	check_call(c, "echo", NULL, "{}");
	check_call(c, "fail", NULL, "pool ?main: 3 blocks left");
	check_call(c, "ecko", NULL, "found unknown verb \"ecko\", did you mean \"echo\"?");
	check_call(c, "zzzzzz", NULL, "found unknown verb \"zzzzzz\"");
	ctl_client_close(c);
}

static void test_error_has_its_errno(void **state)
{
	struct ctl_client *c = client();
	json_t *result;
	struct err err;

	assert_int_equal(ctl_client_call(c, "fail", NULL, PATIENCE_MS, NULL, NULL, &result, &err),
			 -ENOSPC);
	assert_int_equal(err.code, -ENOSPC);
	ctl_client_close(c);
}

static void test_arguments(void **state)
{
	struct ctl_client *c = client();

	check_call(c, "args", json_pack("{s:s}", "text", "x"),
		   "{\"flag\":false,\"number\":7,\"text\":\"x\"}");
	check_call(c, "args", json_pack("{s:s, s:i, s:b}", "text", "x", "number", 9, "flag", 1),
		   "{\"flag\":true,\"number\":9,\"text\":\"x\"}");
	check_call(c, "args", NULL, "args: found no \"text\", expected one");
	check_call(c, "args", json_pack("{s:i}", "text", 1), "args: \"text\": expected a string");
	check_call(c, "args", json_pack("{s:s, s:i}", "text", "x", "number", -1),
		   "args: \"number\": expected a number from 0 on");
	check_call(c, "args", json_pack("{s:s, s:s}", "text", "x", "flag", "yes"),
		   "args: \"flag\": expected true or false");
	ctl_client_close(c);
}

static void on_progress(json_t *progress, void *ctx)
{
	int *seen = ctx;

	assert_int_equal(json_integer_value(json_object_get(progress, "done")), *seen);
	++*seen;
}

static void test_late_answer_with_progress(void **state)
{
	struct ctl_client *c = client();
	json_t *result = NULL;
	struct err err;
	int seen = 0;

	assert_int_equal(
		ctl_client_call(c, "later", NULL, PATIENCE_MS, on_progress, &seen, &result, &err),
		0);
	assert_int_equal(seen, 3);
	assert_string_equal(json_string_value(result), "late");
	json_decref(result);
	ctl_client_close(c);
}

static void test_peer_is_known(void **state)
{
	struct ctl_client *c = client();
	char expected[64];

	snprintf(expected, sizeof(expected), "{\"pid\":%d,\"uid\":%u}", getpid(), getuid());
	check_call(c, "peer", NULL, expected);
	ctl_client_close(c);
}

static void test_great_answer(void **state)
{
	struct ctl_client *c = client();
	json_t *result = NULL;
	struct err err;

	assert_int_equal(ctl_client_call(c, "big", json_pack("{s:i}", "size", 20 << 20),
					 PATIENCE_MS, NULL, NULL, &result, &err),
			 0);
	assert_int_equal(json_string_length(result), 20 << 20);
	json_decref(result);
	check_call(c, "big", json_pack("{s:i}", "size", 65 << 20), "the answer is too long");
	check_call(c, "echo", NULL, "{}");
	ctl_client_close(c);
}

/* Until the server has come so far; the test's time limit ends it otherwise. */
static void wait_for_count(struct ctl_client *c, const char *verb, unsigned wanted)
{
	json_int_t got;

	do {
		json_t *result = NULL;
		struct err err;

		assert_int_equal(
			ctl_client_call(c, verb, NULL, PATIENCE_MS, NULL, NULL, &result, &err), 0);
		got = json_integer_value(result);
		json_decref(result);
		assert_true(got <= wanted);
	} while (got < wanted && usleep(2000) == 0);
}

static void test_gone_client_is_noticed(void **state)
{
	struct ctl_client *c = client();

	for (unsigned i = 0; i < 5; i++) {
		int fd = raw_connect();

		raw_send(fd, "{\"verb\":\"hold\"}\n");
		wait_for_count(c, "holds", i + 1);
		close(fd);
	}
	wait_for_count(c, "gone", 5);
	ctl_client_close(c);
}

/* Requests sent ahead, in odd pieces, then a half-close: all are answered, in order. */
static void test_pipelined_and_half_closed(void **state)
{
	int fd = raw_connect();

	raw_send(fd, "{\"verb\":\"echo\",\"args\":{\"n\":1}}\n{\"verb\":");
	usleep(20000);
	raw_send(fd, "\"later\"}\n{\"verb\":\"echo\"}\n");
	shutdown(fd, SHUT_WR);
	raw_expect(fd, "{\"result\":{\"n\":1}}\n{\"progress\":{\"done\":0}}\n"
		       "{\"progress\":{\"done\":1}}\n{\"progress\":{\"done\":2}}\n"
		       "{\"result\":\"late\"}\n{\"result\":{}}\n");
}

static void test_garbage(void **state)
{
	static const char nonsense[] = "{\"error\":{\"code\":\"EPROTO\",\"text\":\"found no JSON, "
				       "expected {\\\"verb\\\": ..., \\\"args\\\": {...}}\"}}\n";
	static const char other[] = "{\"error\":{\"code\":\"EPROTO\",\"text\":\"found other JSON, "
				    "expected {\\\"verb\\\": ..., \\\"args\\\": {...}}\"}}\n";
	static const struct {
		const char *text, *expected;
	} cases[] = {
		{ "GET / HTTP/1.1\r\n\r\n", nonsense },
		{ "\n", nonsense },
		{ "{\"verb\":\"echo\"\n", nonsense },
		{ "{\"verb\":\"echo\",\"verb\":\"fail\"}\n", nonsense },
		{ "[1]\n", other },
		{ "{}\n", other },
		{ "{\"verb\":5}\n", other },
		{ "{\"verb\":\"echo\",\"args\":[]}\n", other },
	};
	char *deep = malloc(100000);
	int fd;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		fd = raw_connect();
		raw_send(fd, cases[i].text);
		raw_expect(fd, cases[i].expected);
	}
	memset(deep, '[', 100000);
	deep[99999] = '\n';
	fd = raw_connect();
	raw_send_bytes(fd, deep, 100000);
	raw_expect(fd, nonsense);
	free(deep);
}

static void test_request_too_long(void **state)
{
	size_t size = CTL_REQUEST_BYTES_MAX + 1;
	char *text = malloc(size);
	int fd = raw_connect();

	memset(text, ' ', size);
	raw_send_bytes(fd, text, size - 1);
	raw_expect(fd, "{\"error\":{\"code\":\"EMSGSIZE\",\"text\":\"found a request over 1 MiB, "
		       "expected a shorter one\"}}\n");
	free(text);
}

static void test_unfinished_request_times_out(void **state)
{
	int fd = raw_connect();

	raw_send(fd, "{\"verb\":");
	raw_expect(fd, "{\"error\":{\"code\":\"ETIMEDOUT\",\"text\":\"the request did not come to "
		       "its end in time\"}}\n");
}

static void test_slow_reader_is_dropped(void **state)
{
	struct ctl_client *c = client();
	char buf[65536];
	size_t got = 0;
	ssize_t n;
	int fd = raw_connect();
	struct pollfd p = { .fd = fd };

	raw_send(fd, "{\"verb\":\"big\",\"args\":{\"size\":3000000}}\n");
	assert_int_equal(poll(&p, 1, -1), 1); /* it has hung up, what it sent can be read */
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		got += (size_t)n;
	assert_true(got < 3000000);
	close(fd);
	check_call(c, "echo", NULL, "{}");
	ctl_client_close(c);
}

/* More clients than places: the one that idled longest goes; busy ones stay. */
static void test_places_are_taken_from_idlers(void **state)
{
	int fds[CTL_CLIENT_COUNT_MAX + 2];
	struct ctl_client *c;
	char byte;

	for (size_t i = 0; i < CTL_CLIENT_COUNT_MAX; i++) {
		fds[i] = raw_connect();
		if (i == 0) {
			raw_send(fds[i], "{\"verb\":\"hold\"}\n");
			continue;
		}
		/* An answer to each: the server has seen them in this order. */
		raw_send(fds[i], "{\"verb\":\"echo\"}\n");
		do
			assert_int_equal(recv(fds[i], &byte, 1, 0), 1);
		while (byte != '\n');
		usleep(2000);
	}
	c = client();
	check_call(c, "echo", NULL, "{}");
	assert_int_equal(recv(fds[0], &byte, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(recv(fds[1], &byte, 1, MSG_DONTWAIT), 0);
	ctl_client_close(c);
	for (size_t i = 0; i < CTL_CLIENT_COUNT_MAX; i++)
		close(fds[i]);
}

static void test_socket_in_use(void **state)
{
	char stale[80], plain[80];
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct err err;
	bool owned = false;
	int fd;
	FILE *f;

	assert_int_equal(loop_listen_unix(NULL, path, 0600, &fd, &owned, &err), -EADDRINUSE);
	assert_false(owned);
	/* A file that nobody listens on any more is replaced. */
	snprintf(stale, sizeof(stale), "%s/stale", folder);
	strcpy(sa.sun_path, stale);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	close(fd);
	assert_int_equal(loop_listen_unix(NULL, stale, 0660, &fd, &owned, &err), 0);
	assert_true(owned);
	close(fd);
	unlink(stale);
	/* Any other file is not. */
	snprintf(plain, sizeof(plain), "%s/plain", folder);
	f = fopen(plain, "w");
	fclose(f);
	assert_int_equal(loop_listen_unix(NULL, plain, 0660, &fd, &owned, &err), -EADDRINUSE);
	unlink(plain);
	assert_int_equal(loop_listen_unix(NULL, "/nonexistent/x", 0660, &fd, &owned, &err),
			 -ENOENT);
}

static void test_no_daemon(void **state)
{
	struct ctl_client *c;
	struct err err;

	assert_int_equal(ctl_client_open("/nonexistent/x", &c, &err), -ENOENT);
	assert_string_equal(err.text,
			    "control socket /nonexistent/x: No such file or directory (is "
			    "the daemon running?)");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_calls),
		cmocka_unit_test(test_error_has_its_errno),
		cmocka_unit_test(test_arguments),
		cmocka_unit_test(test_late_answer_with_progress),
		cmocka_unit_test(test_peer_is_known),
		cmocka_unit_test(test_great_answer),
		cmocka_unit_test(test_gone_client_is_noticed),
		cmocka_unit_test(test_pipelined_and_half_closed),
		cmocka_unit_test(test_garbage),
		cmocka_unit_test(test_request_too_long),
		cmocka_unit_test(test_unfinished_request_times_out),
		cmocka_unit_test(test_slow_reader_is_dropped),
		cmocka_unit_test(test_places_are_taken_from_idlers),
		cmocka_unit_test(test_socket_in_use),
		cmocka_unit_test(test_no_daemon),
	};

	return cmocka_run_group_tests(tests, start_server, stop_server);
}
