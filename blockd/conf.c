// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * blockd's configuration.
 *
 *	root: control runtime connections handshake_timeout memory log_level
 *	listen "name" { address socket_activation mode owner group insecure default }
 *	pool   "name" { path size journal cache data_cache buffers ahead spin_us create
 *	                salvage }
 *	volume "name" { pool size reserve description second_writer on_disconnect grace fence }
 *
 * The tables say what one value may be; the check_*() functions below what must hold between
 * values.  Each adds its complaints to the tree and goes on, so that one run shows them all; only
 * then is the tree turned into the plain structs the rest of blockd reads.
 */
#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "blockd/access/lock_policy.h"
#include "blockd/conf.h"
#include "blockd/defaults.h"
#include "blockd/nbd/export_name.h"
#include "blockd/server.h"
#include "common/base/nearest.h"
#include "common/base/units.h"
#include "thin/thin.h"

#define CONNECTIONS_MAX 65535u

/* ---- values ---- */

static int check_name(const char *title, struct err *err)
{
	if (thin_name_check(title, NULL) == 0)
		return 0;
	return err_set(
		err, -EINVAL,
		"found the name \"%.64s\", expected 1 to %u letters, digits, '.', '_' or '-', "
		"not beginning with '.' or '-'",
		title, THIN_NAME_MAX);
}

static int check_block_multiple(const struct conf_value *value, struct err *err)
{
	if (value->number % THIN_BLOCK_SIZE == 0)
		return 0;
	return err_set(err, -EINVAL, "found \"%s\", expected a multiple of %u bytes", value->text,
		       THIN_BLOCK_SIZE);
}

static int check_address(const struct conf_value *value, struct err *err)
{
	return server_check_address(value->text, err);
}

/* systemd.socket(5): FileDescriptorName= is 1 to 255 characters without control characters or ':'.
 */
static int check_activation(const struct conf_value *value, struct err *err)
{
	size_t len = strlen(value->text);

	if (len >= 1 && len <= 255 && !strchr(value->text, ':') && strcmp(value->text, "control"))
		return 0;
	return err_set(
		err, -EINVAL,
		"found \"%.64s\", expected the FileDescriptorName= of a socket unit (without "
		"':', and \"control\" is the control socket)",
		value->text);
}

static int check_default(const struct conf_value *value, struct err *err)
{
	struct export_name name;

	if (strlen(value->text) <= EXPORT_NAME_MAX &&
	    export_name_parse(value->text, strlen(value->text), &name, NULL) == 0 &&
	    (strchr(name.volume, '@') || thin_name_check(name.volume, NULL) == 0))
		return 0;
	return err_set(err, -EINVAL, "found \"%.300s\", expected VOLUME or POOL/VOLUME",
		       value->text);
}

static int check_second_writer(const struct conf_value *value, struct err *err)
{
	struct lock_policy policy;

	return lock_policy_second(value->text, &policy, err);
}

static int check_control(const struct conf_value *value, struct err *err)
{
	if (strlen(value->text) < sizeof(((struct sockaddr_un *)NULL)->sun_path))
		return 0;
	return err_set(err, -EINVAL, "found \"%s\", expected a socket path of at most %zu bytes",
		       value->text, sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1);
}

static int check_owner(const struct conf_value *value, struct err *err)
{
	return getpwnam(value->text)
		       ? 0
		       : err_set(err, -EINVAL, "found \"%s\", expected a user of this system",
				 value->text);
}

static int check_group(const struct conf_value *value, struct err *err)
{
	return getgrnam(value->text)
		       ? 0
		       : err_set(err, -EINVAL, "found \"%s\", expected a group of this system",
				 value->text);
}

/* ---- schema ---- */

static const char *const log_level_words[] = { "error", "warning", "info", "debug", NULL };
static const enum log_level log_levels[] = { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO,
					     LOG_LEVEL_DEBUG };

