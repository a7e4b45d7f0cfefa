// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The verbs of vdiskctl that need no blockd: verify and pool create.
 *
 * Both take the pool's lock through the device port, so that neither works on a pool that a blockd
 * has open.
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/ctl/vdiskctl.h"
#include "blockd/poolfile.h"
#include "common/base/cleanup.h"
#include "common/base/units.h"
#include "thin/dev_file.h"

/* ---- verify ---- */

struct findings {
	struct cli *cli;
	json_t *list;
};

static void finding(void *user, const char *text)
{
	struct findings *findings = user;

	(void)json_array_append_new(findings->list, json_string(text));
	output_note(findings->cli->out, "%s", text);
}

static json_t *verify_json(const char *path, const struct thin_verify_report *report, json_t *list,
			   bool clean)
{
	return json_pack("{s:s, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:O}", "path", path, "clean",
			 (int)clean, "volumes", (json_int_t)report->volumes, "nodes",
			 (json_int_t)report->nodes, "data_blocks", (json_int_t)report->data_blocks,
			 "catalog_blocks", (json_int_t)report->catalog_blocks, "errors",
			 (json_int_t)report->errors, "leaked_blocks",
			 (json_int_t)report->leaked_blocks, "findings", list);
}

int vdiskctl_verify(struct cli *cli)
{
	const char *path = cli->argv[0];
	struct dev_file_open how = { .read_only = true };
	struct findings findings = { .cli = cli, .list = json_array() };
	struct thin_verify_report report = { 0 };
	struct thin_dev *dev;
	struct err err = { 0 };
	char data[UNITS_TEXT_MAX];
	json_t *result;
	int rc = dev_file_open(path, &how, &dev, &err);

	if (rc < 0) {
		json_decref(findings.list);
		return vdiskctl_fail(cli, CLI_FAILED, &err);
	}
	rc = thin_verify(dev, cli_flag(cli, "data"), finding, &findings, &report, &err);
	dev->ops->close(dev);
	if (rc < 0 && rc != -EUCLEAN) {
		json_decref(findings.list);
		return vdiskctl_fail(cli, CLI_FAILED, &err);
	}
	if (rc < 0 && err.code) { /* so damaged that it could not be opened */
		finding(&findings, err.text);
		report.errors += !report.errors;
	}
	output_note(cli->out,
		    "%s: %s: %" PRIu64 " volumes, %s of data, %" PRIu64 " errors, %" PRIu64
		    " leaked blocks",
		    path, rc == 0 ? "clean" : "DAMAGED", report.volumes,
		    size_format_human(report.data_blocks * THIN_BLOCK_SIZE, data), report.errors,
		    report.leaked_blocks);
	result = verify_json(path, &report, findings.list, rc == 0);
	output_json(cli->out, result);
	json_decref(result);
	json_decref(findings.list);
	return rc == 0 ? CLI_OK : VDISKCTL_DAMAGED;
}

/* ---- pool create ---- */

static void show_section(struct cli *cli, const char *path)
{
	CLEANUP_FREE char *real = realpath(path, NULL);

	output_note(cli->out, "made the pool '%s'; blockd.conf(5) names it so:", path);
	output_note(cli->out, "pool \"main\" { path = \"%s\" }", real ? real : path);
}

int vdiskctl_pool_create(struct cli *cli)
{
	const char *path = cli->argv[0], *size = cli_option(cli, "size");
	const char *journal = cli_option(cli, "journal");
	struct poolfile_create create = { .force = cli_flag(cli, "force") };
	struct err err = { 0 };
	json_t *result;
	int rc = 0;

	if (size)
		rc = cli_parse_size(cli, "--size", size, &create.size_bytes);
	if (rc == 0 && journal)
		rc = cli_parse_size(cli, "--journal", journal, &create.journal_bytes);
	if (rc)
		return rc;
	if (create.size_bytes % THIN_BLOCK_SIZE)
		return cli_usage_error(cli, "--size: found '%s', expected a multiple of %u bytes",
				       size, THIN_BLOCK_SIZE);
	rc = poolfile_create(path, &create, &err);
	if (rc == -EEXIST)
		(void)snprintf(err.text + strlen(err.text), sizeof(err.text) - strlen(err.text),
			       "; --force writes over it");
	if (rc < 0)
		return vdiskctl_fail(cli, CLI_FAILED, &err);
	result = json_pack("{s:s}", "path", path);
	output_json(cli->out, result);
	json_decref(result);
	show_section(cli, path);
	return CLI_OK;
}
