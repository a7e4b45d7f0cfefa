/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Page-aligned zeroed memory from the kernel, for buffers of the device and for large tables. */
#ifndef THIN_MEMORY_H
#define THIN_MEMORY_H

#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#define MEMORY_HUGE_MIN (2ull << 20)

/* NULL: none.  Pages come when they are touched; give it back with memory_unmap(). */
static inline void *memory_map(uint64_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* Wishes for huge pages: a hundredth of the page faults, and of the misses of the TLB. */
static inline void memory_huge(void *p, uint64_t bytes)
{
	if (p && bytes >= MEMORY_HUGE_MIN)
		madvise(p, bytes, MADV_HUGEPAGE);
}

/* NULL is fine. */
static inline void memory_unmap(void *p, uint64_t bytes)
{
	if (p)
		munmap(p, bytes);
}

#endif
