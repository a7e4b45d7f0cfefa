/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A batching NBD client: shows the server instead of the client.
 *
 *	batch SOCKET EXPORT read|write|flush SECONDS [BATCH [BYTES [SPAN_MIB]]]
 *
 * Sends BATCH requests (32) of BYTES (4096) at random places of the first SPAN_MIB (1024) in one
 * send, receives all their answers, and so on; `flush` writes and ends each batch with a FLUSH.
 * Simple replies.  Prints requests per second.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "blockd/nbd/wire.h"

static void die(const char *text)
{
	perror(text);
	exit(1);
}

static void put(int fd, const void *data, size_t len)
{
	while (len) {
		ssize_t n = write(fd, data, len);

		if (n <= 0)
			die("write");
		data = (const char *)data + n;
		len -= (size_t)n;
	}
}

static void get(int fd, void *to, size_t len)
{
	while (len) {
		ssize_t n = read(fd, to, len);

		if (n <= 0)
			die("read");
		to = (char *)to + n;
		len -= (size_t)n;
	}
}

static int open_export(const char *path, const char *name)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	be32_t flags = be32_put(NBD_CLIENT_FLAGS_KNOWN);
	struct nbd_option_header header = { be64_put(NBD_OPTION_MAGIC),
					    be32_put(NBD_OPT_EXPORT_NAME),
					    be32_put((uint32_t)strlen(name)) };
	char waste[18];
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&sun, sizeof(sun)))
		die(path);
	get(fd, waste, 18);
	put(fd, &flags, 4);
	put(fd, &header, sizeof(header));
	put(fd, name, strlen(name));
	get(fd, waste, sizeof(struct nbd_export_reply));
	return fd;
}

static size_t add(uint8_t *to, unsigned cmd, uint64_t offset, uint32_t len)
{
	struct nbd_request r = {
		.magic = be32_put(NBD_REQUEST_MAGIC),
		.type = be16_put((uint16_t)cmd),
		.offset = be64_put(offset),
		.len = be32_put(len),
	};
	size_t i;

	memcpy(to, &r, sizeof(r));
	if (cmd != NBD_CMD_WRITE)
		return sizeof(r);
	/* Never zeroes, never twice the same block, and cheap: a word of each 4 KiB is new. */
	for (i = 0; i < len; i += 4096) {
		uint64_t word = (uint64_t)random() | 1;

		memcpy(to + sizeof(r) + i, &word, 8);
	}
	return sizeof(r) + len;
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	uint32_t batch = argc > 5 ? (uint32_t)atoi(argv[5]) : 32;
	uint32_t bytes = argc > 6 ? (uint32_t)atoi(argv[6]) : 4096;
	uint64_t span = (argc > 7 ? strtoull(argv[7], NULL, 0) : 1024) << 20, count = 0;
	double begin, end;
	uint8_t *out, *in;
	bool write, flush;
	int fd;

	if (argc < 5)
		return 2;
	flush = !strcmp(argv[3], "flush");
	write = flush || !strcmp(argv[3], "write");
	fd = open_export(argv[1], argv[2]);
	out = malloc((size_t)(batch + 1) * (bytes + sizeof(struct nbd_request)));
	memset(out, 0x5a, (size_t)(batch + 1) * (bytes + sizeof(struct nbd_request)));
	in = malloc((size_t)batch * (bytes + sizeof(struct nbd_simple_reply)));
	begin = now();
	end = begin + atof(argv[4]);
	while (now() < end) {
		size_t len = 0;
		uint32_t i;

		for (i = 0; i < batch; i++)
			len += add(out + len, write ? NBD_CMD_WRITE : NBD_CMD_READ,
				   (uint64_t)random() % (span / bytes) * bytes, bytes);
		put(fd, out, len);
		get(fd, in, batch * ((write ? 0 : bytes) + sizeof(struct nbd_simple_reply)));
		if (flush) {
			put(fd, out, add(out, NBD_CMD_FLUSH, 0, 0));
			get(fd, in, sizeof(struct nbd_simple_reply));
		}
		count += batch;
	}
	printf("%.0f\n", (double)count / (now() - begin));
	return 0;
}
