/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The running dnsmasq processes.
 *
 *   wanted?  running?  texts equal?      what happens
 *   yes      no        -                 write both files, start
 *   yes      yes       config differs    stop, write both files, start
 *   yes      yes       hosts differ      write hosts, SIGHUP
 *   no       yes       -                 stop, remove the files
 *
 * dnsmasq puts itself into the background after it has opened everything, so starting one is
 * waiting for its parent half: exit code and stderr tell whether it serves.  What serves is never
 * our child, so a netd that started it and a netd that found it treat it alike: a pid file, a
 * check that this pid runs with our config file, a pidfd.  The old one is stopped before its
 * config file changes: a crash in between leaves none running, which the next apply mends.
 */
#include "netd/dnsmasq.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "common/base/cleanup.h"

#define STOP_WAIT_MS	 2000
#define RESTART_FIRST_MS 100
#define RESTART_LAST_MS	 30000
#define STABLE_US	 (60ull * 1000 * 1000) /* lived this long: the next death is the first */
#define FILE_BYTES_MAX	 (8u << 20)
#define VID_COUNT	 4095

extern char **environ;

struct server {
	struct dnsmasq_set *set;
	uint16_t vid;
	char *conf, *hosts; /* wanted texts; NULL: not wanted */
	pid_t pid;	    /* 0: not running */
	int pidfd;
	sd_event_source *exit_source, *retry_source;
	uint64_t started_us;
	uint64_t retry_ms;
	bool is_missed; /* it died or could not start, and has not come back */
};

struct dnsmasq_set {
	char *run, *state, *program;
	struct sd_event *event;
	void (*changed)(void *ctx, uint16_t vid, const char *what);
	void *ctx;
	struct server *by_vid[VID_COUNT];
	uint64_t restarts;
};

/* --- files ---------------------------------------------------------------------------------- */

static char *server_path(const struct server *s, const char *ext)
{
	char *path;

	return asprintf(&path, "%s/dnsmasq-%u.%s", s->set->run, s->vid, ext) < 0 ? NULL : path;
}

/* NULL when it is not there or cannot be read: then it differs from everything. */
static char *read_text(const char *path)
{
	CLEANUP_FCLOSE FILE *f = fopen(path, "re");
	char *text = NULL;
	size_t size = 0;
	ssize_t n;

	if (!f)
		return NULL;
	n = getdelim(&text, &size, '\0', f);
	if (n < 0 || n > (ssize_t)FILE_BYTES_MAX) {
		free(text);
		return n < 0 && feof(f) ? strdup("") : NULL;
	}
	return text;
}

static int write_text(const char *path, const char *text, struct err *err)
{
	CLEANUP_FREE char *tmp = NULL;
	FILE *f;
	bool ok;

	if (asprintf(&tmp, "%s.new", path) < 0) {
		tmp = NULL;
		return err_set(err, -ENOMEM, "%s: out of memory", path);
	}
	f = fopen(tmp, "we");
	if (!f)
		return err_sys(err, -errno, "%s", tmp);
	/* the server reads it as its own user */
	ok = fchmod(fileno(f), 0644) == 0 && fputs(text, f) >= 0;
	if (fclose(f) != 0 || !ok || rename(tmp, path) < 0)
		return err_sys(err, -errno, "%s", path);
	return 0;
}

static bool file_is(const struct server *s, const char *ext, const char *want)
{
	CLEANUP_FREE char *path = server_path(s, ext);
	CLEANUP_FREE char *have = path ? read_text(path) : NULL;

	return have && strcmp(have, want) == 0;
}

static void remove_files(const struct server *s)
{
	static const char *const exts[] = { "conf", "hosts", "pid", NULL };

	for (const char *const *e = exts; *e; e++) {
		CLEANUP_FREE char *path = server_path(s, *e);

		if (path)
			unlink(path);
	}
}

/* --- processes ------------------------------------------------------------------------------ */

