/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * netd-wg: the data path of a WireGuard tunnel in user space.
 *
 *	netd-wg --link FD NAME	started by netd: everything else comes over FD (link.h)
 *	netd-wg [-f] NAME	alone, in place of wireguard-go: makes the device and
 *				/run/wireguard/NAME.sock, is configured by wg(8) or wg-quick(8), and
 *				ends when the device is deleted
 *
 * Alone, a parent stays that has the privileges: it opens the sockets when wg(8) changes port or
 * mark, and it never sees a packet.  Without -f it goes to the background once the device is there:
 *
 *	caller -- netd-wg NAME ....... exits when `ready` gets a byte, or its end
 *	             '-- the parent -- link -- data path
 *
 * What the two say until then reaches the caller through a pipe that is their stderr; afterwards
 * nobody reads it and they write in vain (EPIPE), unless stderr is the journal's, which stays.  So
 * they keep nothing of the caller's open, who may be waiting for the end of what it reads.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "common/base/units.h"
#include "common/daemon/log.h"
#include "netd/wg/host.h"
#include "netd/wg/link.h"
#include "netd/wg/serve.h"
#include "netd/wg/sockets.h"

#define MTU_DEFAULT 1420
#define RUN_FOLDER  "/run/netd/wg"
#define UAPI_FOLDER "/run/wireguard"

enum { EXIT_USAGE = 2 };

static int run_path(const char *fd_text, const char *name)
{
	struct err err = { 0 };
	struct wg_link *link;
	struct serve *s;
	uint64_t fd;
	int status;

	prctl(PR_SET_NAME, "netd-wg");
	if (number_parse(fd_text, 0, 1023, "a descriptor", &fd, &err) ||
	    wg_link_new((int)fd, &link)) {
		log_error(name, "--link: %s", err.text);
		return EXIT_USAGE;
	}
	if (serve_new(link, &s, &err)) {
		log_error(name, "%s", err.text);
		return EXIT_FAILURE;
	}
	status = serve_run(s);
	serve_free(s);
	return status;
}

static int signal_fd(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	if (sigprocmask(SIG_BLOCK, &set, NULL))
		return -1;
	return signalfd(-1, &set, SFD_CLOEXEC);
}

/* Serve its wishes until a signal, or until it ends. */
static int host_loop(struct wg_host *h, const char *name)
{
	struct pollfd p[2] = { { .fd = signal_fd(), .events = POLLIN }, { .events = POLLIN } };
	struct err err = { 0 };

	for (;;) {
		p[1].fd = wg_host_fd(h);
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			return EXIT_FAILURE;
		if (p[0].revents)
			return EXIT_SUCCESS;
		if (p[1].revents && wg_host_process(h, &err)) {
			log_info(name, "%s", err.text);
			return EXIT_SUCCESS;
		}
	}
}

/* Asked at wg(8)'s socket: another link to it would take the place of the one that it has. */
static bool runs_already(const char *name)
{
	int fd;

	if (wg_connect(UAPI_FOLDER, name, &fd))
		return false;
	close(fd);
	return true;
}

/* The caller of the program returns when the device is there: `ready` is closed. */
static int run_alone(const char *name, int ready)
{
	struct wg_host_config config = { .run = RUN_FOLDER,
					 .uapi = UAPI_FOLDER,
					 .mtu = MTU_DEFAULT };
	struct err err = { 0 };
	struct wg_host *h;
	bool adopted;
	int status;

	if (strlen(name) >= sizeof(config.name)) {
		log_error(NULL, "\"%s\" is no name for a device", name);
		return EXIT_USAGE;
	}
	strcpy(config.name, name);
	if (runs_already(name)) {
		log_error(name, "a netd-wg of that name runs already");
		return EXIT_FAILURE;
	}
	config.no_offload = getenv("NETD_WG_NO_OFFLOAD") != NULL;
	if (wg_host_open(&config, &h, &adopted, &err)) {
		log_error(NULL, "%s", err.text);
		return EXIT_FAILURE;
	}
	if (adopted) {
		log_error(name, "a netd-wg of that name runs already");
		wg_host_close(h);
		return EXIT_FAILURE;
	}
	if (ready >= 0) {
		(void)!write(ready, "", 1);
		close(ready);
	}
	status = host_loop(h, name);
	wg_host_stop(h);
	return status;
}

/* Neither files, nor terminal, nor folder of the caller. */
static int leave_caller(int said)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 ||
	    (!log_to_journal() && dup2(said, STDERR_FILENO) < 0) || setsid() < 0 || chdir("/"))
		return -errno;
	close(null);
	close(said);
	return 0;
}

static int run_detached(const char *name, int ready, int said)
{
	int r = leave_caller(said);

	if (!r)
		return run_alone(name, ready);
	log_error(name, "%s", strerror(-r));
	return EXIT_FAILURE;
}

/* Hand on what is said until it works, or does not. */
static int wait_ready(int ready, int said)
{
	struct pollfd p[2] = { { .fd = ready, .events = POLLIN },
			       { .fd = said, .events = POLLIN } };
	char text[LOG_LINE_MAX], byte;
	ssize_t n;

	for (;;) {
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			return EXIT_FAILURE;
		n = read(said, text, sizeof(text));
		if (n > 0)
			(void)!write(STDERR_FILENO, text, (size_t)n);
		else if (p[0].revents)
			return read(ready, &byte, 1) == 1 ? EXIT_SUCCESS : EXIT_FAILURE;
		else if (n == 0)
			p[1].fd = -1; /* it logs to the journal */
	}
}

/* Return to the shell once it works: the child says so through a pipe. */
static int run_background(const char *name)
{
	int ready[2], said[2];
	pid_t pid;

	(void)!close_range(STDERR_FILENO + 1, ~0U, 0);
	if (pipe2(ready, O_CLOEXEC) || pipe2(said, O_CLOEXEC | O_NONBLOCK) || (pid = fork()) < 0) {
		log_error(name, "%s", strerror(errno));
		return EXIT_FAILURE;
	}
	close(ready[pid != 0]);
	close(said[pid != 0]);
	return pid ? wait_ready(ready[0], said[0]) : run_detached(name, ready[1], said[1]);
}

static int usage(FILE *to, int status)
{
	fputs("usage: netd-wg [-f] NAME\n"
	      "The data path of a WireGuard tunnel.  netd starts it; alone it takes the place of\n"
	      "wireguard-go: wg(8) and wg-quick(8) configure it.  -f: stay in the foreground.\n"
	      "See netd-wg(8).\n",
	      to);
	return status;
}

int main(int argc, char **argv)
{
	log_open(LOG_LEVEL_INFO);
	signal(SIGPIPE, SIG_IGN);
	if (argc == 4 && !strcmp(argv[1], "--link"))
		return run_path(argv[2], argv[3]);
	if (argc == 2 && (!strcmp(argv[1], "-h") || !strcmp(argv[1], "--help")))
		return usage(stdout, EXIT_SUCCESS);
	if (argc == 2 && !strcmp(argv[1], "-V")) {
		puts("netd-wg " VERSION);
		return EXIT_SUCCESS;
	}
	if (argc == 3 && !strcmp(argv[1], "-f"))
		return run_alone(argv[2], -1);
	if (argc == 2 && argv[1][0] != '-')
		return run_background(argv[1]);
	return usage(stderr, EXIT_USAGE);
}
