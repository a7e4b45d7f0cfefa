// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The file device on real file systems: transfers by every way it has (ring or plain calls,
 * direct or buffered, tmpfs), short transfers, full file systems, refusals, the lock.
 */
#include "tests/thin/dev_rig.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define DIR   "dev_file.scratch"
#define DISK  DIR "/pool"
#define TMPFS DIR "/tmpfs/pool"
#define SIZE  (16u << 20)

struct way {
	const char *name, *path;
	struct dev_file_open open;
};

static const struct way ways[] = {
	{ "ring, direct", DISK, { 0 } },
	{ "plain, direct", DISK, { .plain = true } },
	{ "ring, buffered", DISK, { .buffered = true } },
	{ "tmpfs", TMPFS, { 0 } },
};
#define WAY_COUNT (sizeof(ways) / sizeof(ways[0]))

static struct thin_dev *make(const struct way *way, uint64_t size)
{
	struct dev_file_open p = way->open;

	unlink(way->path);
	p.create = true;
	p.size_bytes = size;
	return rig_open(way->path, p);
}

static void test_round_trip(const struct way *way)
{
	struct thin_dev *dev = make(way, SIZE);
	char *out = rig_buf(1u << 20, 7), *in = rig_buf(1u << 20, 0);

	print_message("%s: %s\n", way->name, dev_file_mode(dev));
	assert_int_equal(dev->size_bytes, SIZE);
	assert_int_equal(rig_run(dev, DEV_WRITE, 3 * BLK, out, 1u << 20), 0);
	assert_int_equal(rig_run(dev, DEV_FLUSH, 0, NULL, 0), 0);
	assert_int_equal(rig_run(dev, DEV_READ, 3 * BLK, in, 1u << 20), 0);
	assert_memory_equal(in, out, 1u << 20);
	/* a hole reads as zeroes */
	assert_int_equal(rig_run(dev, DEV_READ, 8u << 20, in, BLK), 0);
	for (unsigned i = 0; i < BLK; i++)
		assert_int_equal(in[i], 0);
	dev->ops->close(dev);

	/* and it is in the file, seen by an opening of the other kind */
	dev = rig_open(way->path, (struct dev_file_open){ .read_only = true, .buffered = true });
	assert_int_equal(rig_run(dev, DEV_READ, 3 * BLK, in, 1u << 20), 0);
	assert_memory_equal(in, out, 1u << 20);
	assert_int_equal(rig_run(dev, DEV_WRITE, 0, out, BLK), -EROFS);
	assert_int_equal(rig_run(dev, DEV_PUNCH, 0, NULL, BLK), -EROFS);
	dev->ops->close(dev);
	free(out);
	free(in);
}

/* More requests than the ring has entries and than it may have in flight. */
static void test_many(const struct way *way)
{
	enum { N = 3000 };
	struct thin_dev *dev = make(way, N * BLK);
	struct rig_io *ios = calloc(N, sizeof(*ios));
	char *out = rig_buf(N * BLK, 1), *in = rig_buf(N * BLK, 2);
	unsigned answered;

	for (int pass = 0; pass < 2; pass++) {
		for (unsigned i = 0; i < N; i++) {
			ios[i].io.fua = pass == 0 && i % 64 == 0;
			rig_start(dev, &ios[i], pass ? DEV_READ : DEV_WRITE, i * BLK,
				  (pass ? in : out) + i * BLK, BLK);
		}
		do {
			dev->ops->wait(dev);
			answered = 0;
			for (unsigned i = 0; i < N; i++)
				answered += ios[i].answered;
		} while (answered < N);
		for (unsigned i = 0; i < N; i++) {
			assert_int_equal(ios[i].answered, 1);
			assert_int_equal(ios[i].io.res, 0);
		}
	}
	assert_memory_equal(in, out, N * BLK);
	dev->ops->close(dev);
	free(ios);
	free(out);
	free(in);
}

/* A list of more pieces than one call takes. */
static void test_long_list(const struct way *way)
{
	enum { N = IOV_MAX * 2 + 5 };
	struct thin_dev *dev = make(way, N * BLK);
	struct iovec *iov = calloc(N, sizeof(*iov));
	char *out = rig_buf(N * BLK, 3), *in = rig_buf(N * BLK, 4);
	struct rig_io r;

	for (int pass = 0; pass < 2; pass++) {
		for (unsigned i = 0; i < N; i++)
			iov[i] = (struct iovec){ (pass ? in : out) + i * BLK, BLK };
		r = (struct rig_io){ .io = { .op = pass ? DEV_READ : DEV_WRITE,
					     .len = N * BLK,
					     .iov = iov,
					     .iov_count = N,
					     .done = rig_done,
					     .user = &r } };
		dev->ops->submit(dev, &r.io);
		while (!r.answered)
			dev->ops->wait(dev);
		assert_int_equal(r.io.res, 0);
	}
	assert_memory_equal(in, out, N * BLK);
	dev->ops->close(dev);
	free(iov);
	free(out);
	free(in);
}

