// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The MSS of a SYN is clamped so that segments fit the tunnel; of packets of a TUN and of frames of
 * a TAP.  (What is too large all the same is answered by the kernel: tests/wg/joins_hosts.)
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

#define SYN 0x02
#define ACK 0x10

static uint8_t payload[4096], packet[8192], wanted[8192];

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
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
