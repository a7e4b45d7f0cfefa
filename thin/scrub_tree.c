/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The scrub's way through trees: the catalog's and those of the volumes; see scrub.h.
 *
 * One look descends from the root to the cursor.  A node that is only in memory, or on its way to
 * the disk, has nothing to be compared; any other is read, and kept while the cursor is under it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "thin/pool.h"
#include "thin/scrub.h"

#define NAMES_SPARE 8u /* bytes kept for ", ..." */

/* ---- walking ---- */

static bool same(struct ent a, struct ent b)
{
	return a.where == b.where && a.birth == b.birth && a.crc == b.crc;
}

/* What the node says; NULL: it has to be read first. */
static const struct fmt_node *page_of(const struct scrub *s, struct ent e, unsigned level)
{
	const struct node *n = node_peek(s->pool, e);
	const struct scrub_node *p = &s->path[level];

	if (e.where & FMT_ENT_MEM || (n && n->state == NODE_WRITING && n->crc == e.crc))
		return n->page;
	return p->valid && same(p->e, e) ? p->page : NULL;
}

/* Blocks of the leaf over `base`, from the cursor on. */
static enum scrub_step collect_leaf(struct scrub *s, const struct fmt_node *page, uint64_t base)
{
	uint64_t i = s->cursor - base;

	for (; i < FMT_NODE_ENTRIES && s->count < s->limit; i++) {
		struct ent e = ent_get(&page->entry[i]);

		if (e.where & FMT_ENT_MAPPED && e.birth > s->low && e.birth <= s->high)
			scrub_add(s, base + i, e);
	}
	s->next = base + i;
	if (s->count)
		return SCRUB_READ;
	s->cursor = s->next;
	return SCRUB_MOVED;
}

/* The first entry at or behind `i` with anything of interest below. */
static uint64_t next_entry(const struct scrub *s, const struct fmt_node *page, uint64_t i)
{
	for (; i < FMT_NODE_ENTRIES; i++) {
		struct ent e = ent_get(&page->entry[i]);

		if (e.where && node_birth(s->pool, e) > s->low)
			break;
	}
	return i;
}

static enum scrub_step look(struct scrub *s, const struct tree *tree)
{
	const struct fmt_entry *slot = &tree->root;

	if (s->cursor >= map_capacity(tree->height))
		return SCRUB_END;
	for (unsigned level = tree->height; level-- > 0;) {
		uint64_t base = s->cursor & ~(map_span(level) - 1), span, i;
		struct ent e = ent_get(slot);
		const struct fmt_node *page;

		if (!e.where || node_birth(s->pool, e) <= s->low) {
			s->cursor = base + map_span(level);
			return SCRUB_MOVED;
		}
		page = page_of(s, e, level);
		if (!page) {
			scrub_add(s, base, e);
			s->is_node = true;
			s->level = level;
			s->next = s->cursor;
			return SCRUB_READ;
		}
		if (level == 0)
			return collect_leaf(s, page, base);
		span = map_span(level - 1);
		i = next_entry(s, page, (s->cursor - base) / span);
		if (i != (s->cursor - base) / span)
			s->cursor = base + i * span;
		if (i == FMT_NODE_ENTRIES)
			return SCRUB_MOVED;
		slot = &page->entry[i];
	}
	return SCRUB_END;
}

enum scrub_step scrub_catalog(struct scrub *s)
{
	s->low = 0;
	s->high = UINT32_MAX;
	return look(s, &s->pool->catalog.tree);
}

/* ---- the volumes ---- */

static uint32_t bound(const struct volume *vol)
{
	const struct volume *p = vol->parent;

	if (p && p->splicing)
		p = p->parent;
	return p ? p->generation : 0;
}

/* Down to which birth it has been read. */
static uint32_t *low_of(const struct scrub *s, struct volume *vol)
{
	if (vol->scrub_run != s->run) {
		vol->scrub_run = s->run;
		vol->scrub_low = UINT32_MAX;
	}
	return &vol->scrub_low;
}

static uint32_t high_of(const struct scrub *s, struct volume *vol)
{
	uint32_t low = *low_of(s, vol);

	return low < s->generation ? low : s->generation;
}

static bool wanted(const struct scrub *s, struct volume *vol)
{
	return !vol->splicing && high_of(s, vol) > bound(vol);
}

/* The next that has an unread part; END: none in a whole round. */
static enum scrub_step next_volume(struct scrub *s)
{
	struct volume *vol = volume_after_id(&s->pool->catalog, s->volume);

	s->cursor = 0;
	s->suspect_count = 0;
	if (!vol) {
		if (!s->any)
			return SCRUB_END;
		s->any = false;
		s->volume = 0;
		return SCRUB_MOVED;
	}
	s->volume = vol->id;
	if (!wanted(s, vol)) {
		s->cursor = UINT64_MAX; /* passed */
		return SCRUB_MOVED;
	}
	s->any = true;
	s->low = bound(vol);
	s->high = high_of(s, vol);
	return SCRUB_MOVED;
}

