// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What stands on a device, told by its magic numbers.
 *
 * Making a pool writes over a whole device, and device names move between boots: a wrong /dev/sdb
 * must not cost a file system.  The table names what is common, so that the message can; what it
 * does not know is still refused when the first or last MiB is anything but zeroes (a partition
 * table's backup, a RAID superblock and a pool's second copies lie at the end).  Only --force of
 * `vdiskctl pool create` goes past this; a config file cannot.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <linux/fs.h>

#include "blockd/signature.h"
#include "common/base/cleanup.h"

#define LOOK_BYTES (1u << 20)

struct signature {
	uint32_t offset;
	uint32_t len;
	const char *bytes;
	const char *what;
};

/* Sources: the magic numbers of util-linux' libblkid and of each format's own description. */
static const struct signature signatures[] = {
	{ 0, 8, "ASHLARTP", SIGNATURE_POOL },
	{ 4096, 8, "ASHLARTP", SIGNATURE_POOL },
	{ 1080, 2, "\x53\xef", "an ext2, ext3 or ext4 file system" },
	{ 0, 4, "XFSB", "an XFS file system" },
	{ 65600, 8, "_BHRfS_M", "a btrfs file system" },
	{ 1024, 4, "\x10\x20\xf5\xf2", "an F2FS file system" },
	{ 3, 8, "NTFS    ", "an NTFS file system" },
	{ 3, 8, "EXFAT   ", "an exFAT file system" },
	{ 54, 5, "FAT16", "a FAT file system" },
	{ 82, 5, "FAT32", "a FAT file system" },
	{ 32769, 5, "CD001", "an ISO 9660 file system" },
	{ 0, 4, "hsqs", "a squashfs file system" },
	{ 4086, 10, "SWAPSPACE2", "swap space" },
	{ 0, 6, "LUKS\xba\xbe", "a LUKS volume" },
	{ 512, 8, "LABELONE", "an LVM physical volume" },
	{ 0, 8, "LABELONE", "an LVM physical volume" },
	{ 4096, 4, "\xfc\x4e\x2b\xa9", "a member of a Linux RAID" },
	{ 0, 4, "\xfc\x4e\x2b\xa9", "a member of a Linux RAID" },
	{ 4120, 16, "\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81",
	  "a bcache device" },
	{ 0, 4, "QFI\xfb", "a qcow2 image" },
	{ 0, 4, "KDMV", "a VMDK image" },
	{ 512, 8, "EFI PART", "a GPT partition table" },
	{ 4096, 8, "EFI PART", "a GPT partition table" },
	{ 510, 2, "\x55\xaa", "a partition table" },
};

static const char *signature_find(const char *head, size_t len)
{
	for (size_t i = 0; i < sizeof(signatures) / sizeof(signatures[0]); i++) {
		const struct signature *s = &signatures[i];
		if (s->offset + s->len <= len && memcmp(head + s->offset, s->bytes, s->len) == 0)
			return s->what;
	}
	return NULL;
}

static bool is_blank(const char *buf, size_t len)
{
	return len == 0 || (buf[0] == 0 && memcmp(buf, buf + 1, len - 1) == 0);
}

/* Up to LOOK_BYTES from `offset`; the number read, or -errno. */
static ssize_t look(int fd, char *buf, uint64_t offset)
{
	size_t have = 0;

	while (have < LOOK_BYTES) {
		ssize_t n = pread(fd, buf + have, LOOK_BYTES - have, (off_t)(offset + have));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		have += (size_t)n;
	}
	return (ssize_t)have;
}

static int check_open(int fd, const char *path, uint64_t size, bool device, struct err *err)
{
	CLEANUP_FREE char *buf = malloc(LOOK_BYTES);
	const char *what;
	ssize_t n;

	if (!buf)
		return err_set(err, -ENOMEM, "out of memory");
	n = look(fd, buf, 0);
	if (n < 0)
		return err_sys(err, (int)n, "'%s'", path);
	what = signature_find(buf, (size_t)n);
	if (what)
		return err_set(err, -EEXIST, "'%s' holds %s", path, what);
	if (!device)
		return err_set(err, -EEXIST, "'%s' exists already", path);
	if (is_blank(buf, (size_t)n) && size > LOOK_BYTES) {
		n = look(fd, buf, size - LOOK_BYTES);
		if (n < 0)
			return err_sys(err, (int)n, "'%s'", path);
	}
	if (!is_blank(buf, (size_t)n))
		return err_set(err, -EEXIST, "'%s' is not blank: it holds something unknown", path);
	return 0;
}

int signature_check(const char *path, struct err *err)
{
	struct stat st;
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	uint64_t size;
	bool device;

	if (fd < 0)
		return errno == ENOENT ? 0 : err_sys(err, -errno, "'%s'", path);
	if (fstat(fd, &st) < 0)
		return err_sys(err, -errno, "'%s'", path);
	device = S_ISBLK(st.st_mode);
	if (!device && !S_ISREG(st.st_mode))
		return err_set(err, -EINVAL, "'%s' is neither a file nor a block device", path);
	size = (uint64_t)st.st_size;
	if (device && ioctl(fd, BLKGETSIZE64, &size) < 0)
		return err_sys(err, -errno, "'%s': size of the device", path);
	return check_open(fd, path, size, device, err);
}
