/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Dropping privileges; see priv.h.  The order matters: the bounding set and the identity need
 * capabilities that the last step takes away, so libcap-ng's capng_change_id() does identity and
 * capabilities in one go.
 */
#include "common/daemon/priv.h"

#include <errno.h>
#include <pwd.h>
#include <sys/prctl.h>

#include <cap-ng.h>

bool priv_has(int capability)
{
	capng_get_caps_process();
	return capng_have_capability(CAPNG_EFFECTIVE, (unsigned)capability);
}

/* Select in libcap-ng's state what is both held now and wanted. */
static void select_caps(const int *keep)
{
	bool held[CAP_LAST_CAP + 1] = { false };

	capng_get_caps_process();
	for (const int *c = keep; *c >= 0; c++)
		held[*c] = capng_have_capability(CAPNG_PERMITTED, (unsigned)*c);
	capng_clear(CAPNG_SELECT_ALL);
	for (const int *c = keep; *c >= 0; c++)
		if (held[*c])
			capng_update(CAPNG_ADD,
				     CAPNG_EFFECTIVE | CAPNG_PERMITTED | CAPNG_BOUNDING_SET,
				     (unsigned)*c);
}

int priv_drop(const int *keep, const char *user, struct err *err)
{
	bool can_bound = priv_has(CAP_SETPCAP);
	struct passwd *pw = NULL;
	int r;

	if (user) {
		errno = 0;
		pw = getpwnam(user);
		if (!pw)
			return err_set(err, -ENOENT, "user \"%s\" is not known", user);
	}
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return err_sys(err, -errno, "no_new_privs");
	select_caps(keep);
	r = can_bound ? capng_apply(CAPNG_SELECT_BOUNDS) : 0;
	if (!r && pw)
		r = capng_change_id((int)pw->pw_uid, (int)pw->pw_gid, CAPNG_DROP_SUPP_GRP);
	else if (!r)
		r = capng_apply(CAPNG_SELECT_CAPS);
	if (r)
		return err_set(err, -EPERM, "cannot give up privileges (libcap-ng: %d)", r);
	r = capng_apply(CAPNG_SELECT_AMBIENT);
	return r ? err_set(err, -EPERM, "cannot empty the ambient set (libcap-ng: %d)", r) : 0;
}