/* Does this pid run a dnsmasq with our config file? */
static bool is_ours(const struct server *s, pid_t pid)
{
	char path[64], line[1024] = "";
	CLEANUP_FREE char *conf = server_path(s, "conf");
	CLEANUP_FCLOSE FILE *f = NULL;
	size_t n, at = 0;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
	f = fopen(path, "re");
	if (!f || !conf)
		return false;
	n = fread(line, 1, sizeof(line) - 1, f);
	for (; at < n; at += strlen(line + at) + 1)
		if (strncmp(line + at, "--conf-file=", 12) == 0)
			return strcmp(line + at + 12, conf) == 0;
	return false;
}

static void server_forget(struct server *s)
{
	s->exit_source = sd_event_source_disable_unref(s->exit_source);
	if (s->pidfd >= 0)
		close(s->pidfd);
	s->pidfd = -1;
	s->pid = 0;
}

static int on_exit_event(sd_event_source *source, int fd, uint32_t revents, void *userdata);

/* Take the process of the pid file, if it is ours, and watch it. */
static bool server_find(struct server *s)
{
	CLEANUP_FREE char *path = server_path(s, "pid");
	CLEANUP_FREE char *text = path ? read_text(path) : NULL;
	long pid = text ? strtol(text, NULL, 10) : 0;
	struct pollfd p;

	server_forget(s);
	if (pid <= 1 || pid > INT32_MAX)
		return false;
	s->pidfd = pidfd_open((pid_t)pid, 0);
	if (s->pidfd < 0)
		return false;
	p = (struct pollfd){ .fd = s->pidfd, .events = POLLIN };
	if (!is_ours(s, (pid_t)pid) || poll(&p, 1, 0) != 0) {
		server_forget(s);
		return false;
	}
	s->pid = (pid_t)pid;
	if (s->set->event)
		sd_event_add_io(s->set->event, &s->exit_source, s->pidfd, EPOLLIN, on_exit_event,
				s);
	return true;
}

/* A new dnsmasq may be seen here before its pid file: ask for a short while. */
static bool server_find_soon(struct server *s)
{
	for (int i = 0; i < 50; i++) {
		if (server_find(s))
			return true;
		poll(NULL, 0, 10);
	}
	return false;
}

static void server_stop(struct server *s)
{
	struct pollfd p = { .fd = s->pidfd, .events = POLLIN };

	s->retry_source = sd_event_source_disable_unref(s->retry_source);
	if (!s->pid)
		return;
	if (pidfd_send_signal(s->pidfd, SIGTERM, NULL, 0) == 0 && poll(&p, 1, STOP_WAIT_MS) == 0) {
		pidfd_send_signal(s->pidfd, SIGKILL, NULL, 0);
		poll(&p, 1, STOP_WAIT_MS);
	}
	server_forget(s);
}

/* The last line of what the starting process said, for the error. */
static void read_complaint(int fd, char *buf, size_t size)
{
	size_t used = 0;
	ssize_t n;
	char *nl;

	while (used + 1 < size && (n = read(fd, buf + used, size - 1 - used)) > 0)
		used += (size_t)n;
	buf[used] = '\0';
	while (used && buf[used - 1] == '\n')
		buf[--used] = '\0';
	nl = strrchr(buf, '\n');
	if (nl)
		memmove(buf, nl + 1, strlen(nl + 1) + 1);
	while (buf[0] == ' ' || buf[0] == '\n')
		memmove(buf, buf + 1, strlen(buf));
}

/* Own session, nothing of ours open, stderr into the pipe. */
static int spawn(const char *program, const char *conf, int stderr_fd, pid_t *ret_pid)
{
	CLEANUP_FREE char *option = NULL;
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t at;
	sigset_t none, all;
	int r;

	if (asprintf(&option, "--conf-file=%s", conf) < 0) {
		option = NULL;
		return -ENOMEM;
	}
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&fa);
	posix_spawnattr_init(&at);
	posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDWR, 0);
	posix_spawn_file_actions_adddup2(&fa, 0, 1);
	posix_spawn_file_actions_adddup2(&fa, stderr_fd, 2);
	posix_spawnattr_setflags(&at, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK |
					      POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setsigmask(&at, &none);
	posix_spawnattr_setsigdefault(&at, &all);
	r = posix_spawn(ret_pid, program, &fa, &at, (char *[]){ "dnsmasq", option, NULL }, environ);
	posix_spawnattr_destroy(&at);
	posix_spawn_file_actions_destroy(&fa);
	return -r;
}

