// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Two data paths in one process, joined by UDP over loopback, with socket pairs for devices:
 *
 *	"device" --- path 0 --- 127.0.0.1 --- path 1 --- "device"	inside 10.0.0.1, 10.0.0.2
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <linux/virtio_net.h>
#include <netinet/udp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "netd/wg/path.h"
#include "netd/wg/sockets.h"
#include "tests/lib/rng.h"
#include "vpn/cookie.h"

#define PACKET_LEN 100
#define WAIT_MS	   20000

struct end {
	struct path *path;
	int device; /* the other side of it */
	uint64_t peer;
	struct vpn_endpoint at;
	uint8_t public_key[VPN_KEY_LEN];
};

static void end_open(struct end *e, uint8_t number)
{
	const uint8_t key[VPN_KEY_LEN] = { 0, number };
	struct path_config config = { .offload = true, .mtu = 1420 };
	struct wg_udp_sockets udp;
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair), 0);
	config.device = pair[0];
	e->device = pair[1];
	assert_int_equal(path_new(&config, &e->path, NULL), 0);
	assert_int_equal(wg_udp_open(0, 0, true, &udp, NULL), 0);
	e->at = (struct vpn_endpoint){ .v4 = { .sin_family = AF_INET,
					       .sin_port = htons(udp.port),
					       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) } };
	io_set_sockets(path_io(e->path), udp.fd4, udp.fd6, udp.gso);
	assert_int_equal(vpn_set_private_key(path_vpn(e->path), key, path_now(), NULL), 0);
	assert_true(vpn_get_public_key(path_vpn(e->path), e->public_key));
}

static void end_join(struct end *e, const struct end *other, uint8_t other_number)
{
	const struct prefix allowed = { .addr = { .family = 4, .b = { 10, 0, 0, other_number } },
					.len = 32 };
	struct vpn *v = path_vpn(e->path);

	assert_int_equal(vpn_peer_add(v, other->public_key, path_now(), &e->peer, NULL), 0);
	assert_int_equal(vpn_peer_set_endpoint(v, e->peer, &other->at, path_now()), 0);
	assert_int_equal(vpn_allowed_add(v, e->peer, &allowed), 0);
}

static void end_close(struct end *e)
{
	path_free(e->path);
	close(e->device);
}

/* The kernel has a packet for the other end. */
static void end_put(struct end *e, uint8_t from, uint8_t to)
{
	uint8_t frame[sizeof(struct virtio_net_hdr) + PACKET_LEN] = { 0 };
	uint8_t *ip = frame + sizeof(struct virtio_net_hdr);

	memcpy(ip, (uint8_t[]){ 0x45, 0, 0,  PACKET_LEN, 0, 0,	  0,  0, 64, 253,
				0,    0, 10, 0,		 0, from, 10, 0, 0,  to },
	       20);
	assert_int_equal(write(e->device, frame, sizeof(frame)), sizeof(frame));
}

static bool end_got(struct end *e)
{
	uint8_t frame[sizeof(struct virtio_net_hdr) + PACKET_LEN];

	return read(e->device, frame, sizeof(frame)) == sizeof(frame);
}

static uint64_t forged(struct end *e)
{
	struct vpn_counters c;

	vpn_get_counters(path_vpn(e->path), &c);
	return c.received[VPN_FORGED];
}

/* Until the packet is there. */
static void work(struct end ends[2], struct end *to)
{
	for (int ms = 0; !end_got(to); ms++) {
		assert_true(ms < WAIT_MS);
		for (int i = 0; i < 2; i++) {
			(void)path_run_timers(ends[i].path);
			while (path_work(ends[i].path))
				;
		}
		poll(NULL, 0, 1);
	}
}

/* Initiations with the right MAC1, `count` messages of the socket of 50 each. */
static void send_initiations(const struct end *to, unsigned count)
{
	struct message_initiation m[50];
	struct cookie_jar jar = { 0 };
	struct crypto c;
	struct rng rng = { 1 };
	int segment = sizeof(m[0]), fd = socket(AF_INET, SOCK_DGRAM, 0);

	assert_int_equal(crypto_init(&c, NULL), 0);
	assert_int_equal(cookie_keys_derive(&c, to->public_key, &jar.keys), 0);
	assert_int_equal(setsockopt(fd, SOL_UDP, UDP_SEGMENT, &segment, sizeof(segment)), 0);
	for (unsigned i = 0; i < count; i++) {
		for (size_t k = 0; k < sizeof(m); k++)
			((uint8_t *)m)[k] = (uint8_t)rng_next(&rng);
		for (size_t k = 0; k < 50; k++) {
			m[k].type = le32_put(VPN_TYPE_INITIATION);
			assert_int_equal(cookie_jar_sign(&jar, &c, (uint8_t *)&m[k], sizeof(m[k]),
							 path_now()),
					 0);
		}
		assert_int_equal(sendto(fd, m, sizeof(m), 0, &to->at.sa, sizeof(to->at.v4)),
				 sizeof(m));
	}
	close(fd);
	crypto_clear(&c);
}

/* Of 200 initiations and a packet that come together the packet goes first, and none is lost. */
static void packets_go_first(void **state)
{
	struct end ends[2] = { 0 };
	unsigned turns = 0;

	(void)state;
	for (uint8_t i = 0; i < 2; i++)
		end_open(&ends[i], i + 1);
	for (uint8_t i = 0; i < 2; i++)
		end_join(&ends[i], &ends[!i], (uint8_t)(2 - i));
	end_put(&ends[0], 1, 2);
	work(ends, &ends[1]);
	end_put(&ends[1], 2, 1);
	work(ends, &ends[0]);

	send_initiations(&ends[1], 4);
	end_put(&ends[0], 1, 2);
	(void)path_work(ends[0].path);
	for (int ms = 0; !end_got(&ends[1]); ms++) { /* at the first turn, if all is there */
		assert_true(ms < WAIT_MS);
		if (ms)
			poll(NULL, 0, 1);
		turns += path_work(ends[1].path);
	}
	assert_in_range(forged(&ends[1]), 0, 64 * turns);
	for (int ms = 0; forged(&ends[1]) < 200; ms++) {
		assert_true(ms < WAIT_MS);
		if (!path_work(ends[1].path))
			poll(NULL, 0, 1);
	}
	for (int i = 0; i < 2; i++)
		end_close(&ends[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(packets_go_first),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
