/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * netd: the program.
 *
 *	read and check -> state -> kernel opened and probed -> apply -> control socket -> READY ->
 *loop stop: the control socket goes; links, tables and servers stay as they are
 *
 * What is wrong with the configuration is said before anything is touched, and without root.  One
 * thread.
 */
#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/capability.h>

#include "common/base/cleanup.h"
#include "common/daemon/ctl.h"
#include "common/daemon/log.h"
#include "common/daemon/loop.h"
#include "common/daemon/priv.h"
#include "common/daemon/start.h"
#include "netd/ctl/verbs.h"
#include "netd/manage.h"

#ifndef VERSION
#define VERSION "unknown"
#endif

struct app {
	const char *path;
	char *control, *run_dir;
	struct loop *loop;
	struct state *state;
	struct verbs verbs;
	struct ctl_server *ctl;
	bool control_owned;
	int pid_fd;
};

static void app_stop(void *ctx)
{
	struct app *app = ctx;
	struct err err = { 0 };

	log_info(NULL, "stopping; the network stays as it is");
	if (manage_close(app->verbs.manage, &err) < 0)
		log_error("state", "%s", err.text);
	loop_quit(app->loop, 0);
}

/* SIGHUP is vnetctl apply without an answer. */
static void app_reload(void *ctx)
{
	struct app *app = ctx;
	struct conf *bad = NULL;
	struct err err = { 0 };
	size_t count = 0;

	if (manage_apply(app->verbs.manage, "SIGHUP", 0, &count, &bad, &err) == 0) {
		log_info("config", "applied %s: %zu operations", app->path, count);
		return;
	}
	log_error("config", "%s", err.text);
	for (size_t i = 0; bad && conf_error_text(bad, i); i++)
		log_error("config", "%s", conf_error_text(bad, i));
	conf_free(bad);
}

static int make_run_dir(struct app *app, struct err *err)
{
	CLEANUP_FREE char *copy = strdup(app->control);

	app->run_dir = copy ? strdup(dirname(copy)) : NULL;
	if (!app->run_dir)
		return err_set(err, -ENOMEM, "out of memory");
	if (mkdir(app->run_dir, 0755) < 0 && errno != EEXIST)
		return err_sys(err, -errno, "%s", app->run_dir);
	return 0;
}

/* One netd for each control socket: two would repair each other's work for ever. */
static int lock_instance(struct app *app, struct err *err)
{
	CLEANUP_FREE char *path = NULL;

	if (asprintf(&path, "%s/netd.pid", app->run_dir) < 0) {
		path = NULL;
		return err_set(err, -ENOMEM, "out of memory");
	}
	return loop_lock_pidfile(path, &app->pid_fd, err);
}

static int open_parts(struct app *app, const char *state_dir, struct err *err)
{
	struct verbs *v = &app->verbs;
	int r = make_run_dir(app, err);

	r = r < 0 ? r : lock_instance(app, err);
	r = r < 0 ? r : state_open(state_dir, &app->state, err);
	r = r < 0 ? r : reconcile_new(app->loop, app->run_dir, app->state, &v->reconcile, err);
	if (r < 0)
		return r;
	v->state = app->state;
	v->path = app->path;
	v->run_dir = app->run_dir;
	v->metrics = metrics_new();
	r = v->metrics ? metrics_add(v->metrics, verbs_collect, v) : -ENOMEM;
	r = r < 0 ? r : metrics_add(v->metrics, metrics_collect_process, NULL);
	if (r < 0)
		return err_sys(err, r, "start");
	return manage_new(app->loop, app->path, app->state, v->reconcile, &v->manage, err);
}

static int open_control(struct app *app, struct err *err)
{
	int fd, r = loop_listen_unix("control", app->control, 0600, &fd, &app->control_owned, err);

	return r < 0 ? r : ctl_server_new(app->loop, fd, verbs_table, &app->verbs, &app->ctl, err);
}

/* The files again, now with what vnetctl has set; then everything that can fail, then READY. */
static int start(struct app *app)
{
	struct conf *c = NULL;
	struct err err = { 0 };
	int r = manage_load(app->path, state_own_path(app->state), &c);

	if (r == 0 && conf_error_count(c)) {
		conf_print_errors(c, stderr);
		conf_free(c);
		return -EINVAL;
	}
	if (r == 0)
		r = manage_start(app->verbs.manage, c, &err);
	r = r < 0 ? r : open_control(app, &err);
	if (r < 0)
		log_error(NULL, "%s", err.text[0] ? err.text : strerror(-r));
	return r;
}

/* What netd and its dnsmasq need; the rest of root's power goes. */
static int drop_power(struct err *err)
{
	static const int keep[] = { CAP_NET_ADMIN,  CAP_NET_RAW, CAP_NET_BIND_SERVICE, CAP_SETUID,
				    CAP_SETGID,	    CAP_CHOWN,	 CAP_DAC_OVERRIDE,     CAP_KILL,
				    CAP_SYS_PTRACE, -1 };

	return geteuid() == 0 ? priv_drop(keep, NULL, err) : 0;
}

static void finish(struct app *app)
{
	ctl_server_free(app->ctl);
	if (app->control_owned)
		unlink(app->control);
	manage_free(app->verbs.manage);
	reconcile_free(app->verbs.reconcile);
	metrics_free(app->verbs.metrics);
	state_close(app->state);
	loop_free(app->loop);
	free(app->control);
	free(app->run_dir);
}

static int serve(const char *path, struct conf *c)
{
	struct app app = { .path = path, .pid_fd = -1 };
	const struct loop_hooks hooks = { .on_stop = app_stop,
					  .on_reload = app_reload,
					  .ctx = &app };
	CLEANUP_FREE char *state_dir = strdup(conf_text(conf_root(c), "state"));
	struct err err = { 0 };
	int r = loop_new(&app.loop, &hooks, &err);

	app.control = strdup(conf_text(conf_root(c), "control"));
	if (r == 0 && (!app.control || !state_dir))
		r = err_set(&err, -ENOMEM, "out of memory");
	r = r < 0 ? r : drop_power(&err);
	r = r < 0 ? r : open_parts(&app, state_dir, &err);
	if (r < 0)
		log_error(NULL, "%s", err.text);
	else
		r = start(&app);
	if (r == 0) {
		log_info(NULL, "netd " VERSION " runs %s", path);
		loop_ready(app.loop, "running");
		r = loop_run(app.loop);
	}
	finish(&app);
	return r == 0 ? START_DONE : START_REFUSED;
}

/* The files alone; vnetctl's own is in the state directory, which they name. */
static int run(const char *path, bool check, bool verbose)
{
	struct conf *c = NULL;
	int status = START_REFUSED;

	if (manage_load(path, NULL, &c) < 0)
		fprintf(stderr, "netd: out of memory\n");
	else if (conf_error_count(c))
		conf_print_errors(c, stderr);
	else if (!check)
		status = serve(path, c);
	else if (!verbose || conf_print(c, stdout, CONF_PRINT_PRESETS) == 0)
		status = START_DONE;
	conf_free(c);
	return status;
}

int main(int argc, char **argv)
{
	struct start_options options = { .name = "netd",
					 .version = VERSION,
					 .path = NETD_CONF_FILE };
	int status;

	if (!start_take_options(&options, argc, argv, &status))
		return status;
	log_open(options.verbose && !options.check ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO);
	return run(options.path, options.check, options.verbose);
}
