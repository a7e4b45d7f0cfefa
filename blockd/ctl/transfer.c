// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * import and export: a volume filled from, or written to, a file, a device or an NBD export.
 *
 * blockd says which URI leads to the volume; the bytes then go over NBD like any client's, so that
 * what is copied is checked and counted like everything else.  What a failed or interrupted copy
 * has made (the new volume, the new file) is taken away again.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "blockd/ctl/copy.h"
#include "blockd/ctl/vdiskctl.h"
#include "common/base/cleanup.h"
#include "common/base/units.h"
#include "thin/thin.h"

#define UNDO_TIMEOUT_MS 60000

static volatile sig_atomic_t stop;

static void on_signal(int sig)
{
	stop = sig;
}

static void catch_signals(void)
{
	struct sigaction action = { .sa_handler = on_signal };

	(void)sigaction(SIGINT, &action, NULL);
	(void)sigaction(SIGTERM, &action, NULL);
	(void)sigaction(SIGHUP, &action, NULL);
	(void)signal(SIGPIPE, SIG_IGN);
}

/* ---- the copy with its progress bar ---- */

static void show_progress(void *user, const struct copy_stat *stat)
{
	uint64_t done = stat->data_bytes + stat->zero_bytes;

	output_progress(user, done < stat->total_bytes ? done : stat->total_bytes,
			stat->total_bytes, true);
}

static double seconds_since(const struct timespec *from)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)(now.tv_sec - from->tv_sec) + (double)(now.tv_nsec - from->tv_nsec) / 1e9;
}

/* Copy and say what was done; the exit code.  Both ends are closed. */
static int transfer(struct cli *cli, const char *verb, struct end *source, struct end *target,
		    bool zero_rest)
{
	const char *from = cli->argv[0], *to = cli->argv[1];
	char what[80], total[UNITS_TEXT_MAX], data[UNITS_TEXT_MAX];
	struct copy_params params = {
		.progress = show_progress, .user = what, .stop = &stop, .zero_rest = zero_rest
	};
	struct copy_stat stat = { 0 };
	struct timespec start;
	struct err err = { 0 };
	json_t *result;
	int rc;

	snprintf(what, sizeof(what), "%s", verb);
	clock_gettime(CLOCK_MONOTONIC, &start);
	rc = copy_run(source, target, &params, &stat, &err);
	output_progress_end();
	if (rc < 0)
		end_discard(target);
	end_close(source);
	end_close(target);
	if (rc < 0) {
		(void)err_context(&err, "%s", verb);
		return vdiskctl_fail(cli, rc == -EINTR ? VDISKCTL_INTERRUPTED : CLI_FAILED, &err);
	}
	output_note(cli->out, "%sed %s to %s: %s, %s of it data, in %.1f s", verb, from, to,
		    size_format_human(stat.total_bytes, total),
		    size_format_human(stat.data_bytes, data), seconds_since(&start));
	result = json_pack("{s:s, s:s, s:I, s:I, s:f}", "source", from, "target", to, "size_bytes",
			   (json_int_t)stat.total_bytes, "data_bytes", (json_int_t)stat.data_bytes,
			   "seconds", seconds_since(&start));
	output_json(cli->out, result);
	json_decref(result);
	return CLI_OK;
}

static const char *first_uri(json_t *answer)
{
	return json_string_value(json_array_get(json_object_get(answer, "uris"), 0));
}

/* ---- import ---- */

/* An image format's file holds its metadata, not the disk: almost never what is wanted. */
static int refuse_images(const char *path, struct err *err)
{
	static const struct {
		size_t offset;
		const char *magic, *format;
	} formats[] = {
		{ 0, "QFI\xfb", "qcow2" },
		{ 0, "KDMV", "vmdk" },
		{ 0, "vhdxfile", "vhdx" },
		{ 64, "\x7f\x10\xda\xbe", "vdi" },
	};
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	char head[512] = { 0 };

	if (fd < 0 || pread(fd, head, sizeof(head), 0) < 8)
		return 0; /* opening it again will say why */
	for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
		const char *format = formats[i].format;
		if (memcmp(head + formats[i].offset, formats[i].magic, strlen(formats[i].magic)))
			continue;
		return err_set(err, -EINVAL,
			       "'%s' is a %s image, import takes the bytes of a disk; "
			       "qemu-img convert -n -f %s -O raw writes one to an NBD URI, "
			       "--raw takes it as it is",
			       path, format, format);
	}
	return 0;
}

/* The size of the volume to be: at least the source's, in blocks. */
static int import_size(struct cli *cli, uint64_t source_bytes, uint64_t *ret_size)
{
	const char *text = cli_option(cli, "size");
	uint64_t size = (source_bytes + THIN_BLOCK_SIZE - 1) / THIN_BLOCK_SIZE * THIN_BLOCK_SIZE;
	int rc;

	if (size == 0)
		size = THIN_BLOCK_SIZE;
	if (text) {
		uint64_t asked;
		rc = cli_parse_size(cli, "--size", text, &asked);
		if (rc)
			return rc;
		if (asked < size)
			return cli_usage_error(cli, "--size: found '%s', the source has %llu bytes",
					       text, (unsigned long long)source_bytes);
		size = asked;
	} else if (size != source_bytes) {
		output_note(cli->out,
			    "the source has %llu bytes, the volume gets %llu (whole blocks)",
			    (unsigned long long)source_bytes, (unsigned long long)size);
	}
	*ret_size = size;
	return 0;
}

