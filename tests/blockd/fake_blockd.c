/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The NBD server of blockd on engines in memory: for tests of the protocol over real sockets.
 *
 *	fake_blockd [-c CONNECTIONS] [-t HANDSHAKE_MS] [-b BUFFER_MIB] [-d DRAIN_MS] [-v]
 *		ADDRESS... -- [POOL/]NAME=BYTES...
 *
 * Answers one line on stdout when it listens.  SIGTERM stops it gracefully.  Each line on stdin is
 * a command: `conns`, `stat`, `cut VOLUME`, `delete VOLUME`, answered by lines and a "." line.
 */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "blockd/server.h"
#include "tests/lib/fake_thin.h"

#define POOLS_MAX 4

static struct {
	char name[64];
	struct thin_pool *pool;
	struct reactor *reactor;
} pools[POOLS_MAX];
static size_t pool_count;
static struct server *server;
static bool verbose;

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void check(int rc, const struct err *err)
{
	if (!rc)
		return;
	fprintf(stderr, "fake_blockd: %s\n", err->text);
	exit(1);
}

static void say(void *user, bool warning, const char *text)
{
	if (verbose)
		fprintf(stderr, "%s%s\n", warning ? "warning: " : "", text);
}

static int open_pool(void *user, struct thin_dev **ret_dev, struct thin_pool **ret_pool,
		     struct err *err)
{
	*ret_dev = fake_thin_dev();
	*ret_pool = user;
	return 0;
}

static void close_pool(void *user, struct thin_dev *dev, struct thin_pool *pool)
{
	fake_thin_free(pool);
}

static struct thin_pool *pool_named(const char *name, size_t len)
{
	size_t i;

	for (i = 0; i < pool_count; i++)
		if (strlen(pools[i].name) == len && !memcmp(pools[i].name, name, len))
			return pools[i].pool;
	assert(pool_count < POOLS_MAX);
	snprintf(pools[i].name, sizeof(pools[i].name), "%.*s", (int)len, name);
	pools[i].pool = fake_thin_new(pool_count + 1);
	return pools[pool_count++].pool;
}

static void add_volume(char *arg)
{
	char *equals = strchr(arg, '='), *slash = strchr(arg, '/');
	struct thin_pool *pool =
		slash ? pool_named(arg, (size_t)(slash - arg)) : pool_named("main", 4);

	assert(equals);
	*equals = '\0';
	fake_thin_add(pool, slash ? slash + 1 : arg, strtoull(equals + 1, NULL, 0));
}

static void start_pools(uint64_t buffer_bytes)
{
	struct err err = { 0 };
	size_t i;

	for (i = 0; i < pool_count; i++) {
		struct reactor_params params = {
			.name = pools[i].name,
			.home = server_home(server),
			.buffer_bytes = buffer_bytes,
			.open = open_pool,
			.close = close_pool,
			.user = pools[i].pool,
		};

		check(reactor_start(&params, &pools[i].reactor, &err), &err);
		check(reactor_wait(pools[i].reactor, &err), &err);
		check(server_add_pool(server, pools[i].reactor, &err), &err);
	}
}

/* ---- commands ---- */

static bool task_is_done;
static int task_res;

static void task_done(struct reactor_task *task, int res)
{
	task_is_done = true;
	task_res = res;
}

static int finish_task(void)
{
	for (; !task_is_done; usleep(1000))
		server_dispatch(server, now_ms());
	task_is_done = false;
	return task_res;
}

static void print_conns(struct reactor *r)
{
	struct reactor_conn_info *list;
	size_t count, i;

	assert(!reactor_list_conns(r, &list, &count));
	for (i = 0; i < count; i++)
		printf("%llu %s %s %s ro=%d structured=%d status=%d in_flight=%u held=%llu "
		       "reads=%llu writes=%llu\n",
		       (unsigned long long)list[i].id, list[i].peer, list[i].listener,
		       list[i].volume, list[i].read_only, list[i].structured, list[i].status,
		       list[i].in_flight, (unsigned long long)list[i].buffer_bytes,
		       (unsigned long long)list[i].io.reads, (unsigned long long)list[i].io.writes);
	free(list);
}

