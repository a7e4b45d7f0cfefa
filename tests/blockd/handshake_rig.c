/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See handshake_rig.h. */
#include "tests/blockd/handshake_rig.h"

static int answer(struct rig *rig, const struct export_name *name, struct handshake_export *export,
		  struct err *err)
{
	if (!strcmp(name->volume, "locked"))
		return err_set(err, -EACCES, "held by someone else");
	if (strcmp(name->volume, "demo") &&
	    (strcmp(name->volume, "other") || strcmp(name->pool, "pool")))
		return err_set(err, -ENOENT, "no such export");
	export->size_bytes = MIB;
	snprintf(export->name, sizeof(export->name), "pool/%s", name->volume);
	snprintf(export->description, sizeof(export->description), "a disk");
	return 0;
}

static int rig_find(void *user, const struct export_name *name, struct handshake_export *export,
		    struct err *err)
{
	struct rig *rig = user;

	rig->finds++;
	return answer(rig, name, export, err);
}

static int rig_open(void *user, const struct export_name *name, const struct handshake_base *bases,
		    size_t base_count, struct handshake_export *export, struct err *err)
{
	struct rig *rig = user;

	rig->opens++;
	rig->opened_count = base_count;
	for (size_t i = 0; i < base_count; i++)
		rig->opened[i] = bases[i];
	if (base_count && rig->bases_gone)
		return err_set(err, -ENOENT, "has just been deleted");
	return answer(rig, name, export, err);
}

/* "snap0" ... of "demo" */
static void rig_find_bases(void *user, const struct export_name *name, struct handshake_base *bases,
			   size_t count)
{
	struct rig *rig = user;

	rig->base_finds++;
	for (size_t i = 0; i < count; i++) {
		unsigned n, end = 0;

		assert_int_equal(bases[i].id, 0);
		if (!strcmp(name->volume, "demo") &&
		    sscanf(bases[i].name, "snap%u%n", &n, &end) == 1 && !bases[i].name[end] &&
		    n < rig->base_total)
			bases[i].id = 100 + n;
	}
}

static size_t rig_list_bases(void *user, const struct export_name *name,
			     struct handshake_list *list,
			     struct handshake_base bases[HANDSHAKE_LIST_BATCH])
{
	struct rig *rig = user;
	size_t count = 0;

	assert_string_equal(name->volume, "demo");
	for (; count < HANDSHAKE_LIST_BATCH && list->after_id < rig->base_total; count++)
		snprintf(bases[count].name, sizeof(bases[count].name), "snap%u",
			 (unsigned)list->after_id++);
	return count;
}

static size_t rig_list(void *user, struct handshake_list *list,
		       struct handshake_listed exports[HANDSHAKE_LIST_BATCH])
{
	struct rig *rig = user;
	size_t count = 0;

	for (; count < HANDSHAKE_LIST_BATCH && list->pool_index < rig->list_total; count++) {
		snprintf(exports[count].name, sizeof(exports[count].name), "vol%u",
			 list->pool_index);
		snprintf(exports[count].description, sizeof(exports[count].description), "%s",
			 list->pool_index++ % 2 ? "" : "a disk");
	}
	return count;
}

static const struct handshake_ops ops = { .find = rig_find,
					  .open = rig_open,
					  .list = rig_list,
					  .find_bases = rig_find_bases,
					  .list_bases = rig_list_bases };

void pump(struct rig *rig)
{
	const void *from;
	size_t len;

	while (!rig->no_send && (len = handshake_pending(rig->h, &from))) {
		assert_true(rig->out_len + len <= sizeof(rig->out));
		memcpy(rig->out + rig->out_len, from, len);
		rig->out_len += len;
		handshake_sent(rig->h, len);
	}
}

/* Bytes from the client, in portions of `portion`. */
void feed_by(struct rig *rig, const void *data, size_t len, size_t portion)
{
	const uint8_t *at = data;

	while (len && handshake_state(rig->h) == HANDSHAKE_TALKING) {
		void *to;
		size_t room = handshake_room(rig->h, &to);
		size_t part = len < portion ? len : portion;

		if (part > room)
			part = room;
		if (!part)
			break;
		memcpy(to, at, part);
		handshake_received(rig->h, part);
		pump(rig);
		at += part;
		len -= part;
	}
}

void feed(struct rig *rig, const void *data, size_t len)
{
	feed_by(rig, data, len, SIZE_MAX);
}

