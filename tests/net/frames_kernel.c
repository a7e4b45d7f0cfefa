/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Frames of guests that pretend, and of ports that move, through the bridge table (see world.h). */
#include "tests/net/world.h"

#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <pthread.h>

static int packet_socket(enum place p)
{
	struct sockaddr_ll ll = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
	int fd;

	enter(p);
	fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, htons(ETH_P_ALL));
	ll.sll_ifindex = (int)if_nametoindex("eth0");
	enter(HOST);
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&ll, sizeof(ll)), 0);
	return fd;
}

/* Whether a frame with this marker at its end arrives. */
static bool frame_arrives(int tx, int rx, uint8_t *frame, size_t len, bool expected)
{
	uint8_t buf[2048];
	double end;

	frame[len - 1] = 0xa5;
	frame[len - 2]++;
	assert_int_equal(send(tx, frame, len, 0), (ssize_t)len);
	end = now_ms() + (expected ? WAIT_MS : QUIET_MS);
	while (now_ms() < end) {
		ssize_t n;

		if (!readable(rx, 10))
			continue;
		n = recv(rx, buf, sizeof(buf), 0);
		if (n == (ssize_t)len && !memcmp(buf, frame, len))
			return true;
	}
	return false;
}

/* The header checksum of an IPv4 frame: br_netfilter drops bad ones. */
static void sum_ipv4(uint8_t *frame)
{
	uint32_t sum = 0;

	frame[24] = frame[25] = 0;
	for (int i = 14; i < 34; i += 2)
		sum += (uint32_t)(frame[i] << 8 | frame[i + 1]);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = ~((sum & 0xffff) + (sum >> 16));
	frame[24] = (uint8_t)(sum >> 8);
	frame[25] = (uint8_t)sum;
}

#define MAC1 0x52, 0x54, 0, 0, 0, 1
#define ALL  0xff, 0xff, 0xff, 0xff, 0xff, 0xff

static void guards(void **state)
{
	uint8_t plain[80] = { ALL, MAC1, 0x88, 0xb5 };
	uint8_t bpdu[80] = { 0x01, 0x80, 0xc2, 0, 0, 0, MAC1, 0, 38, 0x42, 0x42, 3 };
	uint8_t ra[80] = { 0x33, 0x33, 0,  0,	0,    1,    MAC1, 0x86, 0xdd, 0x60, 0,	 0, 0,
			   0,	 26,   58, 255, 0xfe, 0x80, 0,	  0,	0,    0,    0,	 0, 0,
			   0,	 0,    0,  0,	0,    0,    1,	  0xff, 0x02, 0,    0,	 0, 0,
			   0,	 0,    0,  0,	0,    0,    0,	  0,	0,    1,    134, 0 };
	uint8_t dhcp[80] = { ALL, MAC1, 0x08, 0, 0x45, 0,   0,	 66,  0,   0, 0,  0, 64, 17, 0,
			     0,	  10,	10,   0, 9,    255, 255, 255, 255, 0, 67, 0, 68, 0,  46 };
	int tx, rx;

	(void)state;
	apply();
	reaches_tcp(G1, "10.10.0.12", 80, G2, 80); /* the ports forward */
	sum_ipv4(dhcp);
	apply();
	tx = packet_socket(G1);
	rx = packet_socket(G2);
	assert_true(frame_arrives(tx, rx, plain, sizeof(plain), true));
	assert_false(frame_arrives(tx, rx, bpdu, sizeof(bpdu), false));
	assert_false(frame_arrives(tx, rx, ra, sizeof(ra), false));
	assert_false(frame_arrives(tx, rx, dhcp, sizeof(dhcp), false));
	nat_ports[0].guard = false;
	apply();
	assert_true(frame_arrives(tx, rx, bpdu, sizeof(bpdu), true)); /* it was the guard */
	assert_true(frame_arrives(tx, rx, ra, sizeof(ra), true));
	assert_true(frame_arrives(tx, rx, dhcp, sizeof(dhcp), true));
	close(tx);
	close(rx);
}

