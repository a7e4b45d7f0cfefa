/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The life of a configuration: trial, confirm, rollback, crash, reboot, who is refused. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "netd/state.h"

#define A "vlan 10 {\n}\n"
#define B "vlan 20 {\n}\n"
#define C "vlan 30 {\n}\n"

static const struct state_now T0 = { .boot_ms = 1000, .wall_s = 1700000000, .boot_id = "boot-1" };
static char dir[] = "/tmp/netd-state-XXXXXX";

static struct state *reopen(struct state *st)
{
	struct err err = { 0 };
	struct state *fresh = NULL;

	state_close(st);
	if (state_open(dir, &fresh, &err) < 0)
		fail_msg("%s", err.text);
	return fresh;
}

static const char *hash_of(const char *text)
{
	static char ring[4][STATE_HASH_LEN + 1];
	static unsigned int at;
	char *h = ring[at++ % 4];

	state_hash(text, strlen(text), h);
	return h;
}

static int setup(void **p)
{
	char cmd[128];

	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	if (system(cmd) != 0)
		return -1;
	strcpy(dir + strlen(dir) - 6, "XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	*p = reopen(NULL);
	return 0;
}

static int teardown(void **p)
{
	char cmd[128];

	state_close(*p);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	return system(cmd);
}

static void fresh_directory_runs_files(void **p)
{
	struct state *st = *p;

	assert_int_equal(state_choose(st, hash_of(A), &T0), STATE_RUN_FILES);
	assert_string_equal(st->confirmed, "");
	*p = st;
}

static void commit_survives_reopen(void **p)
{
	struct state *st = *p;
	char *text = NULL;

	assert_int_equal(state_commit(st, A, "own a", NULL), 0);
	st = reopen(st);
	assert_string_equal(st->confirmed, hash_of(A));
	assert_int_equal(state_load_config(st, st->confirmed, &text, NULL), 0);
	assert_string_equal(text, A);
	free(text);
	assert_int_equal(state_load_own(st, st->confirmed, &text, NULL), 0);
	assert_string_equal(text, "own a");
	free(text);
	*p = st;
}

static void trial_goes_on_after_crash_within_window(void **p)
{
	struct state *st = *p;
	struct state_now later = T0;

	assert_int_equal(state_commit(st, A, "", NULL), 0);
	assert_int_equal(state_begin(st, B, "", "alice", 5000, &T0, NULL), 0);
	st = reopen(st);
	later.boot_ms += 4999;
	assert_int_equal(state_choose(st, hash_of(B), &later), STATE_RUN_PENDING);
	assert_int_equal(state_pending_left(st, &later), 1);
	later.boot_ms += 1;
	assert_int_equal(state_choose(st, hash_of(B), &later), STATE_RUN_ROLLBACK);
	*p = st;
}

static void reboot_ends_the_trial(void **p)
{
	struct state *st = *p;
	struct state_now boot2 = { .boot_ms = 10, .boot_id = "boot-2" };

	assert_int_equal(state_commit(st, A, "", NULL), 0);
	assert_int_equal(state_begin(st, B, "", "alice", 5000, &T0, NULL), 0);
	st = reopen(st);
	assert_int_equal(state_choose(st, hash_of(B), &boot2), STATE_RUN_ROLLBACK);
	*p = st;
}

static void wall_clock_decides_nothing(void **p)
{
	struct state *st = *p;
	struct state_now jumped = T0;

	assert_int_equal(state_begin(st, B, "", "alice", 5000, &T0, NULL), 0);
	jumped.wall_s += 100000;
	assert_int_equal(state_pending_left(st, &jumped), 5000);
	*p = st;
}

static void rejected_does_not_return_from_the_files(void **p)
{
	struct state *st = *p;

	assert_int_equal(state_commit(st, A, "own a", NULL), 0);
	assert_int_equal(state_write_own(st, "own b", NULL), 0);
	assert_int_equal(state_begin(st, B, "own b", "alice", 5000, &T0, NULL), 0);
	assert_int_equal(state_reject(st, &T0, NULL), 0);
	st = reopen(st);
	assert_false(st->pending.active);
	assert_string_equal(st->rejected, hash_of(B));
	assert_string_equal(st->rejected_who, "alice");
	assert_int_equal(state_choose(st, hash_of(B), &T0), STATE_RUN_CONFIRMED);
	/* an edit makes it another configuration, which is run */
	assert_int_equal(state_choose(st, hash_of(C), &T0), STATE_RUN_FILES);
	*p = st;
}

static void reject_restores_vnetctls_file(void **p)
{
	struct state *st = *p;
	FILE *f;
	char line[32] = "";

	assert_int_equal(state_commit(st, A, "own a", NULL), 0);
	assert_int_equal(state_write_own(st, "own b", NULL), 0);
	assert_int_equal(state_begin(st, B, "own b", "alice", 5000, &T0, NULL), 0);
	assert_int_equal(state_reject(st, &T0, NULL), 0);
	f = fopen(state_own_path(st), "re");
	assert_non_null(f);
	assert_non_null(fgets(line, sizeof(line), f));
	fclose(f);
	assert_string_equal(line, "own a");
}

static void second_administrator_is_refused_with_who_and_when(void **p)
{
	struct state *st = *p;
	struct err err = { 0 };

	assert_int_equal(state_begin(st, B, "", "alice (uid 1000)", 5000, &T0, NULL), 0);
	assert_int_equal(state_begin(st, C, "", "bob", 5000, &T0, &err), -EBUSY);
	assert_non_null(strstr(err.text, "alice (uid 1000)"));
	assert_non_null(strstr(err.text, "2023-11-1"));
	assert_int_equal(state_commit(st, C, "", &err), -EBUSY);
	assert_int_equal(state_step_back(st, "bob", &T0, &err), -EBUSY);
	assert_string_equal(st->pending.hash, hash_of(B));
}

static void confirm_needs_a_trial(void **p)
{
	assert_int_equal(state_confirm(*p, NULL), -ENOENT);
	assert_int_equal(state_reject(*p, &T0, NULL), -ENOENT);
}

static void confirm_makes_it_last(void **p)
{
	struct state *st = *p;

	assert_int_equal(state_commit(st, A, "", NULL), 0);
	assert_int_equal(state_begin(st, B, "", "alice", 5000, &T0, NULL), 0);
	assert_int_equal(state_confirm(st, NULL), 0);
	st = reopen(st);
	assert_string_equal(st->confirmed, hash_of(B));
	assert_string_equal(st->previous, hash_of(A));
	assert_false(st->pending.active);
	*p = st;
}

static void step_back_takes_the_previous_once(void **p)
{
	struct state *st = *p;

	assert_int_equal(state_step_back(st, "alice", &T0, NULL), -ENOENT);
	assert_int_equal(state_commit(st, A, "", NULL), 0);
	assert_int_equal(state_commit(st, B, "", NULL), 0);
	assert_int_equal(state_step_back(st, "alice", &T0, NULL), 0);
	st = reopen(st);
	assert_string_equal(st->confirmed, hash_of(A));
	assert_int_equal(state_choose(st, hash_of(B), &T0), STATE_RUN_CONFIRMED);
	assert_int_equal(state_step_back(st, "alice", &T0, NULL), -ENOENT);
	*p = st;
}

static void same_config_again_keeps_previous(void **p)
{
	struct state *st = *p;

	assert_int_equal(state_commit(st, A, "", NULL), 0);
	assert_int_equal(state_commit(st, B, "", NULL), 0);
	assert_int_equal(state_commit(st, B, "", NULL), 0);
	assert_string_equal(st->previous, hash_of(A));
}

static void applying_the_rejected_lifts_the_rejection(void **p)
{
	struct state *st = *p;

	assert_int_equal(state_commit(st, A, "", NULL), 0);
	assert_int_equal(state_begin(st, B, "", "alice", 5000, &T0, NULL), 0);
	assert_int_equal(state_reject(st, &T0, NULL), 0);
	assert_int_equal(state_commit(st, B, "", NULL), 0);
	assert_string_equal(st->rejected, "");
}

static void cancel_rejects_nothing(void **p)
{
	struct state *st = *p;

	assert_int_equal(state_commit(st, A, "", NULL), 0);
	assert_int_equal(state_begin(st, B, "", "alice", 5000, &T0, NULL), 0);
	assert_int_equal(state_idle(st, NULL), -EBUSY);
	assert_int_equal(state_cancel(st, NULL), 0);
	st = reopen(st);
	assert_int_equal(state_idle(st, NULL), 0);
	assert_string_equal(st->rejected, "");
	assert_string_equal(st->confirmed, hash_of(A));
	*p = st;
}

static void unnamed_texts_are_removed(void **p)
{
	struct state *st = *p;
	char path[256];

	assert_int_equal(state_commit(st, A, "", NULL), 0);
	snprintf(path, sizeof(path), "%s/config-%s.conf", dir, hash_of(A));
	assert_int_equal(access(path, F_OK), 0);
	assert_int_equal(state_commit(st, B, "", NULL), 0);
	assert_int_equal(access(path, F_OK), 0); /* still the previous one */
	assert_int_equal(state_commit(st, C, "", NULL), 0);
	assert_int_not_equal(access(path, F_OK), 0);
}

static void damage_is_an_error_with_the_file(void **p)
{
	static const char *const bad[] = {
		"{",
		"[]",
		"{\"version\": 9}",
		"{\"version\": 1, \"confirmed\": 3}",
		"{\"version\": 1, \"confirmed\": \"../../etc/passwd\"}",
		"{\"version\": 1, \"pending\": {}}",
		"{\"version\": 1, \"sysctls\": {\"../../x\": \"1\"}}",
		"{\"version\": 1, \"sysctls\": {\"net/../x\": \"1\"}}",
		"{\"version\": 1, \"sysctls\": {\"net/..\": \"1\"}}",
		"{\"version\": 1, \"sysctls\": {\"/etc/x\": \"1\"}}",
	};
	char path[256];

	snprintf(path, sizeof(path), "%s/state.json", dir);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		FILE *f = fopen(path, "we");
		struct state *st = NULL;
		struct err err = { 0 };

		assert_non_null(f);
		fputs(bad[i], f);
		fclose(f);
		assert_int_equal(state_open(dir, &st, &err), -EUCLEAN);
		assert_null(st);
		assert_non_null(strstr(err.text, "state.json"));
	}
	unlink(path);
}

