/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The verbs of blockd's control socket.  ctx of each is the struct blockd; all on the control
 * thread.  Sizes are bytes, times Unix seconds.
 *
 *	status				the daemon, its listeners and counters
 *	pool-list			{"pools": [pool]}
 *	pool-status [pool]		the same with all figures
 *	pool-grow pool size
 *	pool-scrub pool [status] [stop]	begins one, unless a flag is given: how far it is, finds
 *	volume-list [pool] [after]	{"volumes": [volume], "more"}: see lists.c
 *	volume-info volume
 *	volume-create volume size [pool]
 *	volume-resize volume size [shrink] [force]
 *	volume-rename volume name [force]
 *	volume-delete volume [snapshots] [force]	a snapshot too
 *	snapshot snapshots		"VOL@SNAP VOL2@SNAP2 ...", at the same moment
 *	clone snapshot name [reserve_full]
 *	rollback snapshot [force]
 *	lineage [pool] [after]		{"nodes": [node], "more"}
 *	diff volume base [offset] [id] [base_id]	{"changed": [{offset, length}], "next",
 *					"size_bytes", "id", "base_id"}
 *	volume-claim volume size [pool] [force]	make it, or take an empty one, for an import
 *	lock-show [volume]		lock, or {"locks": [lock]} of those that have been used
 *	lock-handover volume to [ttl_ms] [if_epoch], or volume cancel	lock
 *	lock-break volume [to] [if_epoch]	lock; comes when the fenced owner's last write is over
 *	lock-allow volume		lock
 *	volume-set volume key value	lock; a setting of a volume that no file declares
 *	clients [volume]		{"clients": [connection]}
 *	stat [volume]			{"uptime_ms", "volumes": [counters, {"latency": buckets}]}
 *	metrics				{"text": OpenMetrics}
 *	reload				{"changed": [line], "restart": [line]} or {"errors": [line]}
 *
 * `volume` is NAME or POOL/NAME everywhere, a snapshot [POOL/]NAME@SNAP.
 */
#ifndef BLOCKD_CTL_VERBS_H
#define BLOCKD_CTL_VERBS_H

#include "blockd/daemon.h"
#include "common/daemon/ctl.h"

extern const struct ctl_verb verbs_table[];

/* change.c */
void verb_pool_grow(struct ctl_request *req, void *ctx);
void verb_volume_create(struct ctl_request *req, void *ctx);
void verb_volume_resize(struct ctl_request *req, void *ctx);
void verb_volume_rename(struct ctl_request *req, void *ctx);
void verb_volume_delete(struct ctl_request *req, void *ctx);
void verb_volume_claim(struct ctl_request *req, void *ctx);

/* locks.c */
void verb_lock_show(struct ctl_request *req, void *ctx);
void verb_lock_handover(struct ctl_request *req, void *ctx);
void verb_lock_break(struct ctl_request *req, void *ctx);
void verb_lock_allow(struct ctl_request *req, void *ctx);
void verb_volume_set(struct ctl_request *req, void *ctx);

/* snapshots.c */
void verb_snapshot(struct ctl_request *req, void *ctx);
void verb_clone(struct ctl_request *req, void *ctx);
void verb_rollback(struct ctl_request *req, void *ctx);
void verb_diff(struct ctl_request *req, void *ctx);

/* scrub.c */
void verb_pool_scrub(struct ctl_request *req, void *ctx);
json_t *scrub_json(const struct thin_scrub_stat *stat);

/* lists.c */
void verb_volume_list(struct ctl_request *req, void *ctx);
void verb_volume_info(struct ctl_request *req, void *ctx);
void verb_lineage(struct ctl_request *req, void *ctx);

#endif
