/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The lock of a network namespace; see alone.h. */
#include "netd/alone.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/base/cleanup.h"

#define NAME "ashlar/netd"

static socklen_t name_address(struct sockaddr_un *ret)
{
	*ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
	memcpy(ret->sun_path + 1, NAME, sizeof(NAME) - 1); /* a NUL in front: abstract */
	return offsetof(struct sockaddr_un, sun_path) + sizeof(NAME);
}

/* Who listens there; false when nobody can be asked. */
static bool find_holder(struct ucred *ret)
{
	CLEANUP_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un name;
	socklen_t len = name_address(&name), size = sizeof(*ret);

	return fd >= 0 && connect(fd, (struct sockaddr *)&name, len) == 0 &&
	       getsockopt(fd, SOL_SOCKET, SO_PEERCRED, ret, &size) == 0;
}

int alone_lock(int *ret_fd, struct err *err)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un name;
	socklen_t len = name_address(&name);
	struct ucred holder;

	*ret_fd = -1;
	if (fd < 0)
		return err_sys(err, -errno, "socket");
	if (bind(fd, (struct sockaddr *)&name, len) == 0 && listen(fd, 1) == 0) {
		*ret_fd = fd;
		return 0;
	}
	close(fd);
	if (find_holder(&holder) && (holder.uid == 0 || holder.uid == geteuid()))
		return err_set(err, -EBUSY,
			       "another netd (pid %d) looks after this host's network; stop it, or "
			       "give its file to it with vnetctl apply",
			       (int)holder.pid);
	return 0;
}
