// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What is too large for the tunnel: the MSS of a SYN is clamped so that segments fit, and a packet
 * that does not is answered by ICMP; for packets of a TUN and frames of a TAP.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/lib/rng.h"
#include "tests/vpn/offload/packets.h"
#include "vpn/offload/clamp.h"
#include "vpn/offload/toobig.h"

#define SYN 0x02
#define ACK 0x10

static uint8_t payload[4096], packet[8192], wanted[8192], answer[TOOBIG_FRAME_MAX];

static struct packet_spec spec(void)
{
	return (struct packet_spec){ .sport = 1000,
				     .dport = 80,
				     .ip_flags = 0x4000,
				     .ttl = 64,
				     .source = 1,
				     .host = 2,
				     .payload = payload };
}

/* Sums up right, the pseudo header included. */
static bool tcp_is_right(const struct packet_spec *s, const uint8_t *p, size_t len)
{
	const uint8_t *ip = p + s->l2_len;
	size_t l3 = slow_l3_len(s), l4_len = len - s->l2_len - l3;

	return slow_sum(ip + l3, l4_len, slow_pseudo(s, ip, l4_len)) == 0xffff;
}

/* ---- MSS ---- */

/* A SYN whose options are `nops` NOPs, MSS, then NOPs; where the value stands. */
static size_t make_syn(struct packet_spec *s, size_t nops, uint16_t mss, uint8_t *out, size_t *len)
{
	uint8_t *options = out + s->l2_len + slow_l3_len(s) + 20;
	uint32_t sum;
	uint8_t *l4 = out + s->l2_len + slow_l3_len(s);

	s->option_byte = 1;
	s->options_len = (nops + 4 + 3) / 4 * 4;
	*len = slow_build(s, out, false);
	options[nops] = 2;
	options[nops + 1] = 4;
	put16(options + nops + 2, mss);
	put16(l4 + 16, 0);
	sum = slow_pseudo(s, out + s->l2_len, *len - (size_t)(l4 - out));
	put16(l4 + 16, 0xffff ^ slow_sum(l4, *len - (size_t)(l4 - out), sum));
	return (size_t)(options - out) + nops + 2;
}

static void test_syns_are_clamped_and_sum_up(void **state)
{
	struct rng r = { 11 };

	for (unsigned i = 0; i < 20000; i++) {
		struct packet_spec s = spec();
		size_t mtu = 576 + rng_below(&r, 9000), len, at, fits;
		uint16_t mss = (uint16_t)(rng_percent(&r, 50) ? mtu - 70 + rng_below(&r, 60)
							      : rng_next(&r));
		bool clamped;

		s.v6 = rng_percent(&r, 50);
		s.l2_len = rng_percent(&r, 50) ? 14 : 0;
		s.flags = rng_percent(&r, 50) ? SYN : SYN | ACK;
		s.seq = (uint32_t)rng_next(&r);
		s.payload_len = rng_below(&r, 40);
		at = make_syn(&s, rng_below(&r, 8), mss, packet, &len);
		fits = mtu - (s.v6 ? 60 : 40);
		memcpy(wanted, packet, len);
		clamped = clamp_mss(packet + s.l2_len, len - s.l2_len, mtu, false);
		assert_int_equal(clamped, mss > fits);
		assert_int_equal(packet[at] << 8 | packet[at + 1], clamped ? fits : mss);
		assert_true(tcp_is_right(&s, packet, len));
		/* nothing else changed */
		memcpy(wanted + at, packet + at, 2);
		memcpy(wanted + s.l2_len + slow_l3_len(&s) + 16,
		       packet + s.l2_len + slow_l3_len(&s) + 16, 2);
		assert_memory_equal(packet, wanted, len);
	}
}

