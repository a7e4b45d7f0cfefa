/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What each option of the handshake answers; the machine around them is handshake.c.
 *
 * INFO and GO share all but `find` and `open`: that is how INFO predicts the GO that follows and
 * changes nothing.  A meta context selection belongs to the raw export name it was made for.
 *
 * A selected bitmap is a snapshot's id until GO opens the snapshot with the export, which keeps it
 * from being deleted.  One that has gone in between refuses GO: the client has been told that it
 * has the context.
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

static uint16_t export_flags(const struct handshake *h, const struct handshake_export *export,
			     bool read_only)
{
	unsigned flags =
		NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_CACHE;

	if (read_only || !export->exclusive)
		flags |= NBD_FLAG_CAN_MULTI_CONN;

	if (read_only)
		flags |= NBD_FLAG_READ_ONLY;
	else
		flags |= NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO;
	if (h->structured)
		flags |= NBD_FLAG_SEND_DF;
	return (uint16_t)flags;
}

/* "bound to the name later used": another name means no contexts. */
static bool has_contexts(const struct handshake *h, const char *raw, size_t raw_len)
{
	return raw_len == h->context_export_len && !memcmp(raw, h->context_export, raw_len);
}

static int open_export(struct handshake *h, const struct export_name *name, const char *raw,
		       size_t raw_len, struct handshake_export *ret_export, struct err *err)
{
	size_t base_count = has_contexts(h, raw, raw_len) ? h->base_count : 0;

	return h->ops->open(h->user, name, h->bases, base_count, ret_export, err);
}

static void enter_transmission(struct handshake *h, const struct export_name *name, bool read_only,
			       const char *raw, size_t raw_len)
{
	h->name = *name;
	h->read_only = read_only;
	if (!has_contexts(h, raw, raw_len))
		handshake_drop_contexts(h);
	handshake_finish(h, HANDSHAKE_READY);
}

/* `open` will say. */
static void begin_opening(struct handshake *h, const struct export_name *name, const uint8_t *data)
{
	h->opening_at = (size_t)(data - h->in);
	h->opening_name = *name;
	h->phase = PHASE_OPENING;
}

static void export_name_opened(struct handshake *h, const struct export_name *name,
			       const uint8_t *data, const struct handshake_export *export)
{
	static const uint8_t zeroes[NBD_EXPORT_ZEROES];
	bool read_only = export->read_only || name->read_only;
	struct nbd_export_reply header;

	header.size = be64_put(export->size_bytes);
	header.flags = be16_put(export_flags(h, export, read_only));
	handshake_out(h, &header, sizeof(header));
	if (!h->no_zeroes)
		handshake_out(h, zeroes, sizeof(zeroes));
	enter_transmission(h, name, read_only, (const char *)data, h->len);
}