static const struct conf_key root_keys[] = {
	{ .name = "control",
	  .type = CONF_PATH,
	  .preset = CONF_CONTROL_DEFAULT,
	  .check = check_control,
	  .help = "the socket vdiskctl talks to, mode 0600" },
	{ .name = "runtime",
	  .type = CONF_PATH,
	  .help = "directory on tmpfs for what survives blockd but not the power" },
	{ .name = "connections",
	  .type = CONF_INT,
	  .preset = "100",
	  .min = 1,
	  .max = CONNECTIONS_MAX,
	  .help = "most NBD connections at once" },
	{ .name = "handshake_timeout",
	  .type = CONF_DURATION,
	  .preset = "10s",
	  .min = 100,
	  .max = 3600 * 1000,
	  .help = "a client that has not finished its handshake by then is dropped" },
	{ .name = "memory",
	  .type = CONF_SIZE,
	  .min = DEFAULTS_MEMORY_MIN,
	  .max = 1ULL << 50,
	  .check = check_block_multiple,
	  .help = "what the sizes of caches are derived from; the host's or the cgroup's" },
	{ .name = "log_level",
	  .type = CONF_WORD,
	  .preset = "info",
	  .words = log_level_words,
	  .help = "lines that matter less are left out" },
	{ 0 },
};

static const struct conf_key listen_keys[] = {
	{ .name = "address",
	  .type = CONF_STRING,
	  .check = check_address,
	  .help = "unix:PATH or tcp:ADDRESS:PORT" },
	{ .name = "socket_activation",
	  .type = CONF_STRING,
	  .check = check_activation,
	  .help = "take the socket that systemd passes under this name instead" },
	{ .name = "mode", .type = CONF_MODE, .help = "permissions of a unix socket; 0660" },
	{ .name = "owner",
	  .type = CONF_STRING,
	  .check = check_owner,
	  .help = "user that owns a unix socket" },
	{ .name = "group",
	  .type = CONF_STRING,
	  .check = check_group,
	  .help = "group that owns a unix socket" },
	{ .name = "insecure",
	  .type = CONF_BOOL,
	  .preset = "false",
	  .help = "allow plain TCP on an address beyond loopback" },
	{ .name = "default",
	  .type = CONF_STRING,
	  .check = check_default,
	  .help = "the volume that clients get who name none" },
	{ 0 },
};

static const struct conf_key pool_keys[] = {
	{ .name = "path",
	  .type = CONF_PATH,
	  .flags = CONF_REQUIRED,
	  .help = "a file or a block device" },
	{ .name = "size",
	  .type = CONF_SIZE,
	  .min = THIN_POOL_MIN,
	  .max = THIN_POOL_MAX,
	  .check = check_block_multiple,
	  .help = "made with it, grown to it, never shrunk" },
	{ .name = "journal",
	  .type = CONF_SIZE,
	  .min = THIN_JOURNAL_MIN,
	  .max = THIN_JOURNAL_MAX,
	  .check = check_block_multiple,
	  .help = "the intent log, fixed when the pool is made" },
	{ .name = "cache",
	  .type = CONF_SIZE,
	  .min = THIN_NODE_CACHE_MIN,
	  .max = 1ULL << 40,
	  .help = "memory for the maps of the volumes" },
	{ .name = "data_cache",
	  .type = CONF_SIZE,
	  .max = 1ULL << 42,
	  .help = "memory for blocks read and written lately; 0: none" },
	{ .name = "buffers",
	  .type = CONF_SIZE,
	  .min = 34u << 20,
	  .max = 1ULL << 36,
	  .help = "memory for requests on their way" },
	{ .name = "ahead",
	  .type = CONF_SIZE,
	  .preset = "256M",
	  .max = 4ULL << 30,
	  .help = "free space of a pool file to keep written for new data" },
	{ .name = "spin_us",
	  .type = CONF_INT,
	  .preset = "50",
	  .max = 1000,
	  .help = "microseconds to poll before sleeping, while that pays; 0: never" },
	{ .name = "create",
	  .type = CONF_BOOL,
	  .preset = "false",
	  .help = "make the pool when it is missing" },
	{ .name = "salvage",
	  .type = CONF_BOOL,
	  .preset = "false",
	  .help = "open it read-only, without volumes whose records are damaged" },
	{ 0 },
};

static const char *const reserve_words[] = { "none", "full", NULL };