static void test_what_is_no_syn_is_left(void **state)
{
	struct rng r = { 12 };

	for (unsigned i = 0; i < 4000; i++) {
		struct packet_spec s = spec();
		size_t len, at;
		uint8_t *ip, *tcp;

		s.v6 = i & 1;
		s.flags = SYN;
		at = make_syn(&s, 0, 9000, packet, &len);
		ip = packet;
		tcp = packet + slow_l3_len(&s);
		switch (i / 2 % 8) {
		case 0: /* data */
			tcp[13] = ACK;
			break;
		case 1: /* another protocol */
			ip[s.v6 ? 6 : 9] = 17;
			break;
		case 2: /* a fragment */
			if (s.v6)
				ip[6] = 44;
			else
				put16(ip + 6, 0x2000);
			break;
		case 3: /* ends in the option */
			len = at + rng_below(&r, 2);
			break;
		case 4: /* its option is longer than it can be */
			tcp[21] = 5;
			break;
		case 5: /* options end before it */
			tcp[12] = 5 << 4;
			break;
		case 6: /* a list that stands still */
			tcp[20] = 3;
			tcp[21] = 0;
			break;
		default: /* end of options first */
			tcp[20] = 0;
		}
		memcpy(wanted, packet, len);
		assert_false(clamp_mss(packet, len, 1420, false));
		assert_memory_equal(packet, wanted, len);
	}
}

/* What the kernel left to be summed stays the sum of the pseudo header. */
static void test_partial_sums_stay(void **state)
{
	struct packet_spec s = spec();
	size_t len, at;

	s.flags = SYN;
	at = make_syn(&s, 0, 9000, packet, &len);
	put16(packet + 20 + 16, 0x1234);
	assert_true(clamp_mss(packet, len, 1420, true));
	assert_int_equal(packet[at] << 8 | packet[at + 1], 1380);
	assert_int_equal(packet[36] << 8 | packet[37], 0x1234);
}

/* ---- too big ---- */

static size_t answered(const struct packet_spec *s, size_t len, uint16_t mtu)
{
	memset(answer, 0xee, sizeof(answer));
	return toobig_answer(packet, len, s->l2_len, len - s->l2_len, mtu, answer);
}

static void check_answer(const struct packet_spec *s, size_t len, uint16_t mtu, size_t got)
{
	const uint8_t *ip = answer + s->l2_len, *asked = packet + s->l2_len;
	size_t l3 = slow_l3_len(s), most = s->v6 ? 1280 : 576, total = got - s->l2_len;
	size_t quoted = total - l3 - 8;
	const uint8_t *icmp = ip + l3;
	uint8_t tail[4] = { 0, 58, (uint8_t)((quoted + 8) >> 8), (uint8_t)(quoted + 8) };

	assert_true(got > s->l2_len && total <= most);
	assert_int_equal(quoted, len - s->l2_len < most - l3 - 8 ? len - s->l2_len : most - l3 - 8);
	assert_memory_equal(icmp + 8, asked, quoted);
	if (s->l2_len) {
		assert_memory_equal(answer, packet + 6, 6);
		assert_memory_equal(answer + 6, packet, 6);
		assert_memory_equal(answer + 12, packet + 12, s->l2_len - 12);
	}
	if (s->v6) {
		assert_int_equal(ip[6], 58);
		assert_int_equal(ip[4] << 8 | ip[5], quoted + 8);
		assert_memory_equal(ip + 8, asked + 24, 16);
		assert_memory_equal(ip + 24, asked + 8, 16);
		assert_true(icmp[0] == 2 && icmp[1] == 0);
		assert_int_equal(icmp[6] << 8 | icmp[7], mtu < 1280 ? 1280 : mtu);
		assert_int_equal(
			slow_sum(icmp, quoted + 8, slow_sum(tail, 4, slow_sum(ip + 8, 32, 0))),
			0xffff);
		return;
	}
	assert_int_equal(ip[9], 1);
	assert_int_equal(ip[2] << 8 | ip[3], total);
	assert_int_equal(slow_sum(ip, 20, 0), 0xffff);
	assert_memory_equal(ip + 12, asked + 16, 4);
	assert_memory_equal(ip + 16, asked + 12, 4);
	assert_true(icmp[0] == 3 && icmp[1] == 4);
	assert_int_equal(icmp[6] << 8 | icmp[7], mtu);
	assert_int_equal(slow_sum(icmp, quoted + 8, 0), 0xffff);
}

static void test_what_does_not_fit_is_answered(void **state)
{
	struct rng r = { 13 };

	for (unsigned i = 0; i < 4000; i++) {
		struct packet_spec s = spec();
		uint16_t mtu = (uint16_t)(1000 + rng_below(&r, 1000));
		size_t len, got;

		s.v6 = rng_percent(&r, 50);
		s.udp = rng_percent(&r, 50);
		s.l2_len = i % 3 == 0 ? 14 : i % 3 == 1 ? 18 : 0;
		s.payload_len = rng_below(&r, 2000);
		len = slow_build(&s, packet, false);
		for (size_t k = 0; k < 12 && s.l2_len; k++)
			packet[k] = (uint8_t)(rng_next(&r) & 0xfe);
		got = answered(&s, len, mtu);
		assert_int_equal(got > 0, len - s.l2_len > mtu);
		if (got)
			check_answer(&s, len, mtu, got);
	}
}

