/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Control messages from hostile hands: a server on the loop, a client that sends the input in two
 * pieces and half-closes.  The server must answer or refuse, and let go of the connection.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/daemon/ctl.h"
#include "common/daemon/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static struct loop *loop;
static struct sockaddr_un address = { .sun_family = AF_UNIX };
static socklen_t address_len;

static void verb_echo(struct ctl_request *req, void *ctx)
{
	const char *text;
	uint64_t number = 0;
	bool flag = false;

	if (ctl_arg_text(req, "text", true, &text) || ctl_arg_u64(req, "number", false, &number) ||
	    ctl_arg_flag(req, "flag", &flag))
		return;
	ctl_progress(req, json_integer((json_int_t)number));
	ctl_reply(req, json_deep_copy(ctl_request_args(req)));
}

static const struct ctl_verb verbs[] = { { "echo", verb_echo }, { NULL } };

static void start(void)
{
	struct ctl_server *server;
	struct err err;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	log_open(LOG_LEVEL_ERROR);
	/* An address without a file: bind() picks one. */
	address_len = sizeof(address.sun_family);
	if (bind(fd, (struct sockaddr *)&address, address_len) || listen(fd, 8))
		abort();
	address_len = sizeof(address);
	getsockname(fd, (struct sockaddr *)&address, &address_len);
	if (loop_new(&loop, NULL, &err) || ctl_server_new(loop, fd, verbs, NULL, &server, &err))
		abort();
}

/* Serve until nothing is left to do. */
static void serve(void)
{
	while (sd_event_run(loop_event(loop), 0) > 0)
		;
}

static void drain(int fd)
{
	char buf[65536];

	while (recv(fd, buf, sizeof(buf), MSG_DONTWAIT) > 0)
		;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	size_t half = len / 2;
	char byte;
	int fd;

	if (!loop)
		start();
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	if (connect(fd, (struct sockaddr *)&address, address_len))
		abort();
	send(fd, data, half, MSG_NOSIGNAL | MSG_DONTWAIT);
	serve();
	send(fd, data + half, len - half, MSG_NOSIGNAL | MSG_DONTWAIT);
	shutdown(fd, SHUT_WR);
	for (int i = 0; i < 4; i++) {
		serve();
		drain(fd);
	}
	/* Everything was read, so the server must have closed it. */
	if (len < 4096 && recv(fd, &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN)
		abort();
	close(fd);
	serve();
	return 0;
}
