/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sizes and durations; see units.h for the syntax.  Stateless, any thread. */
#include "common/base/units.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "common/base/arith.h"

static const char size_letters[] = "KMGTPE"; /* K is 1024^1, E is 1024^6 */

#define SIZE_EXPECTED	  "expected a size such as 10G, 512M or 65536"
#define DURATION_EXPECTED "expected a duration such as 5s, 120ms or 1h30m"

static const struct duration_unit {
	const char *name;
	uint64_t ms;
} duration_units[] = {
	{ "d", 86400000 }, { "h", 3600000 }, { "m", 60000 }, { "s", 1000 }, { "ms", 1 },
};
#define DURATION_UNIT_COUNT (sizeof(duration_units) / sizeof(duration_units[0]))

/* Read digits at *p.  False when there are none; *ret_fits is false when they overflow. */
static bool scan_digits(const char **p, uint64_t *ret, bool *ret_fits)
{
	const char *s = *p;
	uint64_t v = 0;

	*ret_fits = true;
	for (; *s >= '0' && *s <= '9'; s++)
		if (!arith_mul_u64(v, 10, &v) || !arith_add_u64(v, (uint64_t)(*s - '0'), &v))
			*ret_fits = false;
	if (s == *p)
		return false;
	*p = s;
	*ret = v;
	return true;
}

/* The shift that a size's unit means, -1 when it is none. */
static int size_unit_shift(const char *unit)
{
	const char *letter;

	if (!*unit || !strcasecmp(unit, "b"))
		return 0;
	letter = strchr(size_letters, *unit & ~0x20);
	if (!letter || !*letter)
		return -1;
	if (unit[1] && strcasecmp(unit + 1, "ib") != 0)
		return -1;
	return 10 * (int)(letter - size_letters + 1);
}

int size_parse(const char *text, uint64_t *ret_bytes, struct err *err)
{
	const char *p = text;
	uint64_t v;
	bool fits;
	int shift;

	if (!scan_digits(&p, &v, &fits))
		return err_set(err, -EINVAL, "found \"%.64s\", " SIZE_EXPECTED, text);
	shift = size_unit_shift(p);
	if (shift < 0)
		return err_set(err, -EINVAL, "found \"%.64s\", " SIZE_EXPECTED, text);
	if (!fits || v > UINT64_MAX >> shift)
		return err_set(err, -ERANGE, "found \"%.64s\", expected a size below 16E", text);
	*ret_bytes = v << shift;
	return 0;
}

/* The unit at *p (longest match, so that "ms" is not "m"), NULL when there is none. */
static const struct duration_unit *scan_duration_unit(const char **p)
{
	const struct duration_unit *best = NULL;
	size_t best_len = 0;

	for (size_t i = 0; i < DURATION_UNIT_COUNT; i++) {
		size_t len = strlen(duration_units[i].name);

		if (len > best_len && !strncmp(*p, duration_units[i].name, len)) {
			best = &duration_units[i];
			best_len = len;
		}
	}
	*p += best_len;
	return best;
}

int duration_parse(const char *text, uint64_t *ret_ms, struct err *err)
{
	const char *p = text;
	uint64_t sum = 0;
	bool fits = true;

	if (!strcmp(text, "0")) {
		*ret_ms = 0;
		return 0;
	}
	do {
		const struct duration_unit *unit;
		uint64_t v;
		bool part_fits;

		if (!scan_digits(&p, &v, &part_fits) || !(unit = scan_duration_unit(&p)))
			return err_set(err, -EINVAL, "found \"%.64s\", " DURATION_EXPECTED, text);
		fits = fits && part_fits && arith_mul_u64(v, unit->ms, &v) &&
		       arith_add_u64(sum, v, &sum);
	} while (*p);
	if (!fits)
		return err_set(err, -ERANGE, "found \"%.64s\", expected a shorter duration", text);
	*ret_ms = sum;
	return 0;
}

