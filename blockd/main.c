// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * blockd: the program.
 *
 *	configuration -> pools and volumes -> listeners -> control socket -> READY -> loop
 *	stop: listeners closed, clients drained -> pools closed (checkpoint) -> end
 *
 * This is the control thread: handshakes (server.h), the verbs of vdiskctl (ctl/verbs.h), signals,
 * systemd.  It never touches a pool's data; that is the reactors'.  What fails before READY is
 * said, and ends the start with status 1: nothing is served half.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blockd/ctl/verbs.h"
#include "blockd/reload.h"
#include "common/daemon/ctl.h"
#include "common/daemon/log.h"
#include "common/daemon/loop.h"
#include "common/daemon/start.h"

#ifndef VERSION
#define VERSION "unknown"
#endif

struct app {
	struct blockd daemon;
	struct loop *loop;
	struct loop_timer *timer; /* the server's deadline */
	sd_event_source *source;  /* the server's descriptor */
	struct ctl_server *ctl;
	bool control_owned;
};

/* ---- the loop ---- */

static void app_arm(struct app *app)
{
	uint64_t deadline = server_deadline_ms(app->daemon.server), now = loop_now_ms();

	if (deadline == UINT64_MAX)
		loop_timer_stop(app->timer);
	else
		loop_timer_set(app->timer, deadline > now ? deadline - now : 0);
}

static void app_turn(void *ctx)
{
	struct app *app = ctx;

	server_dispatch(app->daemon.server, loop_now_ms());
	if (app->daemon.stopping && server_stopped(app->daemon.server))
		loop_quit(app->loop, 0);
	else
		app_arm(app);
}

static int app_readable(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	(void)source;
	(void)fd;
	(void)revents;
	app_turn(userdata);
	return 0;
}

static void app_stop(void *ctx)
{
	struct app *app = ctx;

	app->daemon.stopping = true;
	server_stop(app->daemon.server, BLOCKD_DRAIN_MS);
	app_turn(app);
}

static void app_reload(void *ctx)
{
	struct app *app = ctx;

	loop_reload_defer(app->loop);
	reload_start(&app->daemon, NULL, NULL);
}

static bool app_is_well(void *ctx)
{
	struct app *app = ctx;
	return pools_are_well(&app->daemon, loop_now_ms());
}

/*
 * What clients can trigger is limited by a key that names the event and, without its numbers
 * (connection, port, process), the peer: one that connects again and again is one key.
 */
static void server_event(void *user, bool warning, const char *text)
{
	char key[96];
	size_t len = 0;

	(void)user;
	for (const char *p = text; *p && len + 1 < sizeof(key); p++)
		if (*p < '0' || *p > '9')
			key[len++] = *p;
	key[len] = '\0';
	log_limited(warning ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO, key, "nbd", "%s", text);
}

static void describe(void *user, const char *pool, const char *volume, char *buf, size_t size)
{
	const struct blockd *daemon = user;
	const struct blockd_conf_volume *declared =
		blockd_conf_volume_find(daemon->conf, pool, volume);

	if (declared && declared->description)
		snprintf(buf, size, "%s", declared->description);
}

/* ---- starting ---- */

/* Registered buffers of io_uring count as locked memory. */
static void raise_limits(void)
{
	static const int which[] = { RLIMIT_MEMLOCK, RLIMIT_NOFILE };

	for (size_t i = 0; i < sizeof(which) / sizeof(which[0]); i++) {
		struct rlimit limit;
		if (getrlimit(which[i], &limit) < 0)
			continue;
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(which[i], &limit);
	}
}