static void test_punch(const struct way *way)
{
	struct thin_dev *dev = make(way, SIZE);
	char *buf = rig_buf(4u << 20, 9);
	struct stat before, after;

	assert_true(dev->can_punch);
	assert_int_equal(rig_run(dev, DEV_WRITE, 0, buf, 4u << 20), 0);
	assert_int_equal(rig_run(dev, DEV_FLUSH, 0, NULL, 0), 0);
	assert_int_equal(stat(way->path, &before), 0);
	assert_int_equal(rig_run(dev, DEV_PUNCH, 1u << 20, NULL, 2u << 20), 0);
	assert_int_equal(rig_run(dev, DEV_FLUSH, 0, NULL, 0), 0);
	assert_int_equal(stat(way->path, &after), 0);
	assert_int_equal(after.st_size, SIZE);
	assert_true(before.st_blocks - after.st_blocks >= (2 << 20) / 512);
	dev->ops->close(dev);
	free(buf);
}

/* The transfer comes back short, its rest fails for space; what fitted is there. */
static void test_size_limit(const struct way *way)
{
	struct thin_dev *dev = make(way, SIZE);
	/* the kernel cuts at the very byte, which O_DIRECT then refuses */
	struct rlimit old, low = { (4u << 20) + (strstr(way->name, "direct") ? 0 : 100) };
	char *out = rig_buf(2u << 20, 5), *in = rig_buf(1u << 20, 6);
	int r;

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	low.rlim_max = old.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
	r = rig_run(dev, DEV_WRITE, 3u << 20, out, 2u << 20);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(r, -ENOSPC);
	assert_int_equal(rig_run(dev, DEV_READ, 3u << 20, in, 1u << 20), 0);
	assert_memory_equal(in, out, 1u << 20);
	/* and the same request succeeds once there is room */
	assert_int_equal(rig_run(dev, DEV_WRITE, 3u << 20, out, 2u << 20), 0);
	dev->ops->close(dev);
	free(out);
	free(in);
}

static void test_file_became_shorter(const struct way *way)
{
	struct thin_dev *dev = make(way, SIZE);
	char *buf = rig_buf(1u << 20, 5);

	assert_int_equal(rig_run(dev, DEV_WRITE, 0, buf, 1u << 20), 0);
	assert_int_equal(truncate(way->path, 100 * 1024 + 50), 0);
	assert_int_equal(rig_run(dev, DEV_READ, 0, buf, 1u << 20), -EIO);
	dev->ops->close(dev);
	free(buf);
}

static void test_malformed(const struct way *way)
{
	struct thin_dev *dev = make(way, SIZE);
	char *buf = rig_buf(3 * BLK, 5);
	struct pollfd pfd = { .fd = dev->ops->event_fd(dev), .events = POLLIN };
	struct rig_io r = { 0 };

	assert_int_equal(rig_run(dev, DEV_WRITE, 512, buf, BLK), -EINVAL);
	assert_int_equal(rig_run(dev, DEV_WRITE, 0, buf, 512), -EINVAL);
	assert_int_equal(rig_run(dev, DEV_WRITE, 0, buf, 0), -EINVAL);
	assert_int_equal(rig_run(dev, DEV_WRITE, 0, buf + 8, BLK), -EINVAL);
	assert_int_equal(rig_run(dev, DEV_READ, SIZE, buf, BLK), -EINVAL);
	assert_int_equal(rig_run(dev, DEV_READ, SIZE - BLK, buf, 2 * BLK), -EINVAL);
	assert_int_equal(rig_run(dev, DEV_READ, UINT64_MAX - BLK + 1, buf, BLK), -EINVAL);
	assert_int_equal(rig_run(dev, DEV_PUNCH, SIZE, NULL, BLK), -EINVAL);

	/* a refusal, too, makes the event descriptor readable and comes through poll() */
	assert_int_equal(poll(&pfd, 1, 0), 0);
	rig_start(dev, &r, DEV_READ, SIZE, buf, BLK);
	dev->ops->kick(dev);
	assert_int_equal(r.answered, 0);
	assert_int_equal(poll(&pfd, 1, 60000), 1);
	while (!r.answered)
		dev->ops->poll(dev);
	assert_int_equal(r.io.res, -EINVAL);
	dev->ops->close(dev);
	free(buf);
}

