/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What each option of the handshake answers; the machine around them is handshake.c.
 *
 * INFO and GO share all but `find` and `open`: that is how INFO predicts the GO that follows and
 * changes nothing.  A meta context selection belongs to the raw export name it was made for.
 */
#include "blockd/nbd/handshake_priv.h"

#include <errno.h>
#include <string.h>

#include "blockd/nbd/contexts.h"
#include "common/base/cursor.h"

static void reply_errno(struct handshake *h, int rc, const struct err *err)
{
	uint32_t type = NBD_REP_ERR_POLICY;

	if (rc == -ENOENT)
		type = NBD_REP_ERR_UNKNOWN;
	else if (rc == -ESHUTDOWN)
		type = NBD_REP_ERR_SHUTDOWN;
	handshake_reply_error(h, type, err->text);
}

/* What a client calls it; the empty name may mean something here. */
static int take_name(const struct handshake *h, const char *raw, size_t len,
		     struct export_name *ret_name, struct err *err)
{
	const char *preset = h->ops->preset ? h->ops->preset(h->user) : NULL;

	return export_name_resolve(raw, len, preset, ret_name, err);
}

static uint16_t export_flags(const struct handshake *h, bool read_only)
{
	unsigned flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA |
			 NBD_FLAG_CAN_MULTI_CONN | NBD_FLAG_SEND_CACHE;

	if (read_only)
		flags |= NBD_FLAG_READ_ONLY;
	else
		flags |= NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO;
	if (h->structured)
		flags |= NBD_FLAG_SEND_DF;
	return (uint16_t)flags;
}

static void enter_transmission(struct handshake *h, const struct export_name *name, bool read_only,
			       const char *raw, size_t raw_len)
{
	h->name = *name;
	h->read_only = read_only;
	/* "bound to the name later used": another name means no contexts. */
	if (raw_len != h->context_export_len || memcmp(raw, h->context_export, raw_len))
		h->contexts = 0;
	handshake_finish(h, HANDSHAKE_READY);
}

void option_export_name(struct handshake *h, const uint8_t *data)
{
	static const uint8_t zeroes[NBD_EXPORT_ZEROES];
	struct handshake_export export = { 0 };
	struct nbd_export_reply header;
	struct export_name name;
	struct err err = { 0 };
	bool read_only;

	/* There is no way to answer an error. */
	if (take_name(h, (const char *)data, h->len, &name, &err) ||
	    h->ops->open(h->user, &name, &export, &err)) {
		handshake_fail(h, err.text);
		return;
	}
	read_only = export.read_only || name.read_only;
	header.size = be64_put(export.size_bytes);
	header.flags = be16_put(export_flags(h, read_only));
	handshake_out(h, &header, sizeof(header));
	if (!h->no_zeroes)
		handshake_out(h, zeroes, sizeof(zeroes));
	enter_transmission(h, &name, read_only, (const char *)data, h->len);
}

static void info_string(struct handshake *h, enum nbd_info info, const char *text)
{
	be16_t type = be16_put((uint16_t)info);

	handshake_reply_begin(h, NBD_REP_INFO, &type, sizeof(type), strlen(text));
	handshake_out(h, text, strlen(text));
}

static void info_replies(struct handshake *h, const struct handshake_export *export, bool read_only,
			 struct cursor requests)
{
	struct nbd_info_export body = {
		.info = be16_put(NBD_INFO_EXPORT),
		.size = be64_put(export->size_bytes),
		.flags = be16_put(export_flags(h, read_only)),
	};
	struct nbd_info_block_size sizes = {
		.info = be16_put(NBD_INFO_BLOCK_SIZE),
		.min = be32_put(NBD_BLOCK_MIN),
		.preferred = be32_put(NBD_BLOCK_PREFERRED),
		.max = be32_put(NBD_PAYLOAD_MAX),
	};
	unsigned wanted = 0;

	while (cursor_left(&requests)) {
		uint16_t info = cursor_be16(&requests);

		if (info <= NBD_INFO_BLOCK_SIZE)
			wanted |= 1u << info; /* each once, however often it was asked for */
	}
	handshake_reply(h, NBD_REP_INFO, &body, sizeof(body));
	if (wanted & (1u << NBD_INFO_NAME))
		info_string(h, NBD_INFO_NAME, export->name);
	if (wanted & (1u << NBD_INFO_DESCRIPTION) && export->description[0])
		info_string(h, NBD_INFO_DESCRIPTION, export->description);
	if (wanted & (1u << NBD_INFO_BLOCK_SIZE))
		handshake_reply(h, NBD_REP_INFO, &sizes, sizeof(sizes));
}

