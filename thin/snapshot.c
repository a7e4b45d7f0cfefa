/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Snapshots, clones, rollback as requests: checks, room, one operation of the log each.  What they
 * do is lineage.h.
 *
 * Nothing waits for data: writes that have not been published yet belong to what comes after.  The
 * blocks that a volume with reserve = full had for itself become shared, so the pool has to promise
 * them again, or the request is refused.
 */
#include <errno.h>
#include <string.h>

#include "thin/control.h"
#include "thin/pool.h"

#define BLOCKS_A_RECORD 4u /* of a snapshot and of its volume, and above them */

struct group {
	uint8_t bytes[FMT_OP_MAX];
	uint32_t len;
	uint64_t promise;
};

/* Whether another member is a snapshot of the same volume: they would be the same. */
static bool named_before(struct req_state *rs, uint32_t index, const struct volume *vol)
{
	for (uint32_t i = 0; i < index; i++) {
		const char *path = rs->req->names[i];
		size_t len = strlen(vol->name);

		if (strncmp(path, vol->name, len) == 0 && path[len] == '@')
			return true;
	}
	return false;
}

static int group_add(struct req_state *rs, uint32_t index, struct group *g)
{
	const char *path = rs->req->names[index], *at = strchr(path, '@');
	struct catalog *c = &rs->pool->catalog;
	char name[THIN_NAME_MAX + 1];
	struct fmt_op_member m;
	struct volume *vol;

	if (!at || (size_t)(at - path) > THIN_NAME_MAX || control_name(at + 1, name))
		return -EINVAL;
	m.len = (uint8_t)strlen(name);
	memcpy(name, path, (size_t)(at - path));
	name[at - path] = 0;
	vol = volume_by_name(c, 0, name);
	if (!vol)
		return -ENOENT;
	if (volume_by_name(c, vol->id, at + 1))
		return -EEXIST;
	if (named_before(rs, index, vol))
		return -EINVAL;
	if (g->len + sizeof(m) + m.len > sizeof(g->bytes))
		return -E2BIG;
	if (control_held_back(rs, vol))
		return -EAGAIN;
	m.volume = le64_put(vol->id);
	memcpy(g->bytes + g->len, &m, sizeof(m));
	memcpy(g->bytes + g->len + sizeof(m), at + 1, m.len);
	g->len += (uint32_t)sizeof(m) + m.len;
	g->promise += vol->reserve_full ? vol->own_blocks : 0;
	return 0;
}

int control_snapshot(struct req_state *rs)
{
	const struct thin_req *req = rs->req;
	struct fmt_op *op;
	struct group g;
	int r = req->name_count ? 0 : -EINVAL;

	op = (struct fmt_op *)g.bytes;
	*op = (struct fmt_op){ .kind = le32_put(FMT_OP_SNAPSHOT),
			       .volume = le64_put(req->name_count),
			       .a = le64_put(rs->pool->catalog.next_id),
			       .b = le64_put(req->time_s) };
	g.len = sizeof(*op);
	g.promise = 0;
	for (uint32_t i = 0; !r && i < req->name_count; i++)
		r = group_add(rs, i, &g);
	if (!r && rs->pool->generation >= UINT32_MAX - 4)
		r = -EOVERFLOW;
	if (!r)
		r = control_records(rs, req->name_count);
	if (r)
		return r;
	return control_op(rs, op, g.len, 0, g.promise + BLOCKS_A_RECORD * req->name_count);
}

static struct volume *snapshot_of(struct req_state *rs)
{
	struct volume *snap =
		rs->req->name ? volume_by_path(&rs->pool->catalog, rs->req->name) : NULL;

	return snap && snap->state == VOLUME_SNAPSHOT ? snap : NULL;
}

int control_clone(struct req_state *rs)
{
	const struct thin_req *req = rs->req;
	struct volume *snap = snapshot_of(rs);
	struct fmt_op op = { .kind = le32_put(FMT_OP_CLONE),
			     .volume = le64_put(rs->pool->catalog.next_id),
			     .b = le64_put(req->time_s) };
	char name[THIN_NAME_MAX + 1];
	uint64_t promise;
	int r;

	if (control_name(req->new_name, name))
		return -EINVAL;
	if (!snap)
		return -ENOENT;
	if (volume_by_name(&rs->pool->catalog, 0, name))
		return -EEXIST;
	r = control_records(rs, 1);
	if (r)
		return r;
	op.a = le64_put(snap->id);
	op.flags = le32_put(req->reserve_full ? FMT_VOLUME_RESERVE_FULL : 0);
	strcpy((char *)op.name, name);
	promise = req->reserve_full ? snap->size_bytes / FMT_BLOCK : snap->reserved_blocks;
	return control_op(rs, &op, sizeof(op), 0, promise + BLOCKS_A_RECORD);
}

int control_rollback(struct req_state *rs)
{
	struct catalog *c = &rs->pool->catalog;
	struct volume *snap = snapshot_of(rs), *vol;
	struct fmt_op op = { .kind = le32_put(FMT_OP_ROLLBACK), .b = le64_put(c->next_id) };
	uint64_t had, wants;
	int r;

	if (!snap)
		return -ENOENT;
	vol = volume_by_id(c, snap->of);
	if (control_held_back(rs, vol))
		return -EAGAIN;
	if (vol->open_count)
		return -EBUSY;
	r = control_records(rs, 1);
	if (r)
		return r;
	op.volume = le64_put(vol->id);
	op.a = le64_put(snap->id);
	had = vol->reserved_blocks + volume_promise(vol);
	wants = vol->reserve_full ? snap->size_bytes / FMT_BLOCK : snap->reserved_blocks;
	return control_op(rs, &op, sizeof(op), 0,
			  (wants > had ? wants - had : 0) + BLOCKS_A_RECORD);
}
