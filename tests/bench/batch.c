/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A batching NBD client: shows the server instead of the client.
 *
 * Each connection keeps DEPTH batches in flight.  A batch is BATCH requests that leave in one send;
 * when all of them are answered it has its FLUSH (-f) and is filled anew.  The default of one batch
 * therefore never has more than BATCH requests out, and a batch of one is queue depth one.
 *
 *	connection -- batch 0: [hdr data][hdr data]...   one buffer, one send; answers in any order
 *	           \- batch 1: ...                       found by cookie = batch << 16 | index
 *
 * A request's latency runs from its batch's turn to be sent until its answer was received; that of
 * a FLUSH likewise.  One thread; simple replies; an error in a reply ends the program, and so does
 * a server from which nothing comes for WAIT seconds.  Prints one line of JSON.
 */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "blockd/nbd/wire.h"
#include "tests/bench/histogram.h"

#define CONNECTIONS_MAX 64u
#define DEPTH_MAX	64u
#define BATCH_MAX	4096u
#define RECEIVE_BYTES	(1u << 20)
#define BLOCK		4096u
#define FLUSH_INDEX	0xffffu /* in the cookie of a batch's FLUSH; above BATCH_MAX */

static const char usage[] =
	"usage: batch [OPTIONS] SOCKET EXPORT\n"
	"  -m read|write|mixed  what to send (read); mixed is 70 %% reads\n"
	"  -q BATCH      requests of one send (32)\n"
	"  -d DEPTH      batches in flight on each connection (1)\n"
	"  -c COUNT      connections (1)\n"
	"  -b BYTES      of one request (4096)\n"
	"  -o MIB        where the span begins (0)\n"
	"  -S MIB        the span (1024)\n"
	"  -l            one after the other instead of at random places\n"
	"  -f            a FLUSH behind each batch\n"
	"  -e            a FLUSH at the end; its time counts\n"
	"  -t SECONDS    how long (1)\n"
	"  -n COUNT      end after so many requests instead\n"
	"  -w WAIT       seconds without an answer after which it gives up (60)\n"
	"  -r SEED       of the random places\n"
	"  -k KEY        write content that KEY and the place give, and expect it when reading\n";

/* ---- what to do ---- */

enum mode { MODE_READ, MODE_WRITE, MODE_MIXED };

static struct {
	enum mode mode;
	uint32_t batch, depth, connections, bytes, wait_s;
	uint64_t first, slots; /* of `bytes` each */
	bool sequential, flush, end_flush, keyed;
	double seconds;
	uint64_t count, key;
} job = { .batch = 32, .depth = 1, .connections = 1, .bytes = BLOCK, .seconds = 1, .wait_s = 60 };

struct batch {
	uint8_t *out; /* the requests, with their data behind them */
	size_t len, sent;
	uint32_t waiting; /* for so many answers */
	bool flushing;	  /* for that of its FLUSH */
	uint64_t begin_ns;
	bool is_read[BATCH_MAX];
	uint64_t slot[BATCH_MAX];
	bool answered[BATCH_MAX];
};

struct connection {
	int fd;
	uint64_t next_slot; /* when sequential */
	struct batch *batch;
	uint32_t queue[DEPTH_MAX], queued; /* batches to send, the first perhaps in part */
	struct nbd_simple_reply reply;
	size_t reply_len;
	size_t payload_left;
	uint8_t *payload; /* kept only when it is to be looked at */
	struct batch *from;
	uint32_t index;
};

static struct connection connections[CONNECTIONS_MAX];
static uint8_t receive_buffer[RECEIVE_BYTES];
static struct histogram requests, flushes;
static uint64_t seed = 1, started, active;
static double deadline_ns;

static _Noreturn void die(const char *text)
{
	fprintf(stderr, "batch: %s\n", text);
	exit(1);
}

static _Noreturn void die_errno(const char *text)
{
	fprintf(stderr, "batch: %s: %s\n", text, strerror(errno));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint64_t mix(uint64_t x) /* splitmix64 */
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

static uint64_t rng(void)
{
	return mix(seed++);
}

/* ---- handshake ---- */

static void put_all(int fd, const void *data, size_t len)
{
	while (len) {
		ssize_t n = write(fd, data, len);

		if (n <= 0)
			die_errno("handshake");
		data = (const char *)data + n;
		len -= (size_t)n;
	}
}

static void get_all(int fd, void *to, size_t len)
{
	while (len) {
		ssize_t n = read(fd, to, len);

		if (n < 0)
			die_errno("handshake");
		if (!n)
			die("the server ended the handshake");
		to = (char *)to + n;
		len -= (size_t)n;
	}
}

/* EXPORT_NAME: the shortest way to an export, and simple replies. */
static int open_export(const char *path, const char *name, uint64_t *ret_size)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	be32_t flags = be32_put(NBD_CLIENT_FLAGS_KNOWN);
	struct nbd_option_header header = { be64_put(NBD_OPTION_MAGIC),
					    be32_put(NBD_OPT_EXPORT_NAME),
					    be32_put((uint32_t)strlen(name)) };
	const struct timeval silence = { .tv_sec = job.wait_s };
	struct nbd_greeting greeting;
	struct nbd_export_reply reply;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&sun, sizeof(sun)))
		die_errno(path);
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof(silence)))
		die_errno("SO_RCVTIMEO");
	get_all(fd, &greeting, sizeof(greeting));
	if (be64_get(greeting.magic) != NBD_MAGIC)
		die("that is no NBD server");
	put_all(fd, &flags, 4);
	put_all(fd, &header, sizeof(header));
	put_all(fd, name, strlen(name));
	get_all(fd, &reply, sizeof(reply));
	*ret_size = be64_get(reply.size);
	return fd;
}

