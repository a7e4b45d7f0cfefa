// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vpn/offload against slow oracles: packets cut from a superframe are those that are built field by
 * field, joined packets come apart again as they were, and what must not be joined is not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <errno.h>

#include "tests/lib/rng.h"
#include "tests/vpn/offload/packets.h"
#include "vpn/offload/checksum.h"
#include "vpn/offload/coalesce.h"
#include "vpn/offload/split.h"

#define BATCH  512
#define PACKET 2048
#define FIN    0x01
#define SYN    0x02
#define RST    0x04
#define PSH    0x08
#define ACK    0x10
#define URG    0x20
#define CWR    0x80

static uint8_t payload[65536];
static uint8_t arena[BATCH][PACKET], kept[BATCH][PACKET];
static size_t kept_len[BATCH];

static int setup(void **state)
{
	struct rng r = { 1 };

	for (size_t i = 0; i < sizeof(payload); i++)
		payload[i] = (uint8_t)rng_next(&r);
	return 0;
}

static struct packet_spec tcp_spec(void)
{
	return (struct packet_spec){ .sport = 1000,
				     .dport = 80,
				     .id = 7,
				     .ip_flags = 0x4000,
				     .ttl = 64,
				     .flags = ACK,
				     .seq = 0xfffffe00,
				     .ack = 99,
				     .window = 500,
				     .options_len = 12,
				     .option_byte = 1,
				     .source = 1,
				     .host = 2,
				     .payload = payload,
				     .payload_len = 1000 };
}

static void test_checksum_is_the_slow_one(void **state)
{
	struct rng r = { 2 };

	for (unsigned i = 0; i < 3000; i++) {
		size_t at = rng_below(&r, 70), len = rng_below(&r, i % 10 ? 1600 : 65000);
		uint16_t fast = checksum_fold(checksum_sum(payload + at, len));
		uint8_t slow[2];

		put16(slow, slow_sum(payload + at, len, 0));
		assert_memory_equal(&fast, slow, 2);
	}
}

/* ---- cutting ---- */

struct superframe {
	struct packet_spec spec;
	struct virtio_net_hdr vnet;
	size_t len;
};

static uint8_t frame[SPLIT_FRAME_MAX + 64], expected[70000];

static void make_superframe(struct superframe *f, size_t mss)
{
	size_t l4 = f->spec.l2_len + slow_l3_len(&f->spec);

	f->len = slow_build(&f->spec, frame, true);
	f->vnet = (struct virtio_net_hdr){
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.gso_type = f->spec.udp	 ? VIRTIO_NET_HDR_GSO_UDP_L4
			    : f->spec.v6 ? VIRTIO_NET_HDR_GSO_TCPV6
					 : VIRTIO_NET_HDR_GSO_TCPV4,
		.hdr_len = 9999, /* not to be trusted */
		.gso_size = (uint16_t)mss,
		.csum_start = (uint16_t)l4,
		.csum_offset = f->spec.udp ? 6 : 16,
	};
}

/* What the i-th packet is to be; the length of its payload. */
static size_t expect_packet(const struct packet_spec *all, size_t i, size_t mss, size_t *ret_len)
{
	struct packet_spec s = *all;
	size_t at = i * mss, left = all->payload_len - at;

	s.payload = all->payload + at;
	s.payload_len = left < mss ? left : mss;
	s.seq += (uint32_t)at;
	s.id = (uint16_t)(s.id + i);
	if (left > mss)
		s.flags &= (uint8_t) ~(FIN | PSH);
	if (i)
		s.flags &= (uint8_t)~CWR;
	*ret_len = slow_build(&s, expected, false);
	return s.payload_len;
}

static void check_split(const struct superframe *f, size_t mss)
{
	struct split s;
	size_t given = 0, i = 0, len, want, count;
	uint8_t *packet;

	assert_int_equal(split_begin(&s, &f->vnet, frame, f->len, f->spec.l2_len), 0);
	count = split_count(&s);
	while (split_next(&s, &packet, &len)) {
		assert_true(given < f->spec.payload_len);
		given += expect_packet(&f->spec, i++, mss, &want);
		assert_int_equal(len, want);
		assert_memory_equal(packet, expected, len);
	}
	assert_int_equal(given, f->spec.payload_len);
	assert_int_equal(i, count);
	assert_false(split_next(&s, &packet, &len));
}

