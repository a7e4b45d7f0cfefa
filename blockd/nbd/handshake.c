/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fixed newstyle negotiation ("Handshake phase" in proto.md).
 *
 *	             greeting sent
 *	                  |
 *	            CLIENT_FLAGS --unknown bits--> failed
 *	                  |
 *	  +------> OPTION_HEADER --payload too large or unwanted--> SKIP --+
 *	  |               |                                                |
 *	  |          OPTION_PAYLOAD                                  error reply
 *	  |               |                                                |
 *	  +-- reply <- handle -- LIST, LIST_META_CONTEXT of bitmaps        |
 *	  |                        --> LISTING... (as room permits) --+    |
 *	  +-----------------------------------------------------------+----+
 *
 * Memory is two fixed buffers: an option is handled when it is whole, so only options that fit
 * `in` are ever kept; the payload of others is counted off and dropped.  An option is begun only
 * while `out` has room for the largest single answer; the lists, which have no bound, are produced
 * in batches as `out` drains.  A client is limited in options, in bytes and in time.
 *
 * Negotiated state is three things: structured replies, the contexts with the name they were
 * selected for, and the opened export.  INFO calls only `find` and so predicts GO without
 * changing anything.
 */
#include "blockd/nbd/handshake_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- output ---- */

size_t handshake_out_room(const struct handshake *h)
{
	return sizeof(h->out) - h->out_used;
}

void handshake_out(struct handshake *h, const void *data, size_t len)
{
	assert(len <= handshake_out_room(h));
	memcpy(h->out + h->out_used, data, len);
	h->out_used += len;
}

void handshake_reply_begin(struct handshake *h, uint32_t type, const void *data, size_t len,
			   size_t more)
{
	struct nbd_option_reply header = {
		.magic = be64_put(NBD_OPT_REPLY_MAGIC),
		.option = be32_put(h->option),
		.type = be32_put(type),
		.len = be32_put((uint32_t)(len + more)),
	};

	handshake_out(h, &header, sizeof(header));
	if (len)
		handshake_out(h, data, len);
}

void handshake_reply(struct handshake *h, uint32_t type, const void *data, size_t len)
{
	handshake_reply_begin(h, type, data, len, 0);
}

void handshake_reply_error(struct handshake *h, uint32_t type, const char *text)
{
	handshake_reply(h, type, text, strlen(text));
}

void handshake_finish(struct handshake *h, enum handshake_state state)
{
	h->state = state;
	h->phase = PHASE_OVER;
}

void handshake_fail(struct handshake *h, const char *reason)
{
	if (h->state != HANDSHAKE_TALKING)
		return;
	snprintf(h->reason, sizeof(h->reason), "%s", reason);
	handshake_finish(h, HANDSHAKE_FAILED);
}

/* ---- options ---- */

/* A whole option is there. */
static void handle_option(struct handshake *h, const uint8_t *data)
{
	h->phase = PHASE_OPTION_HEADER;
	switch (h->option) {
	case NBD_OPT_EXPORT_NAME:
		option_export_name(h, data);
		break;
	case NBD_OPT_LIST:
		option_list(h);
		break;
	case NBD_OPT_INFO:
	case NBD_OPT_GO:
		option_info(h, data);
		break;
	case NBD_OPT_STRUCTURED_REPLY:
		option_structured(h);
		break;
	case NBD_OPT_LIST_META_CONTEXT:
	case NBD_OPT_SET_META_CONTEXT:
		option_meta(h, data);
		break;
	default: /* begin_option() lets no other through */
		assert(!"known option");
	}
}

static void skip_then(struct handshake *h, uint32_t error, const char *text)
{
	h->skip_left = h->len;
	h->skip_error = error;
	h->skip_text = text;
	h->phase = PHASE_SKIP;
}

static void skip_done(struct handshake *h)
{
	h->phase = PHASE_OPTION_HEADER;
	if (h->option == NBD_OPT_ABORT) {
		handshake_reply(h, NBD_REP_ACK, NULL, 0);
		handshake_finish(h, HANDSHAKE_CLOSING);
		return;
	}
	handshake_reply_error(h, h->skip_error, h->skip_text);
}

