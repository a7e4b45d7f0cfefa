/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Handshakes from hostile hands.  The first byte says in what portions the rest comes and goes;
 * what the server answers must be option replies from beginning to end.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/nbd/handshake.h"
#include "blockd/nbd/wire.h"
#include "common/base/cursor.h"

#define OUT_MAX (8u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static uint8_t out[OUT_MAX];
static size_t out_len;
static int opens;

static int fuzz_find(void *user, const struct export_name *name, struct handshake_export *export,
		     struct err *err)
{
	if (strlen(name->volume) > THIN_NAME_MAX || strlen(name->pool) > THIN_NAME_MAX)
		abort();
	if (name->volume[0] == 'p')
		return err_set(err, -EACCES, "not you");
	if (name->volume[0] != 'd')
		return err_set(err, -ENOENT, "no such export");
	export->size_bytes = 1 << 20;
	memcpy(export->name, "demo", 5);
	return 0;
}

static int fuzz_open(void *user, const struct export_name *name, struct handshake_export *export,
		     struct err *err)
{
	int rc = fuzz_find(user, name, export, err);

	opens += !rc;
	return rc;
}

static size_t fuzz_list(void *user, struct handshake_list *list,
			struct handshake_listed exports[HANDSHAKE_LIST_BATCH])
{
	size_t count = 0;

	for (; count < HANDSHAKE_LIST_BATCH && list->pool_index < 100;
	     count++, list->pool_index++) {
		memset(&exports[count], 'n', sizeof(exports[count]));
		exports[count].name[sizeof(exports[count].name) - 1] = '\0';
		exports[count].description[sizeof(exports[count].description) - 1] = '\0';
	}
	return count;
}

static void drain(struct handshake *h, size_t portion)
{
	const void *from;
	size_t part;

	while ((part = handshake_pending(h, &from))) {
		if (part > portion)
			part = portion;
		if (out_len + part > sizeof(out))
			abort(); /* far more than was asked for */
		memcpy(out + out_len, from, part);
		out_len += part;
		handshake_sent(h, part);
	}
}

/* Greeting, option replies, and at the end perhaps the reply to EXPORT_NAME. */
static void check_output(const struct handshake *h)
{
	struct cursor c = cursor_over(out, out_len);

	cursor_skip(&c, sizeof(struct nbd_greeting));
	while (cursor_left(&c)) {
		struct cursor before = c;

		if (cursor_be64(&c) == NBD_OPT_REPLY_MAGIC && cursor_skip(&c, 8) &&
		    cursor_skip(&c, cursor_be32(&c)))
			continue;
		if (handshake_state(h) == HANDSHAKE_FAILED)
			return; /* cut short */
		if (handshake_state(h) != HANDSHAKE_READY ||
		    (cursor_left(&before) != 10 && cursor_left(&before) != 134))
			abort();
		return;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const struct handshake_ops ops = { fuzz_find, fuzz_open, fuzz_list };
	static const size_t portions[] = { SIZE_MAX, 1, 3, 16, 20, 333, 4096, 70000 };
	struct handshake_result result;
	struct handshake *h;
	size_t portion, at = 1;

	if (!len)
		return 0;
	portion = portions[data[0] % 8];
	out_len = 0;
	opens = 0;
	h = handshake_new(&ops, NULL, 0, 1000);
	drain(h, portion);
	while (at < len && handshake_state(h) == HANDSHAKE_TALKING) {
		void *to;
		size_t part = handshake_room(h, &to);

		if (!part)
			abort(); /* everything has been drained: it must go on */
		if (part > portion)
			part = portion;
		if (part > len - at)
			part = len - at;
		memcpy(to, data + at, part);
		at += part;
		handshake_received(h, part);
		drain(h, portion);
	}
	check_output(h);
	if (handshake_state(h) == HANDSHAKE_READY)
		handshake_get_result(h, &result);
	if ((handshake_state(h) == HANDSHAKE_READY) != (opens == 1))
		abort();
	handshake_closed(h);
	handshake_free(h);
	return 0;
}