/* ---- sending ---- */

static uint64_t content(uint64_t block)
{
	return (job.keyed ? mix(block ^ job.key << 40) : rng()) | 1;
}

/* Never zeroes, never twice the same block, and cheap: a word of each 4 KiB is new. */
static void fill(uint8_t *data, uint64_t offset)
{
	uint32_t i;

	for (i = 0; i < job.bytes; i += BLOCK) {
		uint64_t word = content((offset + i) / BLOCK);

		memcpy(data + i, &word, sizeof(word));
	}
}

static void put_request(struct connection *c, struct batch *b, unsigned cmd, uint64_t offset,
			uint32_t len, uint32_t index)
{
	struct nbd_request r = {
		.magic = be32_put(NBD_REQUEST_MAGIC),
		.type = be16_put((uint16_t)cmd),
		.offset = be64_put(offset),
		.len = be32_put(len),
	};
	uint64_t cookie = (uint64_t)(b - c->batch) << 16 | index;

	memcpy(r.cookie, &cookie, sizeof(cookie));
	memcpy(b->out + b->len, &r, sizeof(r));
	b->len += sizeof(r);
	if (cmd == NBD_CMD_WRITE) {
		fill(b->out + b->len, offset);
		b->len += len;
	}
}

static uint64_t choose_slot(struct connection *c)
{
	uint64_t slot = job.sequential ? c->next_slot : rng() % job.slots;

	c->next_slot = (c->next_slot + 1) % job.slots;
	return slot;
}

static void queue_batch(struct connection *c, struct batch *b)
{
	b->sent = 0;
	b->begin_ns = now_ns();
	c->queue[c->queued++] = (uint32_t)(b - c->batch);
}

/* Fill a batch with new requests, unless the time is over. */
static void start_batch(struct connection *c, struct batch *b)
{
	uint32_t i;

	if (job.count ? started >= job.count : (double)now_ns() >= deadline_ns) {
		active--;
		return;
	}
	b->len = 0;
	for (i = 0; i < job.batch; i++) {
		b->is_read[i] = job.mode == MODE_READ || (job.mode == MODE_MIXED && rng() % 10 < 7);
		b->slot[i] = choose_slot(c);
		b->answered[i] = false;
		put_request(c, b, b->is_read[i] ? NBD_CMD_READ : NBD_CMD_WRITE,
			    (job.first + b->slot[i]) * job.bytes, job.bytes, i);
	}
	b->waiting = job.batch;
	started += job.batch;
	queue_batch(c, b);
}

static void start_flush(struct connection *c, struct batch *b)
{
	b->len = 0;
	put_request(c, b, NBD_CMD_FLUSH, 0, 0, FLUSH_INDEX);
	b->flushing = true;
	queue_batch(c, b);
}

static void send_queued(struct connection *c)
{
	while (c->queued) {
		struct batch *b = &c->batch[c->queue[0]];
		ssize_t n = send(c->fd, b->out + b->sent, b->len - b->sent,
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n < 0)
			die_errno("send");
		b->sent += (size_t)n;
		if (b->sent < b->len)
			return;
		c->queued--;
		memmove(c->queue, c->queue + 1, c->queued * sizeof(c->queue[0]));
	}
}

/* ---- receiving ---- */

static void take_answer(struct connection *c, uint64_t ns)
{
	struct batch *b = c->from;

	if (c->index == FLUSH_INDEX) {
		b->flushing = false;
		histogram_add(&flushes, ns - b->begin_ns);
		start_batch(c, b);
		return;
	}
	histogram_add(&requests, ns - b->begin_ns);
	b->answered[c->index] = true;
	if (--b->waiting)
		return;
	if (job.flush)
		start_flush(c, b);
	else
		start_batch(c, b);
}

