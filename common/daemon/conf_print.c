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

/* Without a lock for each character: whoever prints owns the stream. */
static void put_text(FILE *f, const char *text)
{
	fputs_unlocked(text, f);
}

static void print_quoted(FILE *f, const char *text)
{
	putc_unlocked('"', f);
	while (*text) {
		size_t plain = strcspn(text, "\"\\");

		fwrite_unlocked(text, 1, plain, f);
		text += plain;
		if (*text) {
			putc_unlocked('\\', f);
			putc_unlocked(*text++, f);
		}
	}
	putc_unlocked('"', f);
}

static void print_value(FILE *f, const struct conf_key *key, const struct conf_value *v)
{
	if (conf_type_is_bare(key->type))
		put_text(f, v->text);
	else
		print_quoted(f, v->text);
}

static void indent(FILE *f, unsigned depth)
{
	while (depth--)
		putc_unlocked('\t', f);
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
	put_text(p->f, e->key->name);
	put_text(p->f, " = ");
	if (e->key->flags & CONF_LIST) {
		put_text(p->f, "{ ");
		for (size_t i = 0; i < e->count; i++) {
			if (i)
				put_text(p->f, ", ");
			print_value(p->f, e->key, &e->values[i]);
		}
		put_text(p->f, e->count ? " }" : "}");
	} else {
		print_value(p->f, e->key, &e->values[0]);
	}
	putc_unlocked('\n', p->f);
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
	put_text(p->f, s->type->name);
	if (s->type->title == CONF_TITLE_INT) {
		putc_unlocked(' ', p->f);
		put_text(p->f, s->title);
	} else if (s->type->title == CONF_TITLE_STRING) {
		putc_unlocked(' ', p->f);
		print_quoted(p->f, s->title);
	}
	put_text(p->f, " {\n");
	print_body(p, s, depth + 1);
	indent(p->f, depth);
	put_text(p->f, "}\n");
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
