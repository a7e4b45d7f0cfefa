/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A WireGuard peer on one UDP socket with no network device behind it: it answers pings to its own
 * inner address and pings its peer's, so that stock implementations can be met without a TUN.
 *
 * usage: udp_peer PORT PEER_PUBLIC OWN_ADDRESS PEER_ADDRESS [ENDPOINT_PORT [PSK]]
 * The private key comes on the first line of standard input, all keys in hex.  After that a line
 * is a command, answered by one line:
 *	ping N			N pings, one after the other: "ping N answered"
 *	flood N SIZE		N pings of SIZE bytes at once, answers within 2 s: "flood N
 *answered" handshake		ask for one
 *	info			"info handshakes N session 0|1 endpoint_port N keepalives N ..."
 *	load			be under load from now on
 *	storm PORT N [MS]	bursts of N strangers' initiations to that port, each MS (200), until
 *				our own handshake there succeeds: "storm 1", or 12 s are over:
 *				"storm 0"
 *	rebind PORT		from another port: "rebind PORT"
 *	key HEX			another private key: "key 0"
 *	skip SECONDS		let the library's clock jump ahead
 *	quit
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "vpn/cookie.h"
#include "vpn/vpn.h"

#define PACKET_MAX 65536

static struct vpn *vpn;
static uint64_t peer;
static struct in_addr own, other;
static int udp = -1;
static uint64_t skipped_ns;
static size_t backlog;
static unsigned answered, sequence;