/* The loop of an owner: sleep on the descriptor only, deliver, sleep again. */
static void test_event_fd(const struct way *way)
{
	struct thin_dev *dev = make(way, SIZE);
	char *buf = rig_buf(64 * BLK, 5);
	struct pollfd pfd = { .fd = dev->ops->event_fd(dev), .events = POLLIN };
	struct rig_io r[3] = { 0 };

	for (int turn = 0; turn < 50; turn++) {
		rig_start(dev, &r[0], DEV_WRITE, 0, buf, 64 * BLK);
		rig_start(dev, &r[1], DEV_READ, 1u << 20, buf + 32 * BLK, BLK);
		rig_start(dev, &r[2], DEV_FLUSH, 0, NULL, 0);
		dev->ops->kick(dev);
		while (r[0].answered + r[1].answered + r[2].answered < 3) {
			assert_int_equal(poll(&pfd, 1, 60000), 1);
			dev->ops->poll(dev);
		}
		for (int i = 0; i < 3; i++)
			assert_int_equal(r[i].io.res, 0);
		while (poll(&pfd, 1, 0) > 0) /* nothing keeps it readable */
			assert_int_equal(dev->ops->poll(dev), 0);
	}
	dev->ops->close(dev);
	free(buf);
}

static void test_grow(const struct way *way)
{
	struct thin_dev *dev = make(way, 1u << 20);
	char *buf = rig_buf(BLK, 5);
	struct err err = { 0 };

	assert_int_equal(rig_run(dev, DEV_WRITE, 1u << 20, buf, BLK), -EINVAL);
	assert_int_equal(dev->ops->resize(dev, 2u << 20, &err), 0);
	assert_int_equal(dev->size_bytes, 2u << 20);
	assert_int_equal(rig_run(dev, DEV_WRITE, 1u << 20, buf, BLK), 0);
	assert_int_equal(dev->ops->resize(dev, 1u << 20, &err), -EINVAL);
	assert_non_null(strstr(err.text, "never cut"));
	assert_int_equal(dev->ops->resize(dev, (2u << 20) + 1, &err), -EINVAL);
	assert_int_equal(dev->size_bytes, 2u << 20);
	assert_int_equal(rig_run(dev, DEV_READ, 1u << 20, buf, BLK), 0);
	dev->ops->close(dev);
	free(buf);
}

/* What has been written is told; what fallocate has merely set aside is not. */
static void test_written(const struct way *way)
{
	struct thin_dev *dev = make(way, 16u << 20);
	char *buf = rig_buf(1u << 20, 5);
	uint64_t from = 1, to = 1;
	int fd;

	assert_true(dev->sparse);
	assert_int_equal(dev->ops->next_written(dev, 0, &from, &to), 0);
	assert_int_equal(from, 16u << 20);
	assert_int_equal(rig_run(dev, DEV_WRITE, 4u << 20, buf, 1u << 20), 0);
	assert_int_equal(dev->ops->next_written(dev, 0, &from, &to), 0);
	assert_int_equal(from, 4u << 20);
	assert_int_equal(to, 5u << 20);
	assert_int_equal(dev->ops->next_written(dev, (4u << 20) + BLK, &from, &to), 0);
	assert_int_equal(from, (4u << 20) + BLK);
	fd = open(way->path, O_RDWR);
	assert_true(fd >= 0);
	if (strcmp(way->path, TMPFS) && fallocate(fd, 0, 8u << 20, 1u << 20) == 0) {
		assert_int_equal(dev->ops->next_written(dev, 5u << 20, &from, &to), 0);
		assert_int_equal(from, 16u << 20);
	}
	close(fd);
	assert_int_equal(rig_run(dev, DEV_PUNCH, 4u << 20, NULL, 1u << 20), 0);
	assert_int_equal(dev->ops->next_written(dev, 0, &from, &to), 0);
	assert_int_equal(from, 16u << 20);
	dev->ops->close(dev);
	free(buf);
}

static void test_every_way(void **state)
{
	static void (*const tests[])(const struct way *) = {
		test_round_trip, test_many,	  test_long_list,
		test_punch,	 test_size_limit, test_malformed,
		test_event_fd,	 test_grow,	  test_file_became_shorter,
		test_written,
	};

	for (size_t t = 0; t < sizeof(tests) / sizeof(tests[0]); t++)
		for (size_t w = 0; w < WAY_COUNT; w++) {
			tests[t](&ways[w]);
			unlink(ways[w].path); /* the tmpfs is small */
		}
}

