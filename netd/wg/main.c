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
 * mark, and it never sees a packet.  Without -f it goes to the background once the device is there.
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

/* Return to the shell once it works: the child says so through a pipe. */
static int run_background(const char *name)
{
	char byte;
	int pipes[2];
	pid_t pid;

	if (pipe2(pipes, O_CLOEXEC) || (pid = fork()) < 0) {
		log_error(name, "%s", strerror(errno));
		return EXIT_FAILURE;
	}
	if (pid) {
		close(pipes[1]);
		return read(pipes[0], &byte, 1) == 1 ? EXIT_SUCCESS : EXIT_FAILURE;
	}
	close(pipes[0]);
	setsid();
	return run_alone(name, pipes[1]);
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
