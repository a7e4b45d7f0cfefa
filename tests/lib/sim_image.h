/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The content of a simulated disk: a sparse table of 4 KiB pages that images share.
 *
 * Copying an image copies its table, not its pages.  Each image carries a hash of its whole
 * content, kept up to date by every change, so that equal disks are found without comparing.
 * A page of zeroes is no page: a hole and written zeroes are the same disk.
 */
#ifndef TESTS_LIB_SIM_IMAGE_H
#define TESTS_LIB_SIM_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#define SIM_BLOCK 4096u

struct sim_page {
	uint32_t refs;
	uint64_t hash;
	_Alignas(64) uint8_t data[SIM_BLOCK];
};

/* A page with this content and one reference; NULL for zeroes. */
struct sim_page *sim_page_new(const void *data);
struct sim_page *sim_page_get(struct sim_page *page); /* one more reference; NULL is fine */
void sim_page_put(struct sim_page *page);
const void *sim_page_data(const struct sim_page *page);

struct sim_slot {
	uint64_t block; /* number + 1; 0: empty */
	struct sim_page *page;
};

struct sim_image {
	struct sim_slot *slots;
	size_t capacity, used;
	uint64_t hash;
};

void sim_image_init(struct sim_image *image);
void sim_image_copy(struct sim_image *image, const struct sim_image *from);
void sim_image_free(struct sim_image *image);

/* The page of a block, or NULL for zeroes; the image keeps its reference. */
struct sim_page *sim_image_get(const struct sim_image *image, uint64_t block);

/* Takes a reference of its own. */
void sim_image_set(struct sim_image *image, uint64_t block, struct sim_page *page);

#endif