/* INFO and GO. */
void option_info(struct handshake *h, const uint8_t *data)
{
	struct cursor c = cursor_over(data, h->len);
	uint32_t raw_len = cursor_be32(&c);
	const char *raw = cursor_bytes(&c, raw_len);
	struct cursor requests = cursor_sub(&c, (size_t)cursor_be16(&c) * 2);
	struct handshake_export export = { 0 };
	struct export_name name;
	struct err err = { 0 };
	bool go = h->option == NBD_OPT_GO;
	int rc;

	if (!cursor_done(&c) || raw_len > NBD_STRING_MAX) {
		handshake_reply_error(h, NBD_REP_ERR_INVALID, "lengths do not add up");
		return;
	}
	rc = take_name(h, raw, raw_len, &name, &err);
	if (!rc)
		rc = (go ? h->ops->open : h->ops->find)(h->user, &name, &export, &err);
	if (rc) {
		reply_errno(h, rc, &err);
		return;
	}
	info_replies(h, &export, export.read_only || name.read_only, requests);
	handshake_reply(h, NBD_REP_ACK, NULL, 0);
	if (go)
		enter_transmission(h, &name, export.read_only || name.read_only, raw, raw_len);
}

/* All queries into a set; false if they are malformed. */
static bool read_queries(struct cursor *c, uint32_t count, bool list, unsigned *ret_set)
{
	unsigned set = 0;
	uint32_t i;

	if (!count && list)
		set = CONTEXTS_ALL;
	for (i = 0; i < count; i++) {
		uint32_t len = cursor_be32(c);
		const char *query = cursor_bytes(c, len);

		if (!cursor_ok(c) || len > NBD_STRING_MAX)
			return false;
		set |= contexts_match(query, len, list);
	}
	*ret_set = set;
	return cursor_done(c);
}

static void reply_contexts(struct handshake *h, unsigned set, bool list)
{
	int i;

	for (i = 0; i < CONTEXT_COUNT; i++) {
		be32_t id = be32_put(list ? 0 : context_id((enum context)i));
		const char *text = context_name((enum context)i);

		if (!(set & (1u << i)))
			continue;
		handshake_reply_begin(h, NBD_REP_META_CONTEXT, &id, sizeof(id), strlen(text));
		handshake_out(h, text, strlen(text));
	}
	handshake_reply(h, NBD_REP_ACK, NULL, 0);
}

/* LIST_META_CONTEXT and SET_META_CONTEXT. */
void option_meta(struct handshake *h, const uint8_t *data)
{
	bool list = h->option == NBD_OPT_LIST_META_CONTEXT;
	struct cursor c = cursor_over(data, h->len);
	uint32_t raw_len = cursor_be32(&c);
	const char *raw = cursor_bytes(&c, raw_len);
	uint32_t query_count = cursor_be32(&c);
	struct handshake_export export;
	struct export_name name;
	struct err err = { 0 };
	unsigned set = 0;
	int rc;

	if (!list)
		h->contexts = 0; /* the old selection goes, also when this fails */
	if (!h->structured) {
		handshake_reply_error(h, NBD_REP_ERR_INVALID, "structured replies come first");
		return;
	}
	if (!cursor_ok(&c) || raw_len > NBD_STRING_MAX ||
	    !read_queries(&c, query_count, list, &set)) {
		handshake_reply_error(h, NBD_REP_ERR_INVALID, "lengths do not add up");
		return;
	}
	rc = take_name(h, raw, raw_len, &name, &err);
	if (!rc)
		rc = h->ops->find(h->user, &name, &export, &err);
	if (rc) {
		reply_errno(h, rc, &err);
		return;
	}
	if (!list) {
		h->contexts = set;
		memcpy(h->context_export, raw, raw_len);
		h->context_export_len = raw_len;
	}
	reply_contexts(h, set, list);
}

void option_structured(struct handshake *h)
{
	h->structured = true;
	handshake_reply(h, NBD_REP_ACK, NULL, 0);
}

void option_list(struct handshake *h)
{
	h->list = (struct handshake_list){ 0 };
	h->phase = PHASE_LISTING;
}

bool option_list_more(struct handshake *h)
{
	struct handshake_listed exports[HANDSHAKE_LIST_BATCH];
	size_t count, i;

	if (handshake_out_room(h) <
	    HANDSHAKE_LIST_BATCH * LIST_ENTRY_MAX + sizeof(struct nbd_option_reply))
		return false;
	count = h->ops->list(h->user, &h->list, exports);
	for (i = 0; i < count; i++) {
		size_t name_len = strlen(exports[i].name);
		size_t description_len = strlen(exports[i].description);
		be32_t len = be32_put((uint32_t)name_len);

		handshake_reply_begin(h, NBD_REP_SERVER, &len, sizeof(len),
				      name_len + description_len);
		handshake_out(h, exports[i].name, name_len);
		handshake_out(h, exports[i].description, description_len);
	}
	if (!count) {
		handshake_reply(h, NBD_REP_ACK, NULL, 0);
		h->phase = PHASE_OPTION_HEADER;
	}
	return true;
}