static void test_superframes_become_the_kernels_packets(void **state)
{
	struct rng r = { 3 };

	for (unsigned i = 0; i < 4000; i++) {
		struct superframe f = { .spec = tcp_spec() };
		size_t mss = 1 + rng_below(&r, i % 3 ? 1500 : 30);

		f.spec.v6 = rng_percent(&r, 50);
		f.spec.udp = rng_percent(&r, 40);
		f.spec.l2_len = rng_percent(&r, 30) ? 14 : 0;
		f.spec.options_len = rng_below(&r, 11) * 4;
		f.spec.flags = (uint8_t)rng_next(&r);
		f.spec.seq = (uint32_t)rng_next(&r);
		f.spec.id = (uint16_t)rng_next(&r);
		f.spec.source = (uint8_t)rng_next(&r);
		f.spec.tos = (uint8_t)rng_next(&r);
		f.spec.payload = payload + rng_below(&r, 100);
		f.spec.payload_len = 1 + rng_below(&r, i % 100 ? mss * 20 : 65000);
		make_superframe(&f, mss);
		check_split(&f, mss);
	}
}

static void test_single_packets_get_their_checksum(void **state)
{
	struct rng r = { 4 };

	for (unsigned i = 0; i < 500; i++) {
		struct superframe f = { .spec = tcp_spec() };
		struct split s;
		uint8_t *packet;
		size_t len, want;

		f.spec.udp = rng_percent(&r, 50);
		f.spec.v6 = rng_percent(&r, 50);
		f.spec.payload_len = rng_below(&r, 1400);
		make_superframe(&f, 1);
		f.vnet.gso_type = VIRTIO_NET_HDR_GSO_NONE;
		want = slow_build(&f.spec, expected, false);
		assert_int_equal(split_begin(&s, &f.vnet, frame, f.len, 0), 0);
		assert_true(split_next(&s, &packet, &len));
		assert_int_equal(len, want);
		/* A sum of 0 may be written as 0xffff, which in UDP it must. */
		if (memcmp(packet, expected, len)) {
			assert_false(f.spec.udp);
			assert_int_equal(expected[slow_l3_len(&f.spec) + 16], 0);
			memset(expected + slow_l3_len(&f.spec) + 16, 0xff, 2);
		}
		assert_memory_equal(packet, expected, len);
		assert_false(split_next(&s, &packet, &len));
	}
}

static void test_untouched_without_offload(void **state)
{
	struct virtio_net_hdr none = { 0 };
	struct split s;
	uint8_t *packet;
	size_t len;

	memcpy(frame, payload, 1400);
	assert_int_equal(split_begin(&s, &none, frame, 1400, 0), 0);
	assert_true(split_next(&s, &packet, &len));
	assert_int_equal(len, 1400);
	assert_memory_equal(packet, payload, 1400);
	assert_false(split_next(&s, &packet, &len));
}

static void test_headers_that_lie_are_refused(void **state)
{
	struct superframe good = { .spec = tcp_spec() }, f;
	struct split s;

	make_superframe(&good, 100);
#define REFUSED(change, code)                                                                      \
	f = good;                                                                                  \
	make_superframe(&f, 100);                                                                  \
	change;                                                                                    \
	assert_int_equal(split_begin(&s, &f.vnet, frame, f.len, 0), code)
	REFUSED(f.vnet.gso_size = 0, -EINVAL);
	REFUSED(f.vnet.flags = 0, -EINVAL);
	REFUSED(f.vnet.csum_start = 24, -EINVAL);
	REFUSED(f.vnet.csum_start = 0xffff, -EINVAL);
	REFUSED(f.vnet.csum_start = 0, -EINVAL);
	REFUSED(f.vnet.csum_offset = 6, -EINVAL);
	REFUSED(f.vnet.gso_type = VIRTIO_NET_HDR_GSO_TCPV6, -EINVAL);
	REFUSED(f.vnet.gso_type = VIRTIO_NET_HDR_GSO_UDP, -EOPNOTSUPP);
	REFUSED(f.vnet.gso_type = 77, -EOPNOTSUPP);
	REFUSED(f.len = 0, -EINVAL);
	REFUSED(f.len = 52, -EINVAL); /* no payload */
	REFUSED(f.len = 30, -EINVAL);
	REFUSED(frame[0] = 0x55, -EINVAL);
	REFUSED(frame[0] = 0x46, -EINVAL);
	REFUSED(frame[32] = 0x40, -EINVAL);
	REFUSED(f.vnet.gso_type = 0; f.vnet.csum_start = (uint16_t)(f.len - 17), -EINVAL);
#undef REFUSED
	assert_int_equal(split_begin(&s, &good.vnet, frame, 10, 10), -EINVAL);
}

