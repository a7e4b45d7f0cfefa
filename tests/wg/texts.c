// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What netd-wg is told and tells, without sockets to the world: the configuration protocol with all
 * that is wrong in it, frames of the link in pieces, packets that wait, what is remembered of
 * peers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "netd/wg/backlog.h"
#include "netd/wg/link.h"
#include "netd/wg/memory.h"
#include "netd/wg/stage.h"
#include "netd/wg/uapi.h"
#include "tests/lib/rng.h"

#define K1  "e9a8b4c1d2f3051627384950616273849506a7b8c9daebfc0d1e2f3041526374"
#define K2  "5fc4e1e0d5b2a3948576675849302112031425364758697a8b9cadbecfd0e1f2"
#define SEC "SECRET"

static struct uapi_device device;

static int setup(void **state)
{
	struct vpn_config config = { .workers = 1, .mtu = 1420, .aead = VPN_AEAD_OPENSSL };

	device = (struct uapi_device){ .listen_port = 51820, .mtu = 1420 };
	return vpn_new(&config, &device.vpn, NULL);
}

static int teardown(void **state)
{
	vpn_free(device.vpn);
	return 0;
}

static struct uapi_wish wish;

static int set_as(const char *text, bool trusted, struct err *err)
{
	char *copy = strdup(text);
	int r = uapi_set(&device, copy, trusted, 1000000000, &wish, err);

	/* Nothing of what was said stays in memory. */
	assert_null(strstr(copy, "e9a8b4"));
	free(copy);
	return r;
}

static int set(const char *text)
{
	struct err err = { 0 };
	int r = set_as(text, false, &err);

	if (r)
		assert_true(err.code && err.text[0]);
	assert_null(strstr(err.text, "e9a8b4"));
	return r;
}

static bool says(const char *line)
{
	struct wg_text text = { 0 };
	bool found;

	uapi_get(&device, true, 2000000000, &text);
	assert_false(text.failed);
	found = text.data && strstr(text.data, line);
	wg_text_clear(&text);
	return found;
}

static void test_what_is_set_is_said(void **state)
{
	assert_int_equal(set("private_key=" K1 "\nreplace_peers=true\npublic_key=" K2 "\n"
			     "preshared_key=" K1 "\nendpoint=192.0.2.1:5000\n"
			     "persistent_keepalive_interval=25\nreplace_allowed_ips=true\n"
			     "allowed_ip=10.0.0.0/8\nallowed_ip=fd00::/8\nprotocol_version=1\n"),
			 0);
	assert_true(says("public_key=" K2 "\n"));
	assert_true(says("endpoint=192.0.2.1:5000\n"));
	assert_true(says("persistent_keepalive_interval=25\n"));
	assert_true(says("allowed_ip=10.0.0.0/8\n"));
	assert_true(says("allowed_ip=fd00::/8\n"));
	assert_false(wish.bind);
	assert_int_equal(set("public_key=" K2 "\nallowed_ip=-10.0.0.0/8\nallowed_ip=+10.1.0.0/16\n"
			     "endpoint=[2001:db8::1]:7\n"),
			 0);
	assert_false(says("allowed_ip=10.0.0.0/8\n"));
	assert_true(says("allowed_ip=10.1.0.0/16\n"));
	assert_true(says("endpoint=[2001:db8::1]:7\n"));
	assert_int_equal(set("public_key=" K2 "\nendpoint=[fe80::1%3]:7\n"), 0);
	assert_true(says("endpoint=[fe80::1%3]:7\n"));
	assert_int_equal(set("public_key=" K2 "\nremove=true\nallowed_ip=10.0.0.0/8\n"), 0);
	assert_false(says(K2));
	assert_false(says("10.0.0.0"));
}

static void test_sockets_are_wished_for(void **state)
{
	assert_int_equal(set("listen_port=51820\nfwmark=0\n"), 0);
	assert_false(wish.bind);
	assert_int_equal(set("listen_port=1\n"), 0);
	assert_true(wish.bind && wish.listen_port == 1 && wish.fwmark == 0);
	assert_int_equal(set("fwmark=0x77\n"), 0);
	assert_true(wish.bind && wish.listen_port == 51820 && wish.fwmark == 0x77);
	assert_int_equal(set("fwmark=4294967295\nlisten_port=7\n"), 0);
	assert_true(wish.fwmark == UINT32_MAX && wish.listen_port == 7);
}

static void test_update_only_makes_no_peer(void **state)
{
	assert_int_equal(set("public_key=" K2 "\nupdate_only=true\nallowed_ip=10.9.0.0/16\n"), 0);
	assert_false(says(K2));
	assert_false(says("10.9.0.0"));
}

static void test_oneself_is_passed_over(void **state)
{
	uint8_t own[VPN_KEY_LEN];
	struct wg_text text = { 0 };

	assert_int_equal(set("private_key=" K1 "\n"), 0);
	assert_true(vpn_get_public_key(device.vpn, own));
	wg_text_add_hex(&text, "public_key", own, sizeof(own));
	wg_text_add(&text, "allowed_ip=10.8.0.0/16\n");
	assert_int_equal(set(text.data), 0);
	assert_false(says("10.8.0.0"));
	wg_text_clear(&text);
}