static uint64_t clock_ns(clockid_t which)
{
	struct timespec t;

	clock_gettime(which, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t now(void)
{
	return clock_ns(CLOCK_BOOTTIME) + skipped_ns;
}

static uint64_t real(void)
{
	return clock_ns(CLOCK_REALTIME) + skipped_ns;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void key_parse(const char *hex, uint8_t key[VPN_KEY_LEN])
{
	for (unsigned i = 0; i < VPN_KEY_LEN; i++)
		if (sscanf(hex + 2 * i, "%2hhx", &key[i]) != 1)
			die("key");
}

static void send_message(void *ctx, uint64_t to_peer, const struct vpn_endpoint *to,
			 const uint8_t *msg, size_t len, uint8_t tos)
{
	(void)ctx, (void)to_peer, (void)tos;
	if (sendto(udp, msg, len, 0, &to->sa, sizeof(to->v4)) < 0)
		perror("sendto");
}

static uint16_t checksum(const uint8_t *p, size_t len)
{
	uint32_t sum = 0;

	for (size_t i = 0; i + 1 < len; i += 2)
		sum += (uint32_t)p[i] << 8 | p[i + 1];
	if (len & 1)
		sum += (uint32_t)p[len - 1] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

/* An inner packet, sealed and sent; false: no session yet. */
static bool send_inner(uint8_t *packet, uint32_t len)
{
	struct vpn_packet p = { packet, len };
	struct vpn_tx tx;
	int r = vpn_send_begin(vpn, vpn_route(vpn, packet, len), 1, len, now(), &tx);

	if (r)
		return false;
	vpn_seal(&tx, 0, 0, &p, 1);
	if (sendto(udp, p.data, p.len, 0, &tx.to.sa, sizeof(tx.to.v4)) < 0)
		perror("sendto");
	vpn_send_end(vpn, &tx);
	return true;
}

static bool send_echo(uint16_t seq, uint32_t payload)
{
	static uint8_t buffer[PACKET_MAX];
	uint8_t *ip = buffer + VPN_HEADROOM;
	uint32_t len = 28 + payload;
	uint16_t be_len = htons((uint16_t)len), be_seq = htons(seq), sum;

	memset(ip, 0, 28);
	ip[0] = 0x45;
	memcpy(ip + 2, &be_len, 2);
	ip[8] = 64;
	ip[9] = 1;
	memcpy(ip + 12, &own, 4);
	memcpy(ip + 16, &other, 4);
	sum = checksum(ip, 20);
	memcpy(ip + 10, &sum, 2);
	ip[20] = 8;
	memcpy(ip + 26, &be_seq, 2);
	for (uint32_t i = 0; i < payload; i++)
		ip[28 + i] = (uint8_t)(i + seq);
	sum = checksum(ip + 20, len - 20);
	memcpy(ip + 22, &sum, 2);
	return send_inner(ip, len);
}

/* The packet itself goes back: addresses exchanged, the type changed, its checksum with it. */
static void answer_echo(const uint8_t *ip, uint32_t len)
{
	static uint8_t buffer[PACKET_MAX + 64];
	uint8_t *back = buffer + VPN_HEADROOM;
	uint16_t sum;

	memcpy(back, ip, len);
	memcpy(back + 12, ip + 16, 4);
	memcpy(back + 16, ip + 12, 4);
	back[20] = 0;
	memset(back + 22, 0, 2);
	sum = checksum(back + 20, len - 20);
	memcpy(back + 22, &sum, 2);
	send_inner(back, len);
}

static void take_inner(const uint8_t *ip, uint32_t len)
{
	if (len < 28 || ip[9] != 1 || memcmp(ip + 16, &own, 4))
		return;
	if (ip[20] == 0)
		answered++;
	else if (ip[20] == 8)
		answer_echo(ip, len);
}

static void take_datagram(void)
{
	static uint8_t buffer[PACKET_MAX];
	struct vpn_endpoint from = { 0 };
	socklen_t size = sizeof(from.v4);
	ssize_t n = recvfrom(udp, buffer, sizeof(buffer), MSG_DONTWAIT, &from.sa, &size);
	struct vpn_rx rx = { .data = buffer, .len = (uint32_t)n, .from = &from };

	if (n < 0)
		return;
	(void)!vpn_open(vpn, 0, &rx, 1, now());
	if (rx.verdict == VPN_HANDSHAKE) {
		enum vpn_verdict v =
			vpn_receive(vpn, &from, buffer, (size_t)n, backlog, now(), real());

		fprintf(stderr, "message %u: %s\n", buffer[0], vpn_verdict_name(v));
	} else if (rx.verdict == VPN_OK) {
		take_inner(rx.data, rx.len);
	} else if (rx.verdict != VPN_KEEPALIVE) {
		fprintf(stderr, "packet: %s\n", vpn_verdict_name((enum vpn_verdict)rx.verdict));
	}
}

/* Serve for so long, or until a command comes (`commands`). */
static bool serve(uint64_t until_ns, bool commands, unsigned enough)
{
	while (now() < until_ns && answered < enough) {
		struct pollfd fds[2] = { { udp, POLLIN, 0 }, { commands ? 0 : -1, POLLIN, 0 } };
		uint64_t due, t;

		vpn_run(vpn, now(), real());
		due = vpn_deadline(vpn);
		t = now();
		if (!due || due > until_ns)
			due = until_ns;
		due = due > t ? (due - t) / 1000000 + 1 : 0;
		poll(fds, 2, due > 1000 ? 1000 : (int)due);
		if (fds[0].revents)
			take_datagram();
		if (fds[1].revents)
			return true;
	}
	return false;
}

static void bind_to(uint16_t port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };

	if (udp >= 0)
		close(udp);
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (udp < 0 || bind(udp, (struct sockaddr *)&a, sizeof(a)))
		die("bind");
}

static void ping(unsigned count)
{
	unsigned good = 0;

	for (unsigned i = 0; i < count; i++) {
		uint64_t end = now() + UINT64_C(30000000000);

		answered = 0;
		while (!answered && now() < end) {
			bool sent = send_echo((uint16_t)++sequence, 56);

			serve(now() + (sent ? 1000000000u : 20000000u), false, 1);
		}
		good += answered > 0;
	}
	printf("ping %u\n", good);
}

static void flood(unsigned count, uint32_t size)
{
	answered = 0;
	for (unsigned i = 0; i < count; i++) {
		send_echo((uint16_t)++sequence, size);
		serve(now() + 1, false, count);
	}
	serve(now() + UINT64_C(20000000000), false, count);
	printf("flood %u\n", answered);
}

/* Garbage but for its form and MAC1, from a socket of its own. */
static void burst(int from, uint16_t port, unsigned count)
{
	struct sockaddr_in to = { .sin_family = AF_INET,
				  .sin_port = htons(port),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	static struct cookie_jar jar;
	static struct crypto crypto;
	struct message_initiation m;
	struct vpn_peer_info i;

	if (!crypto.blake2s && (crypto_init(&crypto, NULL) || vpn_peer_get_info(vpn, peer, &i) ||
				cookie_keys_derive(&crypto, i.public_key, &jar.keys)))
		die("storm");
	memset(&m, 7, sizeof(m));
	m.type = le32_put(VPN_TYPE_INITIATION);
	for (unsigned k = 0; k < count; k++) {
		m.sender = le32_put(k);
		if (cookie_jar_sign(&jar, &crypto, (uint8_t *)&m, sizeof(m), now()) ||
		    sendto(from, &m, sizeof(m), 0, (struct sockaddr *)&to, sizeof(to)) < 0)
			die("storm");
	}
}

static void storm(uint16_t port, unsigned count, unsigned gap_ms)
{
	int from = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	uint64_t end = now() + UINT64_C(12000000000);
	struct vpn_counters c = { 0 };

	burst(from, port, count);
	vpn_peer_handshake(vpn, peer, now());
	while (now() < end && !c.responses_received) {
		answered = 0;
		serve(now() + gap_ms * UINT64_C(1000000), false, 1);
		vpn_get_counters(vpn, &c);
		if (!c.responses_received)
			burst(from, port, count);
	}
	close(from);
	printf("storm %d\n", c.responses_received > 0);
}

static void info(void)
{
	struct vpn_peer_info i;
	struct vpn_counters c;

	if (vpn_peer_get_info(vpn, peer, &i))
		exit(1);
	vpn_get_counters(vpn, &c);
	printf("info handshakes %llu session %d endpoint_port %u initiations_sent %llu "
	       "initiations_received %llu responses_received %llu cookies_sent %llu "
	       "cookies_received %llu keepalives_sent %llu keepalives_received %llu lost %llu "
	       "refused %llu\n",
	       (unsigned long long)i.handshakes, i.session, ntohs(i.endpoint.v4.sin_port),
	       (unsigned long long)c.initiations_sent, (unsigned long long)c.initiations_received,
	       (unsigned long long)c.responses_received, (unsigned long long)c.cookies_sent,
	       (unsigned long long)c.cookies_received, (unsigned long long)c.keepalives_sent,
	       (unsigned long long)c.received[VPN_KEEPALIVE], (unsigned long long)i.rx_lost,
	       (unsigned long long)i.rx_refused);
}

static bool command(char *line)
{
	unsigned a = 0, b = 0, gap_ms = 200;
	uint8_t key[VPN_KEY_LEN];

	if (sscanf(line, "ping %u", &a) == 1) {
		ping(a);
	} else if (sscanf(line, "flood %u %u", &a, &b) == 2) {
		flood(a, b);
	} else if (sscanf(line, "storm %u %u %u", &a, &b, &gap_ms) >= 2) {
		storm((uint16_t)a, b, gap_ms);
	} else if (sscanf(line, "rebind %u", &a) == 1) {
		bind_to((uint16_t)a);
		printf("rebind %u\n", a);
	} else if (sscanf(line, "skip %u", &a) == 1) {
		skipped_ns += a * UINT64_C(1000000000);
		printf("skip %u\n", a);
	} else if (!strncmp(line, "key ", 4)) {
		key_parse(line + 4, key);
		printf("key %d\n", vpn_set_private_key(vpn, key, now(), NULL));
	} else if (!strncmp(line, "handshake", 9)) {
		printf("handshake %d\n", vpn_peer_handshake(vpn, peer, now()));
	} else if (!strncmp(line, "load", 4)) {
		backlog = 100000;
		printf("load\n");
	} else if (!strncmp(line, "info", 4)) {
		info();
	} else {
		return false;
	}
	fflush(stdout);
	return true;
}

int main(int argc, char **argv)
{
	struct vpn_config config = { .ops.send = send_message, .workers = 1, .mtu = 1420 };
	struct prefix allowed = { .len = 32 };
	struct vpn_endpoint to = { 0 };
	uint8_t key[VPN_KEY_LEN];
	struct err err = { 0 };
	char line[256];

	if (argc < 5 || !fgets(line, sizeof(line), stdin))
		return 2;
	setvbuf(stdin, NULL, _IONBF, 0);
	key_parse(line, key);
	if (vpn_new(&config, &vpn, &err) || vpn_set_private_key(vpn, key, now(), NULL))
		die(err.text);
	key_parse(argv[2], key);
	if (vpn_peer_add(vpn, key, now(), &peer, &err))
		die(err.text);
	inet_pton(AF_INET, argv[3], &own);
	inet_pton(AF_INET, argv[4], &other);
	allowed.addr = addr_from_bytes(4, &other);
	if (vpn_allowed_add(vpn, peer, &allowed))
		die("allowed");
	bind_to((uint16_t)atoi(argv[1]));
	if (argc > 5 && atoi(argv[5])) {
		to.v4 = (struct sockaddr_in){ .sin_family = AF_INET,
					      .sin_port = htons((uint16_t)atoi(argv[5])),
					      .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
		vpn_peer_set_endpoint(vpn, peer, &to, now());
	}
	if (argc > 6) {
		key_parse(argv[6], key);
		vpn_peer_set_psk(vpn, peer, key);
	}
	printf("ready\n");
	fflush(stdout);
	for (;;) {
		answered = 0;
		if (!serve(UINT64_MAX, true, UINT32_MAX))
			continue;
		if (!fgets(line, sizeof(line), stdin) || !command(line))
			break;
	}
	vpn_free(vpn);
	return 0;
}