/* ---- joining ---- */

static struct coalesce *new_coalesce(size_t l2_len, bool udp)
{
	struct coalesce *c;

	assert_int_equal(coalesce_new(BATCH, l2_len, true, udp, &c), 0);
	return c;
}

static size_t feed(struct coalesce *c, size_t i, const struct packet_spec *s)
{
	kept_len[i] = slow_build(s, kept[i], false);
	memcpy(arena[i], kept[i], kept_len[i]);
	assert_true(coalesce_add(c, arena[i], kept_len[i]));
	return kept_len[i];
}

/* The packets that the kernel would make of all frames, in order, into `out`. */
struct unjoined {
	uint8_t data[PACKET];
	size_t len;
};
static struct unjoined out[BATCH];

static size_t unjoin(struct coalesce *c, size_t l2_len)
{
	struct iovec iov[COALESCE_IOV_MAX];
	size_t count = 0;

	for (size_t i = 0; i < coalesce_frame_count(c); i++) {
		size_t n = coalesce_frame(c, i, iov), len = 0, packets = 0;
		struct split s;
		uint8_t *packet;

		assert_int_equal(iov[0].iov_len, sizeof(struct virtio_net_hdr));
		for (size_t j = 1; j < n; j++) {
			memcpy(frame + len, iov[j].iov_base, iov[j].iov_len);
			len += iov[j].iov_len;
		}
		assert_true(len <= 65535 + l2_len);
		assert_int_equal(split_begin(&s, iov[0].iov_base, frame, len, l2_len), 0);
		while (split_next(&s, &packet, &len)) {
			assert_true(count < BATCH && len <= PACKET);
			memcpy(out[count].data, packet, len);
			out[count++].len = len;
			packets++;
		}
		assert_int_equal(packets, coalesce_frame_packets(c, i));
	}
	return count;
}

static void test_a_stream_becomes_one_frame(void **state)
{
	for (unsigned udp = 0; udp < 2; udp++) {
		for (unsigned v6 = 0; v6 < 2; v6++) {
			struct coalesce *c = new_coalesce(0, true);
			struct packet_spec s = tcp_spec();

			s.udp = udp;
			s.v6 = v6;
			for (size_t i = 0; i < 40; i++) {
				feed(c, i, &s);
				s.seq += 1000;
				s.id++;
			}
			assert_int_equal(coalesce_frame_count(c), 1);
			assert_int_equal(unjoin(c, 0), 40);
			for (size_t i = 0; i < 40; i++)
				assert_memory_equal(out[i].data, kept[i], kept_len[i]);
			coalesce_free(c);
		}
	}
}

/* Two packets that follow each other, the second changed: how many frames? */
static size_t frames_of_two(void (*change)(struct packet_spec *a, struct packet_spec *b))
{
	struct coalesce *c = new_coalesce(0, true);
	struct packet_spec a = tcp_spec(), b = tcp_spec();
	size_t n;

	b.seq += 1000;
	b.id++;
	if (change)
		change(&a, &b);
	feed(c, 0, &a);
	feed(c, 1, &b);
	n = coalesce_frame_count(c);
	assert_int_equal(unjoin(c, 0), 2);
	for (size_t i = 0; i < 2; i++)
		assert_memory_equal(out[i].data, kept[i], kept_len[i]);
	coalesce_free(c);
	return n;
}