static void test_what_is_wrong_is_refused(void **state)
{
	const char *const wrong[] = {
		"private_key=" K1 "00\n",
		"private_key=e9a8b4\n",
		"private_key=" SEC "\n",
		"private_key\n",
		"=\n",
		"listen_port=65536\n",
		"listen_port=-1\n",
		"listen_port=\n",
		"fwmark=4294967296\n",
		"fwmark=-1\n",
		"fwmark=x\n",
		"replace_peers=false\n",
		"mtu=1400\n", /* netd's only */
		"remove=true\n",
		"allowed_ip=10.0.0.0/8\n",
		"nonsense=1\n",
		"public_key=" K2 "\nlisten_port=5\n",
		"public_key=" K2 "\nprotocol_version=2\n",
		"public_key=" K2 "\nendpoint=192.0.2.1\n",
		"public_key=" K2 "\nendpoint=192.0.2.1:0\n",
		"public_key=" K2 "\nendpoint=192.0.2.1:65536\n",
		"public_key=" K2 "\nendpoint=host.example:5\n",
		"public_key=" K2 "\nendpoint=[::1]5\n",
		"public_key=" K2 "\nendpoint=[:5\n",
		"public_key=" K2 "\nendpoint=]:5\n",
		"public_key=" K2 "\nendpoint=[fe80::1%eth0]:5\n",
		"public_key=" K2 "\nallowed_ip=10.0.0.0/33\n",
		"public_key=" K2 "\nallowed_ip=\n",
		"public_key=" K2 "\nallowed_ip=x/8\n",
		"public_key=" K2 "\npersistent_keepalive_interval=65536\n",
		"public_key=" K2 "\nupdate_only=yes\n",
		"public_key=" K2 "\nreceived_tai64n=000000000000000000000000\n",
		"public_key=0000000000000000000000000000000000000000000000000000000000000000\n",
		"public_key=" K2 "\n\n\nwrong\n",
	};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		int r = set(wrong[i]);

		if (r >= 0)
			fail_msg("accepted: %s", wrong[i]);
	}
}

static void test_state_goes_there_and_back(void **state)
{
	struct wg_text text = { 0 }, back = { 0 };
	struct wg_memory *m;
	struct err err;

	assert_int_equal(wg_memory_new(&m), 0);
	assert_int_equal(set_as("private_key=" K1 "\npublic_key=" K2 "\nendpoint=192.0.2.1:9\n"
				"received_tai64n=400000006512f3c000000001\n",
				true, &err),
			 0);
	uapi_get(&device, true, 2000000000, &text);
	wg_memory_learn(m, text.data);
	assert_int_equal(wg_memory_count(m), 1);
	wg_memory_learn(m, "endpoint=1.1.1.1:1\npublic_key=zz\nendpoint=2.2.2.2:2\n"
			   "public_key=" K2 "\nendpoint=\"; rm\nsent_tai64n=1\n=\n\npublic_key");
	assert_int_equal(wg_memory_count(m), 1);
	wg_memory_recall(m, &back);
	assert_non_null(strstr(back.data, "public_key=" K2 "\nupdate_only=true\n"
					  "received_tai64n=400000006512f3c000000001\n"));
	assert_non_null(strstr(back.data, "endpoint=192.0.2.1:9\nhandshake=1\n"));
	assert_null(strstr(back.data, "private"));
	assert_int_equal(set_as("replace_peers=true\n", true, &err), 0);
	assert_int_equal(set_as(back.data, true, &err), 0); /* a peer that is gone stays gone */
	assert_false(says(K2));
	wg_text_clear(&text);
	wg_text_clear(&back);
	wg_memory_free(m);
}

/* ---- frames ---- */

static void test_frames_arrive_whole(void **state)
{
	int pair[2], fds[2] = { open("/dev/null", O_RDONLY), open("/dev/null", O_RDONLY) };
	struct wg_link *a, *b;
	struct wg_message m;
	static uint8_t data[100000];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_int_equal(wg_link_new(pair[0], &a), 0);
	assert_int_equal(wg_link_new(pair[1], &b), 0);
	assert_int_equal(wg_link_receive(b, &m), 0);
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7);
	assert_int_equal(wg_link_send(a, WG_SET, data, sizeof(data), fds, 2), 0);
	assert_int_equal(wg_link_send(a, WG_GET, NULL, 0, NULL, 0), 0);
	assert_int_equal(wg_link_receive(b, &m), 1);
	assert_int_equal(m.type, WG_SET);
	assert_int_equal(m.len, sizeof(data));
	assert_memory_equal(m.data, data, sizeof(data));
	assert_int_equal(m.fd_count, 2);
	wg_message_done(&m);
	assert_int_equal(wg_link_receive(b, &m), 1);
	assert_int_equal(m.type, WG_GET);
	assert_int_equal(m.len, 0);
	assert_int_equal(m.fd_count, 0);
	wg_message_done(&m);
	wg_link_free(a);
	assert_int_equal(wg_link_receive(b, &m), -ECONNRESET);
	wg_link_free(b);
	close(fds[0]);
	close(fds[1]);
}

