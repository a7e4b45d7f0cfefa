/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One text of a config file as a typed value, one small parser for each type in one table.
 *
 * A parser fills the value's union from value->text and returns 0, or a negative errno with
 * "found ..., expected ..." in `err`.  Memory is the conf's arena.
 */
#include "common/daemon/conf_private.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/nearest.h"
#include "common/base/units.h"

struct parse {
	struct conf *conf;
	const struct conf_key *key;
};

static uint64_t key_max(const struct conf_key *key)
{
	return key->max ? key->max : UINT64_MAX;
}

static int parse_string(struct parse *p, struct conf_value *v, struct err *err)
{
	size_t len = strlen(v->text);
	uint64_t max = p->key->max ? p->key->max : CONF_TOKEN_BYTES_MAX;

	if (len < p->key->min)
		return err_set(err, -EINVAL, "found \"%.64s\", expected at least %" PRIu64 " bytes",
			       v->text, p->key->min);
	if (len > max)
		return err_set(err, -EINVAL,
			       "found \"%.64s\" (%zu bytes), expected at most %" PRIu64 " bytes",
			       v->text, len, max);
	return 0;
}

static int parse_path(struct parse *p, struct conf_value *v, struct err *err)
{
	if (v->text[0] != '/')
		return err_set(err, -EINVAL, "found \"%.64s\", expected an absolute path (/...)",
			       v->text);
	return parse_string(p, v, err);
}

/* "a, b, c or d" into buf, cut when it does not fit. */
static const char *join_words(const char *const *words, char *buf, size_t size)
{
	size_t used = 0;

	buf[0] = '\0';
	for (size_t i = 0; words[i] && used < size; i++)
		used += (size_t)snprintf(buf + used, size - used, "%s%s",
					 !i		? ""
					 : words[i + 1] ? ", "
							: " or ",
					 words[i]);
	return buf;
}

static int parse_word(struct parse *p, struct conf_value *v, struct err *err)
{
	const char *near, *const *words = p->key->words;
	char known[256];

	for (size_t i = 0; words[i]; i++)
		if (!strcmp(words[i], v->text)) {
			v->number = i;
			return 0;
		}
	near = nearest_word(v->text, words);
	return err_set(err, -EINVAL, "found \"%.64s\", expected %s%s%s%s", v->text,
		       join_words(words, known, sizeof(known)), near ? "; did you mean \"" : "",
		       near ? near : "", near ? "\"?" : "");
}

static int parse_bool(struct parse *p, struct conf_value *v, struct err *err)
{
	static const char *const words[] = { "false", "true", "no", "yes", "off", "on" };

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (!strcmp(words[i], v->text)) {
			v->flag = i & 1;
			return 0;
		}
	return err_set(err, -EINVAL, "found \"%.64s\", expected true or false", v->text);
}

static int parse_int(struct parse *p, struct conf_value *v, struct err *err)
{
	if (!p->key->max && !p->key->min &&
	    number_parse(v->text, 0, UINT64_MAX, NULL, &v->number, NULL))
		return err_set(err, -EINVAL, "found \"%.64s\", expected a number", v->text);
	return number_parse(v->text, p->key->min, key_max(p->key), NULL, &v->number, err);
}

static int parse_mode(struct parse *p, struct conf_value *v, struct err *err)
{
	size_t digits = strspn(v->text, "01234567");

	if (!digits || v->text[digits] || digits > 4 || strtoul(v->text, NULL, 8) > 0777)
		return err_set(err, -EINVAL, "found \"%.64s\", expected an octal mode such as 0660",
			       v->text);
	v->number = strtoul(v->text, NULL, 8);
	return 0;
}

static int parse_size(struct parse *p, struct conf_value *v, struct err *err)
{
	char low[UNITS_TEXT_MAX], high[UNITS_TEXT_MAX];
	int r = size_parse(v->text, &v->number, err);

	if (r)
		return r;
	if (v->number < p->key->min && !p->key->max)
		return err_set(err, -ERANGE, "found \"%.64s\", expected a size from %s on", v->text,
			       size_format(p->key->min, low));
	if (v->number < p->key->min || v->number > key_max(p->key))
		return err_set(err, -ERANGE, "found \"%.64s\", expected a size from %s to %s",
			       v->text, size_format(p->key->min, low),
			       size_format(key_max(p->key), high));
	return 0;
}