#define CHANGE(name, ...)                                                                          \
	static void name(struct packet_spec *a, struct packet_spec *b)                             \
	{                                                                                          \
		__VA_ARGS__;                                                                       \
	}
CHANGE(gap, b->seq++)
CHANGE(repeated, b->seq = a->seq)
CHANGE(other_ack, b->ack++)
CHANGE(other_window, b->window++)
CHANGE(other_options, b->option_byte++)
CHANGE(other_options_len, b->options_len = 8)
CHANGE(other_port, b->dport++)
CHANGE(other_host, b->host++)
CHANGE(other_source, b->source++)
CHANGE(other_version, b->v6 = true)
CHANGE(other_tos, b->tos = 3)
CHANGE(other_tos6, a->v6 = b->v6 = true; b->tos = 3)
CHANGE(other_ttl, b->ttl--)
CHANGE(other_ttl6, a->v6 = b->v6 = true; b->ttl--)
CHANGE(other_df, b->ip_flags = 0)
CHANGE(fragment, a->ip_flags = b->ip_flags = 0x2000)
CHANGE(same_id, b->id = a->id)
CHANGE(longer, b->payload_len++)
CHANGE(empty, b->payload_len = 0)
CHANGE(first_psh, a->flags |= PSH)
CHANGE(first_fin, a->flags |= FIN)
CHANGE(syn, b->flags |= SYN)
CHANGE(rst, b->flags |= RST)
CHANGE(urg, b->flags |= URG)
CHANGE(cwr, a->flags |= CWR)
CHANGE(both_syn, a->flags |= SYN; b->flags |= SYN)
CHANGE(no_ack, a->flags = b->flags = 0)
CHANGE(udp_longer, a->udp = b->udp = true; b->payload_len++)
CHANGE(shorter, b->payload_len--)
CHANGE(second_psh, b->flags |= PSH)
CHANGE(second_fin, b->flags |= FIN | PSH)
CHANGE(ecn, a->tos = b->tos = 2; a->flags = b->flags = ACK | 0x40)
CHANGE(id_wraps, a->id = 0xffff; b->id = 0)

static void test_what_segmentation_cannot_restore_is_not_joined(void **state)
{
	void (*const apart[])(struct packet_spec *, struct packet_spec *) = {
		gap,
		repeated,
		other_ack,
		other_window,
		other_options,
		other_port,
		other_options_len,
		other_host,
		other_source,
		other_version,
		other_tos,
		other_tos6,
		other_ttl,
		other_ttl6,
		other_df,
		fragment,
		same_id,
		longer,
		empty,
		first_psh,
		first_fin,
		syn,
		rst,
		urg,
		cwr,
		both_syn,
		no_ack,
		udp_longer,
	};
	void (*const joined[])(struct packet_spec *, struct packet_spec *) = {
		NULL, shorter, second_psh, second_fin, ecn, id_wraps,
	};

	for (size_t i = 0; i < sizeof(apart) / sizeof(apart[0]); i++)
		assert_int_equal(frames_of_two(apart[i]) * 100 + i, 200 + i);
	for (size_t i = 0; i < sizeof(joined) / sizeof(joined[0]); i++)
		assert_int_equal(frames_of_two(joined[i]) * 100 + i, 100 + i);
}

static void test_wrong_checksums_stay_alone(void **state)
{
	for (size_t bad = 0; bad < 3; bad++) {
		for (unsigned where = 0; where < 2; where++) {
			struct coalesce *c = new_coalesce(0, true);
			struct packet_spec s = tcp_spec();
			size_t at = where ? 10 : 1040; /* IP header's, or the payload */

			for (size_t i = 0; i < 3; i++) {
				kept_len[i] = slow_build(&s, kept[i], false);
				kept[i][at] ^= i == bad;
				memcpy(arena[i], kept[i], kept_len[i]);
				assert_true(coalesce_add(c, arena[i], kept_len[i]));
				s.seq += 1000;
				s.id++;
			}
			assert_int_equal(coalesce_frame_count(c), bad == 1 ? 3 : 2);
			assert_int_equal(unjoin(c, 0), 3);
			for (size_t i = 0; i < 3; i++)
				assert_memory_equal(out[i].data, kept[i], kept_len[i]);
			coalesce_free(c);
		}
	}
}

