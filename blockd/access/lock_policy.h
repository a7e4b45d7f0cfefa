/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A lock's settings as people write them: in the configuration, for `vdiskctl set`, in JSON. */
#ifndef BLOCKD_ACCESS_LOCK_POLICY_H
#define BLOCKD_ACCESS_LOCK_POLICY_H

#include "blockd/access/lock.h"

#define LOCK_WAIT_MAX_MS  3600000u
#define LOCK_GRACE_MAX_MS 86400000u
#define LOCK_SETTING_MAX  64u

extern const char *const lock_disconnect_words[]; /* release, keep; NULL */
extern const char *const lock_fence_words[];	  /* eperm, disconnect; NULL */

/* "refuse", "wait=TIME", "readonly", "standby" into second_writer and wait_ms.  -EINVAL. */
int lock_policy_second(const char *text, struct lock_policy *policy, struct err *err);
/* One of the settings by its name.  -ENOENT: none of that name; -EINVAL. */
int lock_policy_set(struct lock_policy *policy, const char *key, const char *value,
		    struct err *err);
/* As lock_policy_second() reads it. */
const char *lock_policy_second_text(const struct lock_policy *policy, char buf[LOCK_SETTING_MAX]);

#endif
