// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * netd's side of a tunnel by hand: commands on stdin, one answer each, ended by a line "."
 *
 *	open NAME RUN UAPI MTU PORT	set FILE	get	wait MS		restart
 *restore bind PORT MARK			mtu MTU		stop	close
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "netd/wg/host.h"

static struct wg_host *host;
static struct wg_host_config config;
static char run[256], uapi[256], text[1 << 16];

static int do_open(const char *line, struct err *err)
{
	unsigned mtu, port;
	bool adopted;
	int r;

	if (sscanf(line, "%15s %255s %255s %u %u", config.name, run, uapi, &mtu, &port) != 5)
		return -EINVAL;
	config.run = run;
	config.uapi = uapi;
	config.mtu = (uint16_t)mtu;
	config.listen_port = (uint16_t)port;
	config.program = getenv("NETD_WG");
	r = wg_host_open(&config, &host, &adopted, err);
	if (!r)
		printf("adopted %d pid %d\n", adopted, (int)wg_host_pid(host));
	return r;
}

static int do_set(const char *path, struct err *err)
{
	FILE *f = fopen(path, "r");
	size_t n;

	if (!f)
		return -errno;
	n = fread(text, 1, sizeof(text) - 1, f);
	text[n] = 0;
	fclose(f);
	return wg_host_set(host, text, err);
}

static int do_get(struct err *err)
{
	char *got;
	int r = wg_host_get(host, &got, err);

	if (r)
		return r;
	fputs(got, stdout);
	free(got);
	return 0;
}

/* Until it has something to say, and take it. */
static int do_wait(const char *line, struct err *err)
{
	struct pollfd p = { .fd = wg_host_fd(host), .events = POLLIN };

	(void)poll(&p, 1, atoi(line));
	return wg_host_process(host, err);
}

static int do_line(char *line, struct err *err)
{
	unsigned a = 0, b = 0;
	char *rest = strchr(line, ' ');

	rest = rest ? rest + 1 : line + strlen(line);
	if (!strncmp(line, "open ", 5))
		return do_open(rest, err);
	if (!strncmp(line, "set ", 4))
		return do_set(rest, err);
	if (!strcmp(line, "get"))
		return do_get(err);
	if (!strncmp(line, "wait ", 5))
		return do_wait(rest, err);
	if (!strcmp(line, "restart")) {
		int r = wg_host_restart(host, err);

		printf("pid %d\n", (int)wg_host_pid(host));
		return r;
	}
	if (!strcmp(line, "restore"))
		return wg_host_restore(host, err);
	if (sscanf(line, "bind %u %u", &a, &b) == 2)
		return wg_host_bind(host, (uint16_t)a, b, err);
	if (sscanf(line, "mtu %u", &a) == 1)
		return wg_host_set_mtu(host, (uint16_t)a, err);
	if (!strcmp(line, "stop"))
		wg_host_stop(host);
	else if (!strcmp(line, "close"))
		wg_host_close(host);
	else
		return -EINVAL;
	host = NULL;
	return 0;
}

int main(void)
{
	char line[1024];

	while (fgets(line, sizeof(line), stdin)) {
		struct err err = { 0 };
		int r;

		line[strcspn(line, "\n")] = 0;
		r = do_line(line, &err);
		if (r)
			printf("error %d %s\n", r, err.text);
		puts(".");
		fflush(stdout);
	}
	return 0;
}
