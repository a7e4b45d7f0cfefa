// SPDX-License-Identifier: GPL-2.0-or-later
/* The command line of a daemon; see start.h. */
#include "common/daemon/start.h"

#include <getopt.h>
#include <stdio.h>

static void print_usage(FILE *f, const struct start_options *o, const char *preset)
{
	fprintf(f,
		"usage: %s [-c FILE] [-n] [-v]\n"
		"  -c FILE  configuration (%s)\n"
		"  -n       check it and exit\n"
		"  -v       with -n: print it with all defaults; else: log more\n"
		"  -h       this text        -V  the version\n"
		"See %s(8) and %s.conf(5).\n",
		o->name, preset, o->name, o->name);
}

bool start_take_options(struct start_options *o, int argc, char **argv, int *ret_status)
{
	static const struct option options[] = { { "help", no_argument, NULL, 'h' },
						 { "version", no_argument, NULL, 'V' },
						 { 0 } };
	const char *preset = o->path;
	int c;

	while ((c = getopt_long(argc, argv, "c:nvhV", options, NULL)) != -1) {
		switch (c) {
		case 'c':
			o->path = optarg;
			break;
		case 'n':
			o->check = true;
			break;
		case 'v':
			o->verbose = true;
			break;
		case 'h':
			print_usage(stdout, o, preset);
			*ret_status = START_DONE;
			return false;
		case 'V':
			printf("%s %s\n", o->name, o->version);
			*ret_status = START_DONE;
			return false;
		default:
			print_usage(stderr, o, preset);
			*ret_status = START_USAGE;
			return false;
		}
	}
	if (optind == argc)
		return true;
	fprintf(stderr, "%s: found '%s', expected no argument\n", o->name, argv[optind]);
	print_usage(stderr, o, preset);
	*ret_status = START_USAGE;
	return false;
}
