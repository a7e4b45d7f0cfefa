// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Superframes cut and packets joined.  Input: a byte that chooses, then
 *   even: a vnet header and a frame to cut
 *   odd:  records of 2 bytes of length and a packet to join; what comes out is cut again and must
 * be as many bytes as went in, of every packet the same
 *   with bit 2: a packet whose MSS is clamped
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cursor.h"
#include "vpn/offload/clamp.h"
#include "vpn/offload/coalesce.h"
#include "vpn/offload/split.h"

#define BATCH 256

static void cut(const uint8_t *data, size_t size, size_t l2_len)
{
	struct virtio_net_hdr vnet;
	uint8_t *frame, *packet;
	struct split s;
	size_t len, total = 0;

	if (size < sizeof(vnet))
		return;
	memcpy(&vnet, data, sizeof(vnet));
	data += sizeof(vnet);
	size -= sizeof(vnet);
	frame = malloc(size + 1); /* no byte more: what is read behind is found */
	frame = realloc(frame, size ? size : 1);
	memcpy(frame, data, size);
	if (!split_begin(&s, &vnet, frame, size, l2_len))
		while (split_next(&s, &packet, &len)) {
			assert(len && packet >= frame && packet + len <= frame + size);
			total += len;
		}
	assert(!total || total >= size);
	free(frame);
}

/* FNV-1a of a packet; the sum over all does not depend on their order. */
static uint64_t hash(const uint8_t *p, size_t len)
{
	uint64_t h = 0xcbf29ce484222325u;

	for (size_t i = 0; i < len; i++)
		h = (h ^ p[i]) * 0x100000001b3u;
	return h;
}

static uint64_t cut_again(struct coalesce *c, size_t l2_len, size_t *ret_bytes)
{
	struct iovec iov[COALESCE_IOV_MAX];
	uint64_t sum = 0;

	for (size_t i = 0; i < coalesce_frame_count(c); i++) {
		static uint8_t flat[SPLIT_FRAME_MAX];
		size_t n = coalesce_frame(c, i, iov), len = 0;
		struct split s;
		uint8_t *packet;

		for (size_t j = 1; j < n; j++) {
			assert(len + iov[j].iov_len <= sizeof(flat));
			memcpy(flat + len, iov[j].iov_base, iov[j].iov_len);
			len += iov[j].iov_len;
		}
		if (n == 2) { /* as it came */
			sum += hash(flat, len);
			*ret_bytes += len;
			continue;
		}
		assert(!split_begin(&s, iov[0].iov_base, flat, len, l2_len));
		while (split_next(&s, &packet, &len)) {
			sum += hash(packet, len);
			*ret_bytes += len;
		}
	}
	return sum;
}

static void join(const uint8_t *data, size_t size, size_t l2_len)
{
	struct cursor in = cursor_over(data, size);
	struct coalesce *c;
	uint64_t sum = 0;
	size_t bytes = 0, out = 0, count = 0;
	uint8_t *copies[BATCH];

	assert(!coalesce_new(BATCH, l2_len, true, true, &c));
	while (cursor_left(&in) > 2 && count < BATCH) {
		size_t len = cursor_be16(&in) % 2048;
		const uint8_t *p;

		len = len && len <= cursor_left(&in) ? len : cursor_left(&in);
		p = cursor_bytes(&in, len);
		copies[count] = malloc(len);
		memcpy(copies[count], p, len);
		sum += hash(p, len);
		bytes += len;
		assert(coalesce_add(c, copies[count++], len));
	}
	assert(cut_again(c, l2_len, &out) == sum && out == bytes);
	coalesce_free(c);
	while (count)
		free(copies[--count]);
}

static void clamp(const uint8_t *data, size_t size, size_t l2_len)
{
	uint8_t *frame = malloc(size ? size : 1);

	memcpy(frame, data, size);
	if (size > l2_len)
		(void)clamp_mss(frame + l2_len, size - l2_len, 1000, false);
	free(frame);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	if (data[0] & 4)
		clamp(data + 1, size - 1, data[0] & 2 ? 14 : 0);
	else if (data[0] & 1)
		join(data + 1, size - 1, data[0] & 2 ? 14 : 0);
	else
		cut(data + 1, size - 1, data[0] & 2 ? 14 : 0);
	return 0;
}
