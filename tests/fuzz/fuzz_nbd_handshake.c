/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Handshakes in hostile hands.  The input is a script: options with names, queries and lengths that
 * are right, wrong or lies, among raw bytes, in portions, while the client does not read, waits
 * too long or goes away.
 *
 * What the server answers must be the greeting and option replies from beginning to end, at most
 * one final reply for each option that was begun, and perhaps the reply to EXPORT_NAME.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/nbd/contexts.h"
#include "blockd/nbd/handshake.h"
#include "blockd/nbd/wire.h"
#include "common/base/cursor.h"
#include "tests/fuzz/script.h"

#define OUT_MAX	   (8u << 20)
#define OPTION_MAX 20000u /* bytes of an option made here */
#define TIMEOUT_MS 1000u
#define EXPORTS	   100u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct run {
	struct handshake *h;
	struct script *script;
	size_t portion;
	bool no_read;
	const char *preset;
	int opens;
	size_t base_count;
	uint32_t options; /* begun, as far as we know; UINT32_MAX: raw bytes may have been some */
	size_t out_len;
	uint64_t now_ms;
};

static uint8_t out[OUT_MAX];

/* ---- the exports: those that begin with 'd' can be had ---- */

static int fuzz_find(void *user, const struct export_name *name, struct handshake_export *export,
		     struct err *err)
{
	if (strlen(name->volume) > THIN_NAME_MAX || strlen(name->pool) > THIN_NAME_MAX ||
	    !name->volume[0])
		abort();
	switch (name->volume[0]) {
	case 'p':
		return err_set(err, -EACCES, "not you");
	case 's':
		return err_set(err, -ESHUTDOWN, "not now");
	case 'd':
		break;
	default:
		return err_set(err, -ENOENT, "no such export");
	}
	export->size_bytes = 1 << 20;
	export->read_only = name->volume[1] == 'r';
	memcpy(export->name, "demo", 5);
	if (name->volume[1] == 'e')
		memcpy(export->description, "a disk", 7);
	return 0;
}

/* Snapshots whose names begin with 's' are there, those with "sg" are gone by the time of GO. */
static int fuzz_open(void *user, const struct export_name *name, const struct handshake_base *bases,
		     size_t base_count, struct handshake_export *export, struct err *err)
{
	struct run *run = user;
	int rc = fuzz_find(user, name, export, err);

	if (base_count > CONTEXTS_BITMAP_MAX)
		abort();
	for (size_t i = 0; i < base_count; i++) {
		if (bases[i].name[0] != 's' || bases[i].id != 1)
			abort();
		for (size_t j = 0; j < i; j++)
			if (!strcmp(bases[i].name, bases[j].name))
				abort();
		if (!rc && bases[i].name[1] == 'g')
			rc = err_set(err, -ENOENT, "gone");
	}
	run->opens += !rc;
	if (!rc)
		run->base_count = base_count;
	return rc;
}

static void fuzz_find_bases(void *user, const struct export_name *name,
			    struct handshake_base *bases, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		size_t len = strnlen(bases[i].name, sizeof(bases[i].name));

		if (bases[i].id || !len || len > THIN_PATH_MAX)
			abort();
		bases[i].id = bases[i].name[0] == 's';
	}
}

static size_t fuzz_list_bases(void *user, const struct export_name *name,
			      struct handshake_list *list,
			      struct handshake_base bases[HANDSHAKE_LIST_BATCH])
{
	size_t count = 0;

	for (; count < HANDSHAKE_LIST_BATCH && list->after_id < EXPORTS; count++) {
		memset(&bases[count], 's', sizeof(bases[count]));
		bases[count].name[sizeof(bases[count].name) - 1] = '\0';
		list->after_id++;
	}
	return count;
}

static size_t fuzz_list(void *user, struct handshake_list *list,
			struct handshake_listed exports[HANDSHAKE_LIST_BATCH])
{
	size_t count = 0;

	for (; count < HANDSHAKE_LIST_BATCH && list->pool_index < EXPORTS;
	     count++, list->pool_index++) {
		memset(&exports[count], 'n', sizeof(exports[count]));
		exports[count].name[sizeof(exports[count].name) - 1] = '\0';
		exports[count].description[sizeof(exports[count].description) - 1] = '\0';
	}
	return count;
}

static const char *fuzz_preset(void *user)
{
	return ((const struct run *)user)->preset;
}

/* ---- answers ---- */

static void drain(struct run *run, bool all)
{
	const void *from;
	size_t part;

	while ((all || !run->no_read) && (part = handshake_pending(run->h, &from))) {
		if (part > run->portion)
			part = run->portion;
		if (run->out_len + part > sizeof(out))
			abort(); /* far more than was asked for */
		memcpy(out + run->out_len, from, part);
		run->out_len += part;
		handshake_sent(run->h, part);
	}
}