static const struct conf_key volume_keys[] = {
	{ .name = "pool",
	  .type = CONF_STRING,
	  .flags = CONF_REQUIRED,
	  .help = "the pool it lives in" },
	{ .name = "size",
	  .type = CONF_SIZE,
	  .flags = CONF_REQUIRED,
	  .min = THIN_BLOCK_SIZE,
	  .max = THIN_VOLUME_MAX,
	  .check = check_block_multiple,
	  .help = "made with it, grown to it, never shrunk" },
	{ .name = "reserve",
	  .type = CONF_WORD,
	  .preset = "none",
	  .words = reserve_words,
	  .help = "full: the pool keeps space for every block, writing never finds it full" },
	{ .name = "description", .type = CONF_STRING, .max = 255, .help = "a line for people" },
	{ .name = "second_writer",
	  .type = CONF_STRING,
	  .preset = "refuse",
	  .check = check_second_writer,
	  .help = "who wants to write while another does: refuse, wait=TIME, readonly, standby" },
	{ .name = "on_disconnect",
	  .type = CONF_WORD,
	  .preset = "release",
	  .words = lock_disconnect_words,
	  .help = "keep: a lost connection keeps the write lock until it is broken" },
	{ .name = "grace",
	  .type = CONF_DURATION,
	  .preset = "30s",
	  .max = LOCK_GRACE_MAX_MS,
	  .help = "how long a lost connection keeps the write lock for its owner" },
	{ .name = "fence",
	  .type = CONF_WORD,
	  .preset = "eperm",
	  .words = lock_fence_words,
	  .help = "what a write without the lock gets: an error, or its connection closed" },
	{ 0 },
};

static const struct conf_section_type sections[] = {
	{ .name = "listen",
	  .title = CONF_TITLE_STRING,
	  .title_check = check_name,
	  .keys = listen_keys,
	  .help = "a socket that serves NBD" },
	{ .name = "pool",
	  .title = CONF_TITLE_STRING,
	  .title_check = check_name,
	  .keys = pool_keys,
	  .help = "a file or device that holds volumes" },
	{ .name = "volume",
	  .title = CONF_TITLE_STRING,
	  .title_check = check_name,
	  .keys = volume_keys,
	  .help = "a disk that must be there" },
	{ 0 },
};

const struct conf_section_type blockd_conf_schema = {
	.name = "",
	.title = CONF_TITLE_NONE,
	.keys = root_keys,
	.sections = sections,
};

/* ---- checks between values ---- */

/* Keys that belong to a unix socket made here. */
static void check_listen_no_file(struct conf *tree, const struct blockd_conf_listen *listen,
				 const char *with, const char *why)
{
	static const char *const keys[] = { "mode", "owner", "group" };
	const struct conf_section *s = listen->section;

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (conf_text(s, keys[i]))
			conf_error_at(tree, s, keys[i], "found \"%s\" with %s, expected none: %s",
				      conf_text(s, keys[i]), with, why);
}

static void check_listen_tcp(struct conf *tree, const struct blockd_conf_listen *listen)
{
	check_listen_no_file(tree, listen, "a TCP address", "only a unix socket has one");
	if (server_address_is_public(listen->address) && !listen->insecure)
		conf_error_at(tree, listen->section, "address",
			      "found plain TCP beyond loopback (\"%s\"), expected a loopback "
			      "address, or insecure = true for a network you trust",
			      listen->address);
}

/* `a` and `b`: the same key of two sections, NULL where it is not set. */
static void check_listen_twice(struct conf *tree, const struct blockd_conf_listen *listen,
			       const struct blockd_conf_listen *other, const char *key,
			       const char *a, const char *b)
{
	if (a && b && strcmp(a, b) == 0)
		conf_error_at(tree, listen->section, key,
			      "found \"%s\", expected another: listen \"%s\" (line %u) has it", a,
			      other->name, other->section->pos.line);
}

/* A pool that is named must be one of this file; a volume may be made later. */
static void check_listen_default(struct conf *tree, const struct blockd_conf_listen *listen)
{
	struct export_name name;

	if (listen->preset &&
	    export_name_parse(listen->preset, strlen(listen->preset), &name, NULL) == 0 &&
	    name.pool[0] && !conf_section_find(tree, conf_root(tree), "pool", name.pool))
		conf_error_at(tree, listen->section, "default",
			      "found \"%s\", expected a volume in a pool of this file",
			      listen->preset);
}

