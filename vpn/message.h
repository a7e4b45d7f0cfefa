/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The four messages on the wire, and the numbers of the protocol (paper, sections 5.4 and 6.1).
 * All integers are little-endian.
 */
#ifndef VPN_MESSAGE_H
#define VPN_MESSAGE_H

#include <assert.h>
#include <stdint.h>

#include "common/base/bytes.h"
#include "vpn/vpn.h"

#define KEY_LEN		VPN_KEY_LEN
#define HASH_LEN	32
#define MAC_LEN		16
#define COOKIE_LEN	16
#define TAI64N_LEN	12
#define XAEAD_NONCE_LEN 24

#define SECOND_NS UINT64_C(1000000000)

#define REKEY_AFTER_NS	   (120 * SECOND_NS)
#define REJECT_AFTER_NS	   (180 * SECOND_NS)
#define REKEY_TIMEOUT_NS   (5 * SECOND_NS)
#define KEEPALIVE_NS	   (10 * SECOND_NS)
#define JITTER_NS	   (SECOND_NS / 3)
#define REKEY_ATTEMPTS	   18 /* 90 s of REKEY_TIMEOUT */
#define ZERO_KEYS_NS	   (3 * REJECT_AFTER_NS)
#define INITIATION_GAP_NS  (SECOND_NS / 50) /* of one peer, at least */
#define COOKIE_SECRET_NS   (120 * SECOND_NS)
#define COOKIE_LATENCY_NS  (5 * SECOND_NS) /* used so much shorter than it is valid */
#define REKEY_AFTER_COUNT  (UINT64_C(1) << 60)
#define REJECT_AFTER_COUNT (UINT64_MAX - (1 << 13))

/* A type byte and three reserved ones, which are zero: one integer. */
struct message_macs {
	uint8_t mac1[MAC_LEN], mac2[MAC_LEN];
};

struct message_initiation {
	le32_t type;
	le32_t sender;
	uint8_t ephemeral[KEY_LEN];
	uint8_t static_key[KEY_LEN + VPN_TAG_LEN];
	uint8_t timestamp[TAI64N_LEN + VPN_TAG_LEN];
	struct message_macs macs;
};

struct message_response {
	le32_t type;
	le32_t sender;
	le32_t receiver;
	uint8_t ephemeral[KEY_LEN];
	uint8_t nothing[VPN_TAG_LEN];
	struct message_macs macs;
};

struct message_cookie {
	le32_t type;
	le32_t receiver;
	uint8_t nonce[XAEAD_NONCE_LEN];
	uint8_t cookie[COOKIE_LEN + VPN_TAG_LEN];
};

struct message_data {
	le32_t type;
	le32_t receiver;
	le64_t counter;
};

static_assert(sizeof(struct message_initiation) == 148, "paper, 5.4.2");
static_assert(sizeof(struct message_response) == 92, "paper, 5.4.3");
static_assert(sizeof(struct message_data) == VPN_HEADROOM, "paper, 5.4.6");
static_assert(sizeof(struct message_cookie) == 64, "paper, 5.4.7");
static_assert(sizeof(struct message_initiation) == VPN_MESSAGE_MAX, "vpn.h");

/*
 * The type of a datagram, if its reserved bytes and its length are right for that type; else 0.
 * Sealed packets are whole units of padding, except those that reach the MTU: any length will do.
 */
static inline uint32_t message_type(const uint8_t *msg, size_t len)
{
	le32_t type;

	if (len < VPN_OVERHEAD)
		return 0;
	memcpy(&type, msg, sizeof(type));
	switch (le32_get(type)) {
	case VPN_TYPE_INITIATION:
		return len == sizeof(struct message_initiation) ? VPN_TYPE_INITIATION : 0;
	case VPN_TYPE_RESPONSE:
		return len == sizeof(struct message_response) ? VPN_TYPE_RESPONSE : 0;
	case VPN_TYPE_COOKIE:
		return len == sizeof(struct message_cookie) ? VPN_TYPE_COOKIE : 0;
	case VPN_TYPE_DATA:
		return VPN_TYPE_DATA;
	default:
		return 0;
	}
}

#endif