static void damaged_text_is_not_run(void **p)
{
	struct state *st = *p;
	struct err err = { 0 };
	char path[256], *text = NULL;
	FILE *f;

	assert_int_equal(state_commit(st, A, "", NULL), 0);
	snprintf(path, sizeof(path), "%s/config-%s.conf", dir, hash_of(A));
	f = fopen(path, "ae");
	assert_non_null(f);
	fputs("garbage", f);
	fclose(f);
	assert_int_equal(state_load_config(st, st->confirmed, &text, &err), -EUCLEAN);
	assert_null(text);
}

static void full_disk_changes_nothing(void **p)
{
	struct state *st = *p;
	struct err err = { 0 };

	assert_int_equal(state_commit(st, A, "", NULL), 0);
	free(st->dir);
	st->dir = strdup("/proc/netd-cannot-write-here");
	assert_int_not_equal(state_begin(st, B, "", "alice", 5000, &T0, &err), 0);
	assert_false(st->pending.active);
	assert_string_equal(st->confirmed, hash_of(A));
}

static void first_sysctl_value_is_kept(void **p)
{
	struct state *st = *p;

	assert_int_equal(state_keep_sysctl(st, "net/ipv4/ip_forward", "0", NULL), 0);
	assert_int_equal(state_keep_sysctl(st, "net/ipv4/ip_forward", "1", NULL), 0);
	assert_int_equal(state_keep_sysctl(st, "net/ipv6/conf/all/forwarding", "0", NULL), 0);
	st = reopen(st);
	assert_int_equal(st->sysctl_count, 2);
	assert_string_equal(st->sysctls[0].value, "0");
	assert_int_equal(state_forget_sysctls(st, "net/ipv4/", NULL), 0);
	st = reopen(st);
	assert_int_equal(st->sysctl_count, 1);
	assert_string_equal(st->sysctls[0].path, "net/ipv6/conf/all/forwarding");
	*p = st;
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(fresh_directory_runs_files),
		T(commit_survives_reopen),
		T(trial_goes_on_after_crash_within_window),
		T(reboot_ends_the_trial),
		T(wall_clock_decides_nothing),
		T(rejected_does_not_return_from_the_files),
		T(reject_restores_vnetctls_file),
		T(second_administrator_is_refused_with_who_and_when),
		T(confirm_needs_a_trial),
		T(confirm_makes_it_last),
		T(step_back_takes_the_previous_once),
		T(same_config_again_keeps_previous),
		T(applying_the_rejected_lifts_the_rejection),
		T(cancel_rejects_nothing),
		T(unnamed_texts_are_removed),
		T(damage_is_an_error_with_the_file),
		T(damaged_text_is_not_run),
		T(full_disk_changes_nothing),
		T(first_sysctl_value_is_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
