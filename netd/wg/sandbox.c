/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The cage of netd-wg; see sandbox.h.
 *
 * It parses what anybody on the Internet sends, so a fault in it must not become the host's: it
 * cannot open a file, make a socket, start a program or map executable memory.  What it works with
 * came as descriptors.  The filter lists what is used:
 *
 *	packets		read write readv writev recvmsg recvmmsg sendmsg sendmmsg
 *	waiting		epoll_wait epoll_pwait epoll_ctl poll ppoll
 *	wg(8), netd	accept4 recvfrom sendto close fcntl (flags only)
 *	memory		brk mmap mprotect (never executable) munmap mremap madvise
 *	time, chance	clock_gettime gettimeofday time getrandom (vDSO and OpenSSL fall back to
 *them) C library	futex rt_sigaction rt_sigprocmask rt_sigreturn restart_syscall exit
 *exit_group getpid gettid tgkill (abort), newfstat (stdio)
 */
#include "netd/wg/sandbox.h"

#include <errno.h>
#include <seccomp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "common/daemon/priv.h"

static const int allowed[] = {
	SCMP_SYS(read),		  SCMP_SYS(write),	  SCMP_SYS(readv),
	SCMP_SYS(writev),	  SCMP_SYS(recvmsg),	  SCMP_SYS(recvmmsg),
	SCMP_SYS(sendmsg),	  SCMP_SYS(sendmmsg),	  SCMP_SYS(recvfrom),
	SCMP_SYS(sendto),	  SCMP_SYS(epoll_wait),	  SCMP_SYS(epoll_pwait),
	SCMP_SYS(epoll_ctl),	  SCMP_SYS(poll),	  SCMP_SYS(ppoll),
	SCMP_SYS(accept4),	  SCMP_SYS(close),	  SCMP_SYS(brk),
	SCMP_SYS(munmap),	  SCMP_SYS(mremap),	  SCMP_SYS(madvise),
	SCMP_SYS(clock_gettime),  SCMP_SYS(gettimeofday), SCMP_SYS(time),
	SCMP_SYS(getrandom),	  SCMP_SYS(futex),	  SCMP_SYS(rt_sigaction),
	SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn), SCMP_SYS(restart_syscall),
	SCMP_SYS(exit),		  SCMP_SYS(exit_group),	  SCMP_SYS(getpid),
	SCMP_SYS(gettid),	  SCMP_SYS(tgkill),	  SCMP_SYS(newfstatat),
	SCMP_SYS(fstat),
};

#define FLAG_GETFL 3
#define FLAG_SETFL 4

static int add_rules(scmp_filter_ctx ctx)
{
	int r = 0;

	for (size_t i = 0; !r && i < sizeof(allowed) / sizeof(allowed[0]); i++)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, allowed[i], 0);
	/* Memory that can be executed is never made. */
	if (!r)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
				     SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	if (!r)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
				     SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	if (!r)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1,
				     SCMP_A1(SCMP_CMP_EQ, FLAG_GETFL));
	if (!r)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1,
				     SCMP_A1(SCMP_CMP_EQ, FLAG_SETFL));
	return r;
}

static int enter_filter(struct err *err)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int r = ctx ? 0 : -ENOMEM;

	if (!r)
		r = add_rules(ctx);
	if (!r)
		r = seccomp_load(ctx);
	seccomp_release(ctx);
	return r ? err_sys(err, r, "system call filter") : 0;
}

/*
 * Pages are locked as they are touched.  Future ones only when there is no limit: else one more
 * peer could fail for lack of lockable memory.
 */
static bool lock_memory(void)
{
	struct rlimit limit = { RLIM_INFINITY, RLIM_INFINITY };

	(void)setrlimit(RLIMIT_MEMLOCK, &limit);
	if (getrlimit(RLIMIT_MEMLOCK, &limit) || limit.rlim_cur != RLIM_INFINITY)
		return false;
	return !mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT);
}

int sandbox_enter(bool *ret_locked, struct err *err)
{
	const int none[] = { -1 };
	const struct rlimit no_core = { 0, 0 };
	int r;

	*ret_locked = lock_memory();
	if (setrlimit(RLIMIT_CORE, &no_core))
		return err_sys(err, -errno, "core limit");
	r = priv_drop(none, NULL, err);
	if (r)
		return r;
	/* After the change of capabilities, which may set it again. */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))
		return err_sys(err, -errno, "not dumpable");
	return enter_filter(err);
}
