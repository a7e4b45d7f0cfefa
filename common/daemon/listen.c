/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Listening sockets and the pid file of a daemon; see loop.h.
 *
 * Replacing a stale socket file: connect to it; only ECONNREFUSED proves that nobody listens, and
 * only then is it removed.  Two daemons that start at once are kept apart by a lock on the folder,
 * held for the length of the bind (but nobody who holds that lock for longer keeps a daemon from
 * starting).
 */
#include "common/daemon/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <systemd/sd-daemon.h>

#include "common/base/cleanup.h"

#define LISTEN_FD_MAX 64
#define LOCK_TRIES    100 /* of 20 ms */

static int fill_address(const char *path, struct sockaddr_un *sa, struct err *err)
{
	*sa = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (strlen(path) >= sizeof(sa->sun_path))
		return err_set(err, -ENAMETOOLONG,
			       "socket path \"%.128s\": %zu bytes, expected at most %zu", path,
			       strlen(path), sizeof(sa->sun_path) - 1);
	strcpy(sa->sun_path, path);
	return 0;
}

/* 0: nothing is there any more; -EADDRINUSE: someone listens, or it is no socket. */
static int remove_stale(const char *path, const struct sockaddr_un *sa, struct err *err)
{
	CLEANUP_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct stat st;

	if (lstat(path, &st))
		return errno == ENOENT ? 0 : err_sys(err, -errno, "socket %s", path);
	if (!S_ISSOCK(st.st_mode))
		return err_set(err, -EADDRINUSE, "socket %s: a file that is no socket is there",
			       path);
	if (fd < 0)
		return err_sys(err, -errno, "socket %s", path);
	if (!connect(fd, (const struct sockaddr *)sa, sizeof(*sa)) || errno != ECONNREFUSED)
		return err_set(err, -EADDRINUSE, "socket %s: another process listens there", path);
	if (unlink(path) && errno != ENOENT)
		return err_sys(err, -errno, "socket %s", path);
	return 0;
}

static int bind_unix(const char *path, unsigned mode, int *ret_fd, struct err *err)
{
	CLEANUP_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un sa;
	mode_t old;
	int r = fill_address(path, &sa, err);

	if (r)
		return r;
	if (fd < 0)
		return err_sys(err, -errno, "socket %s", path);
	r = remove_stale(path, &sa, err);
	if (r)
		return r;
	old = umask(0777); /* nobody gets in between bind and chmod */
	r = bind(fd, (struct sockaddr *)&sa, sizeof(sa)) ? -errno : 0;
	umask(old);
	if (!r && (chmod(path, mode) || listen(fd, SOMAXCONN)))
		r = -errno;
	if (r)
		return err_sys(err, r, "socket %s", path);
	*ret_fd = fd;
	fd = -1;
	return 0;
}

const char *loop_listen_fd_name(unsigned index)
{
	static char **names; /* of SD_LISTEN_FDS_START ..., as systemd gave them */
	static int count = -1;

	if (count < 0) { /* read once: the environment is taken away with it */
		count = sd_listen_fds_with_names(1, &names);
		count = count < 0 || !names ? 0 : count < LISTEN_FD_MAX ? count : LISTEN_FD_MAX;
	}
	return index < (unsigned)count ? names[index] : NULL;
}

int loop_take_listen_fd(const char *fd_name)
{
	static bool taken[LISTEN_FD_MAX];
	const char *name;

	for (unsigned i = 0; (name = loop_listen_fd_name(i)); i++)
		if (!taken[i] && !strcmp(name, fd_name)) {
			int fd = SD_LISTEN_FDS_START + (int)i;

			taken[i] = true;
			fcntl(fd, F_SETFD, FD_CLOEXEC);
			fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
			return fd;
		}
	return -1;
}

/*
 * Two daemons that start at the same time must not both find a stale socket and the slower one
 * remove the other's.  But whoever can read the folder can lock it, for ever: so this waits for a
 * moment only and then goes on without.
 */
static int lock_briefly(int fd)
{
	const struct timespec pause = { .tv_nsec = 20 * 1000 * 1000 };

	for (int i = 0; i < LOCK_TRIES; i++) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return 0;
		if (errno != EWOULDBLOCK && errno != EINTR)
			return -errno;
		nanosleep(&pause, NULL);
	}
	return 0;
}

/* The folder that holds `path`, locked (see above) until the descriptor is closed. */
static int lock_folder(const char *path, int *ret_fd, struct err *err)
{
	CLEANUP_FREE char *folder = strdup(path);
	CLEANUP_CLOSE int fd = -1;
	char *slash;
	int r;

	if (!folder)
		return err_set(err, -ENOMEM, "out of memory");
	slash = strrchr(folder, '/');
	if (slash)
		slash[slash == folder] = '\0';
	fd = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = fd < 0 ? -errno : lock_briefly(fd);
	if (r)
		return err_sys(err, r, "socket %s: folder", path);
	*ret_fd = fd;
	fd = -1;
	return 0;
}

int loop_listen_unix(const char *fd_name, const char *path, unsigned mode, int *ret_fd,
		     bool *ret_owned, struct err *err)
{
	CLEANUP_CLOSE int lock = -1;
	int fd = fd_name ? loop_take_listen_fd(fd_name) : -1, r;

	if (fd >= 0) {
		*ret_fd = fd;
		*ret_owned = false;
		return 0;
	}
	r = lock_folder(path, &lock, err);
	if (!r)
		r = bind_unix(path, mode, ret_fd, err);
	if (!r)
		*ret_owned = true;
	return r;
}

int loop_lock_pidfile(const char *path, int *ret_fd, struct err *err)
{
	CLEANUP_CLOSE int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
	char text[32] = "";
	ssize_t n;

	if (fd < 0)
		return err_sys(err, -errno, "%s", path);
	if (flock(fd, LOCK_EX | LOCK_NB)) {
		int code = -errno;

		if (code != -EWOULDBLOCK)
			return err_sys(err, code, "%s", path);
		n = pread(fd, text, sizeof(text) - 1, 0);
		text[n > 0 ? strspn(text, "0123456789") : 0] = '\0';
		return err_set(err, -EBUSY, "%s: already running (process %s)", path,
			       *text ? text : "unknown");
	}
	n = snprintf(text, sizeof(text), "%d\n", (int)getpid());
	if (ftruncate(fd, 0) || pwrite(fd, text, (size_t)n, 0) != n)
		return err_sys(err, errno ? -errno : -EIO, "%s", path);
	*ret_fd = fd;
	fd = -1;
	return 0;
}