/* A full file system: the part that fits, then ENOSPC; room again after a punch. */
static void test_tmpfs_full(void **state)
{
	struct thin_dev *dev = make(&ways[3], 64u << 20);
	char *out = rig_buf(8u << 20, 5), *in = rig_buf(1u << 20, 0);
	uint64_t offset;
	int r = 0;

	for (offset = 0; offset < 64u << 20 && r == 0; offset += 8u << 20)
		r = rig_run(dev, DEV_WRITE, offset, out, 8u << 20);
	assert_int_equal(r, -ENOSPC);
	assert_true(offset > 8u << 20);
	assert_int_equal(rig_run(dev, DEV_READ, 0, in, 1u << 20), 0);
	assert_memory_equal(in, out, 1u << 20);
	assert_true(dev->ops->host_room(dev) < 1u << 20);
	assert_int_equal(rig_run(dev, DEV_PUNCH, 0, NULL, 8u << 20), 0);
	assert_true(dev->ops->host_room(dev) >= 8u << 20);
	assert_int_equal(rig_run(dev, DEV_WRITE, offset - (8u << 20), out, 8u << 20), 0);
	dev->ops->close(dev);
	unlink(TMPFS);
	free(out);
	free(in);
}

static void test_lock(void **state)
{
	struct thin_dev *dev = make(&ways[0], SIZE), *other;
	struct dev_file_open rw = { 0 }, ro = { .read_only = true },
			     any = { .read_only = true, .no_lock = true };
	struct err err = { 0 };
	char want[64];

	snprintf(want, sizeof(want), "already open by another process (pid %d)", getpid());
	assert_int_equal(dev_file_open(DISK, &rw, &other, &err), -EBUSY);
	assert_non_null(strstr(err.text, want));
	assert_int_equal(dev_file_open(DISK, &ro, &other, &err), -EBUSY);
	other = rig_open(DISK, any);
	other->ops->close(other);
	dev->ops->close(dev);

	/* readers among themselves, and the lock ends with its holder, however that ends */
	dev = rig_open(DISK, ro);
	other = rig_open(DISK, ro);
	assert_int_equal(dev_file_open(DISK, &rw, &(struct thin_dev *){ NULL }, &err), -EBUSY);
	other->ops->close(other);
	dev->ops->close(dev);
	if (fork() == 0) {
		dev = rig_open(DISK, rw);
		kill(getpid(), SIGKILL);
	}
	wait(NULL);
	dev = rig_open(DISK, rw);
	dev->ops->close(dev);
}

static void test_refusals(void **state)
{
	struct dev_file_open p = { 0 }, create = { .create = true, .size_bytes = SIZE };
	struct thin_dev *dev = NULL;
	struct err err = { 0 };
	struct stat st;

	unlink(DISK);
	assert_int_equal(dev_file_open(DISK, &p, &dev, &err), -ENOENT);
	assert_int_equal(dev_file_open(DIR, &p, &dev, &err), -EISDIR);
	assert_int_equal(dev_file_open("/dev/null", &p, &dev, &err), -EINVAL);
	assert_non_null(strstr(err.text, "neither a file nor a block device"));
	assert_int_equal(mkfifo(DISK, 0600), 0);
	assert_int_equal(dev_file_open(DISK, &p, &dev, &err), -EINVAL);
	assert_int_equal(dev_file_open(DISK, &create, &dev, &err), -EEXIST);
	unlink(DISK);
	create.size_bytes = 1000;
	assert_int_equal(dev_file_open(DISK, &create, &dev, &err), -EINVAL);
	assert_int_equal(stat(DISK, &st), -1); /* and leaves nothing behind */
	assert_null(dev);
}

/* In a process that may not make a ring, as in many containers. */
static int child_without_ring(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { sizeof(code) / sizeof(code[0]), code };
	struct thin_dev *dev;
	char *buf = rig_buf(BLK, 1);

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, 2, &prog))
		return 1;
	dev = make(&ways[0], SIZE);
	if (strcmp(dev_file_mode(dev), "plain calls, direct") != 0)
		return 2;
	return rig_run(dev, DEV_WRITE, 0, buf, BLK) ? 3 : 0;
}

static void test_ring_not_permitted(void **state)
{
	int status;

	if (fork() == 0)
		_exit(child_without_ring());
	wait(&status);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static int setup(void **state)
{
	signal(SIGXFSZ, SIG_IGN);
	return 0;
}

static int teardown(void **state)
{
	rig_scratch_remove(DIR);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_way),
		cmocka_unit_test(test_tmpfs_full),
		cmocka_unit_test(test_lock),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_ring_not_permitted),
	};

	if (!rig_scratch(DIR, 24u << 10))
		return 77; /* needs root for a mount namespace */
	return cmocka_run_group_tests(tests, setup, teardown);
}