static int parse_duration(struct parse *p, struct conf_value *v, struct err *err)
{
	char low[UNITS_TEXT_MAX], high[UNITS_TEXT_MAX];
	int r = duration_parse(v->text, &v->number, err);

	if (r)
		return r;
	if (v->number < p->key->min && !p->key->max)
		return err_set(err, -ERANGE, "found \"%.64s\", expected a duration from %s on",
			       v->text, duration_format(p->key->min, low));
	if (v->number < p->key->min || v->number > key_max(p->key))
		return err_set(err, -ERANGE, "found \"%.64s\", expected a duration from %s to %s",
			       v->text, duration_format(p->key->min, low),
			       duration_format(key_max(p->key), high));
	return 0;
}

static int parse_address(struct parse *p, struct conf_value *v, struct err *err)
{
	return addr_parse(v->text, &v->addr, err);
}

static int parse_network(struct parse *p, struct conf_value *v, struct err *err)
{
	return prefix_parse_network(v->text, &v->prefix, err);
}

static int parse_ifaddr(struct parse *p, struct conf_value *v, struct err *err)
{
	if (!strchr(v->text, '/'))
		return err_set(err, -EINVAL,
			       "found \"%.64s\", expected an address with its prefix length such "
			       "as 192.0.2.1/24",
			       v->text);
	return prefix_parse(v->text, &v->prefix, err);
}

static int parse_addrrange(struct parse *p, struct conf_value *v, struct err *err)
{
	return addr_range_parse(v->text, &v->addr_range, err);
}

static int parse_mac(struct parse *p, struct conf_value *v, struct err *err)
{
	int r = mac_parse(v->text, &v->mac, err);

	if (!r && !mac_is_unicast(&v->mac))
		r = err_set(err, -EINVAL, "found \"%.64s\", expected a unicast MAC address",
			    v->text);
	return r;
}

/* "n" or "a-b" of `len` bytes, both within [min, max]. */
static bool scan_range(const char *text, size_t len, uint64_t min, uint64_t max,
		       struct conf_range *ret)
{
	char buf[48], *dash;

	if (len >= sizeof(buf))
		return false;
	memcpy(buf, text, len);
	buf[len] = '\0';
	dash = strchr(buf, '-');
	if (dash)
		*dash++ = '\0';
	if (number_parse(buf, min, max, NULL, &ret->first, NULL))
		return false;
	ret->last = ret->first;
	if (dash && number_parse(dash, min, max, NULL, &ret->last, NULL))
		return false;
	return ret->first <= ret->last;
}

static int parse_ports(struct parse *p, struct conf_value *v, struct err *err)
{
	struct conf_range r;

	if (!scan_range(v->text, strlen(v->text), 1, 65535, &r))
		return err_set(err, -EINVAL,
			       "found \"%.64s\", expected a port or a range such as 8000-8010, "
			       "from 1 to 65535",
			       v->text);
	v->range = r;
	return 0;
}

static int parse_endpoint(struct parse *p, struct conf_value *v, struct err *err)
{
	const char *colon = strrchr(v->text, ':'), *from = v->text, *to = colon;
	struct conf_range ports;
	char host[ADDR_TEXT_MAX];
	struct addr addr;
	bool bracket = v->text[0] == '[';

	if (bracket && colon) {
		from++;
		to--;
	}
	if (!colon || to < from || (bracket && *to != ']') || (size_t)(to - from) >= sizeof(host))
		goto wrong;
	memcpy(host, from, (size_t)(to - from));
	host[to - from] = '\0';
	if (addr_parse(host, &addr, NULL) || (addr.family == 6) != bracket ||
	    !scan_range(colon + 1, strlen(colon + 1), 1, 65535, &ports))
		goto wrong;
	v->endpoint.addr = addr;
	v->endpoint.ports = ports;
	return 0;
wrong:
	return err_set(
		err, -EINVAL,
		"found \"%.96s\", expected ADDRESS:PORT such as 192.0.2.1:80 or [fd00::1]:80",
		v->text);
}

