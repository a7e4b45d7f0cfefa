// SPDX-License-Identifier: GPL-2.0-or-later
/* See lock_policy.h. */
#include "blockd/access/lock_policy.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/base/units.h"

const char *const lock_disconnect_words[] = { "release", "keep", NULL };
const char *const lock_fence_words[] = { "eperm", "disconnect", NULL };

int lock_policy_second(const char *text, struct lock_policy *policy, struct err *err)
{
	static const char *const words[] = { "refuse", NULL, "readonly", "standby" };
	uint64_t ms;

	for (int i = 0; i < 4; i++)
		if (words[i] && !strcmp(text, words[i])) {
			policy->second_writer = (enum lock_second)i;
			policy->wait_ms = 0;
			return 0;
		}
	if (!strncmp(text, "wait=", 5) && duration_parse(text + 5, &ms, NULL) == 0 && ms &&
	    ms <= LOCK_WAIT_MAX_MS) {
		policy->second_writer = LOCK_WAIT;
		policy->wait_ms = (uint32_t)ms;
		return 0;
	}
	return err_set(
		err, -EINVAL,
		"found \"%.64s\", expected refuse, wait=TIME (up to 1h), readonly or standby",
		text);
}

static int take_word(const char *value, const char *const *words, bool *ret, struct err *err)
{
	for (int i = 0; words[i]; i++)
		if (!strcmp(value, words[i])) {
			*ret = i;
			return 0;
		}
	return err_set(err, -EINVAL, "found \"%.64s\", expected %s or %s", value, words[0],
		       words[1]);
}

int lock_policy_set(struct lock_policy *policy, const char *key, const char *value, struct err *err)
{
	uint64_t ms;

	if (!strcmp(key, "second_writer"))
		return lock_policy_second(value, policy, err);
	if (!strcmp(key, "on_disconnect"))
		return take_word(value, lock_disconnect_words, &policy->keep, err);
	if (!strcmp(key, "fence"))
		return take_word(value, lock_fence_words, &policy->disconnect, err);
	if (strcmp(key, "grace"))
		return err_set(
			err, -ENOENT,
			"no setting \"%.64s\": there are second_writer, on_disconnect, grace "
			"and fence",
			key);
	if (duration_parse(value, &ms, NULL) || ms > LOCK_GRACE_MAX_MS)
		return err_set(err, -EINVAL,
			       "found \"%.64s\", expected a time of at most 24h, for instance 30s",
			       value);
	policy->grace_ms = (uint32_t)ms;
	return 0;
}

const char *lock_policy_second_text(const struct lock_policy *policy, char buf[LOCK_SETTING_MAX])
{
	char time[UNITS_TEXT_MAX];

	switch (policy->second_writer) {
	case LOCK_REFUSE:
		return "refuse";
	case LOCK_WAIT:
		snprintf(buf, LOCK_SETTING_MAX, "wait=%s", duration_format(policy->wait_ms, time));
		return buf;
	case LOCK_READONLY:
		return "readonly";
	case LOCK_STANDBY:
		return "standby";
	}
	return "refuse";
}
