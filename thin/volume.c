/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Volumes as the library's users see them: names, handles, looking. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "thin/pool.h"

/* Not a blank, a control, or one that hides or turns what stands beside it in a list. */
static bool visible(uint32_t c)
{
	static const struct {
		uint32_t first, last;
	} refused[] = {
		{ 0x80, 0xa0 },	      { 0xad, 0xad },	  { 0x61c, 0x61c },   { 0x1680, 0x1680 },
		{ 0x180e, 0x180e },   { 0x2000, 0x200f }, { 0x2028, 0x202f }, { 0x205f, 0x206f },
		{ 0x3000, 0x3000 },   { 0xd800, 0xdfff }, { 0xfeff, 0xfeff }, { 0xfff0, 0xffff },
		{ 0xe0000, 0xe0fff },
	};

	for (unsigned i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		if (c >= refused[i].first && c <= refused[i].last)
			return false;
	return true;
}

/* Length of the UTF-8 sequence at `p`, 0 if it is not a valid one (RFC 3629). */
static unsigned utf8_length(const unsigned char *p)
{
	unsigned n = *p >= 0xf0 ? 4 : *p >= 0xe0 ? 3 : 2;
	uint32_t c = *p & (0xffu >> (n + 1));

	if (*p < 0xc2 || *p > 0xf4)
		return 0;
	for (unsigned i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (p[i] & 0x3f);
	}
	if ((n == 3 && c < 0x800) || (n == 4 && (c < 0x10000 || c > 0x10ffff)) || !visible(c))
		return 0;
	return n;
}

static bool plain(unsigned char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '.' || c == '_' || c == '-';
}

int thin_name_check(const char *name, struct err *err)
{
	const unsigned char *p = (const unsigned char *)name;
	size_t len = strlen(name);

	if (len == 0 || len > THIN_NAME_MAX)
		return err_set(err, -EINVAL, "a name has 1 to %u bytes, not %zu", THIN_NAME_MAX,
			       len);
	if (*p == '.' || *p == '-')
		return err_set(err, -EINVAL, "name \"%s\": must not begin with '%c'", name, *p);
	while (*p) {
		unsigned n = plain(*p) ? 1 : *p >= 0x80 ? utf8_length(p) : 0;

		if (!n)
			return err_set(err, -EINVAL,
				       "a name has letters, digits, '.', '_' and '-'; byte %zu is "
				       "0x%02x",
				       (size_t)(p - (const unsigned char *)name) + 1, *p);
		p += n;
	}
	return 0;
}

static void fill_stat(const struct thin_pool *pool, const struct volume *v,
		      struct thin_vol_stat *ret_stat)
{
	struct catalog *c = (struct catalog *)&pool->catalog;
	const struct volume *of = v->of ? volume_by_id(c, v->of) : NULL;

	memset(ret_stat, 0, sizeof(*ret_stat));
	ret_stat->id = v->id;
	memcpy(ret_stat->name, v->name, sizeof(v->name));
	snprintf(ret_stat->path, sizeof(ret_stat->path), "%s%s%s", of ? of->name : "",
		 of ? "@" : "", v->name);
	ret_stat->size_bytes = v->size_bytes;
	ret_stat->mapped_blocks = v->mapped_blocks;
	ret_stat->own_blocks = v->own_blocks;
	ret_stat->reserved_blocks = v->reserved_blocks;
	ret_stat->reserve_full = v->reserve_full;
	ret_stat->open_count = v->open_count;
	ret_stat->created_s = v->created_s;
	ret_stat->state = (enum thin_vol_state)v->state;
	ret_stat->of = v->of;
	ret_stat->parent = v->parent ? v->parent->id : 0;
	ret_stat->child_count = v->child_count;
	ret_stat->generation = v->generation;
	ret_stat->exclusive_exact = lineage_exclusive(v, &ret_stat->exclusive_blocks);
	ret_stat->reclaiming_blocks = v->reclaiming_blocks;
}

static int stat_of(const struct thin_pool *pool, const struct volume *v,
		   struct thin_vol_stat *ret_stat)
{
	if (!v)
		return -ENOENT;
	fill_stat(pool, v, ret_stat);
	return 0;
}

int thin_vol_next(const struct thin_pool *pool, const char *after, struct thin_vol_stat *ret_stat)
{
	return stat_of(pool, volume_after(&pool->catalog, 0, after), ret_stat);
}

int thin_snapshot_next(const struct thin_pool *pool, uint64_t of, const char *after,
		       struct thin_vol_stat *ret_stat)
{
	return of ? stat_of(pool, volume_after(&pool->catalog, of, after), ret_stat) : -ENOENT;
}

int thin_lineage_next(const struct thin_pool *pool, uint64_t after, struct thin_vol_stat *ret_stat)
{
	return stat_of(pool, volume_after_id(&pool->catalog, after), ret_stat);
}

int thin_ancestor_next(const struct thin_pool *pool, uint64_t id, uint64_t of,
		       struct thin_vol_stat *ret_stat)
{
	const struct volume *v = volume_by_id((struct catalog *)&pool->catalog, id);

	do
		v = v ? v->parent : NULL;
	while (v && (v->state != VOLUME_SNAPSHOT || v->of == of));
	return stat_of(pool, v, ret_stat);
}

static const struct volume *root_of(const struct thin_pool *pool, uint64_t id)
{
	const struct volume *v = volume_by_id((struct catalog *)&pool->catalog, id);

	while (v && v->parent)
		v = v->parent;
	return v;
}

bool thin_lineage_related(const struct thin_pool *pool, uint64_t a, uint64_t b)
{
	const struct volume *root = root_of(pool, a);

	return root && root == root_of(pool, b);
}

uint32_t thin_heirs(const struct thin_pool *pool, uint64_t id, uint64_t *ids, uint32_t max,
		    uint32_t *looks)
{
	struct volume *top = volume_by_id((struct catalog *)&pool->catalog, id), *v = top;
	uint32_t count = 0;

	for (uint32_t end = *looks + THIN_HEIRS_LOOKS; v && count < max && *looks < end; ++*looks) {
		if (v == top || v->state == VOLUME_HIDDEN) {
			v = lineage_below(top, v);
			continue;
		}
		ids[count++] = v->id;
		v = lineage_behind(top, v);
	}
	return count;
}

int thin_vol_find(const struct thin_pool *pool, const char *name, struct thin_vol_stat *ret_stat)
{
	return stat_of(pool, volume_by_path((struct catalog *)&pool->catalog, name), ret_stat);
}

int thin_lock_get(const struct thin_pool *pool, uint64_t id, struct thin_lock *ret_lock)
{
	const struct volume *v = volume_by_id((struct catalog *)&pool->catalog, id);

	if (!v || v->state != VOLUME_LIVE)
		return -ENOENT;
	*ret_lock = v->lock ? *v->lock : (struct thin_lock){ 0 };
	return 0;
}

/* Whose snapshot it is; NULL: it is none. */
static struct volume *volume_of(struct thin_pool *pool, const struct volume *v)
{
	return v->of ? volume_by_id(&pool->catalog, v->of) : NULL;
}

int thin_vol_open(struct thin_pool *pool, const char *name, struct thin_vol **ret_vol)
{
	struct volume *v = volume_by_path(&pool->catalog, name), *of;
	struct thin_vol *handle;

	of = v ? volume_of(pool, v) : NULL;
	if (!v || v->removing || (of && of->removing))
		return -ENOENT;
	if (v->left_out)
		return -EIO;
	handle = calloc(1, sizeof(*handle));
	if (!handle)
		return -ENOMEM;
	handle->pool = pool;
	handle->volume = v;
	v->open_count++;
	if (of)
		of->snapshots_open++;
	*ret_vol = handle;
	return 0;
}

void thin_vol_close(struct thin_vol *vol)
{
	struct volume *of = vol ? volume_of(vol->pool, vol->volume) : NULL;

	if (!vol)
		return;
	assert(vol->volume->open_count > 0);
	vol->volume->open_count--;
	if (of)
		of->snapshots_open--;
	free(vol);
}

uint64_t thin_vol_size_bytes(const struct thin_vol *vol)
{
	return vol->volume->size_bytes;
}

void thin_vol_stat(const struct thin_vol *vol, struct thin_vol_stat *ret_stat)
{
	fill_stat(vol->pool, vol->volume, ret_stat);
}