static int server_launch(struct server *s, struct err *err)
{
	CLEANUP_FREE char *conf = server_path(s, "conf");
	CLEANUP_CLOSE int in = -1;
	char complaint[256] = "";
	int pipe_fd[2], status = 0, r;
	pid_t pid;

	if (!conf || pipe2(pipe_fd, O_CLOEXEC) < 0)
		return err_set(err, -ENOMEM, "vlan %u: dnsmasq: out of memory", s->vid);
	in = pipe_fd[0];
	r = spawn(s->set->program, conf, pipe_fd[1], &pid);
	close(pipe_fd[1]);
	if (r < 0)
		return err_sys(err, r, "vlan %u: %s", s->vid, s->set->program);
	read_complaint(in, complaint, sizeof(complaint));
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return err_set(err, -EIO, "vlan %u: dnsmasq does not start: %s", s->vid,
			       complaint[0] ? complaint : "it gave no reason");
	if (!server_find_soon(s))
		return err_set(err, -EIO, "vlan %u: dnsmasq vanished after its start", s->vid);
	sd_event_now(s->set->event, CLOCK_MONOTONIC, &s->started_us);
	return 0;
}

static int server_start(struct server *s, struct err *err)
{
	CLEANUP_FREE char *conf = server_path(s, "conf");
	CLEANUP_FREE char *hosts = server_path(s, "hosts");
	int r;

	if (!conf || !hosts)
		return err_set(err, -ENOMEM, "vlan %u: dnsmasq: out of memory", s->vid);
	r = write_text(conf, s->conf, err);
	r = r < 0 ? r : write_text(hosts, s->hosts, err);
	return r < 0 ? r : server_launch(s, err);
}

/* --- one that dies --------------------------------------------------------------------------- */

static void tell(const struct server *s, const char *what)
{
	if (s->set->changed)
		s->set->changed(s->set->ctx, s->vid, what);
}

/* It runs: by its own retry, or by a look at everything that came before that. */
static void came_back(struct server *s)
{
	if (!s->is_missed)
		return;
	s->is_missed = false;
	s->set->restarts++;
	tell(s, "dnsmasq serves again");
}

static int on_retry(sd_event_source *source, uint64_t usec, void *userdata);

static void server_retry_later(struct server *s)
{
	s->is_missed = true;
	s->retry_source = sd_event_source_disable_unref(s->retry_source);
	if (s->set->event)
		sd_event_add_time_relative(s->set->event, &s->retry_source, CLOCK_MONOTONIC,
					   s->retry_ms * 1000, 0, on_retry, s);
	s->retry_ms = s->retry_ms * 2 > RESTART_LAST_MS ? RESTART_LAST_MS : s->retry_ms * 2;
}

static int on_retry(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct server *s = userdata;
	struct err err = { 0 };

	s->retry_source = sd_event_source_disable_unref(s->retry_source);
	if (!s->conf)
		return 0;
	if (server_start(s, &err) < 0) {
		tell(s, err.text);
		server_retry_later(s);
		return 0;
	}
	came_back(s);
	return 0;
}

static int on_exit_event(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct server *s = userdata;
	uint64_t now = 0;

	sd_event_now(s->set->event, CLOCK_MONOTONIC, &now);
	if (!s->retry_ms || now - s->started_us > STABLE_US)
		s->retry_ms = RESTART_FIRST_MS;
	server_forget(s);
	if (s->conf) {
		tell(s, "dnsmasq died, starting it again");
		server_retry_later(s);
	}
	return 0;
}

