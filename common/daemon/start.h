/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line of a daemon, and its exit statuses: both daemons have the same. */
#ifndef COMMON_DAEMON_START_H
#define COMMON_DAEMON_START_H

#include <stdbool.h>

enum start_exit { START_DONE = 0, START_REFUSED = 1, START_USAGE = 2 };

struct start_options {
	const char *name, *version; /* "blockd", "0.1.0" */
	const char *path;	    /* the configuration: set to the default by the caller */
	bool check, verbose;	    /* -n, -v */
};

/*
 * Take -c FILE -n -v, answer -h and -V, refuse all else with the usage.  False: there is nothing
 * more to do, end with *ret_status.
 */
bool start_take_options(struct start_options *options, int argc, char **argv, int *ret_status)
	__attribute__((warn_unused_result));

#endif