/* Greeting, option replies, and at the end perhaps the reply to EXPORT_NAME. */
static void check_output(const struct run *run)
{
	struct cursor c = cursor_over(out, run->out_len);
	uint32_t finals = 0;

	cursor_skip(&c, sizeof(struct nbd_greeting));
	while (cursor_left(&c)) {
		struct cursor before = c;

		if (cursor_be64(&c) == NBD_OPT_REPLY_MAGIC && cursor_skip(&c, 4)) {
			uint32_t type = cursor_be32(&c);

			finals += type == NBD_REP_ACK || type >> 31;
			if (cursor_skip(&c, cursor_be32(&c)))
				continue;
		}
		if (handshake_state(run->h) == HANDSHAKE_FAILED)
			break; /* cut short */
		if (handshake_state(run->h) != HANDSHAKE_READY ||
		    (cursor_left(&before) != 10 && cursor_left(&before) != 134))
			abort();
		break;
	}
	if (finals > run->options)
		abort(); /* more was answered than asked */
}

/* ---- the client ---- */

static void feed(struct run *run, const void *data, size_t len)
{
	const uint8_t *at = data;

	while (len && handshake_state(run->h) == HANDSHAKE_TALKING) {
		void *to;
		size_t part = handshake_room(run->h, &to);

		if (!part) {
			drain(run, true);
			part = handshake_room(run->h, &to);
			if (!part && handshake_state(run->h) == HANDSHAKE_TALKING)
				abort(); /* everything has been drained: it must go on */
		}
		if (part > run->portion)
			part = run->portion;
		if (part > len)
			part = len;
		if (!part)
			return;
		memcpy(to, at, part);
		at += part;
		len -= part;
		handshake_received(run->h, part);
		drain(run, false);
	}
}

/* An option's payload as it grows. */
struct payload {
	uint8_t bytes[OPTION_MAX];
	size_t len;
};

static void put(struct payload *p, const void *data, size_t len)
{
	if (len > sizeof(p->bytes) - p->len)
		len = sizeof(p->bytes) - p->len;
	memcpy(p->bytes + p->len, data, len);
	p->len += len;
}

static void put_be16(struct payload *p, unsigned n)
{
	be16_t raw = be16_put((uint16_t)n);

	put(p, &raw, sizeof(raw));
}

static void put_be32(struct payload *p, uint32_t n)
{
	be32_t raw = be32_put(n);

	put(p, &raw, sizeof(raw));
}

/* A string with its length in front, which may lie; `len_bytes` 0: no length. */
static void put_string(struct run *run, struct payload *p, const char *const *texts, size_t count,
		       bool with_len)
{
	unsigned which = script_byte(run->script);
	const char *text = texts[which % count];
	size_t len = strlen(text);
	uint8_t own[256];

	if (which >= 200) {
		const uint8_t *bytes = script_bytes(run->script, script_byte(run->script), &len);

		memcpy(own, bytes, len);
		text = (const char *)own;
	}
	if (with_len)
		put_be32(p, which == 199 ? script_u16(run->script) << 16 : (uint32_t)len);
	put(p, text, len);
}

static void put_name(struct run *run, struct payload *p, bool with_len)
{
	static char longest[NBD_STRING_MAX + 3];
	static const char *const names[] = {
		"demo",	   "",	 "pool/demo", "demo;ro", "dr",	  "d",
		"p",	   "s",	 "x",	      ";ro",	 "demo;", "demo;holder=7",
		"demo;rw", "d/", "d@friday",  "a/b/c",	 "/d",	  "demo;standby",
		longest,
	};

	memset(longest, 'd', sizeof(longest) - 1);
	put_string(run, p, names, sizeof(names) / sizeof(names[0]), with_len);
}

static void put_infos(struct run *run, struct payload *p)
{
	unsigned count = script_below(run->script, 8), i;

	put_be16(p, count == 7 ? script_u16(run->script) : count);
	for (i = 0; i < count; i++)
		put_be16(p, script_below(run->script, 6));
}

static void put_queries(struct run *run, struct payload *p)
{
	static const char *const queries[] = {
		"base:allocation",
		"base:",
		"qemu:allocation-depth",
		"qemu:",
		"x-ashlar:shared",
		"x-ashlar:",
		"x-nosuch:",
		"nocolon",
		"base:other",
		"",
		"qemu:dirty-bitmap:",
		"qemu:dirty-bitmap:s1",
		"qemu:dirty-bitmap:s2",
		"qemu:dirty-bitmap:sgone",
		"qemu:dirty-bitmap:x",
		"qemu:dirty-bitmap:d@s",
		"qemu:dirty-bitmap",
	};
	unsigned count = script_below(run->script, 16), i;

	put_be32(p, count == 15 ? script_u16(run->script) << 16 : count);
	for (i = 0; i < count; i++)
		put_string(run, p, queries, sizeof(queries) / sizeof(queries[0]), true);
}