/* A superframe fits as long as what it is cut into does. */
static void test_superframes_count_by_their_packets(void **state)
{
	struct packet_spec s = spec();
	size_t len;

	s.payload_len = 4000;
	len = slow_build(&s, packet, false);
	assert_int_equal(toobig_answer(packet, len, 0, 1420, 1420, answer), 0);
	assert_true(toobig_answer(packet, len, 0, 1421, 1420, answer) > 0);
}

static void icmp4(uint8_t type)
{
	packet[9] = 1;
	packet[20] = type;
}

/* Silence where an answer would be wrong, or go to many. */
static void test_some_get_no_answer(void **state)
{
	struct packet_spec s = spec();
	size_t len;

	for (unsigned i = 0; i < 22; i++) {
		bool silent = true;

		s.v6 = i >= 12;
		s.udp = true;
		s.l2_len = 0;
		s.payload_len = 2000;
		len = slow_build(&s, packet, false);
		switch (i) {
		case 0: /* may be fragmented */
			put16(packet + 6, 0);
			break;
		case 1: /* a later fragment */
			put16(packet + 6, 0x4001);
			break;
		case 2: /* to a group */
			packet[16] = 224;
			break;
		case 3: /* to all */
			memset(packet + 16, 255, 4);
			break;
		case 4: /* from nobody */
			memset(packet + 12, 0, 4);
			break;
		case 5: /* from itself */
			packet[12] = 127;
			break;
		case 6: /* an error */
			icmp4(3);
			break;
		case 7:
			icmp4(11);
			break;
		case 8: /* an echo may be answered */
			icmp4(8);
			silent = false;
			break;
		case 9: /* a header longer than the packet; shorter than one */
			packet[0] = 0x4f;
			len = 40;
			break;
		case 10:
			packet[0] = 0x44;
			break;
		case 11:
			packet[0] = 0x55;
			break;
		case 12:
			packet[24] = 0xff;
			break;
		case 13:
			packet[8] = 0xff;
			break;
		case 14:
			memset(packet + 8, 0, 16);
			break;
		case 15: /* an error */
			packet[6] = 58;
			packet[40] = 1;
			break;
		case 16: /* an echo */
			packet[6] = 58;
			packet[40] = 128;
			silent = false;
			break;
		case 17: /* an error behind a hop-by-hop header */
			packet[6] = 0;
			packet[40] = 58;
			packet[41] = 0;
			packet[48] = 3;
			break;
		case 18: /* a later fragment */
			packet[6] = 44;
			packet[40] = 17;
			put16(packet + 42, 8);
			break;
		case 19: /* the first one */
			packet[6] = 44;
			packet[40] = 17;
			put16(packet + 42, 1);
			silent = false;
			break;
		case 20: /* headers without end */
			packet[6] = 60;
			memset(packet + 40, 60, 1);
			packet[41] = 255;
			break;
		default: /* cut off */
			len = 39;
		}
		assert_int_equal(toobig_answer(packet, len, 0, 3000, 1420, answer) == 0, silent);
	}
	/* a frame to a group of stations, whatever its IP address says */
	s.v6 = false;
	s.l2_len = 14;
	len = slow_build(&s, packet, false);
	assert_true(answered(&s, len, 1420) > 0);
	packet[0] = 0x33;
	assert_int_equal(answered(&s, len, 1420), 0);
}

static int setup(void **state)
{
	struct rng r = { 10 };

	for (size_t i = 0; i < sizeof(payload); i++)
		payload[i] = (uint8_t)rng_next(&r);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_syns_are_clamped_and_sum_up),
		cmocka_unit_test(test_what_is_no_syn_is_left),
		cmocka_unit_test(test_partial_sums_stay),
		cmocka_unit_test(test_what_does_not_fit_is_answered),
		cmocka_unit_test(test_superframes_count_by_their_packets),
		cmocka_unit_test(test_some_get_no_answer),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