static void spoofing(void **state)
{
	static struct addr ips[2];
	uint8_t other_mac[80] = { ALL, 0x52, 0x54, 0, 0, 0, 9, 0x88, 0xb5 };
	uint8_t own_mac[80] = { ALL, MAC1, 0x88, 0xb5 };
	uint8_t arp[80] = { ALL, MAC1, 0x08, 6, 0, 1, 8, 0, 6, 4,  0,  1, MAC1, 10,
			    10,	 0,    11,   0, 0, 0, 0, 0, 0, 10, 10, 0, 12 };
	uint8_t ip[80] = { ALL, MAC1, 0x08, 0, 0x45, 0,	 0,  66,  0,   0, 0, 0, 64, 17, 0,
			   0,	10,   10,   0, 11,   10, 10, 255, 255, 0, 9, 0, 9,  0,	46 };
	uint8_t na[90] = { 0x33, 0x33, 0,    0, 0, 1, MAC1, 0x86, 0xdd, 0x60, 0,    0, 0, 0, 36, 58,
			   255,	 0xfd, 0x10, 0, 0, 0, 0,    0,	  0,	0,    0,    0, 0, 0, 0,	 0,
			   0x11, 0xff, 0x02, 0, 0, 0, 0,    0,	  0,	0,    0,    0, 0, 0, 0,	 0,
			   1,	 136,  0,    0, 0, 0, 0,    0,	  0,	0xfd, 0x10, 0, 0, 0, 0,	 0,
			   0,	 0,    0,    0, 0, 0, 0,    0,	  0x11 };
	int tx, rx;

	(void)state;
	ips[0] = addr("10.10.0.11");
	ips[1] = addr("fd10::11");
	nat_ports[0].mac_given = true;
	nat_ports[0].mac = (struct mac){ { MAC1 } };
	nat_ports[0].ips = ips;
	nat_ports[0].ip_count = 2;
	apply();
	tx = packet_socket(G1);
	rx = packet_socket(G2);
	assert_true(frame_arrives(tx, rx, own_mac, sizeof(own_mac), true));
	assert_false(frame_arrives(tx, rx, other_mac, sizeof(other_mac), false));
	assert_true(frame_arrives(tx, rx, arp, sizeof(arp), true));
	arp[27] = 9; /* the sender's MAC in the payload */
	assert_false(frame_arrives(tx, rx, arp, sizeof(arp), false));
	arp[27] = 1;
	arp[31] = 99; /* the sender's address */
	assert_false(frame_arrives(tx, rx, arp, sizeof(arp), false));
	memset(arp + 28, 0, 4); /* a probe has none */
	assert_true(frame_arrives(tx, rx, arp, sizeof(arp), true));
	sum_ipv4(ip);
	assert_true(frame_arrives(tx, rx, ip, sizeof(ip), true));
	ip[29] = 99;
	sum_ipv4(ip);
	assert_false(frame_arrives(tx, rx, ip, sizeof(ip), false));
	assert_true(frame_arrives(tx, rx, na, sizeof(na), true));
	na[77] = 1; /* the gateway's address as target */
	assert_false(frame_arrives(tx, rx, na, sizeof(na), false));
	na[77] = 0x11;
	na[37] = 1; /* as source */
	assert_false(frame_arrives(tx, rx, na, sizeof(na), false));
	reaches_tcp(G1, "192.0.2.2", 80, OUT, 80); /* what it may, it can */
	reaches_tcp(G1, "2001:db8::2", 80, OUT, 80);
	close(tx);
	close(rx);
}

/* Isolated ports never hear each other, also while one of them moves between VLANs. */
static volatile bool flooding;

static void *flood(void *arg)
{
	uint8_t frame[80] = { ALL, MAC1, 0x88, 0xb5 };
	int fd = *(int *)arg;

	while (flooding)
		(void)!send(fd, frame, sizeof(frame), 0);
	return NULL;
}

static void moving_leaks_nothing(void **state)
{
	int tx, rx, heard = 0;
	pthread_t thread;
	uint8_t buf[2048];

	(void)state;
	for (int i = 0; i < 3; i++)
		ports[i].isolated = true;
	apply();
	tx = packet_socket(G1);
	rx = packet_socket(G3);
	flooding = true;
	assert_int_equal(pthread_create(&thread, NULL, flood, &tx), 0);
	for (int i = 0; i < 30; i++) {
		ssize_t n;

		ports[0].access = i % 2 ? 10 : 20;
		apply();
		while ((n = recv(rx, buf, sizeof(buf), 0)) >= 0)
			heard += n == 80 && buf[12] == 0x88 && buf[13] == 0xb5;
	}
	flooding = false;
	pthread_join(thread, NULL);
	assert_int_equal(heard, 0);
	close(tx);
	close(rx);
}
int main(void)
{
#define T(name) cmocka_unit_test_setup(name, fresh)
	const struct CMUnitTest tests[] = {
		T(guards),
		T(spoofing),
		T(moving_leaks_nothing),
	};

	kernel_unshare();
	sh("mount -t sysfs none /sys && mount -t tmpfs none /run");
	return cmocka_run_group_tests(tests, world, end_of_world);
}
