/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Many WireGuard peers in one process, without devices, for tests/bench/vpn: how long a server
 * takes until it has a session with each of them.
 *
 * usage: vpn_peers COUNT SERVER_ADDRESS SERVER_PORT SERVER_PUBLIC_HEX
 * Peer i has the address 10.77.(i / 250).(i % 250 + 1), port 7000, which must be local here, and a
 * key that follows from i.  All share one socket.  First their public keys are written, a line of
 * hex each.  Then a line of standard input is a command:
 *	call	 all ask for a handshake at once, as peers of a server that was away
 *	wait	 sessions are forgotten; handshakes are the server's to begin
 * Each is answered when all have a session that is newer than the command, or after 60 s:
 *	done COUNT T50 T99 T100 INITIATIONS COOKIES CPU_MS
 * times being CLOCK_MONOTONIC in ms, initiations and cookies those of this side.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "vpn/vpn.h"

#define PEERS_MAX  10000
#define PORT	   7000
#define NET	   0x0a4d0000u /* 10.77 */
#define PER_NET	   250
#define GIVE_UP_NS UINT64_C(60000000000)
#define BUFFER	   (16 << 20)

static struct caller {
	struct vpn *vpn;
	uint64_t server;
	struct in_addr at;
	bool done; /* since the command */
} callers[PEERS_MAX];

static unsigned caller_count, done_count;
static uint64_t done_ns[PEERS_MAX]; /* in order */
static int udp;