/* A header is there: decide what becomes of the payload. */
static void begin_option(struct handshake *h)
{
	h->phase = PHASE_OPTION_PAYLOAD;
	if (!h->fixed && h->option != NBD_OPT_EXPORT_NAME) {
		handshake_fail(h, "an option other than EXPORT_NAME without fixed newstyle");
		return;
	}
	if (++h->option_count > OPTIONS_MAX || h->len > BYTES_MAX) {
		handshake_fail(h, h->len > BYTES_MAX ? "an option's payload is too large"
						     : "too many options");
		return;
	}
	switch (h->option) {
	case NBD_OPT_EXPORT_NAME:
		if (h->len > NBD_STRING_MAX)
			handshake_fail(h, "an export name is too long");
		break;
	case NBD_OPT_ABORT:
		skip_then(h, 0, NULL);
		break;
	case NBD_OPT_LIST:
	case NBD_OPT_STRUCTURED_REPLY:
		if (h->len)
			skip_then(h, NBD_REP_ERR_INVALID, "this option takes no data");
		break;
	case NBD_OPT_INFO:
	case NBD_OPT_GO:
	case NBD_OPT_LIST_META_CONTEXT:
	case NBD_OPT_SET_META_CONTEXT:
		if (h->len > PAYLOAD_KEPT_MAX) {
			if (h->option == NBD_OPT_SET_META_CONTEXT)
				handshake_drop_contexts(h);
			skip_then(h, NBD_REP_ERR_TOO_BIG, "too much data for this option");
		}
		break;
	default:
		skip_then(h, NBD_REP_ERR_UNSUP, "option not supported");
	}
}

/* ---- the machine ---- */

/* The next `len` bytes if they are there. */
static const uint8_t *take(struct handshake *h, size_t len)
{
	const uint8_t *at = h->in + h->in_done;

	if (h->in_used - h->in_done < len)
		return NULL;
	h->in_done += len;
	return at;
}

static bool step_client_flags(struct handshake *h)
{
	const uint8_t *bytes = take(h, 4);
	be32_t raw;
	uint32_t flags;

	if (!bytes)
		return false;
	memcpy(&raw, bytes, sizeof(raw));
	flags = be32_get(raw);
	if (flags & ~NBD_CLIENT_FLAGS_KNOWN) {
		handshake_fail(h, "unknown client flags");
		return true;
	}
	h->fixed = flags & NBD_FLAG_FIXED_NEWSTYLE;
	h->no_zeroes = flags & NBD_FLAG_NO_ZEROES;
	h->phase = PHASE_OPTION_HEADER;
	return true;
}

static bool step_option_header(struct handshake *h)
{
	struct nbd_option_header header;
	const uint8_t *bytes;

	if (handshake_out_room(h) < OUT_RESERVE)
		return false;
	bytes = take(h, sizeof(header));
	if (!bytes)
		return false;
	memcpy(&header, bytes, sizeof(header));
	if (be64_get(header.magic) != NBD_OPTION_MAGIC) {
		handshake_fail(h, "not an option (wrong magic)");
		return true;
	}
	h->option = be32_get(header.option);
	h->len = be32_get(header.len);
	begin_option(h);
	return true;
}

static bool step_option_payload(struct handshake *h)
{
	const uint8_t *data = take(h, h->len);

	if (!data)
		return false;
	handle_option(h, data);
	return true;
}

static bool step_skip(struct handshake *h)
{
	size_t there = h->in_used - h->in_done;
	size_t part = there < h->skip_left ? there : h->skip_left;

	h->in_done += part;
	h->skip_left -= (uint32_t)part;
	if (h->skip_left)
		return false;
	skip_done(h);
	return true;
}

static bool step(struct handshake *h)
{
	switch (h->phase) {
	case PHASE_CLIENT_FLAGS:
		return step_client_flags(h);
	case PHASE_OPTION_HEADER:
		return step_option_header(h);
	case PHASE_OPTION_PAYLOAD:
		return step_option_payload(h);
	case PHASE_SKIP:
		return step_skip(h);
	case PHASE_OPENING:
		return false;
	case PHASE_LISTING:
		return option_list_more(h);
	case PHASE_LISTING_BITMAPS:
		return option_bitmaps_more(h);
	case PHASE_OVER:
		return false;
	}
	return false;
}

