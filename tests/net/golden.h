/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Compare text with a golden file beside the test; UPDATE_GOLDEN=1 writes it instead.  The folder
 * is the program's first argument.
 */
#ifndef TESTS_NET_GOLDEN_H
#define TESTS_NET_GOLDEN_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/plan.h"

static const char *golden_dir = ".";

static inline void golden_check(const char *name, const char *text)
{
	char path[512], expected[1 << 16];
	size_t len;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s.ok", golden_dir, name);
	if (getenv("UPDATE_GOLDEN")) {
		f = fopen(path, "we");
		assert_non_null(f);
		fputs(text, f);
		fclose(f);
		return;
	}
	f = fopen(path, "re");
	if (!f)
		fail_msg("no %s", path);
	len = fread(expected, 1, sizeof(expected) - 1, f);
	expected[len] = '\0';
	fclose(f);
	if (strcmp(text, expected))
		fail_msg("%s differs; now:\n%s", path, text);
}

/* "STAGE TEXT" a line. */
static inline void golden_plan(const char *name, const struct plan *p)
{
	char *text = NULL;
	size_t size = 0;
	FILE *f = open_memstream(&text, &size);

	for (size_t i = 0; i < p->count; i++)
		fprintf(f, "%u %s\n", p->ops[i]->stage, p->ops[i]->text);
	fclose(f);
	golden_check(name, text);
	free(text);
}

#endif
