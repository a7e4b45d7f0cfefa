/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * blockd's configuration: the schema, the checks between sections, and the result as plain
 * structs.  blockd.conf(5) describes every key; tests/blockd compares it with the tables here.
 */
#ifndef BLOCKD_CONF_H
#define BLOCKD_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "blockd/access/lock.h"
#include "common/base/err.h"
#include "common/daemon/conf.h"
#include "common/daemon/log.h"

#define CONF_FILE_DEFAULT    "/etc/ashlar/blockd.conf"
#define CONF_CONTROL_DEFAULT "/run/blockd/control.sock"
#define BLOCKD_LISTEN_MAX    16u

struct blockd_conf_listen {
	const char *name;
	const struct conf_section *section;
	const char *address; /* NULL: the socket comes from systemd under the name `activation` */
	const char *activation; /* NULL: none */
	const char *preset;	/* the export that the empty name means; NULL: none */
	bool insecure;
	mode_t mode; /* of a unix socket; so are uid and gid, -1: as made */
	uid_t uid;
	gid_t gid;
};

struct blockd_conf_pool {
	const char *name, *path;
	const struct conf_section *section;
	uint64_t size_bytes; /* 0: as it is */
	uint64_t journal_bytes, cache_bytes, data_cache_bytes, buffer_bytes, ahead_bytes;
	uint32_t spin_us;
	bool create, salvage;
};

struct blockd_conf_volume {
	const char *name, *pool, *description; /* description: NULL when there is none */
	const struct conf_section *section;
	uint64_t size_bytes;
	bool reserve_full; /* of a volume that is made; an existing one keeps what it has */
	struct lock_policy lock;
};

struct blockd_conf {
	struct conf *tree; /* owns all strings */
	const char *control, *runtime;
	uint64_t connections_max, handshake_timeout_ms;
	enum log_level log_level;
	struct blockd_conf_listen *listens;
	struct blockd_conf_pool *pools;
	struct blockd_conf_volume *volumes;
	size_t listen_count, pool_count, volume_count;
};

extern const struct conf_section_type blockd_conf_schema;

/*
 * Read and check.  On errors all of them are printed to `errors`, one a line, and -EINVAL comes
 * back; *ret_conf is then NULL.  Blocking (reads files, looks at paths); opens and makes nothing.
 */
int blockd_conf_load(const char *path, FILE *errors, struct blockd_conf **ret_conf)
	__attribute__((warn_unused_result));

/* What -nv prints: every key with its value, reads back as the same configuration. */
int blockd_conf_print(const struct blockd_conf *conf, FILE *out);

void blockd_conf_free(struct blockd_conf *conf);

/* The declaration of a volume, NULL when `name` of `pool` is not in the file. */
const struct blockd_conf_volume *blockd_conf_volume_find(const struct blockd_conf *conf,
							 const char *pool, const char *name);

#endif
