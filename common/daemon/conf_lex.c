/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tokens of a config file.
 *
 *	WORD	anything but space, control characters, quote, { } = , #
 *	STRING	"..." on one line; \" and \\ are escapes
 *	{ } = ,
 *	# to the end of the line is skipped
 *
 * The text of words and strings is checked here once for all: valid UTF-8 (it will end up in JSON)
 * and no control characters (it will end up in logs).  The lexer allocates nothing.
 */
#include "common/daemon/conf_private.h"

#include <errno.h>
#include <string.h>

/* Length of the UTF-8 sequence at p (shortest form, no surrogates), 0 when it is none. */
static size_t utf8_length(const unsigned char *p, const unsigned char *end)
{
	size_t left = (size_t)(end - p), len;
	unsigned min;
	unsigned code;

	if (p[0] < 0x80)
		return 1;
	if (p[0] >= 0xc2 && p[0] <= 0xdf) {
		len = 2, min = 0x80, code = p[0] & 0x1f;
	} else if ((p[0] & 0xf0) == 0xe0) {
		len = 3, min = 0x800, code = p[0] & 0x0f;
	} else if (p[0] >= 0xf0 && p[0] <= 0xf4) {
		len = 4, min = 0x10000, code = p[0] & 0x07;
	} else {
		return 0;
	}
	if (left < len)
		return 0;
	for (size_t i = 1; i < len; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (p[i] & 0x3f);
	}
	if (code < min || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
		return 0;
	return len;
}

void conf_lexer_start(struct conf_lexer *lex, const char *text, size_t len)
{
	lex->at = text;
	lex->end = text + len;
	lex->line = 1;
	lex->token = CONF_TOKEN_END;
	lex->token_line = 1;
	lex->len = 0;
	lex->text[0] = '\0';
	lex->problem = NULL;
	if (len >= 3 && !memcmp(text, "\xef\xbb\xbf", 3)) /* a byte order mark */
		lex->at += 3;
}

static void skip_space(struct conf_lexer *lex)
{
	for (; lex->at < lex->end; lex->at++) {
		switch (*lex->at) {
		case '\n':
			lex->line++;
			break;
		case ' ':
		case '\t':
		case '\r':
			break;
		case '#':
			lex->at = memchr(lex->at, '\n', (size_t)(lex->end - lex->at));
			if (!lex->at) {
				lex->at = lex->end;
				return;
			}
			lex->line++;
			break;
		default:
			return;
		}
	}
}

static enum conf_token bad(struct conf_lexer *lex, const char *problem)
{
	lex->problem = problem;
	lex->at = lex->end;
	return lex->token = CONF_TOKEN_BAD;
}

/* Copy one character (all bytes of it) from the file into the token. */
static bool take_char(struct conf_lexer *lex)
{
	size_t n = utf8_length((const unsigned char *)lex->at, (const unsigned char *)lex->end);

	if ((unsigned char)*lex->at < 0x20 || *lex->at == 0x7f) {
		bad(lex, "found a control character, expected text");
		return false;
	}
	if (!n) {
		bad(lex, "found bytes that are not UTF-8, expected text");
		return false;
	}
	if (lex->len + n > CONF_TOKEN_BYTES_MAX) {
		bad(lex, "found a word or string over 4096 bytes, expected a shorter one");
		return false;
	}
	memcpy(lex->text + lex->len, lex->at, n);
	lex->len += n;
	lex->at += n;
	return true;
}

static enum conf_token read_string(struct conf_lexer *lex)
{
	for (lex->at++; lex->at < lex->end && *lex->at != '\n';) {
		if (*lex->at == '"') {
			lex->at++;
			lex->text[lex->len] = '\0';
			return lex->token = CONF_TOKEN_STRING;
		}
		if (*lex->at == '\\') {
			lex->at++;
			if (lex->at == lex->end || (*lex->at != '"' && *lex->at != '\\'))
				return bad(lex,
					   "found a lone \\ in a string, expected \\\" or \\\\");
		}
		if (!take_char(lex))
			return CONF_TOKEN_BAD;
	}
	return bad(lex, "found a string without its end, expected \" on the same line");
}

static bool is_word_char(char ch)
{
	return ch && !strchr(" \t\r\n\"{}=,#", ch);
}

static enum conf_token read_word(struct conf_lexer *lex)
{
	while (lex->at < lex->end && is_word_char(*lex->at))
		if (!take_char(lex))
			return CONF_TOKEN_BAD;
	lex->text[lex->len] = '\0';
	return lex->token = CONF_TOKEN_WORD;
}

enum conf_token conf_lexer_next(struct conf_lexer *lex)
{
	static const struct {
		char ch;
		enum conf_token token;
	} marks[] = {
		{ '{', CONF_TOKEN_OPEN },
		{ '}', CONF_TOKEN_CLOSE },
		{ '=', CONF_TOKEN_EQUALS },
		{ ',', CONF_TOKEN_COMMA },
	};

	if (lex->token == CONF_TOKEN_BAD)
		return CONF_TOKEN_BAD;
	skip_space(lex);
	lex->token_line = lex->line;
	lex->len = 0;
	lex->text[0] = '\0';
	if (lex->at == lex->end)
		return lex->token = CONF_TOKEN_END;
	for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++)
		if (*lex->at == marks[i].ch) {
			lex->text[lex->len++] = *lex->at++;
			lex->text[lex->len] = '\0';
			return lex->token = marks[i].token;
		}
	if (*lex->at == '"')
		return read_string(lex);
	if (!is_word_char(*lex->at)) /* NUL */
		return bad(lex, "found a control character, expected text");
	return read_word(lex);
}

int conf_text_check(const char *text, struct err *err)
{
	const unsigned char *p = (const unsigned char *)text, *end = p + strlen(text);

	if ((size_t)(end - p) > CONF_TOKEN_BYTES_MAX)
		return err_set(err, -EINVAL, "found %zu bytes, expected at most %u",
			       (size_t)(end - p), CONF_TOKEN_BYTES_MAX);
	while (p < end) {
		size_t n = utf8_length(p, end);

		if (!n)
			return err_set(err, -EINVAL,
				       "found bytes that are not UTF-8, expected text");
		if (*p < 0x20 || *p == 0x7f)
			return err_set(err, -EINVAL, "found a control character, expected text");
		p += n;
	}
	return 0;
}

const char *conf_lexer_found(const struct conf_lexer *lex, char *buf, size_t size)
{
	if (lex->token == CONF_TOKEN_END)
		snprintf(buf, size, "end of file");
	else
		snprintf(buf, size, "\"%.64s\"", lex->text);
	return buf;
}