static void advance(struct handshake *h)
{
	while (step(h))
		;
}

struct handshake *handshake_new(const struct handshake_ops *ops, void *user, uint64_t now_ms,
				uint32_t timeout_ms)
{
	struct nbd_greeting greeting = {
		.magic = be64_put(NBD_MAGIC),
		.option_magic = be64_put(NBD_OPTION_MAGIC),
		.flags = be16_put(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES),
	};
	struct handshake *h = calloc(1, sizeof(*h));

	if (!h)
		return NULL;
	h->ops = ops;
	h->user = user;
	h->deadline_ms = now_ms + timeout_ms;
	handshake_out(h, &greeting, sizeof(greeting));
	return h;
}

void handshake_free(struct handshake *h)
{
	free(h);
}

enum handshake_state handshake_state(const struct handshake *h)
{
	return h->state;
}

const char *handshake_reason(const struct handshake *h)
{
	return h->reason;
}

size_t handshake_room(struct handshake *h, void **ret_to)
{
	if (h->state != HANDSHAKE_TALKING || h->phase == PHASE_OPENING)
		return 0;
	if (h->in_done) {
		h->in_used -= h->in_done;
		memmove(h->in, h->in + h->in_done, h->in_used);
		h->in_done = 0;
	}
	*ret_to = h->in + h->in_used;
	return sizeof(h->in) - h->in_used;
}

void handshake_received(struct handshake *h, size_t len)
{
	assert(len <= sizeof(h->in) - h->in_used);
	h->in_used += len;
	h->byte_count += len;
	if (h->byte_count > BYTES_MAX)
		handshake_fail(h, "the handshake is too long");
	advance(h);
}

void handshake_closed(struct handshake *h)
{
	if (h->state != HANDSHAKE_TALKING)
		return;
	if ((h->phase == PHASE_OPTION_HEADER || h->phase == PHASE_LISTING ||
	     h->phase == PHASE_LISTING_BITMAPS) &&
	    h->in_used == h->in_done)
		handshake_finish(h, HANDSHAKE_CLOSING);
	else
		handshake_fail(h, "closed by the client in mid-handshake");
}

bool handshake_is_opening(const struct handshake *h)
{
	return h->phase == PHASE_OPENING;
}

void handshake_opened(struct handshake *h, int rc, const struct handshake_export *export,
		      const struct err *err)
{
	if (h->phase != PHASE_OPENING)
		return;
	h->phase = PHASE_OPTION_HEADER;
	option_opened(h, h->in + h->opening_at, rc, export, err);
	advance(h);
}

size_t handshake_pending(struct handshake *h, const void **ret_from)
{
	*ret_from = h->out + h->out_sent;
	return h->state == HANDSHAKE_FAILED ? 0 : h->out_used - h->out_sent;
}

void handshake_sent(struct handshake *h, size_t len)
{
	assert(len <= h->out_used - h->out_sent);
	h->out_sent += len;
	if (h->out_sent < h->out_used)
		return;
	h->out_sent = h->out_used = 0;
	advance(h);
}

void handshake_tick(struct handshake *h, uint64_t now_ms)
{
	if (h->phase != PHASE_OPENING && now_ms >= h->deadline_ms)
		handshake_fail(h, "handshake not finished in time");
}

uint64_t handshake_deadline_ms(const struct handshake *h)
{
	return h->phase == PHASE_OPENING ? UINT64_MAX : h->deadline_ms;
}

void handshake_get_result(const struct handshake *h, struct handshake_result *ret_result)
{
	assert(h->state == HANDSHAKE_READY);
	*ret_result = (struct handshake_result){
		.name = h->name,
		.read_only = h->read_only,
		.structured = h->structured,
		.contexts = h->contexts,
		.in = h->in + h->in_done,
		.in_len = h->in_used - h->in_done,
	};
}
