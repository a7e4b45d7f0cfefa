/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Keys and their files; see keyfile.h.  Every buffer that held a secret is cleaned. */
#include "netd/keyfile.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/cleanup.h"

#define BASE64_LEN     44
#define FILE_BYTES_MAX 256
#define BASE64	       "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

/* --- text ----------------------------------------------------------------------------------- */

char *key_format(const uint8_t key[KEY_LEN], char ret_text[KEY_TEXT_MAX])
{
	EVP_EncodeBlock((unsigned char *)ret_text, key, KEY_LEN);
	return ret_text;
}

/* What it decodes to must be written this way again: no other ends, no spaces inside. */
int key_parse(const char *text, uint8_t ret_key[KEY_LEN], struct err *err)
{
	static const uint8_t zero[KEY_LEN];
	unsigned char bytes[BASE64_LEN] = { 0 };
	char again[KEY_TEXT_MAX] = "";
	bool ok = strlen(text) == BASE64_LEN &&
		  EVP_DecodeBlock(bytes, (const unsigned char *)text, BASE64_LEN) == KEY_LEN + 1;

	ok = ok && strcmp(key_format(bytes, again), text) == 0;
	if (ok && CRYPTO_memcmp(bytes, zero, KEY_LEN) == 0)
		err_set(err, -EINVAL,
			"found a key of zeroes, expected one made by \"vnetctl "
			"tunnel genkey\"");
	else if (!ok)
		err_set(err, -EINVAL,
			"expected a key of 44 characters of base64, as \"vnetctl tunnel genkey\" "
			"makes it");
	else
		memcpy(ret_key, bytes, KEY_LEN);
	ok = ok && CRYPTO_memcmp(bytes, zero, KEY_LEN) != 0;
	OPENSSL_cleanse(bytes, sizeof(bytes));
	OPENSSL_cleanse(again, sizeof(again));
	return ok ? 0 : -EINVAL;
}

char *key_format_hex(const uint8_t key[KEY_LEN], char ret_text[KEY_HEX_MAX])
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < KEY_LEN; i++) {
		ret_text[2 * i] = digits[key[i] >> 4];
		ret_text[2 * i + 1] = digits[key[i] & 15];
	}
	ret_text[2 * KEY_LEN] = '\0';
	return ret_text;
}

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int key_parse_hex(const char *text, uint8_t ret_key[KEY_LEN])
{
	if (strlen(text) != 2 * KEY_LEN)
		return -EINVAL;
	for (size_t i = 0; i < KEY_LEN; i++) {
		int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);

		if (high < 0 || low < 0)
			return -EINVAL;
		ret_key[i] = (uint8_t)(high << 4 | low);
	}
	return 0;
}

static bool is_hex(const char *text, size_t len)
{
	size_t n = 0;

	while (n < len && digit(text[n]) >= 0)
		n++;
	return n == len;
}

static bool is_mixed(const char *text, size_t len)
{
	bool upper = false, lower = false, number = false;

	for (size_t i = 0; i < len; i++) {
		upper |= text[i] >= 'A' && text[i] <= 'Z';
		lower |= text[i] >= 'a' && text[i] <= 'z';
		number |= text[i] >= '0' && text[i] <= '9';
	}
	return upper && lower && number;
}

/* Of a path no part is that long and ends so or is so mixed, as a rule. */
void key_hide(char *text)
{
	static const char shown[] = "(a key)";

	while (*text) {
		size_t len = strspn(text, BASE64), end = len + strspn(text + len, "=");

		if (len >= BASE64_LEN - 1 &&
		    (end > len || (len >= KEY_HEX_MAX - 1 && is_hex(text, len)) ||
		     is_mixed(text, len))) {
			memcpy(text, shown, sizeof(shown) - 1);
			memmove(text + sizeof(shown) - 1, text + end, strlen(text + end) + 1);
			text += sizeof(shown) - 1;
		} else {
			text += end ? end : 1;
		}
	}
}

/* --- files ---------------------------------------------------------------------------------- */

static int demand_private(const char *path, const struct stat *sb, struct err *err)
{
	if (!S_ISREG(sb->st_mode))
		return err_set(err, -EINVAL, "%s: found no regular file, expected a key file",
			       path);
	if (sb->st_uid != 0 && sb->st_uid != geteuid())
		return err_set(err, -EPERM,
			       "%s: it belongs to user %u, expected root: its key is another's to "
			       "change",
			       path, (unsigned int)sb->st_uid);
	if (sb->st_mode & 077)
		return err_set(err, -EPERM,
			       "%s: others can read it (mode %04o): make a new key, and a file "
			       "with chmod 600",
			       path, (unsigned int)sb->st_mode & 07777);
	if (sb->st_size > FILE_BYTES_MAX)
		return err_set(err, -EINVAL, "%s: found %lld bytes, expected one key in base64",
			       path, (long long)sb->st_size);
	return 0;
}

static int read_text(int fd, const char *path, char *text, struct err *err)
{
	size_t used = 0;
	ssize_t n;

	while (used < FILE_BYTES_MAX && (n = read(fd, text + used, FILE_BYTES_MAX - used)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(err, -errno, "%s", path);
		used += (size_t)n;
	}
	while (used && strchr(" \t\r\n", text[used - 1]))
		used--;
	text[used] = '\0';
	return 0;
}

static int read_key(const char *path, uint8_t ret_key[KEY_LEN], struct err *err)
{
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	char text[FILE_BYTES_MAX + 1] = "";
	struct stat sb;
	int r;

	if (fd < 0 && errno == ENOENT)
		return err_set(err, -ENOENT,
			       "%s: there is no such file; make one: (umask 077; vnetctl tunnel "
			       "genkey > %s)",
			       path, path);
	if (fd < 0 || fstat(fd, &sb) < 0)
		return err_sys(err, -errno, "%s", path);
	r = demand_private(path, &sb, err);
	r = r < 0 ? r : read_text(fd, path, text, err);
	if (r == 0) {
		r = key_parse(text, ret_key, err);
		if (r < 0)
			err_context(err, "%s", path);
	}
	OPENSSL_cleanse(text, sizeof(text));
	return r;
}

int keyfile_read(const char *path, uint8_t ret_key[KEY_LEN], struct err *err)
{
	int r = read_key(path, ret_key, err);

	if (r < 0 && err)
		key_hide(err->text);
	return r;
}

static int sync_folder(const char *path)
{
	CLEANUP_FREE char *copy = strdup(path);
	CLEANUP_CLOSE int fd = copy ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

int keyfile_write(const char *path, const uint8_t key[KEY_LEN], struct err *err)
{
	CLEANUP_FREE char *tmp = NULL;
	CLEANUP_CLOSE int fd = -1;
	char text[KEY_TEXT_MAX + 1];
	int r = 0;

	if (asprintf(&tmp, "%s.new", path) < 0) {
		tmp = NULL;
		return err_set(err, -ENOMEM, "%s: out of memory", path);
	}
	unlink(tmp);
	fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_sys(err, -errno, "%s", tmp);
	key_format(key, text);
	strcat(text, "\n");
	if (write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		r = errno ? -errno : -EIO;
	OPENSSL_cleanse(text, sizeof(text));
	if (r == 0 && (fsync(fd) < 0 || rename(tmp, path) < 0))
		r = -errno;
	r = r < 0 ? r : sync_folder(path);
	if (r < 0) {
		unlink(tmp);
		return err_sys(err, r, "%s", path);
	}
	return 0;
}