static int start_server(struct app *app, struct err *err)
{
	struct blockd *daemon = &app->daemon;
	struct server_params params = {
		.connection_max = (uint32_t)daemon->conf->connections_max,
		.handshake_timeout_ms = (uint32_t)daemon->conf->handshake_timeout_ms,
		.event = server_event,
		.describe = describe,
		.describe_user = daemon,
	};
	int rc = server_new(&params, &daemon->server, err);

	if (rc < 0)
		return rc;
	daemon->metrics = metrics_new();
	if (!daemon->metrics || metrics_add(daemon->metrics, figures_collect, daemon) < 0 ||
	    metrics_add(daemon->metrics, metrics_collect_process, NULL) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	return 0;
}

/* Watch the server's descriptor and deadline, then open the control socket. */
static int start_loop(struct app *app, struct err *err)
{
	const char *path = app->daemon.control;
	int fd, rc;

	rc = sd_event_add_io(loop_event(app->loop), &app->source, server_fd(app->daemon.server),
			     EPOLLIN, app_readable, app);
	if (rc >= 0)
		rc = loop_timer_new(app->loop, app_turn, app, &app->timer);
	if (rc < 0)
		return err_sys(err, rc, "event loop");
	app_arm(app);
	rc = loop_listen_unix("control", path, 0600, &fd, &app->control_owned, err);
	if (rc < 0)
		return rc;
	return ctl_server_new(app->loop, fd, verbs_table, &app->daemon, &app->ctl, err);
}

static void say_ready(struct app *app)
{
	struct blockd *daemon = &app->daemon;
	char status[128];
	uint64_t volumes = 0;

	for (size_t i = 0; i < daemon->pool_count; i++) {
		struct reactor_stat stat;
		reactor_get_stat(daemon->pools[i]->reactor, &stat);
		volumes += stat.pool.volume_count;
	}
	snprintf(status, sizeof(status), "%zu pool%s, %" PRIu64 " volume%s, %zu listener%s",
		 daemon->pool_count, daemon->pool_count == 1 ? "" : "s", volumes,
		 volumes == 1 ? "" : "s", daemon->conf->listen_count,
		 daemon->conf->listen_count == 1 ? "" : "s");
	log_info(NULL, "blockd " VERSION " serves: %s", status);
	loop_ready(app->loop, status);
}

static int start(struct app *app)
{
	struct err err = { 0 };
	/* a directory of its own under /run is ours to make; more than that is not */
	int rc = mkdir(app->daemon.runtime, 0755) < 0 && errno != EEXIST
			 ? err_sys(&err, -errno, "'%s'", app->daemon.runtime)
			 : 0;

	if (rc == 0)
		rc = listeners_inherit(&app->daemon, &err);
	if (rc == 0)
		rc = start_server(app, &err);
	if (rc == 0) {
		rc = pools_start(&app->daemon);
		if (rc < 0)
			return rc; /* logged there */
	}
	if (rc == 0)
		rc = listeners_start(&app->daemon, &err);
	if (rc == 0)
		rc = start_loop(app, &err);
	if (rc < 0)
		log_error(NULL, "%s", err.text);
	return rc;
}

/* In the reverse order; parts that never came to be are fine. */
static int finish(struct app *app)
{
	struct blockd *daemon = &app->daemon;
	int rc;

	ctl_server_free(app->ctl);
	if (app->control_owned)
		(void)unlink(daemon->control);
	sd_event_source_unref(app->source);
	loop_timer_free(app->timer);
	reload_abandon(daemon);
	rc = daemon->server ? pools_stop(daemon, BLOCKD_DRAIN_MS) : 0;
	server_free(daemon->server);
	metrics_free(daemon->metrics);
	free(daemon->control);
	free(daemon->runtime);
	return rc;
}

/* Takes the configuration over. */
static int serve(struct blockd_conf *conf, const char *path, bool verbose)
{
	struct app app = { .daemon = { .conf = conf,
				       .conf_path = path,
				       .verbose = verbose,
				       .control = strdup(conf->control),
				       .runtime = strdup(conf->runtime),
				       .started_ms = loop_now_ms() } };
	struct loop_hooks hooks = { .on_stop = app_stop,
				    .on_reload = app_reload,
				    .on_watchdog = app_is_well,
				    .ctx = &app };
	struct err err = { 0 };
	int rc;

	raise_limits();
	rc = loop_new(&app.loop, &hooks, &err);
	if (rc < 0) {
		log_error(NULL, "%s", err.text);
		blockd_conf_free(conf);
		return START_REFUSED;
	}
	app.daemon.loop = app.loop;
	rc = app.daemon.control && app.daemon.runtime ? start(&app) : -ENOMEM;
	if (rc == 0) {
		say_ready(&app);
		rc = loop_run(app.loop);
	} else {
		log_error(NULL, "not started");
	}
	if (finish(&app) < 0 && rc == 0)
		rc = -EIO;
	loop_free(app.loop);
	blockd_conf_free(app.daemon.conf);
	return rc == 0 ? START_DONE : START_REFUSED;
}

int main(int argc, char **argv)
{
	struct start_options options = { .name = "blockd",
					 .version = VERSION,
					 .path = CONF_FILE_DEFAULT };
	struct blockd_conf *conf;
	int status;

	if (!start_take_options(&options, argc, argv, &status))
		return status;
	if (blockd_conf_load(options.path, stderr, &conf) < 0)
		return START_REFUSED;
	if (options.check) {
		status = options.verbose && blockd_conf_print(conf, stdout) < 0 ? START_REFUSED
										: START_DONE;
		blockd_conf_free(conf);
		return status;
	}
	log_open(options.verbose ? LOG_LEVEL_DEBUG : conf->log_level);
	return serve(conf, options.path, options.verbose);
}
