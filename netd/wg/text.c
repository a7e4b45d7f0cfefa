/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Texts that may hold keys; see text.h. */
#include "netd/wg/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#define SIZE_FIRST 1024
#define LINE_BYTES   512

static bool make_room(struct wg_text *t, size_t more)
{
	size_t size = t->size ? t->size : SIZE_FIRST;
	char *data;

	if (t->failed)
		return false;
	while (size < t->len + more + 1)
		size *= 2;
	if (size == t->size)
		return true;
	data = malloc(size);
	if (!data) {
		t->failed = true;
		return false;
	}
	if (t->len)
		memcpy(data, t->data, t->len);
	if (t->data)
		OPENSSL_cleanse(t->data, t->size);
	free(t->data);
	t->data = data;
	t->size = size;
	return true;
}

void wg_text_add_bytes(struct wg_text *t, const void *data, size_t len)
{
	if (!make_room(t, len))
		return;
	memcpy(t->data + t->len, data, len);
	t->len += len;
	t->data[t->len] = 0;
}

void wg_text_add(struct wg_text *t, const char *fmt, ...)
{
	char line[LINE_BYTES];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof(line))
		t->failed = true;
	else
		wg_text_add_bytes(t, line, (size_t)n);
	OPENSSL_cleanse(line, sizeof(line));
}

void wg_text_add_hex(struct wg_text *t, const char *key, const uint8_t *bytes, size_t len)
{
	static const char digits[] = "0123456789abcdef";

	wg_text_add(t, "%s=", key);
	if (!make_room(t, 2 * len + 1))
		return;
	for (size_t i = 0; i < len; i++) {
		t->data[t->len++] = digits[bytes[i] >> 4];
		t->data[t->len++] = digits[bytes[i] & 15];
	}
	t->data[t->len++] = '\n';
	t->data[t->len] = 0;
}

void wg_text_drop(struct wg_text *t, size_t len)
{
	if (!t->data || !len)
		return;
	memmove(t->data, t->data + len, t->len - len);
	t->len -= len;
	OPENSSL_cleanse(t->data + t->len, len);
}

void wg_text_clear(struct wg_text *t)
{
	if (t->data)
		OPENSSL_cleanse(t->data, t->size);
	free(t->data);
	*t = (struct wg_text){ 0 };
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

bool wg_hex_parse(const char *hex, uint8_t *ret, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		int high = hex_digit(hex[2 * i]), low = high < 0 ? -1 : hex_digit(hex[2 * i + 1]);

		if (low < 0)
			return false;
		ret[i] = (uint8_t)(high << 4 | low);
	}
	return !hex[2 * len];
}
