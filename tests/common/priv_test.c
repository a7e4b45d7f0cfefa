/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Dropping privileges, in a child: what is kept, what is gone for good.  Needs root. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <linux/capability.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/daemon/priv.h"

static void drop(void)
{
	static const int keep[] = { CAP_NET_ADMIN, -1 };
	struct err err;

	if (priv_drop(keep, "no-such-user", &err) != -ENOENT)
		_exit(1);
	if (priv_drop(keep, "nobody", &err)) {
		fprintf(stderr, "%s\n", err.text);
		_exit(2);
	}
	if (!getuid() || !geteuid() || !getgid() || getgroups(0, NULL))
		_exit(3);
	if (!priv_has(CAP_NET_ADMIN) || priv_has(CAP_SYS_ADMIN) || priv_has(CAP_SETUID))
		_exit(4);
	if (prctl(PR_CAPBSET_READ, CAP_SYS_ADMIN) || !prctl(PR_CAPBSET_READ, CAP_NET_ADMIN))
		_exit(5);
	if (!prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) || !setuid(0))
		_exit(6);
	_exit(0);
}

static void test_dropping_privileges(void **state)
{
	int status;
	pid_t pid = fork();

	if (!pid)
		drop();
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dropping_privileges),
	};

	if (geteuid()) {
		puts("needs root");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