static void check_payload(struct connection *c)
{
	uint64_t offset = (job.first + c->from->slot[c->index]) * job.bytes, word;
	uint32_t i;

	for (i = 0; i < job.bytes; i += BLOCK) {
		memcpy(&word, c->payload + i, sizeof(word));
		if (word != content((offset + i) / BLOCK))
			die("a block holds something else than was written");
	}
}

static void take_header(struct connection *c, uint64_t ns)
{
	uint64_t cookie;

	memcpy(&cookie, c->reply.cookie, sizeof(cookie));
	if (be32_get(c->reply.magic) != NBD_SIMPLE_REPLY_MAGIC)
		die("no simple reply where one was due");
	if (be32_get(c->reply.error))
		die("the server answered with an error");
	if (cookie >> 16 >= job.depth)
		die("a reply to nothing that was asked");
	c->from = &c->batch[cookie >> 16];
	c->index = cookie & 0xffff;
	if (c->index == FLUSH_INDEX ? !c->from->flushing
				    : c->index >= job.batch || c->from->answered[c->index])
		die("a reply to nothing that was asked");
	if (c->index != FLUSH_INDEX && c->from->is_read[c->index])
		c->payload_left = job.bytes;
	else
		take_answer(c, ns);
}

static size_t take_payload(struct connection *c, const uint8_t *data, size_t len, uint64_t ns)
{
	if (len > c->payload_left)
		len = c->payload_left;
	if (job.keyed)
		memcpy(c->payload + job.bytes - c->payload_left, data, len);
	c->payload_left -= len;
	if (!c->payload_left) {
		if (job.keyed)
			check_payload(c);
		take_answer(c, ns);
	}
	return len;
}

static void take_bytes(struct connection *c, const uint8_t *data, size_t len)
{
	uint64_t ns = now_ns();

	while (len) {
		size_t n;

		if (c->payload_left) {
			n = take_payload(c, data, len, ns);
		} else {
			n = sizeof(c->reply) - c->reply_len;
			n = n < len ? n : len;
			memcpy((uint8_t *)&c->reply + c->reply_len, data, n);
			c->reply_len += n;
			if (c->reply_len == sizeof(c->reply)) {
				c->reply_len = 0;
				take_header(c, ns);
			}
		}
		data += n;
		len -= n;
	}
}

static _Noreturn void die_waiting(void)
{
	uint64_t requests_out = 0, flushes_out = 0;
	uint32_t i, k;

	for (i = 0; i < job.connections; i++) {
		for (k = 0; k < job.depth; k++) {
			requests_out += connections[i].batch[k].waiting;
			flushes_out += connections[i].batch[k].flushing;
		}
	}
	fprintf(stderr,
		"batch: no answer for %u s, %llu requests and %llu FLUSHes out after %llu "
		"answers\n",
		job.wait_s, (unsigned long long)requests_out, (unsigned long long)flushes_out,
		(unsigned long long)requests.count);
	exit(1);
}

static void receive(struct connection *c, int flags)
{
	ssize_t n = recv(c->fd, receive_buffer, sizeof(receive_buffer), flags);

	if (n < 0 && errno == EAGAIN && !(flags & MSG_DONTWAIT))
		die_waiting(); /* SO_RCVTIMEO */
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0)
		die_errno("recv");
	if (!n)
		die("the server closed the connection");
	take_bytes(c, receive_buffer, (size_t)n);
	send_queued(c);
}

/* ---- the run ---- */

static void open_connection(struct connection *c, uint32_t number, const char *path,
			    const char *name)
{
	size_t room = (size_t)job.batch * (job.bytes + sizeof(struct nbd_request));
	uint64_t size;
	uint32_t i;

	c->fd = open_export(path, name, &size);
	if ((job.first + job.slots) * job.bytes > size)
		die("the span does not lie in the export");
	c->next_slot = job.slots / job.connections * number;
	c->payload = malloc(job.bytes);
	c->batch = calloc(job.depth, sizeof(c->batch[0]));
	if (!c->payload || !c->batch)
		die("no memory");
	for (i = 0; i < job.depth; i++) {
		c->batch[i].out = malloc(room);
		if (!c->batch[i].out)
			die("no memory");
		memset(c->batch[i].out, 0x5a, room);
	}
}

static void run_turn(void)
{
	struct pollfd fds[CONNECTIONS_MAX];
	uint32_t i;
	int n;

	if (job.connections == 1 && !connections[0].queued) {
		receive(&connections[0], 0); /* saves a call at queue depth one */
		return;
	}
	for (i = 0; i < job.connections; i++) {
		fds[i].fd = connections[i].fd;
		fds[i].events = (short)(POLLIN | (connections[i].queued ? POLLOUT : 0));
	}
	n = poll(fds, job.connections, (int)job.wait_s * 1000);
	if (n < 0 && errno != EINTR)
		die_errno("poll");
	if (!n)
		die_waiting();
	for (i = 0; i < job.connections; i++) {
		if (fds[i].revents & POLLOUT)
			send_queued(&connections[i]);
		if (fds[i].revents & ~POLLOUT)
			receive(&connections[i], MSG_DONTWAIT);
	}
}