static void test_kinds_that_are_switched_off_pass(void **state)
{
	struct packet_spec s = tcp_spec();

	for (unsigned udp = 0; udp < 2; udp++) {
		struct coalesce *c = new_coalesce(0, false);

		s.udp = udp;
		coalesce_set(c, false, false);
		feed(c, 0, &s);
		s.seq += 1000;
		s.id++;
		feed(c, 1, &s);
		assert_int_equal(coalesce_frame_count(c), 2);
		coalesce_free(c);
	}
}

/* A later segment must not go before a packet of its flow that was not joined. */
static void test_nothing_overtakes_within_a_flow(void **state)
{
	const uint8_t alone[] = { RST | ACK, SYN, ACK };

	for (size_t k = 0; k < 3; k++) {
		struct coalesce *c = new_coalesce(0, false);
		struct packet_spec s = tcp_spec(), other = tcp_spec();

		feed(c, 0, &s);
		other.flags = alone[k];
		other.payload_len = 0;
		feed(c, 1, &other);
		s.seq += 1000;
		s.id++;
		feed(c, 2, &s);
		assert_int_equal(unjoin(c, 0), 3);
		for (size_t i = 0; i < 3; i++)
			assert_memory_equal(out[i].data, kept[i], kept_len[i]);
		coalesce_free(c);
	}
}

static void test_limits_of_a_frame(void **state)
{
	struct coalesce *c = new_coalesce(0, true);
	struct packet_spec s = tcp_spec();

	for (size_t i = 0; i < BATCH; i++) { /* small ones: by count */
		s.payload_len = 10;
		feed(c, i, &s);
		s.seq += 10;
		s.id++;
	}
	assert_int_equal(coalesce_frame_count(c), BATCH / COALESCE_PACKETS_MAX);
	assert_false(coalesce_add(c, arena[0], kept_len[0]));
	coalesce_reset(c);
	assert_int_equal(coalesce_frame_count(c), 0);
	s.payload_len = 1900;
	for (size_t i = 0; i < 100; i++) { /* large ones: by bytes */
		feed(c, i, &s);
		s.seq += 1900;
		s.id++;
	}
	assert_int_equal(coalesce_frame_packets(c, 0), (65535 - 52) / 1900);
	assert_int_equal(unjoin(c, 0), 100);
	coalesce_free(c);
}

/* ---- many flows at random: each comes out as it went in ---- */

static bool is_flow(const uint8_t *a, const uint8_t *b, size_t l2_len)
{
	bool v6 = a[l2_len] >> 4 == 6;
	size_t l3 = v6 ? 40 : 20;

	return !memcmp(a + l2_len + (v6 ? 8 : 12), b + l2_len + (v6 ? 8 : 12), v6 ? 32 : 8) &&
	       a[l2_len] >> 4 == b[l2_len] >> 4 &&
	       a[l2_len + (v6 ? 6 : 9)] == b[l2_len + (v6 ? 6 : 9)] &&
	       !memcmp(a + l2_len + l3, b + l2_len + l3, 4);
}

/* Each packet that went in comes out, after those of its flow that came before it. */
static void check_flows(size_t in_count, size_t out_count, size_t l2_len)
{
	static bool used[BATCH];

	assert_int_equal(in_count, out_count);
	memset(used, 0, sizeof(used));
	for (size_t o = 0; o < out_count; o++) {
		size_t i = 0;

		while (i < in_count && (used[i] || !is_flow(out[o].data, kept[i], l2_len)))
			i++;
		assert_true(i < in_count);
		assert_int_equal(out[o].len, kept_len[i]);
		assert_memory_equal(out[o].data, kept[i], kept_len[i]);
		used[i] = true;
	}
}

static void random_step(struct rng *r, struct packet_spec *s, size_t mss)
{
	s->payload_len = rng_percent(r, 90) ? mss : rng_below(r, mss + 1);
	s->flags = ACK;
	if (rng_percent(r, 5))
		s->flags |= PSH;
	if (rng_percent(r, 2))
		s->flags |= (uint8_t)(1u << rng_below(r, 8));
	if (rng_percent(r, 3))
		s->ack++;
	if (rng_percent(r, 2))
		s->seq += 17;
}

