/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What handshake.c (the machine) and options.c (the options' answers) share. */
#ifndef BLOCKD_NBD_HANDSHAKE_PRIV_H
#define BLOCKD_NBD_HANDSHAKE_PRIV_H

#include "blockd/nbd/handshake.h"
#include "blockd/nbd/wire.h"

#define PAYLOAD_KEPT_MAX (16u << 10) /* of an option that is looked at: a name and its queries */
#define BYTES_MAX	 (1u << 20)  /* of one whole handshake; more is an attack */
#define OPTIONS_MAX	 256u
#define OUT_SIZE	 (16u << 10)
#define OUT_RESERVE	 (4u << 10) /* the largest answer to one option but LIST, with room */
#define LIST_ENTRY_MAX                                                                             \
	(sizeof(struct nbd_option_reply) + sizeof(be32_t) + sizeof(struct handshake_listed))
#define CONTEXT_ENTRY_MAX                                                                          \
	(sizeof(struct nbd_option_reply) + sizeof(be32_t) + sizeof(CONTEXTS_BITMAP_PREFIX) +       \
	 THIN_PATH_MAX)
#define BITMAPS_UNASKED 64u /* so many are listed to who has asked for all contexts there are */

static_assert(HANDSHAKE_LIST_BATCH * LIST_ENTRY_MAX + sizeof(struct nbd_option_reply) < OUT_SIZE,
	      "a batch of LIST fits an empty buffer");
static_assert(CONTEXT_ENTRY_MAX <= LIST_ENTRY_MAX, "... and one of LIST_META_CONTEXT");
static_assert((CONTEXT_COUNT + CONTEXTS_BITMAP_MAX + 1) * CONTEXT_ENTRY_MAX < OUT_RESERVE,
	      "a selection fits the room that is kept");

enum phase {
	PHASE_CLIENT_FLAGS,
	PHASE_OPTION_HEADER,
	PHASE_OPTION_PAYLOAD,
	PHASE_SKIP,
	PHASE_OPENING, /* `open` has not answered yet; the payload stays where it is */
	PHASE_LISTING,
	PHASE_LISTING_BITMAPS,
	PHASE_OVER,
};

struct handshake {
	const struct handshake_ops *ops;
	void *user;
	uint64_t deadline_ms;

	enum handshake_state state;
	enum phase phase;
	char reason[160];
	bool fixed, no_zeroes;

	/* the option at hand */
	uint32_t option, len;
	uint32_t skip_left, skip_error; /* PHASE_SKIP: then answer this */
	const char *skip_text;
	size_t opening_at; /* PHASE_OPENING: of the payload in `in` */
	struct export_name opening_name;
	struct handshake_list list;
	struct export_name list_name; /* PHASE_LISTING_BITMAPS: of this export; ... */
	uint32_t list_left;	      /* ... so many more */
	uint32_t option_count;
	uint64_t byte_count;

	/* negotiated */
	bool structured;
	unsigned contexts;
	struct handshake_base bases[CONTEXTS_BITMAP_MAX];
	size_t base_count;
	char context_export[NBD_STRING_MAX]; /* raw name the contexts were selected for */
	size_t context_export_len;
	struct export_name name;
	bool read_only;

	size_t in_used, in_done; /* received; consumed */
	size_t out_used, out_sent;
	uint8_t in[sizeof(struct nbd_option_header) + PAYLOAD_KEPT_MAX];
	uint8_t out[OUT_SIZE];
};

static inline void handshake_drop_contexts(struct handshake *h)
{
	h->contexts = 0;
	h->base_count = 0;
}

/* ---- handshake.c ---- */

size_t handshake_out_room(const struct handshake *h);
void handshake_out(struct handshake *h, const void *data, size_t len);
/* A reply's header and its first part; what `more` announces is put by the caller. */
void handshake_reply_begin(struct handshake *h, uint32_t type, const void *data, size_t len,
			   size_t more);
void handshake_reply(struct handshake *h, uint32_t type, const void *data, size_t len);
void handshake_reply_error(struct handshake *h, uint32_t type, const char *text);
void handshake_finish(struct handshake *h, enum handshake_state state);
void handshake_fail(struct handshake *h, const char *reason);

/* ---- options.c: `data` is the whole payload, h->len bytes; there is room for the answer ---- */

void option_export_name(struct handshake *h, const uint8_t *data);
void option_info(struct handshake *h, const uint8_t *data); /* INFO and GO */
/* The end of either, when `open` has answered later. */
void option_opened(struct handshake *h, const uint8_t *data, int rc,
		   const struct handshake_export *export, const struct err *err);
void option_meta(struct handshake *h, const uint8_t *data); /* LIST_ and SET_META_CONTEXT */
void option_structured(struct handshake *h);
void option_list(struct handshake *h);
/* One batch of LIST's answer; true when it can go on at once. */
bool option_list_more(struct handshake *h);
/* The same for LIST_META_CONTEXT. */
bool option_bitmaps_more(struct handshake *h);

#endif