/* The time that the run took, the last answer included. */
static double run(void)
{
	uint64_t begin = now_ns();
	uint32_t i, k;

	deadline_ns = (double)begin + job.seconds * 1e9;
	active = job.connections * job.depth;
	for (i = 0; i < job.connections; i++) {
		for (k = 0; k < job.depth; k++)
			start_batch(&connections[i], &connections[i].batch[k]);
		send_queued(&connections[i]);
	}
	while (active)
		run_turn();
	if (job.end_flush) {
		active = 1;
		deadline_ns = 0;
		job.count = 0;
		start_flush(&connections[0], &connections[0].batch[0]);
		send_queued(&connections[0]);
		while (active)
			run_turn();
	}
	return (double)(now_ns() - begin) / 1e9;
}

static void report(double seconds)
{
	printf("{\"requests\": %llu, \"seconds\": %.6f, \"per_s\": %.1f, \"p50_us\": %.1f, "
	       "\"p99_us\": %.1f, \"p999_us\": %.1f, \"max_us\": %.1f, \"flushes\": %llu, "
	       "\"flush_p50_us\": %.1f, \"flush_p99_us\": %.1f, \"flush_max_us\": %.1f}\n",
	       (unsigned long long)requests.count, seconds, (double)requests.count / seconds,
	       histogram_us(&requests, 0.5), histogram_us(&requests, 0.99),
	       histogram_us(&requests, 0.999), (double)requests.max / 1e3,
	       (unsigned long long)flushes.count, histogram_us(&flushes, 0.5),
	       histogram_us(&flushes, 0.99), (double)flushes.max / 1e3);
}

static uint64_t number(const char *text, uint64_t min, uint64_t max)
{
	char *end;
	unsigned long long n = strtoull(text, &end, 0);

	if (end == text || *end || n < min || n > max) {
		fprintf(stderr, "batch: \"%s\" is no number from %llu to %llu\n", text,
			(unsigned long long)min, (unsigned long long)max);
		exit(2);
	}
	return n;
}

static enum mode parse_mode(const char *text)
{
	if (!strcmp(text, "read"))
		return MODE_READ;
	if (!strcmp(text, "write"))
		return MODE_WRITE;
	if (!strcmp(text, "mixed"))
		return MODE_MIXED;
	fprintf(stderr, "batch: unknown mode \"%s\"\n", text);
	exit(2);
}

static void parse(int argc, char **argv)
{
	uint64_t span_mib = 1024, first_mib = 0;
	int c;

	while ((c = getopt(argc, argv, "m:q:d:c:b:o:S:lfet:n:w:r:k:")) != -1) {
		switch (c) {
		case 'm':
			job.mode = parse_mode(optarg);
			break;
		case 'q':
			job.batch = (uint32_t)number(optarg, 1, BATCH_MAX);
			break;
		case 'd':
			job.depth = (uint32_t)number(optarg, 1, DEPTH_MAX);
			break;
		case 'c':
			job.connections = (uint32_t)number(optarg, 1, CONNECTIONS_MAX);
			break;
		case 'b':
			job.bytes = (uint32_t)number(optarg, BLOCK, NBD_PAYLOAD_MAX);
			break;
		case 'o':
			first_mib = number(optarg, 0, 1u << 30);
			break;
		case 'S':
			span_mib = number(optarg, 1, 1u << 30);
			break;
		case 'l':
			job.sequential = true;
			break;
		case 'f':
			job.flush = true;
			break;
		case 'e':
			job.end_flush = true;
			break;
		case 't':
			job.seconds = atof(optarg);
			break;
		case 'n':
			job.count = number(optarg, 1, UINT64_MAX);
			break;
		case 'w':
			job.wait_s = (uint32_t)number(optarg, 1, 3600);
			break;
		case 'r':
			seed = mix(number(optarg, 0, UINT64_MAX));
			break;
		case 'k':
			job.keyed = true;
			job.key = number(optarg, 0, UINT64_MAX);
			break;
		default:
			fprintf(stderr, usage);
			exit(2);
		}
	}
	job.first = (first_mib << 20) / job.bytes;
	job.slots = (span_mib << 20) / job.bytes;
	if (argc - optind != 2 || job.bytes % BLOCK || !job.slots) {
		fprintf(stderr, usage);
		exit(2);
	}
}

int main(int argc, char **argv)
{
	uint32_t i;

	parse(argc, argv);
	for (i = 0; i < job.connections; i++)
		open_connection(&connections[i], i, argv[optind], argv[optind + 1]);
	report(run());
	return 0;
}