static void check_listen(struct conf *tree, const struct blockd_conf *conf,
			 const struct blockd_conf_listen *listen)
{
	const struct conf_section *s = listen->section;

	if (!listen->address == !listen->activation) {
		if (!conf_is_set(s, "address") && !conf_is_set(s, "socket_activation"))
			conf_error(tree, &s->pos,
				   "listen \"%s\": found no \"address\", expected one "
				   "(or socket_activation)",
				   listen->name);
		else if (listen->address)
			conf_error_at(tree, s, "socket_activation",
				      "found \"%s\" beside an address, expected one of them: the "
				      "socket unit has the address",
				      listen->activation);
	} else if (listen->activation) {
		check_listen_no_file(tree, listen, "socket_activation",
				     "the socket unit has it (SocketMode=, SocketUser=, "
				     "SocketGroup=)");
	} else if (strncmp(listen->address, "unix:", 5) != 0) {
		check_listen_tcp(tree, listen);
	} else if (conf->control && strcmp(listen->address + 5, conf->control) == 0) {
		conf_error_at(tree, s, "address",
			      "found the path of the control socket, expected another");
	}
	check_listen_default(tree, listen);
	for (const struct blockd_conf_listen *o = conf->listens; o < listen; o++) {
		check_listen_twice(tree, listen, o, "address", listen->address, o->address);
		check_listen_twice(tree, listen, o, "socket_activation", listen->activation,
				   o->activation);
	}
}

/* Two names of one file: the paths are equal, or both exist and are the same inode. */
static bool same_file(const char *a, const char *b)
{
	struct stat sa, sb;

	if (strcmp(a, b) == 0)
		return true;
	if (stat(a, &sa) < 0 || stat(b, &sb) < 0)
		return false;
	if (S_ISBLK(sa.st_mode) && S_ISBLK(sb.st_mode))
		return sa.st_rdev == sb.st_rdev;
	return sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino;
}

static void check_pool(struct conf *tree, const struct blockd_conf *conf,
		       const struct blockd_conf_pool *pool)
{
	const struct conf_section *s = pool->section;
	struct stat st;
	bool is_device = pool->path && stat(pool->path, &st) == 0 && S_ISBLK(st.st_mode);

	if (pool->create && !conf_is_set(s, "size") && !is_device && pool->path)
		conf_error_at(tree, s, "create",
			      "found create = true without a size, expected size = SIZE "
			      "(only a block device has one of its own)");
	if (pool->size_bytes && pool->journal_bytes > pool->size_bytes / 2)
		conf_error_at(tree, s, "journal", "found \"%s\", expected at most half of the pool",
			      conf_text(s, "journal"));
	for (const struct blockd_conf_pool *o = conf->pools; o < pool; o++)
		if (pool->path && o->path && same_file(o->path, pool->path))
			conf_error_at(
				tree, s, "path",
				"found \"%s\", expected another: pool \"%s\" (line %u) has it",
				pool->path, o->name, o->section->pos.line);
}

static void check_volume(struct conf *tree, const struct blockd_conf *conf,
			 const struct blockd_conf_volume *volume)
{
	const struct conf_section *s = volume->section;
	struct nearest near;

	if (!volume->pool || conf_section_find(tree, conf_root(tree), "pool", volume->pool))
		return;
	nearest_start(&near, volume->pool);
	for (size_t i = 0; i < conf->pool_count; i++)
		nearest_feed(&near, conf->pools[i].name);
	if (near.best)
		conf_error_at(tree, s, "pool",
			      "found \"%s\", expected a pool of this file; did you mean \"%s\"?",
			      volume->pool, near.best);
	else
		conf_error_at(tree, s, "pool", "found \"%s\", expected a pool of this file",
			      volume->pool);
}

static void check_all(struct conf *tree, const struct blockd_conf *conf)
{
	const struct conf_pos *top = &conf_root(tree)->pos;
	bool read_well = conf_error_count(tree) == 0; /* else they may be there, misspelt */

	if (read_well && conf->pool_count == 0)
		conf_error(tree, top, "found no pool, expected at least one pool section");
	if (read_well && conf->listen_count == 0)
		conf_error(tree, top, "found no listener, expected at least one listen section");
	if (conf->listen_count > BLOCKD_LISTEN_MAX)
		conf_error_at(tree, conf->listens[BLOCKD_LISTEN_MAX].section, NULL,
			      "found %zu listeners, expected at most %u", conf->listen_count,
			      BLOCKD_LISTEN_MAX);
	for (size_t i = 0; i < conf->listen_count; i++)
		check_listen(tree, conf, &conf->listens[i]);
	for (size_t i = 0; i < conf->pool_count; i++)
		check_pool(tree, conf, &conf->pools[i]);
	for (size_t i = 0; i < conf->volume_count; i++)
		check_volume(tree, conf, &conf->volumes[i]);
}