static void send_option(struct run *run, uint32_t number, const struct payload *p, uint32_t more)
{
	struct nbd_option_header header = {
		be64_put(NBD_OPTION_MAGIC),
		be32_put(number),
		be32_put((uint32_t)p->len + more),
	};
	static const uint8_t zeroes[4096];

	if (handshake_state(run->h) == HANDSHAKE_TALKING && run->options != UINT32_MAX)
		run->options++;
	feed(run, &header, sizeof(header));
	feed(run, p->bytes, p->len);
	for (; more && handshake_state(run->h) == HANDSHAKE_TALKING;) {
		uint32_t part = more < sizeof(zeroes) ? more : sizeof(zeroes);

		feed(run, zeroes, part);
		more -= part;
	}
}

static void option(struct run *run)
{
	static struct payload p;
	unsigned number = script_below(run->script, 13);
	size_t len = 0;
	const uint8_t *extra;

	p.len = 0;
	if (number == NBD_OPT_EXPORT_NAME) {
		put_name(run, &p, false);
	} else if (number == NBD_OPT_INFO || number == NBD_OPT_GO) {
		put_name(run, &p, true);
		put_infos(run, &p);
	} else if (number == NBD_OPT_LIST_META_CONTEXT || number == NBD_OPT_SET_META_CONTEXT) {
		put_name(run, &p, true);
		put_queries(run, &p);
	}
	if (script_below(run->script, 8) == 7) {
		extra = script_bytes(run->script, script_byte(run->script), &len);
		put(&p, extra, len);
	}
	send_option(run, number, &p, 0);
}

/* One with a payload that nobody should keep. */
static void large_option(struct run *run)
{
	static const uint32_t lens[] = {
		4097, 16 << 10, (16 << 10) + 1, 70000, 1 << 20, UINT32_MAX
	};
	static const struct payload none;

	send_option(run, script_below(run->script, 13), &none, lens[script_below(run->script, 6)]);
}

static void raw(struct run *run)
{
	size_t len;
	const uint8_t *bytes = script_bytes(run->script, script_byte(run->script), &len);

	if (len)
		run->options = UINT32_MAX;
	feed(run, bytes, len);
}

static void step(struct run *run)
{
	unsigned i;

	switch (script_below(run->script, 16)) {
	default:
		option(run);
		break;
	case 9:
		large_option(run);
		break;
	case 10:
		raw(run);
		break;
	case 11:
		run->no_read = !run->no_read;
		drain(run, false);
		break;
	case 12:
		run->now_ms += script_u16(run->script) / 64;
		handshake_tick(run->h, run->now_ms);
		break;
	case 13:
		if (script_below(run->script, 4) == 1)
			handshake_closed(run->h);
		break;
	case 14:
		for (i = script_byte(run->script); i > 0; i--)
			send_option(run, NBD_OPT_STRUCTURED_REPLY, &(struct payload){ 0 }, 0);
		break;
	}
}

static void begin(struct run *run)
{
	static const size_t portions[] = { SIZE_MAX, 1, 3, 16, 20, 333, 4096, 70000 };
	static const uint32_t flags[] = { 3, 3, 3, 1, 2, 0, 4, 0x80000003 };
	static const struct handshake_ops ops = { .find = fuzz_find,
						  .open = fuzz_open,
						  .list = fuzz_list,
						  .find_bases = fuzz_find_bases,
						  .list_bases = fuzz_list_bases,
						  .preset = fuzz_preset };
	static const char *const presets[] = { NULL, "demo", "x", "pool/d" };
	be32_t client;

	run->portion = portions[script_below(run->script, 8)];
	run->preset = presets[script_below(run->script, 4)];
	client = be32_put(flags[script_below(run->script, 8)]);
	run->h = handshake_new(&ops, run, 0, TIMEOUT_MS);
	drain(run, true);
	feed(run, &client, sizeof(client));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct script s = { data, len };
	struct run run = { .script = &s };
	struct handshake_result result;

	begin(&run);
	while (s.left && handshake_state(run.h) == HANDSHAKE_TALKING)
		step(&run);
	drain(&run, true);
	check_output(&run);
	if (handshake_state(run.h) == HANDSHAKE_READY) {
		handshake_get_result(run.h, &result);
		if (result.contexts && !result.structured)
			abort();
		if (result.contexts >> CONTEXT_COUNT !=
		    CONTEXTS_BITMAPS(run.base_count) >> CONTEXT_COUNT)
			abort(); /* each bitmap has what it is compared with */
	}
	if ((handshake_state(run.h) == HANDSHAKE_READY) != (run.opens == 1))
		abort();
	if ((handshake_state(run.h) == HANDSHAKE_FAILED) != !!handshake_reason(run.h)[0])
		abort();
	if (handshake_deadline_ms(run.h) != TIMEOUT_MS)
		abort();
	handshake_closed(run.h);
	if (handshake_state(run.h) == HANDSHAKE_TALKING)
		abort();
	handshake_free(run.h);
	return 0;
}