void option_export_name(struct handshake *h, const uint8_t *data)
{
	struct handshake_export export = { 0 };
	struct export_name name;
	struct err err = { 0 };
	int rc = take_name(h, (const char *)data, h->len, &name, &err);

	if (!rc)
		rc = open_export(h, &name, (const char *)data, h->len, &export, &err);
	if (rc == -EINPROGRESS)
		begin_opening(h, &name, data);
	else if (rc)
		handshake_fail(h, err.text); /* there is no way to answer an error */
	else
		export_name_opened(h, &name, data, &export);
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
		.flags = be16_put(export_flags(h, export, read_only)),
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

/* A whole INFO or GO, as it lies in the payload. */
struct info_option {
	const char *raw;
	uint32_t raw_len;
	struct cursor requests;
};

static bool read_info(const struct handshake *h, const uint8_t *data, struct info_option *ret)
{
	struct cursor c = cursor_over(data, h->len);

	ret->raw_len = cursor_be32(&c);
	ret->raw = cursor_bytes(&c, ret->raw_len);
	ret->requests = cursor_sub(&c, (size_t)cursor_be16(&c) * 2);
	return cursor_done(&c) && ret->raw_len <= NBD_STRING_MAX;
}

static void info_granted(struct handshake *h, const struct info_option *option,
			 const struct export_name *name, const struct handshake_export *export)
{
	bool read_only = export->read_only || name->read_only;

	info_replies(h, export, read_only, option->requests);
	handshake_reply(h, NBD_REP_ACK, NULL, 0);
	if (h->option == NBD_OPT_GO)
		enter_transmission(h, name, read_only, option->raw, option->raw_len);
}

/* INFO and GO. */
void option_info(struct handshake *h, const uint8_t *data)
{
	struct handshake_export export = { 0 };
	struct info_option option;
	struct export_name name;
	struct err err = { 0 };
	int rc;

	if (!read_info(h, data, &option)) {
		handshake_reply_error(h, NBD_REP_ERR_INVALID, "lengths do not add up");
		return;
	}
	rc = take_name(h, option.raw, option.raw_len, &name, &err);
	if (!rc)
		rc = h->option == NBD_OPT_GO
			     ? open_export(h, &name, option.raw, option.raw_len, &export, &err)
			     : h->ops->find(h->user, &name, &export, &err);
	if (rc == -EINPROGRESS)
		begin_opening(h, &name, data);
	else if (rc)
		reply_errno(h, rc, &err);
	else
		info_granted(h, &option, &name, &export);
}

void option_opened(struct handshake *h, const uint8_t *data, int rc,
		   const struct handshake_export *export, const struct err *err)
{
	struct info_option option;

	if (h->option == NBD_OPT_EXPORT_NAME) {
		if (rc)
			handshake_fail(h, err->text);
		else
			export_name_opened(h, &h->opening_name, data, export);
		return;
	}
	if (rc)
		reply_errno(h, rc, err);
	else if (read_info(h, data, &option)) /* as it did before */
		info_granted(h, &option, &h->opening_name, export);
}

/* False if the queries are malformed. */
static bool read_queries(struct cursor *c, uint32_t count, bool list, struct contexts_query *ret)
{
	uint32_t i;

	*ret = (struct contexts_query){ 0 };
	if (!count && list) {
		ret->set = CONTEXTS_ALL;
		ret->some = true;
	}
	for (i = 0; i < count; i++) {
		uint32_t len = cursor_be32(c);
		const char *query = cursor_bytes(c, len);

		if (!cursor_ok(c) || len > NBD_STRING_MAX)
			return false;
		contexts_match(query, len, list, ret);
	}
	return cursor_done(c);
}

static void reply_context(struct handshake *h, uint32_t id, const char *prefix, const char *name)
{
	be32_t raw = be32_put(id);

	handshake_reply_begin(h, NBD_REP_META_CONTEXT, &raw, sizeof(raw),
			      strlen(prefix) + strlen(name));
	handshake_out(h, prefix, strlen(prefix));
	handshake_out(h, name, strlen(name));
}

/* Those of the query's bases that there are; returns how many. */
static size_t find_bases(struct handshake *h, const struct export_name *name,
			 const struct contexts_query *query,
			 struct handshake_base to[CONTEXTS_BITMAP_MAX])
{
	size_t count = 0, found = 0, i;

	for (i = 0; i < query->base_count; i++) {
		size_t len = query->base[i].len;

		if (len > THIN_PATH_MAX || memchr(query->base[i].name, '\0', len))
			continue; /* there is none of that name */
		memset(&to[count], 0, sizeof(to[count]));
		memcpy(to[count++].name, query->base[i].name, len);
	}
	if (count)
		h->ops->find_bases(h->user, name, to, count);
	for (i = 0; i < count; i++)
		if (to[i].id)
			to[found++] = to[i];
	return found;
}

/* The end of the answer, or with wildcards its beginning. */
static void list_contexts(struct handshake *h, const struct export_name *name,
			  const struct contexts_query *query)
{
	struct handshake_base bases[CONTEXTS_BITMAP_MAX];
	size_t count = 0, i;

	if (!query->bitmaps && !query->some)
		count = find_bases(h, name, query, bases);
	for (i = 0; i < CONTEXT_COUNT; i++)
		if (query->set & (1u << i))
			reply_context(h, 0, context_name((enum context)i), "");
	for (i = 0; i < count; i++)
		reply_context(h, 0, CONTEXTS_BITMAP_PREFIX, bases[i].name);
	if (!query->bitmaps && !query->some) {
		handshake_reply(h, NBD_REP_ACK, NULL, 0);
		return;
	}
	h->list = (struct handshake_list){ 0 };
	h->list_name = *name;
	h->list_left = query->bitmaps ? UINT32_MAX : BITMAPS_UNASKED;
	h->phase = PHASE_LISTING_BITMAPS;
}

bool option_bitmaps_more(struct handshake *h)
{
	struct handshake_base bases[HANDSHAKE_LIST_BATCH];
	size_t count, i;

	if (handshake_out_room(h) < (HANDSHAKE_LIST_BATCH + 1) * CONTEXT_ENTRY_MAX)
		return false;
	count = h->ops->list_bases(h->user, &h->list_name, &h->list, bases);
	for (i = 0; i < count && h->list_left; i++, h->list_left--)
		reply_context(h, 0, CONTEXTS_BITMAP_PREFIX, bases[i].name);
	if (i < count) /* "rather than an actual context": the wildcard tells how to get all */
		reply_context(h, 0, CONTEXTS_BITMAP_PREFIX, "");
	if (i < count || !count) {
		handshake_reply(h, NBD_REP_ACK, NULL, 0);
		h->phase = PHASE_OPTION_HEADER;
	}
	return true;
}

static void select_contexts(struct handshake *h, const struct export_name *name,
			    const struct contexts_query *query)
{
	unsigned i;

	h->base_count = find_bases(h, name, query, h->bases);
	h->contexts = query->set | CONTEXTS_BITMAPS(h->base_count);
	for (i = 0; i < CONTEXT_COUNT; i++)
		if (h->contexts & (1u << i))
			reply_context(h, context_id(i), context_name((enum context)i), "");
	for (i = 0; i < h->base_count; i++)
		reply_context(h, context_id(CONTEXT_COUNT + i), CONTEXTS_BITMAP_PREFIX,
			      h->bases[i].name);
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
	struct contexts_query query;
	struct export_name name;
	struct err err = { 0 };
	int rc;

	if (!list)
		handshake_drop_contexts(h); /* the old selection goes, also when this fails */
	if (!h->structured) {
		handshake_reply_error(h, NBD_REP_ERR_INVALID, "structured replies come first");
		return;
	}
	if (!cursor_ok(&c) || raw_len > NBD_STRING_MAX ||
	    !read_queries(&c, query_count, list, &query)) {
		handshake_reply_error(h, NBD_REP_ERR_INVALID, "lengths do not add up");
		return;
	}
	rc = take_name(h, raw, raw_len, &name, &err);
	if (!rc)
		rc = h->ops->find(h->user, &name, &export, &err);
	if (rc) {
		reply_errno(h, rc, &err);
	} else if (query.too_many) {
		handshake_reply_error(h, NBD_REP_ERR_TOO_BIG, "too many dirty bitmaps at once");
	} else if (list) {
		list_contexts(h, &name, &query);
	} else {
		memcpy(h->context_export, raw, raw_len);
		h->context_export_len = raw_len;
		select_contexts(h, &name, &query);
	}
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