/* ---- tree to structs ---- */

static size_t count_sections(struct conf *tree, const char *name)
{
	size_t count = 0;

	for (struct conf_section *s = conf_section_first(conf_root(tree), name); s;
	     s = conf_section_next(s, name))
		count++;
	return count;
}

static void take_listen(struct blockd_conf_listen *listen, const struct conf_section *s)
{
	const struct passwd *pw = NULL;
	const struct group *gr = NULL;

	listen->name = s->title;
	listen->section = s;
	listen->address = conf_text(s, "address");
	listen->activation = conf_text(s, "socket_activation");
	listen->preset = conf_text(s, "default");
	listen->insecure = conf_flag(s, "insecure");
	listen->mode = conf_is_set(s, "mode") ? (mode_t)conf_number(s, "mode") : 0660;
	/* a wrong value is set, has no text, and is an error already */
	if (conf_text(s, "owner"))
		pw = getpwnam(conf_text(s, "owner"));
	if (conf_text(s, "group"))
		gr = getgrnam(conf_text(s, "group"));
	listen->uid = pw ? pw->pw_uid : (uid_t)-1;
	listen->gid = gr ? gr->gr_gid : (gid_t)-1;
}

static void take_pool(struct blockd_conf_pool *pool, const struct conf_section *s)
{
	pool->name = s->title;
	pool->section = s;
	pool->path = conf_text(s, "path");
	pool->size_bytes = conf_number(s, "size");
	pool->journal_bytes = conf_number(s, "journal");
	pool->cache_bytes = conf_number(s, "cache");
	pool->data_cache_bytes = conf_number(s, "data_cache");
	pool->buffer_bytes = conf_number(s, "buffers");
	pool->ahead_bytes = conf_number(s, "ahead");
	pool->spin_us = (uint32_t)conf_number(s, "spin_us");
	pool->create = conf_flag(s, "create");
	pool->salvage = conf_flag(s, "salvage");
}

static void take_volume(struct blockd_conf_volume *volume, const struct conf_section *s)
{
	volume->name = s->title;
	volume->section = s;
	volume->pool = conf_text(s, "pool");
	volume->size_bytes = conf_number(s, "size");
	volume->reserve_full = conf_number(s, "reserve") == 1;
	volume->description = conf_text(s, "description");
	volume->lock = (struct lock_policy){ .grace_ms = (uint32_t)conf_number(s, "grace"),
					     .keep = conf_number(s, "on_disconnect") == 1,
					     .disconnect = conf_number(s, "fence") == 1 };
	if (conf_text(s, "second_writer")) /* else it has been complained about */
		(void)lock_policy_second(conf_text(s, "second_writer"), &volume->lock, NULL);
}

static int take_all(struct blockd_conf *conf)
{
	struct conf_section *root = conf_root(conf->tree), *s;
	size_t listens = count_sections(conf->tree, "listen");
	size_t pools = count_sections(conf->tree, "pool");
	size_t volumes = count_sections(conf->tree, "volume");

	conf->control = conf_text(root, "control");
	conf->runtime = conf_text(root, "runtime");
	conf->connections_max = conf_number(root, "connections");
	conf->handshake_timeout_ms = conf_number(root, "handshake_timeout");
	conf->log_level = log_levels[conf_number(root, "log_level")];
	conf->listens = calloc(listens + 1, sizeof(*conf->listens));
	conf->pools = calloc(pools + 1, sizeof(*conf->pools));
	conf->volumes = calloc(volumes + 1, sizeof(*conf->volumes));
	if (!conf->listens || !conf->pools || !conf->volumes)
		return -ENOMEM;
	for (s = conf_section_first(root, "listen"); s; s = conf_section_next(s, "listen"))
		take_listen(&conf->listens[conf->listen_count++], s);
	for (s = conf_section_first(root, "pool"); s; s = conf_section_next(s, "pool"))
		take_pool(&conf->pools[conf->pool_count++], s);
	for (s = conf_section_first(root, "volume"); s; s = conf_section_next(s, "volume"))
		take_volume(&conf->volumes[conf->volume_count++], s);
	return 0;
}