void flags(struct rig *rig, uint32_t value)
{
	be32_t raw = be32_put(value);

	feed(rig, &raw, sizeof(raw));
}

void option(struct rig *rig, uint32_t number, const void *data, uint32_t len)
{
	struct nbd_option_header header = { be64_put(NBD_OPTION_MAGIC), be32_put(number),
					    be32_put(len) };

	feed(rig, &header, sizeof(header));
	feed(rig, data, len);
}

/* INFO or GO for `name` with `count` info requests. */
void option_go(struct rig *rig, uint32_t number, const char *name, const uint16_t *infos,
	       uint16_t count)
{
	uint8_t data[8192];
	size_t at = 0, i;
	be32_t len = be32_put((uint32_t)strlen(name));
	be16_t n = be16_put(count);

	memcpy(data, &len, 4);
	memcpy(data + 4, name, strlen(name));
	at = 4 + strlen(name);
	memcpy(data + at, &n, 2);
	at += 2;
	for (i = 0; i < count; i++, at += 2) {
		be16_t info = be16_put(infos[i]);

		memcpy(data + at, &info, 2);
	}
	option(rig, number, data, (uint32_t)at);
}

void option_queries(struct rig *rig, uint32_t number, const char *name, const char **queries,
		    uint32_t count)
{
	uint8_t data[8192];
	size_t at = 0, i;
	be32_t raw = be32_put((uint32_t)strlen(name));

	memcpy(data, &raw, 4);
	memcpy(data + 4, name, strlen(name));
	at = 4 + strlen(name);
	raw = be32_put(count);
	memcpy(data + at, &raw, 4);
	at += 4;
	for (i = 0; i < count; i++) {
		raw = be32_put((uint32_t)strlen(queries[i]));
		memcpy(data + at, &raw, 4);
		memcpy(data + at + 4, queries[i], strlen(queries[i]));
		at += 4 + strlen(queries[i]);
	}
	option(rig, number, data, (uint32_t)at);
}

/* The next reply must be this; returns its data. */
struct cursor expect(struct rig *rig, uint32_t number, uint32_t type)
{
	struct cursor c = cursor_over(rig->out + rig->out_at, rig->out_len - rig->out_at), data;

	assert_int_equal(cursor_be64(&c), NBD_OPT_REPLY_MAGIC);
	assert_int_equal(cursor_be32(&c), number);
	assert_int_equal(cursor_be32(&c), type);
	data = cursor_sub(&c, cursor_be32(&c));
	assert_true(cursor_ok(&c));
	rig->out_at = (size_t)(c.at - rig->out);
	return data;
}

void expect_nothing(const struct rig *rig)
{
	assert_int_equal(rig->out_at, rig->out_len);
}

uint16_t expect_info_export(struct rig *rig, uint32_t number)
{
	struct cursor c = expect(rig, number, NBD_REP_INFO);

	assert_int_equal(cursor_left(&c), 12);
	assert_int_equal(cursor_be16(&c), NBD_INFO_EXPORT);
	assert_int_equal(cursor_be64(&c), MIB);
	return cursor_be16(&c);
}

struct rig *begin(void)
{
	struct rig *rig = calloc(1, sizeof(*rig));
	struct cursor c;

	rig->h = handshake_new(&ops, rig, 1000, 10000);
	assert_non_null(rig->h);
	pump(rig);
	c = cursor_over(rig->out, rig->out_len);
	assert_int_equal(cursor_be64(&c), NBD_MAGIC);
	assert_int_equal(cursor_be64(&c), NBD_OPTION_MAGIC);
	assert_int_equal(cursor_be16(&c), NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
	assert_true(cursor_done(&c));
	rig->out_at = rig->out_len;
	return rig;
}

struct rig *begin_fixed(void)
{
	struct rig *rig = begin();

	flags(rig, NBD_CLIENT_FLAGS_KNOWN);
	return rig;
}

void end(struct rig *rig)
{
	handshake_free(rig->h);
	free(rig);
}

void assert_talking(const struct rig *rig)
{
	assert_int_equal(handshake_state(rig->h), HANDSHAKE_TALKING);
}

void assert_failed(const struct rig *rig)
{
	assert_int_equal(handshake_state(rig->h), HANDSHAKE_FAILED);
	assert_true(handshake_reason(rig->h)[0]);
}

struct rig *begin_structured(void)
{
	struct rig *rig = begin_fixed();

	option(rig, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
	expect(rig, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK);
	return rig;
}