static void test_frames_in_pieces(void **state)
{
	uint32_t header[2] = { WG_REPLY, 5 };
	struct wg_link *b;
	struct wg_message m;
	uint8_t wire[13];
	int pair[2];

	memcpy(wire, header, 8);
	memcpy(wire + 8, "hello", 5);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_int_equal(wg_link_new(pair[1], &b), 0);
	for (size_t i = 0; i < sizeof(wire); i++) {
		assert_int_equal(wg_link_receive(b, &m), 0);
		assert_int_equal(write(pair[0], wire + i, 1), 1);
	}
	assert_int_equal(wg_link_receive(b, &m), 1);
	assert_string_equal((char *)m.data, "hello");
	wg_message_done(&m);
	header[1] = WG_LINK_FRAME_MAX + 1; /* more than anybody says */
	assert_int_equal(write(pair[0], header, 8), 8);
	assert_int_equal(wg_link_receive(b, &m), -EPROTO);
	wg_link_free(b);
	close(pair[0]);
}

/* ---- packets that wait ---- */

static void test_waiting_packets_keep_order_and_limits(void **state)
{
	static struct {
		uint32_t first, count; /* numbers of the packets that wait */
	} oracle[40];
	struct rng r = { 3 };
	struct stage *s;
	uint32_t total = 0, number = 0;

	assert_int_equal(stage_new(64, &s), 0);
	for (unsigned i = 0; i < 200000; i++) {
		size_t peer = rng_below(&r, 40), len;
		uint32_t got;

		if (rng_percent(&r, 55)) {
			unsigned dropped = 0;

			if (!oracle[peer].count)
				oracle[peer].first = number;
			/* The numbers of one peer follow each other. */
			got = oracle[peer].first + oracle[peer].count;
			if (oracle[peer].count == STAGE_PEER_MAX) {
				oracle[peer].first++;
				oracle[peer].count--;
				total--;
				dropped = 1;
			}
			if (total == STAGE_MAX) {
				dropped = 1;
			} else {
				oracle[peer].count++;
				total++;
			}
			number += STAGE_MAX * 2;
			assert_int_equal(stage_put(s, peer + 1, (uint8_t *)&got, sizeof(got)),
					 dropped);
		} else {
			uint8_t *p = stage_take(s, peer + 1, &len);

			assert_int_equal(!p, !oracle[peer].count);
			if (!p)
				continue;
			memcpy(&got, p, sizeof(got));
			assert_int_equal(got, oracle[peer].first);
			oracle[peer].first++;
			oracle[peer].count--;
			total--;
		}
		assert_int_equal(stage_count(s, peer + 1), oracle[peer].count);
	}
	assert_int_equal(stage_put(s, 1, (uint8_t *)oracle, 65), 1); /* too long */
	for (size_t peer = 0; peer < 40; peer++)
		assert_int_equal(stage_drop(s, peer + 1), oracle[peer].count);
	assert_int_equal(stage_count(s, 1), 0);
	stage_free(s);
}

/* In order, as many as there is room for, over and over. */
static void test_waiting_handshakes_keep_order_and_limit(void **state)
{
	struct vpn_endpoint from = { 0 };
	uint8_t msg[VPN_MESSAGE_MAX] = { 0 };
	struct backlog *b;
	uint32_t in = 0, out = 0;

	(void)state;
	assert_int_equal(backlog_new(&b), 0);
	assert_null(backlog_take(b));
	for (unsigned round = 1; round < 5; round++) {
		while (backlog_count(b) < BACKLOG_MAX) {
			memcpy(msg, &in, sizeof(in));
			from.src_ifindex = in;
			assert_true(backlog_put(b, &from, msg, in++ % sizeof(msg) + 1));
		}
		assert_false(backlog_put(b, &from, msg, sizeof(msg)));
		for (unsigned i = 0; i < 200 * round; i++, out++) {
			const struct backlog_message *m = backlog_take(b);

			assert_int_equal(m->from.src_ifindex, out);
			assert_int_equal(m->len, out % sizeof(msg) + 1);
			assert_memory_equal(m->data, &out, m->len < 4 ? m->len : 4);
		}
		assert_int_equal(backlog_count(b), in - out);
	}
	backlog_free(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_what_is_set_is_said, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sockets_are_wished_for, setup, teardown),
		cmocka_unit_test_setup_teardown(test_update_only_makes_no_peer, setup, teardown),
		cmocka_unit_test_setup_teardown(test_oneself_is_passed_over, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_is_wrong_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_state_goes_there_and_back, setup, teardown),
		cmocka_unit_test(test_frames_arrive_whole),
		cmocka_unit_test(test_frames_in_pieces),
		cmocka_unit_test(test_waiting_packets_keep_order_and_limits),
		cmocka_unit_test(test_waiting_handshakes_keep_order_and_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
