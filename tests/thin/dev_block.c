// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The file device on a block device: a loop device that goes away with its last user.  One whose
 * backing store is full gives a real failed fdatasync.
 */
#include "tests/thin/dev_rig.h"

#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>

#define DIR   "dev_block.scratch"
#define DISK  DIR "/backing"
#define TMPFS DIR "/tmpfs/backing"
#define SIZE  (16u << 20)

/* Sets up a loop device over a sparse file; `ret_fd` keeps it alive until a device has it open. */
static bool loop_setup(const char *backing, char *ret_path, size_t path_len, int *ret_fd)
{
	struct loop_config conf = { .info.lo_flags = LO_FLAGS_AUTOCLEAR };
	int file = open(backing, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	int ctl = open("/dev/loop-control", O_RDWR | O_CLOEXEC), fd = -1, nr;

	if (file < 0 || ftruncate(file, SIZE) < 0)
		fail_msg("%s: %s", backing, strerror(errno));
	conf.fd = (uint32_t)file;
	for (int attempt = 0; ctl >= 0 && attempt < 20; attempt++) {
		nr = ioctl(ctl, LOOP_CTL_GET_FREE);
		snprintf(ret_path, path_len, "/dev/loop%d", nr);
		fd = nr < 0 ? -1 : open(ret_path, O_RDWR | O_CLOEXEC);
		if (fd < 0 || ioctl(fd, LOOP_CONFIGURE, &conf) == 0)
			break;
		close(fd); /* another process took it in between */
		fd = -1;
	}
	if (ctl >= 0)
		close(ctl);
	close(file);
	*ret_fd = fd;
	return fd >= 0;
}

static struct thin_dev *loop_open(const char *backing, struct dev_file_open p, char *ret_path,
				  size_t path_len)
{
	struct thin_dev *dev;
	int fd;

	if (!loop_setup(backing, ret_path, path_len, &fd))
		exit(77); /* no loop devices here */
	dev = rig_open(ret_path, p);
	close(fd);
	return dev;
}

static void test_round_trip(void **state)
{
	const struct dev_file_open ways[] = { { 0 }, { .plain = true } };
	char *out = rig_buf(1u << 20, 7), *in = rig_buf(1u << 20, 0), path[64];
	struct stat before, after;

	for (size_t i = 0; i < 2; i++) {
		struct thin_dev *dev = loop_open(DISK, ways[i], path, sizeof(path));

		print_message("%s\n", dev_file_mode(dev));
		assert_int_equal(dev->size_bytes, SIZE);
		assert_int_equal(rig_run(dev, DEV_WRITE, 1u << 20, out, 1u << 20), 0);
		assert_int_equal(rig_run(dev, DEV_FLUSH, 0, NULL, 0), 0);
		assert_int_equal(rig_run(dev, DEV_READ, 1u << 20, in, 1u << 20), 0);
		assert_memory_equal(in, out, 1u << 20);
		assert_true(dev->can_punch);
		assert_int_equal(stat(DISK, &before), 0);
		assert_int_equal(rig_run(dev, DEV_PUNCH, 1u << 20, NULL, 1u << 20), 0);
		assert_int_equal(rig_run(dev, DEV_FLUSH, 0, NULL, 0), 0);
		assert_int_equal(stat(DISK, &after), 0);
		assert_true(after.st_blocks < before.st_blocks);
		dev->ops->close(dev);
	}
	free(out);
	free(in);
}

static void test_lock_and_size(void **state)
{
	char path[64];
	struct thin_dev *other,
		*dev = loop_open(DISK, (struct dev_file_open){ 0 }, path, sizeof(path));
	struct dev_file_open p = { 0 };
	struct err err = { 0 };

	assert_int_equal(dev_file_open(path, &p, &other, &err), -EBUSY);
	assert_non_null(strstr(err.text, "already open by another process"));
	assert_int_equal(dev->ops->resize(dev, SIZE, &err), 0);
	assert_int_equal(dev->ops->resize(dev, SIZE + BLK, &err), -ENOSPC);
	assert_int_equal(dev->size_bytes, SIZE);
	dev->ops->close(dev);
}

/* Writes that the kernel took and cannot store: the flush must say so. */
static void test_failed_flush(void **state)
{
	const struct dev_file_open ways[] = { { .buffered = true },
					      { .buffered = true, .plain = true } };
	char *out = rig_buf(8u << 20, 7), path[64];

	for (size_t i = 0; i < 2; i++) {
		struct thin_dev *dev = loop_open(TMPFS, ways[i], path, sizeof(path));

		assert_int_equal(rig_run(dev, DEV_FLUSH, 0, NULL, 0), 0);
		assert_int_equal(rig_run(dev, DEV_WRITE, 0, out, 8u << 20), 0);
		assert_true(rig_run(dev, DEV_FLUSH, 0, NULL, 0) < 0);
		dev->ops->close(dev);
		unlink(TMPFS);
	}
	free(out);
}

static int teardown(void **state)
{
	rig_scratch_remove(DIR);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_lock_and_size),
		cmocka_unit_test(test_failed_flush),
	};

	if (!rig_scratch(DIR, 1024))
		return 77; /* needs root for a mount namespace */
	return cmocka_run_group_tests(tests, NULL, teardown);
}