enum scrub_step scrub_trees(struct scrub *s)
{
	struct volume *vol = s->volume ? volume_by_id(&s->pool->catalog, s->volume) : NULL;
	enum scrub_step r;

	if (!vol || vol->splicing || s->cursor == UINT64_MAX)
		return next_volume(s);
	r = look(s, &vol->tree);
	if (r != SCRUB_END)
		return r;
	*low_of(s, vol) = s->low;
	s->cursor = UINT64_MAX;
	return SCRUB_MOVED;
}

void scrub_moved(struct thin_pool *pool, struct volume *vol, struct volume *fresh)
{
	struct scrub *s = pool->scrub;

	if (!s || s->state != THIN_SCRUB_RUNNING)
		return;
	*low_of(s, fresh) = *low_of(s, vol);
	if (s->volume == vol->id)
		s->volume = fresh->id;
	for (uint32_t i = 0; i < s->found_count; i++)
		if (s->found[i].volume == vol->id)
			s->found[i].volume = fresh->id;
}

void scrub_splicing(struct thin_pool *pool, struct volume *vol, struct volume *child)
{
	struct scrub *s = pool->scrub;

	if (s && s->state == THIN_SCRUB_RUNNING && !wanted(s, vol) && !wanted(s, child))
		*low_of(s, child) = bound(vol);
}

void scrub_spliced(struct thin_pool *pool, const struct volume *vol, const struct volume *child)
{
	struct scrub *s = pool->scrub;

	for (uint32_t i = 0; s && i < s->found_count; i++)
		if (s->found[i].volume == vol->id)
			s->found[i].volume = child->id;
}

/* ---- what was read ---- */

static void keep(struct scrub *s, const struct scrub_block *b, const void *page)
{
	struct scrub_node *p = &s->path[s->level];

	p->valid = true;
	p->e = (struct ent){ FMT_ENT_MAPPED | b->at.n, b->birth, b->crc };
	memcpy(p->page, page, FMT_BLOCK);
}

bool scrub_entry_matches(struct scrub *s, uint32_t i)
{
	const struct scrub_block *b = &s->block[i];
	const void *page = s->buf + (uint64_t)i * FMT_BLOCK;

	if (pool_crc(page, FMT_BLOCK) != b->crc)
		return false;
	if (!s->is_node)
		return true;
	if (!node_page_valid(s->pool, page, s->level))
		return false;
	keep(s, b, page);
	return true;
}

/* As people call it. */
static void fill_path(const struct scrub *s, const struct volume *vol, struct thin_scrub_find *find)
{
	const struct volume *of = vol->of ? volume_by_id(&s->pool->catalog, vol->of) : NULL;
	bool hidden = vol->state == VOLUME_HIDDEN;

	snprintf(find->path, sizeof(find->path), "%s%s%s%s%s", hidden ? "(deleted " : "",
		 of ? of->name : "", of ? "@" : "", vol->name, hidden ? ")" : "");
}

/* Each takes a block, and so may the node above it; nobody admitted that. */
static bool room_to_rewrite(const struct scrub *s, uint32_t records)
{
	return pool_spare_blocks(s->pool) >= 2ull * records + FMT_HEIGHT_MAX;
}

/* The first record under a node of the catalog, or the record itself, is written anew, and so are
 * all nodes above it; at the end of the phase, as it moves what is being read. */
static bool rewrite_record(struct scrub *s, uint64_t slot)
{
	struct thin_pool *pool = s->pool;
	struct catalog *c = &pool->catalog;
	uint64_t end = s->is_node ? slot + map_span(s->level) : slot + 1;

	while (slot < c->slot_count && slot < end && c->slot[slot].kind == FMT_REC_FREE)
		slot++;
	if (slot >= c->slot_count || slot >= end || pool->read_only ||
	    s->rewrite_count == SCRUB_BLOCKS || !room_to_rewrite(s, s->rewrite_count + 1))
		return false;
	s->rewrite[s->rewrite_count++] = slot;
	return true;
}

void scrub_rewrite_records(struct scrub *s)
{
	struct catalog *c = &s->pool->catalog;

	for (uint32_t i = 0; i < s->rewrite_count && room_to_rewrite(s, 1); i++)
		if (c->slot[s->rewrite[i]].kind != FMT_REC_FREE)
			catalog_touch(c, s->rewrite[i]);
	if (s->rewrite_count && !s->checkpoints)
		s->checkpoints = 1;
	s->rewrite_count = 0;
}

static void record_damaged(struct scrub *s, const struct scrub_block *b)
{
	const struct cat_slot *slot = &s->pool->catalog.slot[b->place];
	struct scrub_found f = { .at = b->at };
	struct thin_scrub_find *find = &f.find;

	find->kind = THIN_SCRUB_POOL;
	find->res = b->res;
	find->len_bytes = FMT_BLOCK;
	find->pool_offset = b->at.n * FMT_BLOCK;
	if (s->is_node)
		snprintf(find->path, sizeof(find->path), "catalog: node over record %" PRIu64,
			 b->place);
	else if (slot->kind == FMT_REC_VOLUME)
		snprintf(find->path, sizeof(find->path), "catalog: record of \"%s\"",
			 slot->volume->name);
	else
		snprintf(find->path, sizeof(find->path), "catalog: record %" PRIu64, b->place);
	find->rewritten = rewrite_record(s, b->place);
	scrub_find(s, &f);
}

