/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The log: see log.h.  A line is put together on the stack and leaves in one write(2), so lines of
 * several threads do not mix.  The table of the rate limit is the only shared state; its lock is
 * held for a few comparisons, never over a write.
 */
#include "common/daemon/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static struct {
	_Atomic int level;
	int fd;
	bool with_level; /* "<6>" for the journal instead of a time */
	uint64_t (*now_ms)(void);
	_Atomic uint64_t suppressed;
} log_state = { .level = LOG_LEVEL_INFO, .fd = STDERR_FILENO };

/*
 * One key of the rate limit.  Keys are compared by a 64-bit hash: two that clash share their
 * limit, which loses a line, not correctness.
 */
struct log_key {
	uint64_t hash;
	uint64_t since_ms; /* start of the window */
	unsigned count;	   /* lines in this window, left-out ones too */
};

static struct log_key log_keys[LOG_KEY_COUNT];
static pthread_mutex_t log_keys_lock = PTHREAD_MUTEX_INITIALIZER;

static uint64_t clock_ms(void)
{
	struct timespec t;

	if (log_state.now_ms)
		return log_state.now_ms();
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* JOURNAL_STREAM holds device and inode of the stream that systemd gave us. */
static bool stderr_is_journal(void)
{
	const char *text = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;

	return text && sscanf(text, "%llu:%llu", &dev, &ino) == 2 && !fstat(STDERR_FILENO, &st) &&
	       st.st_dev == dev && st.st_ino == ino;
}

void log_open(enum log_level level)
{
	log_state.with_level = stderr_is_journal();
	log_set_level(level);
}

void log_set_level(enum log_level level)
{
	atomic_store(&log_state.level, (int)level);
}

bool log_would(enum log_level level)
{
	return (int)level <= atomic_load_explicit(&log_state.level, memory_order_relaxed);
}

bool log_to_journal(void)
{
	return log_state.with_level;
}

void log_set_test(int fd, bool with_level, uint64_t (*now_ms)(void))
{
	log_state.fd = fd;
	log_state.with_level = with_level;
	log_state.now_ms = now_ms;
	memset(log_keys, 0, sizeof(log_keys));
}

uint64_t log_suppressed_count(void)
{
	return atomic_load(&log_state.suppressed);
}

static const char *level_name(enum log_level level)
{
	switch (level) {
	case LOG_LEVEL_ERROR:
		return "error: ";
	case LOG_LEVEL_WARNING:
		return "warning: ";
	case LOG_LEVEL_INFO:
		return "";
	case LOG_LEVEL_DEBUG:
		return "debug: ";
	}
	return "";
}

/* What stands before the text: "<6>subject: " or "12:34:56.789 warning: subject: ". */
static size_t put_head(char *line, size_t size, enum log_level level, const char *subject)
{
	struct timespec now;
	struct tm tm;
	int n;

	if (log_state.with_level) {
		n = snprintf(line, size, "<%d>%s%s", (int)level, subject ? subject : "",
			     subject ? ": " : "");
	} else {
		clock_gettime(CLOCK_REALTIME, &now);
		localtime_r(&now.tv_sec, &tm);
		n = snprintf(line, size, "%02d:%02d:%02d.%03ld %s%s%s", tm.tm_hour, tm.tm_min,
			     tm.tm_sec, now.tv_nsec / 1000000, level_name(level),
			     subject ? subject : "", subject ? ": " : "");
	}
	return (size_t)n < size ? (size_t)n : size - 1;
}

static void __attribute__((format(printf, 3, 0)))
write_line(enum log_level level, const char *subject, const char *fmt, va_list ap)
{
	char line[LOG_LINE_MAX];
	size_t len = put_head(line, sizeof(line), level, subject);
	int saved = errno, n = vsnprintf(line + len, sizeof(line) - len, fmt, ap);

	if (n > 0)
		len += (size_t)n;
	if (len > sizeof(line) - 1)
		len = sizeof(line) - 1;
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
			line[i] = '?';
	line[len++] = '\n';
	while (write(log_state.fd, line, len) < 0 && errno == EINTR)
		;
	errno = saved;
}

void log_write(enum log_level level, const char *subject, const char *fmt, ...)
{
	va_list ap;

	if (!log_would(level))
		return;
	va_start(ap, fmt);
	write_line(level, subject, fmt, ap);
	va_end(ap);
}

/* The key's slot, or the one whose window began longest ago.  Under the lock. */
static struct log_key *find_key(uint64_t hash)
{
	struct log_key *oldest = &log_keys[0];

	for (size_t i = 0; i < LOG_KEY_COUNT; i++) {
		if (log_keys[i].hash == hash)
			return &log_keys[i];
		if (log_keys[i].since_ms < oldest->since_ms)
			oldest = &log_keys[i];
	}
	return oldest;
}

/* May this line go out?  *ret_missed: lines of the window before that did not. */
static bool admit(const char *key, unsigned *ret_missed)
{
	uint64_t now = clock_ms(), hash = 0xcbf29ce484222325u;
	struct log_key *k;
	bool ok;

	for (const char *p = key; *p; p++)
		hash = (hash ^ (unsigned char)*p) * 0x100000001b3u;
	*ret_missed = 0;
	pthread_mutex_lock(&log_keys_lock);
	k = find_key(hash);
	if (k->hash != hash || now - k->since_ms >= LOG_WINDOW_MS) {
		if (k->hash == hash && k->count > LOG_BURST)
			*ret_missed = k->count - LOG_BURST;
		*k = (struct log_key){ .hash = hash, .since_ms = now };
	}
	ok = ++k->count <= LOG_BURST;
	pthread_mutex_unlock(&log_keys_lock);
	if (!ok)
		atomic_fetch_add(&log_state.suppressed, 1);
	return ok;
}

void log_limited(enum log_level level, const char *key, const char *subject, const char *fmt, ...)
{
	unsigned missed;
	va_list ap;

	if (!log_would(level) || !admit(key, &missed))
		return;
	if (missed)
		log_write(level, subject, "%u more lines like the next were left out", missed);
	va_start(ap, fmt);
	write_line(level, subject, fmt, ap);
	va_end(ap);
}