/* Take away the volume that a failed import made. */
static void unclaim(struct cli *cli, json_t *claim)
{
	json_t *answer, *args;
	char volume[2 * THIN_NAME_MAX + 2];

	if (!json_is_true(json_object_get(claim, "created")))
		return;
	snprintf(volume, sizeof(volume), "%s/%s", json_string_value(json_object_get(claim, "pool")),
		 json_string_value(json_object_get(claim, "name")));
	args = json_pack("{s:s, s:b}", "volume", volume, "force", 1);
	answer = vdiskctl_ask_quietly(cli, "volume-delete", args, UNDO_TIMEOUT_MS);
	if (!answer)
		fprintf(stderr, "vdiskctl: what was copied to '%s' is still there\n", volume);
	json_decref(answer);
}

static int import_to(struct cli *cli, struct end *source, json_t *claim)
{
	const char *uri = first_uri(claim);
	struct end_target params = {
		.size_bytes = end_size_bytes(source),
		.overwrite = true,
		.reads_zero = json_is_true(json_object_get(claim, "empty")),
	};
	struct end *target;
	struct err err = { 0 };
	int rc = uri ? end_open_target(uri, &params, &target, &err)
		     : err_set(&err, -ENOENT, "blockd has no listener");

	if (rc < 0) {
		end_close(source);
		return vdiskctl_fail(cli, CLI_FAILED, &err);
	}
	return transfer(cli, "import", source, target, true);
}

int vdiskctl_import(struct cli *cli)
{
	const char *place = cli->argv[0], *pool = cli_option(cli, "pool");
	json_t *args, *claim;
	struct end *source;
	struct err err = { 0 };
	uint64_t size = 0;
	int rc = 0;

	catch_signals();
	if (!end_is_uri(place) && !cli_flag(cli, "raw"))
		rc = refuse_images(place, &err);
	if (rc == 0)
		rc = end_open_source(place, &source, &err);
	if (rc < 0)
		return vdiskctl_fail(cli, CLI_FAILED, &err);
	rc = import_size(cli, end_size_bytes(source), &size);
	if (rc) {
		end_close(source);
		return rc;
	}
	args = json_pack("{s:s, s:I, s:b}", "volume", cli->argv[1], "size", (json_int_t)size,
			 "force", (int)cli_flag(cli, "force"));
	if (pool)
		(void)json_object_set_new(args, "pool", json_string(pool));
	rc = vdiskctl_ask(cli, "volume-claim", args, &claim);
	if (rc) {
		end_close(source);
		return rc;
	}
	rc = import_to(cli, source, claim);
	if (rc)
		unclaim(cli, claim);
	json_decref(claim);
	return rc;
}

/* ---- export ---- */

static void warn_open(struct cli *cli, json_t *info)
{
	json_int_t clients = json_integer_value(json_object_get(info, "connections"));

	if (clients > 0)
		fprintf(stderr,
			"vdiskctl: warning: '%s' is open by %lld client%s; what they write "
			"meanwhile "
			"may or may not be in the copy\n",
			cli->argv[0], (long long)clients, clients == 1 ? "" : "s");
}

static int export_from(struct cli *cli, const char *uri)
{
	struct end_target params = { .overwrite = cli_flag(cli, "force") };
	struct end *source, *target;
	struct err err = { 0 };
	int rc = uri ? end_open_source(uri, &source, &err)
		     : err_set(&err, -ENOENT, "blockd has no listener");

	if (rc < 0)
		return vdiskctl_fail(cli, CLI_FAILED, &err);
	params.size_bytes = end_size_bytes(source);
	rc = end_open_target(cli->argv[1], &params, &target, &err);
	if (rc < 0) {
		end_close(source);
		return vdiskctl_fail(cli, CLI_FAILED, &err);
	}
	return transfer(cli, "export", source, target, false);
}

/* Ask for the read-only view: ";ro" behind the export's name, which ends at "?" if anywhere. */
static char *uri_read_only(const char *uri)
{
	size_t name_end = strcspn(uri, "?");
	char *ro = NULL;

	if (asprintf(&ro, "%.*s;ro%s", (int)name_end, uri, uri + name_end) < 0)
		return NULL;
	return ro;
}

int vdiskctl_export(struct cli *cli)
{
	json_t *info;
	CLEANUP_FREE char *uri = NULL;
	int rc;

	catch_signals();
	rc = vdiskctl_ask(cli, "volume-info", json_pack("{s:s}", "volume", cli->argv[0]), &info);
	if (rc)
		return rc;
	warn_open(cli, info);
	if (first_uri(info))
		uri = uri_read_only(first_uri(info));
	json_decref(info);
	return export_from(cli, uri);
}