/* Anything but what tells the flow. */
static void break_packet(struct rng *r, uint8_t *packet, size_t len, size_t l2_len)
{
	size_t at = l2_len + 20 + rng_below(r, len - l2_len - 20);

	packet[at < l2_len + 48 ? len - 1 : at] ^= 0xff;
}

static void test_random_flows_come_out_as_they_went_in(void **state)
{
	struct rng r = { 5 };
	size_t packets = 0, frames = 0;

	for (unsigned round = 0; round < 150; round++) {
		struct packet_spec flows[6];
		size_t l2_len = rng_percent(&r, 30) ? 14 : 0;
		size_t n = 1 + rng_below(&r, BATCH - 1);
		struct coalesce *c = new_coalesce(l2_len, true);

		for (size_t i = 0; i < 6; i++) {
			flows[i] = tcp_spec();
			flows[i].l2_len = l2_len;
			flows[i].v6 = i & 1;
			flows[i].udp = i & 2;
			flows[i].sport = (uint16_t)(1000 + i / 4);
			flows[i].payload = payload + i;
		}
		for (size_t i = 0; i < n; i++) {
			struct packet_spec *s = &flows[rng_below(&r, 6)];

			random_step(&r, s, 300 + rng_below(&r, 2));
			kept_len[i] = slow_build(s, kept[i], false);
			if (rng_percent(&r, 3)) /* broken before it was sealed */
				break_packet(&r, kept[i], kept_len[i], l2_len);
			memcpy(arena[i], kept[i], kept_len[i]);
			assert_true(coalesce_add(c, arena[i], kept_len[i]));
			s->seq += (uint32_t)s->payload_len;
			s->id++;
		}
		frames += coalesce_frame_count(c);
		packets += n;
		check_flows(n, unjoin(c, l2_len), l2_len);
		coalesce_free(c);
	}
	assert_true(frames < packets * 2 / 3); /* it does join */
}

static void test_noise_passes(void **state)
{
	struct rng r = { 6 };

	for (unsigned round = 0; round < 50; round++) {
		struct coalesce *c = new_coalesce(round % 2 ? 14 : 0, true);
		struct iovec iov[COALESCE_IOV_MAX];
		size_t n = 0;

		for (size_t i = 0; i < BATCH; i++) {
			struct packet_spec s = tcp_spec();
			size_t len = slow_build(&s, kept[i], false);

			for (unsigned k = 0; k < 3; k++)
				kept[i][rng_below(&r, 60)] = (uint8_t)rng_next(&r);
			kept_len[i] = rng_percent(&r, 50) ? len : 1 + rng_below(&r, len);
			memcpy(arena[i], kept[i], kept_len[i]);
			assert_true(coalesce_add(c, arena[i], kept_len[i]));
		}
		for (size_t i = 0; i < coalesce_frame_count(c); i++) {
			assert_true(coalesce_frame(c, i, iov) <= COALESCE_IOV_MAX);
			n += coalesce_frame_packets(c, i);
		}
		assert_int_equal(n, BATCH);
		coalesce_free(c);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_checksum_is_the_slow_one),
		cmocka_unit_test(test_superframes_become_the_kernels_packets),
		cmocka_unit_test(test_single_packets_get_their_checksum),
		cmocka_unit_test(test_untouched_without_offload),
		cmocka_unit_test(test_headers_that_lie_are_refused),
		cmocka_unit_test(test_a_stream_becomes_one_frame),
		cmocka_unit_test(test_what_segmentation_cannot_restore_is_not_joined),
		cmocka_unit_test(test_wrong_checksums_stay_alone),
		cmocka_unit_test(test_kinds_that_are_switched_off_pass),
		cmocka_unit_test(test_nothing_overtakes_within_a_flow),
		cmocka_unit_test(test_limits_of_a_frame),
		cmocka_unit_test(test_random_flows_come_out_as_they_went_in),
		cmocka_unit_test(test_noise_passes),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
