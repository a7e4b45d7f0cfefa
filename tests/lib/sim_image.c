// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Sparse disk images, see sim_image.h.  Open addressing, linear probing, nothing is ever taken
 * out of a table (a block that becomes zero keeps its slot).  The hash is the exclusive or over
 * all blocks of mix(block number, content), so that the order of changes does not matter.
 *
 * Single-threaded: the list of free pages is the process's.
 */
#include "tests/lib/sim_image.h"

#include <stdlib.h>
#include <string.h>

#include "tests/lib/rng.h"

#define IMAGE_CAPACITY_MIN 256u

static struct sim_page *free_pages[4096];
static size_t free_count;
static const _Alignas(64) uint8_t zeroes[SIM_BLOCK];

static void *must(void *p)
{
	if (!p)
		abort();
	return p;
}

struct sim_page *sim_page_new(const void *data)
{
	struct sim_page *page;

	if (memcmp(data, zeroes, SIM_BLOCK) == 0)
		return NULL;
	page = free_count ? free_pages[--free_count]
			  : must(aligned_alloc(64, (sizeof(*page) + 63) & ~(size_t)63));
	page->refs = 1;
	memcpy(page->data, data, SIM_BLOCK);
	page->hash = rng_hash(data, SIM_BLOCK);
	return page;
}

struct sim_page *sim_page_get(struct sim_page *page)
{
	if (page)
		page->refs++;
	return page;
}

void sim_page_put(struct sim_page *page)
{
	if (!page || --page->refs)
		return;
	if (free_count < sizeof(free_pages) / sizeof(free_pages[0]))
		free_pages[free_count++] = page;
	else
		free(page);
}

const void *sim_page_data(const struct sim_page *page)
{
	return page ? page->data : zeroes;
}

void sim_image_init(struct sim_image *image)
{
	*image = (struct sim_image){ .capacity = IMAGE_CAPACITY_MIN };
	image->slots = must(calloc(image->capacity, sizeof(*image->slots)));
}

void sim_image_copy(struct sim_image *image, const struct sim_image *from)
{
	*image = *from;
	image->slots = must(malloc(image->capacity * sizeof(*image->slots)));
	memcpy(image->slots, from->slots, image->capacity * sizeof(*image->slots));
	for (size_t i = 0; i < image->capacity; i++)
		sim_page_get(image->slots[i].page);
}

void sim_image_free(struct sim_image *image)
{
	for (size_t i = 0; i < image->capacity; i++)
		sim_page_put(image->slots[i].page);
	free(image->slots);
	*image = (struct sim_image){ 0 };
}

static struct sim_slot *image_find(const struct sim_image *image, uint64_t block)
{
	size_t mask = image->capacity - 1, i = rng_mix(block) & mask;

	while (image->slots[i].block && image->slots[i].block != block + 1)
		i = (i + 1) & mask;
	return &image->slots[i];
}

struct sim_page *sim_image_get(const struct sim_image *image, uint64_t block)
{
	return image_find(image, block)->page;
}

static void image_grow(struct sim_image *image)
{
	struct sim_image bigger = { .capacity = image->capacity * 2,
				    .used = image->used,
				    .hash = image->hash };

	bigger.slots = must(calloc(bigger.capacity, sizeof(*bigger.slots)));
	for (size_t i = 0; i < image->capacity; i++)
		if (image->slots[i].block)
			*image_find(&bigger, image->slots[i].block - 1) = image->slots[i];
	free(image->slots);
	*image = bigger;
}

static uint64_t image_term(uint64_t block, const struct sim_page *page)
{
	return page ? rng_mix(page->hash ^ rng_mix(block)) : 0;
}

void sim_image_set(struct sim_image *image, uint64_t block, struct sim_page *page)
{
	struct sim_slot *slot = image_find(image, block);

	if (!slot->block) {
		if (!page)
			return;
		if (image->used * 2 >= image->capacity) {
			image_grow(image);
			slot = image_find(image, block);
		}
		slot->block = block + 1;
		image->used++;
	}
	image->hash ^= image_term(block, slot->page) ^ image_term(block, page);
	sim_page_get(page);
	sim_page_put(slot->page);
	slot->page = page;
}
