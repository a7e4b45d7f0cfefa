/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A binary trie with compressed paths, one for each family.
 *
 *	10.0.0.0/8 (a) --0--> 10.0.0.0/9 (no owner) --0--> 10.1.0.0/16 (b)
 *	                                            --1--> 10.64.0.0/10 (c)
 *
 * A node is a prefix; its children are longer prefixes that start with it and differ in the bit
 * behind it.  A node without owner only branches, and so has two children: there are at most twice
 * as many nodes as prefixes.
 *
 * Addresses are two words, the first bit on top; IPv4 is the upper half of the first.
 */
#include "vpn/allowed.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "common/base/bytes.h"

struct key {
	uint64_t hi, lo;
};

struct allowed_node {
	struct allowed_node *child[2], *parent;
	struct allowed_owner *owner; /* NULL: only branches */
	LIST_ENTRY(allowed_node) of_owner;
	struct key key; /* zero behind `len` */
	uint8_t len, family;
};

static struct key key_of(uint8_t family, const uint8_t *bytes)
{
	be64_t hi, lo;
	be32_t v4;

	if (family == 4) {
		memcpy(&v4, bytes, 4);
		return (struct key){ (uint64_t)be32_get(v4) << 32, 0 };
	}
	memcpy(&hi, bytes, 8);
	memcpy(&lo, bytes + 8, 8);
	return (struct key){ be64_get(hi), be64_get(lo) };
}

/* How many bits both begin with. */
static unsigned key_common(struct key a, struct key b)
{
	if (a.hi != b.hi)
		return (unsigned)__builtin_clzll(a.hi ^ b.hi);
	if (a.lo != b.lo)
		return 64 + (unsigned)__builtin_clzll(a.lo ^ b.lo);
	return 128;
}

static unsigned key_bit(struct key k, unsigned bit)
{
	return bit < 64 ? k.hi >> (63 - bit) & 1 : k.lo >> (127 - bit) & 1;
}

static struct key key_mask(struct key k, unsigned len)
{
	if (len < 64)
		return (struct key){ len ? k.hi & ~(UINT64_MAX >> len) : 0, 0 };
	return (struct key){ k.hi, len < 128 ? k.lo & ~(UINT64_MAX >> (len - 64)) : k.lo };
}

static struct allowed_node **root_of(struct allowed *a, uint8_t family)
{
	return family == 4 ? &a->root4 : &a->root6;
}

/* The place that points to `node`. */
static struct allowed_node **place_of(struct allowed *a, const struct allowed_node *node)
{
	if (!node->parent)
		return root_of(a, node->family);
	return &node->parent->child[node->parent->child[1] == node];
}

static void node_give(struct allowed_node *node, struct allowed_owner *owner)
{
	if (node->owner) {
		LIST_REMOVE(node, of_owner);
		node->owner->count--;
	}
	node->owner = owner;
	if (owner) {
		LIST_INSERT_HEAD(&owner->nodes, node, of_owner);
		owner->count++;
	}
}

static struct allowed_node *node_new(uint8_t family, struct key key, unsigned len)
{
	struct allowed_node *node = calloc(1, sizeof(*node));

	if (!node)
		return NULL;
	node->family = family;
	node->key = key_mask(key, len);
	node->len = (uint8_t)len;
	return node;
}

/* Put `node` where *place points to, with what was there (a longer prefix) below it. */
static void node_place(struct allowed_node **place, struct allowed_node *parent,
		       struct allowed_node *node)
{
	struct allowed_node *below = *place;

	node->parent = parent;
	if (below) {
		node->child[key_bit(below->key, node->len)] = below;
		below->parent = node;
	}
	*place = node;
}

int allowed_insert(struct allowed *a, const struct prefix *p, struct allowed_owner *owner)
{
	uint8_t family = p->addr.family;
	struct key key = key_mask(key_of(family, p->addr.b), p->len);
	struct allowed_node **place = root_of(a, family), *parent = NULL, *node, *branch;
	unsigned common;

	assert(p->len <= addr_bits(&p->addr));
	while (*place && (*place)->len <= p->len &&
	       key_common((*place)->key, key) >= (*place)->len) {
		if ((*place)->len == p->len) {
			node_give(*place, owner);
			return 0;
		}
		parent = *place;
		place = &parent->child[key_bit(key, parent->len)];
	}
	node = node_new(family, key, p->len);
	if (!node)
		return -ENOMEM;
	common = *place ? key_common((*place)->key, key) : 128;
	if (common < p->len && *place) { /* they part: a branch above both */
		branch = node_new(family, key, common);
		if (!branch) {
			free(node);
			return -ENOMEM;
		}
		node_place(place, parent, branch);
		parent = branch;
		place = &branch->child[key_bit(key, common)];
	}
	node_place(place, parent, node);
	node_give(node, owner);
	return 0;
}

/* Take out a node without owner that has fewer than two children; returns its parent. */
static struct allowed_node *node_cut(struct allowed *a, struct allowed_node *node)
{
	struct allowed_node *below = node->child[node->child[1] != NULL], *parent = node->parent;

	*place_of(a, node) = below;
	if (below)
		below->parent = parent;
	free(node);
	return parent;
}

static void node_prune(struct allowed *a, struct allowed_node *node)
{
	while (node && !node->owner && !(node->child[0] && node->child[1]))
		node = node_cut(a, node);
}

int allowed_remove(struct allowed *a, const struct prefix *p, struct allowed_owner *owner)
{
	struct key key = key_mask(key_of(p->addr.family, p->addr.b), p->len);
	struct allowed_node *node = *root_of(a, p->addr.family);

	while (node && node->len < p->len && key_common(node->key, key) >= node->len)
		node = node->child[key_bit(key, node->len)];
	if (!node || node->len != p->len || key_common(node->key, key) < node->len ||
	    node->owner != owner)
		return -ENOENT;
	node_give(node, NULL);
	node_prune(a, node);
	return 0;
}

void allowed_remove_all(struct allowed *a, struct allowed_owner *owner)
{
	struct allowed_node *node;

	while ((node = LIST_FIRST(&owner->nodes))) {
		node_give(node, NULL);
		node_prune(a, node);
	}
}

void allowed_move_all(struct allowed_owner *from, struct allowed_owner *to)
{
	struct allowed_node *node;

	while (from != to && (node = LIST_FIRST(&from->nodes)))
		node_give(node, to);
}

struct allowed_owner *allowed_find(const struct allowed *a, uint8_t family, const uint8_t *bytes)
{
	struct key key = key_of(family, bytes);
	const struct allowed_node *node = family == 4 ? a->root4 : a->root6;
	struct allowed_owner *found = NULL;

	while (node && key_common(node->key, key) >= node->len) {
		if (node->owner)
			found = node->owner;
		if (node->len == (family == 4 ? 32 : 128))
			break;
		node = node->child[key_bit(key, node->len)];
	}
	return found;
}

void allowed_each(const struct allowed_owner *owner,
		  void (*each)(void *ctx, const struct prefix *p), void *ctx)
{
	const struct allowed_node *node;

	LIST_FOREACH (node, &owner->nodes, of_owner) {
		be64_t words[2] = { be64_put(node->key.hi), be64_put(node->key.lo) };
		struct prefix p = { addr_from_bytes(node->family, words), node->len };

		each(ctx, &p);
	}
}