/* The default of `runtime` is the directory of the control socket: known only now. */
static int preset_runtime(struct blockd_conf *conf, struct err *err)
{
	struct conf_section *root = conf_root(conf->tree);
	char dir[PATH_MAX];
	const char *texts[] = { dir };
	char *slash;

	if (conf_is_set(root, "runtime") || !conf_text(root, "control"))
		return 0;
	snprintf(dir, sizeof(dir), "%s", conf_text(root, "control"));
	slash = strrchr(dir, '/');
	if (slash == dir)
		slash++;
	*slash = '\0';
	return conf_entry_set(conf->tree, root, "runtime", texts, 1, err);
}

/* Set `key`, unless the file does. */
static int preset_size(struct conf *tree, struct conf_section *s, const char *key, uint64_t bytes,
		       struct err *err)
{
	char text[UNITS_TEXT_MAX];
	const char *texts[] = { size_format(bytes, text) };

	return conf_is_set(s, key) ? 0 : conf_entry_set(tree, s, key, texts, 1, err);
}

static int preset_pool(struct conf *tree, struct conf_section *s, uint64_t memory, size_t count,
		       struct err *err)
{
	const char *path = conf_text(s, "path");
	uint64_t there = path ? defaults_file_bytes(path) : 0, size = conf_number(s, "size");
	struct defaults d;
	int rc;

	size = size > there ? size : there;
	defaults_derive(memory, count, size, &d);
	rc = preset_size(tree, s, "cache", d.cache_bytes, err);
	if (rc == 0)
		rc = preset_size(tree, s, "data_cache", d.data_cache_bytes, err);
	if (rc == 0)
		rc = preset_size(tree, s, "buffers", d.buffer_bytes, err);
	/* a pool that exists has the journal that it was made with */
	if (rc == 0 && conf_flag(s, "create") && size && !there)
		rc = preset_size(tree, s, "journal", d.journal_bytes, err);
	return rc;
}

/* What is derived from the host. */
static int preset_sizes(struct blockd_conf *conf, struct err *err)
{
	struct conf_section *root = conf_root(conf->tree), *s;
	size_t count = count_sections(conf->tree, "pool");
	uint64_t memory;
	int rc = preset_size(conf->tree, root, "memory", defaults_memory(""), err);

	memory = conf_number(root, "memory");
	for (s = conf_section_first(root, "pool"); s && rc == 0; s = conf_section_next(s, "pool"))
		rc = preset_pool(conf->tree, s, memory, count, err);
	return rc;
}

int blockd_conf_load(const char *path, FILE *errors, struct blockd_conf **ret_conf)
{
	struct blockd_conf *conf = calloc(1, sizeof(*conf));
	struct err err = { 0 };
	int rc = -ENOMEM;

	*ret_conf = NULL;
	if (conf)
		conf->tree = conf_new(&blockd_conf_schema);
	if (!conf || !conf->tree)
		goto out;
	(void)conf_read_file(conf->tree, path);
	(void)conf_finish(conf->tree);
	rc = preset_runtime(conf, &err);
	if (rc == 0)
		rc = preset_sizes(conf, &err);
	if (rc < 0)
		goto out;
	rc = take_all(conf);
	if (rc < 0)
		goto out;
	check_all(conf->tree, conf);
	if (conf_error_count(conf->tree) > 0) {
		conf_print_errors(conf->tree, errors);
		rc = -EINVAL;
		goto out_free;
	}
	*ret_conf = conf;
	return 0;
out:
	fprintf(errors, "%s: %s\n", path, err.code ? err.text : strerror(-rc));
out_free:
	blockd_conf_free(conf);
	return rc;
}

int blockd_conf_print(const struct blockd_conf *conf, FILE *out)
{
	return conf_print(conf->tree, out, CONF_PRINT_PRESETS);
}

void blockd_conf_free(struct blockd_conf *conf)
{
	if (!conf)
		return;
	free(conf->listens);
	free(conf->pools);
	free(conf->volumes);
	conf_free(conf->tree);
	free(conf);
}

const struct blockd_conf_volume *blockd_conf_volume_find(const struct blockd_conf *conf,
							 const char *pool, const char *name)
{
	for (size_t i = 0; i < conf->volume_count; i++)
		if (strcmp(conf->volumes[i].name, name) == 0 &&
		    strcmp(conf->volumes[i].pool, pool) == 0)
			return &conf->volumes[i];
	return NULL;
}