/* --- the set --------------------------------------------------------------------------------- */

static struct server *server_get(struct dnsmasq_set *set, uint16_t vid)
{
	struct server *s;

	if (vid >= VID_COUNT)
		return NULL;
	if (set->by_vid[vid])
		return set->by_vid[vid];
	s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	*s = (struct server){ .set = set, .vid = vid, .pidfd = -1, .retry_ms = RESTART_FIRST_MS };
	set->by_vid[vid] = s;
	return s;
}

static void server_free(struct server *s)
{
	if (!s)
		return;
	sd_event_source_disable_unref(s->retry_source);
	server_forget(s);
	free(s->conf);
	free(s->hosts);
	free(s);
}

/* Every config file of a former run has a server, so that what is not wanted any more is found. */
static int find_all(struct dnsmasq_set *set)
{
	DIR *d = opendir(set->run);
	struct dirent *e;
	int r = 0;

	if (!d)
		return errno == ENOENT ? 0 : -errno;
	while (r == 0 && (e = readdir(d))) {
		unsigned int vid;
		int used = 0;
		struct server *s;

		if (sscanf(e->d_name, "dnsmasq-%4u.conf%n", &vid, &used) != 1 || !used ||
		    e->d_name[used] || vid >= VID_COUNT)
			continue;
		s = server_get(set, (uint16_t)vid);
		if (!s)
			r = -ENOMEM;
		else
			server_find(s);
	}
	closedir(d);
	return r;
}