static uint64_t clock_ns(clockid_t which)
{
	struct timespec t;

	clock_gettime(which, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t now(void)
{
	return clock_ns(CLOCK_BOOTTIME);
}

static void die(const char *what)
{
	fprintf(stderr, "vpn_peers: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* ---- the wire ---- */

union control {
	struct cmsghdr header;
	uint8_t room[CMSG_SPACE(sizeof(struct in_pktinfo))];
};

static void on_send(void *ctx, uint64_t peer, const struct vpn_endpoint *to, const uint8_t *msg,
		    size_t len, uint8_t tos)
{
	const struct caller *c = ctx;
	struct in_pktinfo info = { .ipi_spec_dst = c->at };
	struct sockaddr_in name = to->v4;
	struct iovec iov = { (void *)(uintptr_t)msg, len };
	union control control = { .header = { .cmsg_level = IPPROTO_IP,
					      .cmsg_type = IP_PKTINFO,
					      .cmsg_len = CMSG_LEN(sizeof(info)) } };
	struct msghdr h = { .msg_name = &name,
			    .msg_namelen = sizeof(name),
			    .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = &control,
			    .msg_controllen = sizeof(control) };

	(void)peer;
	(void)tos;
	memcpy(CMSG_DATA(&control.header), &info, sizeof(info));
	(void)!sendmsg(udp, &h, 0); /* what is lost is sent again */
}

static void on_handshake_done(void *ctx, uint64_t peer, bool initiator)
{
	struct caller *c = ctx;

	(void)peer;
	(void)initiator;
	if (c->done)
		return;
	c->done = true;
	done_ns[done_count++] = clock_ns(CLOCK_MONOTONIC);
}

static struct caller *caller_at(struct in_addr a)
{
	uint32_t i = ntohl(a.s_addr) - NET;
	uint32_t number = i / 256 * PER_NET + i % 256 - 1;

	return i % 256 && number < caller_count ? &callers[number] : NULL;
}

static struct caller *addressee(struct msghdr *h)
{
	struct cmsghdr *c = CMSG_FIRSTHDR(h);
	struct in_pktinfo info;

	if (!c || c->cmsg_level != IPPROTO_IP || c->cmsg_type != IP_PKTINFO)
		return NULL;
	memcpy(&info, CMSG_DATA(c), sizeof(info));
	return caller_at(info.ipi_addr);
}

static bool take_datagram(void)
{
	uint8_t data[2048];
	struct vpn_endpoint from = { 0 };
	union control control;
	struct iovec iov = { data, sizeof(data) };
	struct msghdr h = { .msg_name = &from.sa,
			    .msg_namelen = sizeof(from.v4),
			    .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = &control,
			    .msg_controllen = sizeof(control) };
	ssize_t n = recvmsg(udp, &h, MSG_DONTWAIT);
	struct vpn_rx rx = { .data = data, .len = (uint32_t)n, .from = &from };
	struct caller *c;

	if (n < 0)
		return false;
	c = addressee(&h);
	if (!c)
		return true;
	(void)!vpn_open(c->vpn, 0, &rx, 1, now());
	if (rx.verdict == VPN_HANDSHAKE)
		(void)vpn_receive(c->vpn, &from, data, (size_t)n, 0, now(),
				  clock_ns(CLOCK_REALTIME));
	return true;
}

/* ---- peers ---- */

static void caller_open(unsigned i, const struct vpn_endpoint *server, const uint8_t *public_key)
{
	struct caller *c = &callers[i];
	const struct vpn_config config = {
		.ops = { .send = on_send, .handshake_done = on_handshake_done },
		.ctx = c,
		.workers = 1,
		.mtu = 1420,
		.aead = VPN_AEAD_OPENSSL, /* the other one takes 200 KiB each */
	};
	uint8_t key[VPN_KEY_LEN] = { 7, (uint8_t)i, (uint8_t)(i >> 8) }, own[VPN_KEY_LEN];
	struct err err = { 0 };

	c->at.s_addr = htonl(NET + i / PER_NET * 256 + i % PER_NET + 1);
	if (vpn_new(&config, &c->vpn, &err) || vpn_set_private_key(c->vpn, key, now(), NULL) ||
	    vpn_peer_add(c->vpn, public_key, now(), &c->server, &err) ||
	    vpn_peer_set_endpoint(c->vpn, c->server, server, now())) {
		fprintf(stderr, "vpn_peers: peer %u: %s\n", i, err.text);
		exit(1);
	}
	(void)vpn_get_public_key(c->vpn, own);
	for (size_t k = 0; k < sizeof(own); k++)
		printf("%02x", own[k]);
	putchar('\n');
}

static void run_timers(void)
{
	for (unsigned i = 0; i < caller_count; i++) {
		uint64_t due = vpn_deadline(callers[i].vpn);

		if (due && due <= now())
			vpn_run(callers[i].vpn, now(), clock_ns(CLOCK_REALTIME));
	}
}

static uint64_t cpu_us(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000 +
	       (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

/* Initiations and cookies of all. */
static void add_up(uint64_t *initiations, uint64_t *cookies)
{
	*initiations = *cookies = 0;
	for (unsigned i = 0; i < caller_count; i++) {
		struct vpn_counters c;

		vpn_get_counters(callers[i].vpn, &c);
		*initiations += c.initiations_sent;
		*cookies += c.cookies_received;
	}
}

static void serve(bool enough(void), uint64_t until_ns)
{
	uint64_t timers_ns = 0;

	while (!enough() && now() < until_ns) {
		struct pollfd p = { udp, POLLIN, 0 };

		if (now() - timers_ns >= 1000000) {
			run_timers();
			timers_ns = now();
		}
		poll(&p, 1, 1);
		for (int i = 0; i < 64 && take_datagram(); i++)
			;
	}
}

static bool all_done(void)
{
	return done_count == caller_count;
}

static bool is_input(void)
{
	struct pollfd p = { 0, POLLIN, 0 };

	return poll(&p, 1, 0) > 0;
}

static void command(bool call)
{
	uint64_t before[2], after[2], cpu = cpu_us();
	const unsigned at[3] = { caller_count / 2, caller_count * 99 / 100, caller_count };

	add_up(&before[0], &before[1]);
	done_count = 0;
	for (unsigned i = 0; i < caller_count; i++)
		callers[i].done = false;
	for (unsigned i = 0; call && i < caller_count; i++)
		(void)vpn_peer_handshake(callers[i].vpn, callers[i].server, now());
	serve(all_done, now() + GIVE_UP_NS);
	add_up(&after[0], &after[1]);
	printf("done %u", done_count);
	for (unsigned i = 0; i < 3; i++)
		printf(" %.1f",
		       at[i] && at[i] <= done_count ? (double)done_ns[at[i] - 1] / 1e6 : 0);
	printf(" %llu %llu %.1f\n", (unsigned long long)(after[0] - before[0]),
	       (unsigned long long)(after[1] - before[1]), (double)(cpu_us() - cpu) / 1e3);
}

static void open_socket(void)
{
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(PORT) };
	int one = 1, buffer = BUFFER;

	udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (udp < 0 || bind(udp, (struct sockaddr *)&any, sizeof(any)) ||
	    setsockopt(udp, IPPROTO_IP, IP_PKTINFO, &one, sizeof(one)))
		die("socket");
	(void)setsockopt(udp, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof(buffer));
	(void)setsockopt(udp, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof(buffer));
}

static bool parse_key(const char *hex, uint8_t ret[VPN_KEY_LEN])
{
	for (size_t i = 0; i < VPN_KEY_LEN; i++)
		if (sscanf(hex + 2 * i, "%2hhx", &ret[i]) != 1)
			return false;
	return strlen(hex) == (size_t)2 * VPN_KEY_LEN;
}

int main(int argc, char **argv)
{
	struct vpn_endpoint server = { .v4 = { .sin_family = AF_INET } };
	uint8_t public_key[VPN_KEY_LEN];
	char line[16];

	if (argc != 5 || inet_pton(AF_INET, argv[2], &server.v4.sin_addr) != 1 ||
	    !parse_key(argv[4], public_key) || atoi(argv[1]) < 1 || atoi(argv[1]) > PEERS_MAX) {
		fprintf(stderr, "usage: vpn_peers COUNT ADDRESS PORT PUBLIC_KEY_HEX\n");
		return 2;
	}
	server.v4.sin_port = htons((uint16_t)atoi(argv[3]));
	setvbuf(stdin, NULL, _IONBF, 0); /* poll() must see all that was not read */
	open_socket();
	for (caller_count = 0; caller_count < (unsigned)atoi(argv[1]); caller_count++)
		caller_open(caller_count, &server, public_key);
	fflush(stdout);
	for (;;) {
		serve(is_input, UINT64_MAX);
		if (!fgets(line, sizeof(line), stdin))
			return 0;
		command(!strcmp(line, "call\n"));
		fflush(stdout);
	}
}
