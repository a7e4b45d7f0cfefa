/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Config files from hostile hands: no input may crash the parser, and what it accepts must print
 * as text that it accepts again and prints the same.
 */
#include <stdlib.h>

#include "tests/common/conf_schema.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static char *print_all(struct conf *c, size_t *ret_len)
{
	char *text = NULL;
	FILE *f = open_memstream(&text, ret_len);

	conf_print(c, f, CONF_PRINT_PRESETS);
	fclose(f);
	return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct conf *c, *again;
	size_t first_len, second_len;
	char *first, *second;

	if (memmem(data, len, "include", 7)) /* would read files of this machine */
		return 0;
	c = conf_new(&schema_root);
	conf_read_text(c, "fuzz", (const char *)data, len);
	if (conf_finish(c)) {
		for (size_t i = 0; conf_error_text(c, i); i++)
			if (strchr(conf_error_text(c, i), '\n'))
				abort();
		conf_free(c);
		return 0;
	}
	first = print_all(c, &first_len);
	again = conf_new(&schema_root);
	if (conf_read_text(again, "again", first, first_len) || conf_finish(again))
		abort();
	second = print_all(again, &second_len);
	if (first_len != second_len || memcmp(first, second, first_len) != 0)
		abort();
	free(first);
	free(second);
	conf_free(again);
	conf_free(c);
	return 0;
}