int dnsmasq_set_new(const struct dnsmasq_paths *p, struct sd_event *event,
		    void (*changed)(void *ctx, uint16_t vid, const char *what), void *ctx,
		    struct dnsmasq_set **ret)
{
	struct dnsmasq_set *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->run = strdup(p->run);
	s->state = strdup(p->state);
	s->program = strdup(p->program);
	s->event = event;
	s->changed = changed;
	s->ctx = ctx;
	r = s->run && s->state && s->program ? find_all(s) : -ENOMEM;
	if (r < 0) {
		dnsmasq_set_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

void dnsmasq_set_free(struct dnsmasq_set *s)
{
	if (!s)
		return;
	for (size_t vid = 0; vid < VID_COUNT; vid++)
		server_free(s->by_vid[vid]);
	free(s->run);
	free(s->state);
	free(s->program);
	free(s);
}

enum todo { TODO_NOTHING, TODO_START, TODO_RESTART, TODO_RELOAD, TODO_STOP };

static enum todo server_todo(const struct server *s, const char *conf, const char *hosts)
{
	if (!conf)
		return s->pid ? TODO_STOP : TODO_NOTHING;
	if (!s->pid)
		return TODO_START;
	if (!file_is(s, "conf", conf))
		return TODO_RESTART;
	return file_is(s, "hosts", hosts) ? TODO_NOTHING : TODO_RELOAD;
}

/* The wanted entry of a VID, NULL: none.  `want` is sorted. */
static const struct dnsmasq_net *wanted(const struct dnsmasq_net *want, size_t count, uint16_t vid)
{
	size_t low = 0, high = count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (want[mid].vid < vid)
			low = mid + 1;
		else
			high = mid;
	}
	return low < count && want[low].vid == vid ? &want[low] : NULL;
}

static int texts_of(struct dnsmasq_set *s, const struct dnsmasq_net *n, char **ret_conf,
		    char **ret_hosts)
{
	const struct dnsmasq_paths p = { s->run, s->state, s->program };

	*ret_conf = *ret_hosts = NULL;
	if (!n)
		return 0;
	*ret_conf = dnsmasq_config_text(n, &p);
	*ret_hosts = dnsmasq_hosts_text(n);
	return *ret_conf && *ret_hosts ? 0 : -ENOMEM;
}

size_t dnsmasq_set_diff(struct dnsmasq_set *s, const struct dnsmasq_net *want, size_t count,
			void (*line)(void *ctx, const char *text), void *ctx)
{
	static const char *const words[] = {
		[TODO_NOTHING] = "",
		[TODO_START] = "+ dnsmasq for vlan %u",
		[TODO_RESTART] = "~ dnsmasq for vlan %u: other settings",
		[TODO_RELOAD] = "~ dnsmasq for vlan %u: static leases",
		[TODO_STOP] = "- dnsmasq for vlan %u",
	};
	size_t n = 0;

	for (uint16_t vid = 0; vid < VID_COUNT; vid++) {
		const struct dnsmasq_net *w = wanted(want, count, vid);
		CLEANUP_FREE char *conf = NULL;
		CLEANUP_FREE char *hosts = NULL;
		char text[64];
		enum todo todo;

		if (!w && !s->by_vid[vid])
			continue;
		if (!server_get(s, vid) || texts_of(s, w, &conf, &hosts) < 0)
			continue;
		todo = server_todo(s->by_vid[vid], conf, hosts);
		if (todo == TODO_NOTHING)
			continue;
		n++;
		if (!line)
			continue;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		snprintf(text, sizeof(text), words[todo], vid);
#pragma GCC diagnostic pop
		line(ctx, text);
	}
	return n;
}

static int server_reload(struct server *s, struct err *err)
{
	CLEANUP_FREE char *path = server_path(s, "hosts");
	int r;

	if (!path)
		return err_set(err, -ENOMEM, "vlan %u: dnsmasq: out of memory", s->vid);
	r = write_text(path, s->hosts, err);
	if (r == 0 && pidfd_send_signal(s->pidfd, SIGHUP, NULL, 0) < 0)
		r = err_sys(err, -errno, "vlan %u: dnsmasq", s->vid);
	return r;
}

static int server_apply(struct server *s, const struct dnsmasq_net *w, struct err *err)
{
	enum todo todo;
	int r;

	free(s->conf);
	free(s->hosts);
	if (texts_of(s->set, w, &s->conf, &s->hosts) < 0)
		return err_set(err, -ENOMEM, "vlan %u: dnsmasq: out of memory", s->vid);
	todo = server_todo(s, s->conf, s->hosts);
	switch (todo) {
	case TODO_NOTHING:
		break;
	case TODO_STOP:
	case TODO_RESTART:
		server_stop(s);
		break;
	case TODO_RELOAD:
		return server_reload(s, err);
	case TODO_START:
		s->retry_source = sd_event_source_disable_unref(s->retry_source);
		break;
	}
	if (!s->conf)
		remove_files(s);
	if (todo != TODO_START && todo != TODO_RESTART) {
		s->is_missed &= s->conf != NULL;
		return 0;
	}
	r = server_start(s, err);
	if (r == 0)
		came_back(s);
	return r;
}

int dnsmasq_set_apply(struct dnsmasq_set *s, const struct dnsmasq_net *want, size_t count,
		      struct err *err)
{
	int first = 0;

	for (uint16_t vid = 0; vid < VID_COUNT; vid++) {
		const struct dnsmasq_net *w = wanted(want, count, vid);
		struct err one = { 0 };
		int r;

		if (!w && !s->by_vid[vid])
			continue;
		r = server_get(s, vid) ? server_apply(s->by_vid[vid], w, &one) : -ENOMEM;
		if (r < 0 && first == 0) {
			first = r;
			err_set(err, r, "%s", one.text[0] ? one.text : "out of memory");
		}
		/* one that cannot start now is tried again later */
		if (r < 0 && s->by_vid[vid] && s->by_vid[vid]->conf && !s->by_vid[vid]->pid)
			server_retry_later(s->by_vid[vid]);
	}
	return first;
}

int dnsmasq_set_pid(const struct dnsmasq_set *s, uint16_t vid)
{
	return vid < VID_COUNT && s->by_vid[vid] ? (int)s->by_vid[vid]->pid : 0;
}

uint64_t dnsmasq_set_restarts(const struct dnsmasq_set *s)
{
	return s->restarts;
}
