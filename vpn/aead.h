/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ChaCha20-Poly1305 for packets: one key and direction of a session, batches, in place (aead.c).
 *
 * A provider is three functions: make a key, seal a batch, open a batch.  Making one takes memory;
 * sealing and opening never do.  Two threads use one key at once with different workers.
 */
#ifndef VPN_AEAD_H
#define VPN_AEAD_H

#include "vpn/crypto.h"

struct aead_key;

/* A packet within its buffer.  `len` without the tag, which is (or will be) behind it. */
struct aead_item {
	uint8_t *data;
	uint32_t len;
	bool ok; /* opened: the tag was right; else the data is garbage */
	uint64_t counter;
};

struct aead_provider {
	const char *name;
	/* Can it run here?  Then it has passed its known answers as well. */
	bool (*usable)(const struct crypto *c);
	int (*key_new)(const struct crypto *c, const uint8_t key[KEY_LEN], bool sealing,
		       unsigned workers, struct aead_key **ret);
	void (*key_free)(struct aead_key *key); /* zeroes it; NULL is fine */
	/* Cannot fail for good reasons; if it did, data is zeroed so that nothing leaks. */
	void (*seal)(struct aead_key *key, unsigned worker, struct aead_item *items, uint32_t n);
	void (*open)(struct aead_key *key, unsigned worker, struct aead_item *items, uint32_t n);
};

extern const struct aead_provider aead_openssl;
extern const struct aead_provider aead_ipsec_mb; /* where it is built in */

/* NULL: the one asked for cannot run here. */
const struct aead_provider *aead_choose(const struct crypto *c, enum vpn_aead wanted)
	__attribute__((nonnull));

#endif
