/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tree as text that parses to the same tree.  Values are printed as they were written; keys
 * come in the order of the schema, sections in the order of the files.  Any thread that owns the
 * conf.
 */
#include "common/daemon/conf_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/cleanup.h"

struct printer {
	FILE *f;
	unsigned flags;
	const char *file; /* only what is from here; NULL: everything */
};

static void print_quoted(FILE *f, const char *text)
{
	putc('"', f);
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			putc('\\', f);
		putc(*text, f);
	}
	putc('"', f);
}

static void print_value(FILE *f, const struct conf_key *key, const struct conf_value *v)
{
	if (conf_type_is_bare(key->type))
		fputs(v->text, f);
	else
		print_quoted(f, v->text);
}

static void indent(FILE *f, unsigned depth)
{
	while (depth--)
		putc('\t', f);
}

static bool from_file(const struct printer *p, const struct conf_pos *pos)
{
	return !p->file || (pos->file && !strcmp(p->file, pos->file));
}

static void print_entry(const struct printer *p, const struct conf_entry *e, unsigned depth)
{
	if (e->is_preset ? !(p->flags & CONF_PRINT_PRESETS) : !from_file(p, &e->pos))
		return;
	if (!e->count && !(e->key->flags & CONF_LIST))
		return;
	indent(p->f, depth);
	fprintf(p->f, "%s = ", e->key->name);
	if (e->key->flags & CONF_LIST) {
		fputs("{ ", p->f);
		for (size_t i = 0; i < e->count; i++) {
			if (i)
				fputs(", ", p->f);
			print_value(p->f, e->key, &e->values[i]);
		}
		fputs(e->count ? " }" : "}", p->f);
	} else {
		print_value(p->f, e->key, &e->values[0]);
	}
	putc('\n', p->f);
}

static void print_section(const struct printer *p, const struct conf_section *s, unsigned depth);

static void print_body(const struct printer *p, const struct conf_section *s, unsigned depth)
{
	for (size_t i = 0; s->type->keys && s->type->keys[i].name; i++)
		if (s->entries[i])
			print_entry(p, s->entries[i], depth);
	for (const struct conf_section *child = s->first; child; child = child->next)
		print_section(p, child, depth);
}

static void print_section(const struct printer *p, const struct conf_section *s, unsigned depth)
{
	bool made = !s->pos.line && s->type->required; /* by conf_finish(), not written */

	if (made ? !(p->flags & CONF_PRINT_PRESETS) : !from_file(p, &s->pos))
		return;
	if ((p->flags & CONF_PRINT_ORIGIN) && s->pos.line) {
		indent(p->f, depth);
		fprintf(p->f, "# %s:%u\n", s->pos.file, s->pos.line);
	}
	indent(p->f, depth);
	fputs(s->type->name, p->f);
	if (s->type->title == CONF_TITLE_INT) {
		fprintf(p->f, " %s", s->title);
	} else if (s->type->title == CONF_TITLE_STRING) {
		putc(' ', p->f);
		print_quoted(p->f, s->title);
	}
	fputs(" {\n", p->f);
	print_body(p, s, depth + 1);
	indent(p->f, depth);
	fputs("}\n", p->f);
}

static int stream_result(FILE *f)
{
	if (fflush(f) || ferror(f))
		return errno ? -errno : -EIO;
	return 0;
}

int conf_print(const struct conf *c, FILE *f, unsigned flags)
{
	struct printer p = { .f = f, .flags = flags };

	print_body(&p, c->root, 0);
	return stream_result(f);
}

int conf_print_section(const struct conf_section *s, FILE *f, unsigned flags)
{
	struct printer p = { .f = f, .flags = flags };

	print_section(&p, s, 0);
	return stream_result(f);
}

/* fsync the folder that holds `path`, so that a rename in it survives a power loss. */
static int sync_folder(const char *path)
{
	CLEANUP_FREE char *folder = strdup(path);
	CLEANUP_CLOSE int fd = -1;
	char *slash;

	if (!folder)
		return -ENOMEM;
	slash = strrchr(folder, '/');
	if (slash)
		slash[slash == folder] = '\0';
	fd = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 || fsync(fd) ? -errno : 0;
}

int conf_save(const struct conf *c, const char *file, const char *path, struct err *err)
{
	struct printer p = { .flags = CONF_PRINT_SET, .file = file };
	CLEANUP_FREE char *temp = NULL;
	int fd, r;

	if (asprintf(&temp, "%s.new", path) < 0) {
		temp = NULL;
		return err_set(err, -ENOMEM, "out of memory");
	}
	fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_sys(err, -errno, "%s", temp);
	p.f = fdopen(fd, "w");
	if (!p.f) {
		r = -errno;
		close(fd);
		unlink(temp);
		return err_sys(err, r, "%s", temp);
	}
	print_body(&p, c->root, 0);
	r = stream_result(p.f);
	if (!r && fsync(fd))
		r = -errno;
	fclose(p.f);
	if (!r && rename(temp, path))
		r = -errno;
	if (r) {
		unlink(temp);
		return err_sys(err, r, "%s", path);
	}
	r = sync_folder(path);
	return r ? err_sys(err, r, "%s", path) : 0;
}