static int parse_ranges(struct parse *p, struct conf_value *v, struct err *err)
{
	size_t count = 1, n = 0;
	struct conf_range *items;

	for (const char *s = v->text; *s; s++)
		count += *s == ',';
	items = conf_alloc(p->conf, count * sizeof(*items));
	if (!items)
		return err_set(err, -ENOMEM, "out of memory");
	for (const char *s = v->text; n < count; n++) {
		size_t len = strcspn(s, ",");

		if (!scan_range(s, len, p->key->min, key_max(p->key), &items[n]))
			return err_set(
				err, -EINVAL,
				"found \"%.*s\", expected a number or a range such as 10-20, "
				"from %" PRIu64 " to %" PRIu64,
				len > 64 ? 64 : (int)len, s, p->key->min, key_max(p->key));
		if (n && items[n].first <= items[n - 1].last)
			return err_set(err, -EINVAL,
				       "found \"%.*s\" behind %" PRIu64
				       ", expected ranges in ascending order, each number once",
				       len > 64 ? 64 : (int)len, s, items[n - 1].last);
		s += len + (s[len] == ',');
	}
	v->ranges.items = items;
	v->ranges.count = count;
	return 0;
}

static const struct {
	int (*parse)(struct parse *p, struct conf_value *v, struct err *err);
	bool bare;
} types[] = {
	[CONF_STRING] = { parse_string, false },
	[CONF_PATH] = { parse_path, false },
	[CONF_WORD] = { parse_word, true },
	[CONF_BOOL] = { parse_bool, true },
	[CONF_INT] = { parse_int, true },
	[CONF_MODE] = { parse_mode, true },
	[CONF_SIZE] = { parse_size, true },
	[CONF_DURATION] = { parse_duration, true },
	[CONF_ADDRESS] = { parse_address, false },
	[CONF_NETWORK] = { parse_network, false },
	[CONF_IFADDR] = { parse_ifaddr, false },
	[CONF_ADDRRANGE] = { parse_addrrange, false },
	[CONF_MAC] = { parse_mac, false },
	[CONF_PORTS] = { parse_ports, false },
	[CONF_ENDPOINT] = { parse_endpoint, false },
	[CONF_RANGES] = { parse_ranges, false },
};

int conf_value_parse(struct conf *c, const struct conf_key *key, struct conf_value *value,
		     struct err *err)
{
	struct parse p = { .conf = c, .key = key };
	int r;

	assert((size_t)key->type < sizeof(types) / sizeof(types[0]));
	r = types[key->type].parse(&p, value, err);
	if (!r && key->check)
		r = key->check(value, err);
	return r;
}

bool conf_type_is_bare(enum conf_type type)
{
	return types[type].bare;
}

/* Defaults are ours: one that does not parse is a mistake of the program. */
struct conf_entry *conf_entry_preset(struct conf *c, const struct conf_key *key)
{
	struct conf_entry *e = conf_alloc(c, sizeof(*e));
	const char *s = key->preset;
	size_t count = 1;

	if (!e)
		return NULL;
	e->key = key;
	e->is_preset = true;
	if (key->flags & CONF_LIST) {
		assert(*s == '{' && s[strlen(s) - 1] == '}' && !strchr(s, '"'));
		for (s++; *s; s++)
			count += *s == ',';
		s = key->preset + 1;
	}
	e->values = conf_alloc(c, count * sizeof(*e->values));
	if (!e->values)
		return NULL;
	for (; e->count < count; e->count++) {
		size_t len = strlen(s);
		int r;

		if (key->flags & CONF_LIST) {
			s += strspn(s, " ,");
			len = strcspn(s, " ,}");
			if (!len)
				break;
		}
		e->values[e->count].text = conf_strndup(c, s, len);
		if (!e->values[e->count].text)
			return NULL;
		r = conf_value_parse(c, key, &e->values[e->count], NULL);
		assert(r == 0 || r == -ENOMEM);
		s += len;
	}
	return e;
}