static void volume_damaged(struct scrub *s, const struct scrub_block *b)
{
	const struct volume *vol = volume_by_id(&s->pool->catalog, s->volume);
	uint64_t span = s->is_node ? map_span(s->level) : 1;
	struct scrub_found f = { .volume = s->volume,
				 .vblk = b->place,
				 .at = b->at,
				 .level = s->is_node ? s->level + 1 : 0 };
	struct thin_scrub_find *find = &f.find;

	if (!vol)
		return; /* it has gone meanwhile */
	if (span > vol->size_bytes / FMT_BLOCK - b->place)
		span = vol->size_bytes / FMT_BLOCK - b->place;
	find->kind = s->is_node ? THIN_SCRUB_MAP : THIN_SCRUB_DATA;
	find->res = b->res;
	find->offset = b->place * FMT_BLOCK;
	find->len_bytes = span * FMT_BLOCK;
	find->pool_offset = b->at.n * FMT_BLOCK;
	fill_path(s, vol, find);
	scrub_find(s, &f);
}

void scrub_entry_damaged(struct scrub *s, uint32_t i)
{
	const struct scrub_block *b = &s->block[i];
	struct ent e = { FMT_ENT_MAPPED | b->at.n, b->birth, b->crc };
	const struct node *n = s->is_node ? node_peek(s->pool, e) : NULL;

	if (s->phase == SCRUB_CATALOG)
		record_damaged(s, b);
	else
		volume_damaged(s, b);
	if (n && n->birth == b->birth && n->crc == b->crc && n->level == s->level)
		keep(s, b, n->page); /* what lies below can be read by what memory still has */
	else if (s->is_node)
		s->next = b->place + map_span(s->level);
}

/* ---- who else has it ---- */

/* Behind `vol` and all that is built on it. */
static struct volume *beside(const struct volume *top, struct volume *vol)
{
	for (; vol != top; vol = vol->parent)
		if (TAILQ_NEXT(vol, sibling))
			return TAILQ_NEXT(vol, sibling);
	return NULL;
}

/* Whether `vol` names the block of the find in the same place: 1, 0, -EAGAIN. */
static int has_it(struct scrub *s, const struct scrub_found *f, struct volume *vol)
{
	struct ent e;
	struct node *leaf;
	int r = map_entry(s->pool, &vol->tree, (struct vblk){ f->vblk },
			  f->level ? f->level - 1 : 0, &s->task, &e);

	if (!r && !f->level && e.where) {
		r = node_get(s->pool, e, 0, &s->task, &leaf);
		if (!r)
			e = ent_get(&leaf->page->entry[f->vblk % FMT_NODE_ENTRIES]);
	}
	if (r)
		return r == -EAGAIN ? r : 0;
	return e.where == (FMT_ENT_MAPPED | f->at.n);
}

static void add_name(struct scrub *s, struct thin_scrub_find *find, const struct volume *vol)
{
	const struct volume *of = vol->of ? volume_by_id(&s->pool->catalog, vol->of) : NULL;
	size_t used = strlen(find->also), left = sizeof(find->also) - used;
	int n;

	if (vol->state == VOLUME_HIDDEN || left < NAMES_SPARE)
		return;
	n = snprintf(find->also + used, left - NAMES_SPARE, "%s%s%s%s", used ? ", " : "",
		     of ? of->name : "", of ? "@" : "", vol->name);
	if ((size_t)n >= left - NAMES_SPARE)
		strcpy(find->also + used, used ? ", ..." : "...");
}

static bool name_over(struct scrub *s)
{
	s->named_count++;
	s->naming = 0;
	s->naming_looks = 0;
	return s->named_count == s->found_count;
}

/* True: all finds have theirs. */
bool scrub_name(struct scrub *s)
{
	struct scrub_found *f = &s->found[s->named_count];
	struct catalog *c = &s->pool->catalog;
	struct volume *top = f->volume ? volume_by_id(c, f->volume) : NULL, *vol;

	if (!top)
		return name_over(s);
	if (!s->naming || s->naming_version != s->pool->lineage.version) {
		s->naming_version = s->pool->lineage.version;
		s->naming = top->id;
		fill_path(s, top, &f->find);
		f->find.also[0] = '\0';
	}
	vol = volume_by_id(c, s->naming);
	vol = vol == top ? lineage_below(top, vol) : vol;
	for (; vol && s->naming_looks < SCRUB_LOOKS; s->naming_looks++) {
		int r = has_it(s, f, vol);

		if (r == -EAGAIN) {
			s->waiting = true;
			s->naming = vol->id;
			return false;
		}
		if (r)
			add_name(s, &f->find, vol);
		vol = r ? lineage_below(top, vol) : beside(top, vol);
	}
	return name_over(s);
}
