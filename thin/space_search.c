/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which free blocks are next: for a write, for the hole punch, for writing ahead.
 *
 * Word by word from a cursor to the end of its zone, then on in a zone that is at least half free:
 * the emptiest one whose blocks have been written before if there is one (a write into a hole costs
 * the host three times as much; in the emptiest lie the longest runs, so fewest pieces to be
 * written), else the first of all, so that a pool file stays as small as sequential writing allows;
 * when none is half free, next fit.  Data and metadata have a cursor each.
 *
 * `written` is kept with one bit for 64 blocks, the word of the BUSY bitmap: set when every block
 * of the word has been handed out at once, when it has been written ahead, or when the device says
 * so; cleared by a punch.  Nothing but speed depends on it.
 */
#include <string.h>

#include "thin/space_priv.h"

#define ROOMY_LOOKS 256u /* of so many that are half free the emptiest is taken */

/* ---- words ---- */

static uint32_t lesser(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

static uint32_t zone_word_count(const struct space *sp, uint64_t z)
{
	return (sp->zone[z].blocks + WORD_BITS - 1) / WORD_BITS;
}

/* The bits of word `i` that stand for a block. */
static uint64_t valid_bits(const struct space *sp, uint64_t z, uint32_t i)
{
	uint32_t left = sp->zone[z].blocks - i * WORD_BITS;

	return left >= WORD_BITS ? ~0ull : (1ull << left) - 1;
}

/* Bits [from, to) of a word. */
static uint64_t bit_range(uint32_t from, uint32_t to)
{
	return (to == WORD_BITS ? ~0ull : (1ull << to) - 1) & ~0ull << from;
}

static bool is_written(const struct space *sp, uint64_t word)
{
	return sp->written[word / WORD_BITS] >> word % WORD_BITS & 1;
}

static void mark_written(struct space *sp, uint64_t z, uint32_t i, bool written)
{
	uint64_t word = z * sp->zone_words + i;

	if (is_written(sp, word) == written)
		return;
	sp->written[word / WORD_BITS] ^= 1ull << word % WORD_BITS;
	if (!written) {
		sp->zone[z].written_words--;
		return;
	}
	sp->zone[z].written_words++;
	if (sp->written_end <= z)
		sp->written_end = z + 1;
}

static void set_busy_run(struct space *sp, uint64_t z, uint32_t bit, uint32_t length)
{
	uint64_t *busy = &sp->busy[z * sp->zone_words];
	uint32_t end = bit + length;

	sp->zone[z].busy_count += length;
	sp->busy_count += length;
	for (uint32_t i = bit / WORD_BITS; i * WORD_BITS < end; i++) {
		uint32_t from = i == bit / WORD_BITS ? bit % WORD_BITS : 0;
		uint64_t mask = bit_range(from, lesser(end - i * WORD_BITS, WORD_BITS));

		assert(!(busy[i] & mask));
		busy[i] |= mask;
		if (busy[i] == valid_bits(sp, z, i)) /* each of them is being written */
			mark_written(sp, z, i, true);
	}
}

/* The first free block in zone `z` at or behind `bit`; zone->blocks if none. */
static uint32_t zone_find_free(const struct space *sp, uint64_t z, uint32_t bit)
{
	const uint64_t *busy = &sp->busy[z * sp->zone_words];
	uint32_t blocks = sp->zone[z].blocks;

	while (bit < blocks) {
		uint64_t word = ~busy[bit / WORD_BITS] >> bit % WORD_BITS;

		if (word) {
			bit += (uint32_t)__builtin_ctzll(word);
			return bit < blocks ? bit : blocks;
		}
		bit = (bit / WORD_BITS + 1) * WORD_BITS;
	}
	return blocks;
}

static uint32_t zone_run_length(const struct space *sp, uint64_t z, uint32_t bit, uint64_t want)
{
	const uint64_t *busy = &sp->busy[z * sp->zone_words];
	uint32_t end = sp->zone[z].blocks, at = bit;

	if (want < end - bit)
		end = bit + (uint32_t)want;
	while (at < end) {
		uint64_t word = busy[at / WORD_BITS] >> at % WORD_BITS;

		if (word) {
			at += (uint32_t)__builtin_ctzll(word);
			break;
		}
		at = (at / WORD_BITS + 1) * WORD_BITS;
	}
	return (at < end ? at : end) - bit;
}

/* ---- for a write ---- */

/* Take a run from zone `z`, at or behind `bit`; 0: it has none there. */
static uint64_t take_from_zone(struct space *sp, uint64_t z, uint32_t bit, uint64_t want,
			       uint64_t *cursor)
{
	uint32_t found, length;

	if (sp->zone[z].busy_count == sp->zone[z].blocks)
		return 0;
	found = zone_find_free(sp, z, bit);
	if (found >= sp->zone[z].blocks)
		return 0;
	length = zone_run_length(sp, z, found, want);
	assert(length > 0);
	set_busy_run(sp, z, found, length);
	sp->taken += length;
	*cursor = z * sp->zone_blocks + found + length;
	return length;
}

static bool is_roomy(const struct space *sp, uint64_t z)
{
	return sp->zone[z].busy_count <= sp->zone[z].blocks / 2;
}

static bool mostly_written(const struct space *sp, uint64_t z)
{
	return sp->zone[z].written_words >= zone_word_count(sp, z) / 4 * 3 + 1;
}

static bool on_path(const uint64_t *path, uint32_t count, uint64_t z)
{
	for (uint32_t i = 0; i < count; i++)
		if (path[i] == z)
			return true;
	return false;
}

static bool is_emptier(const struct space *sp, uint64_t a, uint64_t b)
{
	return (uint64_t)sp->zone[a].busy_count * sp->zone[b].blocks <
	       (uint64_t)sp->zone[b].busy_count * sp->zone[a].blocks;
}

/*
 * The zone to go on in when one has come to its end, but for those on the path; zone_count: none is
 * half free.
 */
static uint64_t roomy_zone(const struct space *sp, const uint64_t *path, uint32_t path_count)
{
	uint64_t first = sp->zone_count, emptiest = sp->zone_count;

	for (uint64_t z = 0, looks = 0; z < sp->zone_count && looks < ROOMY_LOOKS; z++) {
		bool written, better;

		if (z >= sp->written_end && first < sp->zone_count)
			break;
		if (!is_roomy(sp, z))
			continue;
		written = mostly_written(sp, z);
		better = written && (emptiest == sp->zone_count || is_emptier(sp, z, emptiest));
		looks += written;
		if ((!better && first < sp->zone_count) || on_path(path, path_count, z))
			continue;
		if (better)
			emptiest = z;
		if (first == sp->zone_count)
			first = z;
	}
	return emptiest < sp->zone_count ? emptiest : first;
}

uint64_t space_take_run(struct space *sp, uint64_t want, bool metadata, struct pblk *ret_first)
{
	uint64_t *cursor = metadata ? &sp->cursor_meta : &sp->cursor_data;
	uint64_t z = *cursor / sp->zone_blocks % sp->zone_count, roomy, length = 0;
	uint32_t bit = (uint32_t)(*cursor % sp->zone_blocks);

	if (bit) /* 0: the last run ended with its zone */
		length = take_from_zone(sp, z, bit, want, cursor);
	if (!length && (roomy = roomy_zone(sp, NULL, 0)) < sp->zone_count)
		length = take_from_zone(sp, roomy, 0, want, cursor);
	for (uint64_t i = 0; !length && i < sp->zone_count; i++) {
		z = z + 1 < sp->zone_count ? z + 1 : 0;
		length = take_from_zone(sp, z, 0, want, cursor);
	}
	if (length)
		*ret_first = space_pblk(sp, *cursor - length);
	return length;
}

/* ---- ahead of the writes ---- */

struct gap_search {
	struct space *sp;
	uint64_t ahead, skip, max;
	struct space_gap *gap;
	uint64_t path[SPACE_PATH_MAX];
	uint32_t path_count;
};

static void found_gap(struct gap_search *s, uint64_t z, uint32_t bit)
{
	struct space *sp = s->sp;
	uint32_t length = zone_run_length(sp, z, bit, s->max), i = bit / WORD_BITS + 1;

	while (i * WORD_BITS < bit + length && !is_written(sp, z * sp->zone_words + i))
		i++;
	s->gap->kind = SPACE_GAP_RUN;
	s->gap->zone = z;
	s->gap->first = space_pblk(sp, z * sp->zone_blocks + bit);
	s->gap->count = lesser(length, i * WORD_BITS - bit);
}

/* False: the search is over. */
static bool search_zone(struct gap_search *s, uint64_t z, uint32_t bit)
{
	struct space *sp = s->sp;

	if (s->path_count == SPACE_PATH_MAX)
		return false;
	s->path[s->path_count++] = z;
	if (!sp->zone[z].known && s->gap->kind == SPACE_GAP_NONE) {
		s->gap->kind = SPACE_GAP_UNKNOWN;
		s->gap->zone = z;
	}
	for (uint32_t i = bit / WORD_BITS; s->ahead && i < zone_word_count(sp, z); i++) {
		uint64_t word = z * sp->zone_words + i;
		uint64_t there = ~sp->busy[word] & valid_bits(sp, z, i);
		uint64_t count;

		if (i == bit / WORD_BITS)
			there &= ~0ull << bit % WORD_BITS;
		count = (uint64_t)__builtin_popcountll(there);
		if (count && !s->skip && s->gap->kind == SPACE_GAP_NONE && !is_written(sp, word))
			found_gap(s, z, i * WORD_BITS + (uint32_t)__builtin_ctzll(there));
		s->skip -= s->skip < count ? s->skip : count;
		s->ahead -= s->ahead < count ? s->ahead : count;
	}
	return s->ahead > 0;
}

/* Zones that leave the path have not been looked at for punching. */
static void change_path(struct space *sp, const struct gap_search *s)
{
	for (uint32_t i = 0; i < sp->path_count; i++)
		if (!on_path(s->path, s->path_count, sp->path[i]))
			space_set_candidate(sp, &sp->zone[sp->path[i]], true);
	memcpy(sp->path, s->path, s->path_count * sizeof(*sp->path));
	sp->path_count = s->path_count;
}

void space_find_gap(struct space *sp, uint64_t ahead, uint64_t skip, uint64_t max,
		    struct space_gap *ret_gap)
{
	struct gap_search s = { .sp = sp, .ahead = ahead, .skip = skip, .max = max };
	uint64_t here = sp->cursor_data / sp->zone_blocks % sp->zone_count;
	uint32_t bit = (uint32_t)(sp->cursor_data % sp->zone_blocks);
	bool on = ahead > 0;

	s.gap = ret_gap;
	*ret_gap = (struct space_gap){ .kind = SPACE_GAP_NONE };
	if (on && bit)
		on = search_zone(&s, here, bit);
	while (on && (here = roomy_zone(sp, s.path, s.path_count)) < sp->zone_count)
		on = search_zone(&s, here, 0);
	change_path(sp, &s);
}

void space_withhold_run(struct space *sp, struct pblk first, uint64_t count)
{
	uint64_t index = space_index(sp, first);

	set_busy_run(sp, index / sp->zone_blocks, (uint32_t)(index % sp->zone_blocks),
		     (uint32_t)count);
}

void space_set_written(struct space *sp, struct pblk first, uint64_t count, bool written)
{
	uint64_t index = space_index(sp, first), z = index / sp->zone_blocks;
	uint32_t bit = (uint32_t)(index % sp->zone_blocks), end = bit + (uint32_t)count;

	for (uint32_t i = bit / WORD_BITS; i * WORD_BITS < end; i++)
		mark_written(sp, z, i, written);
}

/* ---- for the hole punch ---- */

/* Goes once through the zones in which something was freed; a later free makes a zone a candidate
 * again, and so does leaving the path. */
uint64_t space_withhold_free_run(struct space *sp, uint64_t min, uint64_t max,
				 struct pblk *ret_first)
{
	for (uint64_t tried = 0; tried <= sp->zone_count; tried++) {
		uint64_t z = sp->punch_zone;

		if (sp->punch_bit == 0) {
			if (!sp->zone[z].candidate || on_path(sp->path, sp->path_count, z))
				sp->punch_bit = sp->zone[z].blocks;
			space_set_candidate(sp, &sp->zone[z], false);
		}
		while ((sp->punch_bit = zone_find_free(sp, z, sp->punch_bit)) <
		       sp->zone[z].blocks) {
			uint32_t bit = sp->punch_bit;
			uint32_t length = zone_run_length(sp, z, bit, max);

			sp->punch_bit += length;
			if (length < min)
				continue;
			set_busy_run(sp, z, bit, length);
			*ret_first = space_pblk(sp, z * sp->zone_blocks + bit);
			return length;
		}
		sp->punch_zone = z + 1 < sp->zone_count ? z + 1 : 0;
		sp->punch_bit = 0;
	}
	return 0;
}

bool space_punch_pending(const struct space *sp)
{
	return sp->candidates || sp->punch_bit;
}

void space_release_run(struct space *sp, struct pblk first, uint64_t count)
{
	uint64_t index = space_index(sp, first);
	struct space_zone *zone = &sp->zone[index / sp->zone_blocks];
	bool candidate = zone->candidate;

	for (uint64_t i = 0; i < count; i++)
		space_clear_busy(sp, index + i);
	space_set_candidate(sp, zone, candidate); /* giving back a withheld run makes none */
}