int number_parse(const char *text, uint64_t min, uint64_t max, const char *what,
		 uint64_t *ret_number, struct err *err)
{
	const char *p = text;
	bool fits = false;
	uint64_t v = 0;

	if (!what)
		what = "a number";
	if (!scan_digits(&p, &v, &fits) || *p)
		return err_set(err, -EINVAL,
			       "found \"%.64s\", expected %s from %" PRIu64 " to %" PRIu64, text,
			       what, min, max);
	if (!fits || v < min || v > max)
		return err_set(err, -ERANGE,
			       "found \"%.64s\", expected %s from %" PRIu64 " to %" PRIu64, text,
			       what, min, max);
	*ret_number = v;
	return 0;
}

char *size_format(uint64_t bytes, char *buf)
{
	int unit = 0;

	while (unit < 6 && bytes && !(bytes & 1023)) {
		bytes >>= 10;
		unit++;
	}
	if (unit)
		snprintf(buf, UNITS_TEXT_MAX, "%" PRIu64 "%c", bytes, size_letters[unit - 1]);
	else
		snprintf(buf, UNITS_TEXT_MAX, "%" PRIu64, bytes);
	return buf;
}

char *duration_format(uint64_t ms, char *buf)
{
	size_t i = 0;

	while (i + 1 < DURATION_UNIT_COUNT && ms % duration_units[i].ms)
		i++;
	if (ms)
		snprintf(buf, UNITS_TEXT_MAX, "%" PRIu64 "%s", ms / duration_units[i].ms,
			 duration_units[i].name);
	else
		snprintf(buf, UNITS_TEXT_MAX, "0");
	return buf;
}

char *size_format_human(uint64_t bytes, char *buf)
{
	uint64_t whole = bytes, tenths;
	int unit = 0;

	while (unit < 6 && whole >= 1024) {
		whole >>= 10;
		unit++;
	}
	if (!unit) {
		snprintf(buf, UNITS_TEXT_MAX, "%" PRIu64 " B", bytes);
		return buf;
	}
	/* Tenths of the unit, rounded; from bits below the unit only, so nothing overflows. */
	tenths = whole * 10 + (((bytes >> (10 * (unit - 1))) & 1023) * 10 + 512) / 1024;
	if (tenths >= 10240 && unit < 6) {
		tenths = 10;
		unit++;
	}
	if (tenths % 10 && tenths < 1000)
		snprintf(buf, UNITS_TEXT_MAX, "%" PRIu64 ".%" PRIu64 " %ciB", tenths / 10,
			 tenths % 10, size_letters[unit - 1]);
	else
		snprintf(buf, UNITS_TEXT_MAX, "%" PRIu64 " %ciB", (tenths + 5) / 10,
			 size_letters[unit - 1]);
	return buf;
}

char *duration_format_human(uint64_t ms, char *buf)
{
	uint64_t s = ms / 1000;

	if (ms < 1000)
		snprintf(buf, UNITS_TEXT_MAX, "%" PRIu64 " ms", ms);
	else if (s < 10)
		snprintf(buf, UNITS_TEXT_MAX, "%" PRIu64 ".%" PRIu64 " s", s, ms % 1000 / 100);
	else if (s < 60)
		snprintf(buf, UNITS_TEXT_MAX, "%" PRIu64 " s", s);
	else if (s < 3600)
		snprintf(buf, UNITS_TEXT_MAX, "%" PRIu64 "m %" PRIu64 "s", s / 60, s % 60);
	else if (s < 86400)
		snprintf(buf, UNITS_TEXT_MAX, "%" PRIu64 "h %" PRIu64 "m", s / 3600, s % 3600 / 60);
	else
		snprintf(buf, UNITS_TEXT_MAX, "%" PRIu64 "d %" PRIu64 "h", s / 86400,
			 s % 86400 / 3600);
	return buf;
}