static void print_stat(struct reactor *r)
{
	struct reactor_vol_info *list;
	struct reactor_stat stat;
	struct server_stat all;
	size_t count, i;

	reactor_get_stat(r, &stat);
	server_get_stat(server, &all);
	printf("buffers used=%llu peak=%llu waits=%llu stalled=%llu protocol=%llu turns=%llu "
	       "recvs=%llu sends=%llu sleeps=%llu\n",
	       (unsigned long long)stat.buffer_used_bytes,
	       (unsigned long long)stat.buffer_peak_bytes, (unsigned long long)stat.buffer_waits,
	       (unsigned long long)stat.stalled_drops, (unsigned long long)stat.protocol_drops,
	       (unsigned long long)stat.turns, (unsigned long long)stat.recvs,
	       (unsigned long long)stat.sends, (unsigned long long)stat.sleeps);
	printf("server connections=%u handshakes=%u accepted=%llu timeouts=%llu errors=%llu "
	       "evictions=%llu pauses=%llu refusals=%llu\n",
	       all.connections, all.handshakes, (unsigned long long)all.accepted,
	       (unsigned long long)all.handshake_timeouts, (unsigned long long)all.handshake_errors,
	       (unsigned long long)all.handshake_evictions, (unsigned long long)all.accept_pauses,
	       (unsigned long long)all.refusals);
	assert(!reactor_list_vols(r, NULL, 0, &list, &count));
	for (i = 0; i < count; i++)
		printf("volume %s connections=%u reads=%llu writes=%llu errors=%llu\n",
		       list[i].stat.name, list[i].connections, (unsigned long long)list[i].io.reads,
		       (unsigned long long)list[i].io.writes,
		       (unsigned long long)list[i].io.errors);
	free(list);
}

static void command(char *line)
{
	struct reactor *r = pools[0].reactor;
	struct reactor_task task = { .done = task_done };

	line[strcspn(line, "\n")] = '\0';
	if (!strcmp(line, "conns")) {
		print_conns(r);
	} else if (!strcmp(line, "stat")) {
		print_stat(r);
	} else if (!strncmp(line, "cut ", 4)) {
		reactor_cut_conns(r, line + 4, false, 0, &task);
		printf("cut %d\n", finish_task());
	} else if (!strncmp(line, "delete ", 7)) {
		task.req.op = THIN_VOL_DELETE;
		task.req.name = line + 7;
		reactor_post(r, &task);
		printf("delete %s\n", strerror(-finish_task()));
	}
	printf(".\n");
	fflush(stdout);
}

/* ---- main ---- */

static void loop(uint32_t drain_ms)
{
	struct pollfd fds[3];
	sigset_t set;
	bool stopping = false;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	fds[0] = (struct pollfd){ .fd = server_fd(server), .events = POLLIN };
	fds[1] = (struct pollfd){ .fd = signalfd(-1, &set, SFD_CLOEXEC), .events = POLLIN };
	fds[2] = (struct pollfd){ .fd = 0, .events = POLLIN };
	while (!stopping || !server_stopped(server)) {
		uint64_t deadline = server_deadline_ms(server), now = now_ms();
		int timeout = deadline == UINT64_MAX ? -1
			      : deadline > now	     ? (int)(deadline - now)
						     : 0;
		char line[256];

		poll(fds, 3, timeout);
		if (fds[1].revents && !stopping) {
			stopping = true;
			server_stop(server, drain_ms);
			fds[1].fd = -1;
		}
		if (fds[2].revents & POLLIN && fgets(line, sizeof(line), stdin))
			command(line);
		else if (fds[2].revents)
			fds[2].fd = -1;
		server_dispatch(server, now_ms());
	}
}

int main(int argc, char **argv)
{
	struct server_params params = { .event = say };
	uint64_t buffer_bytes = 0;
	uint32_t drain_ms = 2000;
	struct err err = { 0 };
	int opt, i, first;
	size_t p;

	setvbuf(stdin, NULL, _IONBF, 0);
	while ((opt = getopt(argc, argv, "+c:t:b:d:v")) != -1)
		if (opt == 'c')
			params.connection_max = (uint32_t)atoi(optarg);
		else if (opt == 't')
			params.handshake_timeout_ms = (uint32_t)atoi(optarg);
		else if (opt == 'b')
			buffer_bytes = (uint64_t)atoi(optarg) << 20;
		else if (opt == 'd')
			drain_ms = (uint32_t)atoi(optarg);
		else if (opt == 'v')
			verbose = true;
		else
			return 2;
	check(server_new(&params, &server, &err), &err);
	first = optind;
	for (i = first; i < argc && strcmp(argv[i], "--"); i++)
		;
	for (i++; i < argc; i++)
		add_volume(argv[i]);
	start_pools(buffer_bytes);
	for (i = first; i < argc && strcmp(argv[i], "--"); i++) {
		struct server_listen listen = {
			.name = "test",
			.address = argv[i],
			.fd = -1,
			.uid = (uid_t)-1,
			.gid = (gid_t)-1,
			.mode = 0600,
		};

		check(server_listen(server, &listen, &(uint32_t){ 0 }, &err), &err);
	}
	printf("listening\n");
	fflush(stdout);
	loop(drain_ms);
	for (p = 0; p < pool_count; p++)
		reactor_stop_free(pools[p].reactor, drain_ms);
	server_free(server);
	return 0;
}
