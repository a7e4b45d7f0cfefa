/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The write lock of one volume: who may change it.  A state machine without I/O, threads or clock;
 * one object a volume, on the thread of the volume's reactor, where all of its connections are.
 *
 *	            open                       last connection: DISC, or cannot come back
 *	   FREE -----------------------> HELD ------------------------------------> FREE
 *	    ^  ^                        |    ^ \
 *	    |  |     connection lost    |    |  \ handover --to T
 *	    |  |   (grace, for those    |    |   \
 *	    |  |   that can come back)  v    |    v         T's first change
 *	    |  +--- time is over --- RESERVED|  HANDOVER ----------------------> HELD by T
 *	    |                   (owner back)-+    |
 *	    |                                     +-- T never came, or cancelled --> HELD
 *	    +-- break, from any state: epoch + 1, the owner fenced; with --to RESERVED for T
 *
 * The epoch is the fence.  It grows with every new owner, also when one comes back, and with every
 * break.  A connection carries the epoch it was granted, and each WRITE, WRITE_ZEROES and TRIM
 * compares it with the lock's: when it is parsed and again when its payload has arrived, just
 * before the engine gets it (lock_admits()).  So the moment in which the lock's epoch changes is
 * the moment from which nothing of the old owner can begin; what had begun is counted
 * (`admitted`), and the successor's grant waits until
 *	1. the new epoch is durable in the pool, and
 *	2. nothing admitted under another epoch is still in the engine (drained).
 * In this order of events a crash cannot give an epoch out twice, and a late write cannot land
 * behind a write of the successor.
 *
 * An owner is a text, "SCOPE/TOKEN" (identity.h): uid=107/pid=812.5521, addr=10.0.0.7/holder=vm1,
 * addr=10.0.0.7/conn=12.9f3a.  Connections of one owner share the lock and its epoch.
 *
 * Who asks for write access, in this order:
 *	fenced			refused, until another has held the lock or an administrator allows
 *	the owner itself	joins, when those of its connections that have been closed are gone;
 *				with `single` they are closed for it
 *	nobody holds it		takes it, unless it is reserved for another
 *	named by a handover	a standby: flags of a writer, reads served; its first change takes
 *				the lock from the owner
 *	asks to be a standby	a standby; its changes wait for a handover or the owner's end
 *	any other		by policy: refused, waits, read-only, standby
 * An owner whose connections have all been closed by the peer counts as about to leave: who asks
 * meanwhile waits for what it decides instead of being refused because two threads raced.
 *
 * FLUSH never comes here: it acquires nothing and is never refused.  READ neither.
 *
 * Who never wrote need not come back.  A process that closes its connections itself, without a DISC
 * and without ever having sent a change, gives the lock back at once, although it lives on: it has
 * looked at the size (fio opens in one process and writes in another).  The grace is for whoever
 * has a guest's state to lose, so this is not for
 *	- one that sent a change, in any of its connections since it took the lock from nobody, also
 *	  one that was refused or never arrived whole (`changed`, kept in `written`), and one that
 *	  lost its connection as such and came back;
 *	- one that was handed the lock or found it reserved: a guest's memory came along;
 *	- an owner of before a restart: what it did is not recorded;
 *	- a connection that we cut, or that is lost without its peer having closed it;
 *	- a holder ID, which says that it comes back, and `keep`.
 * What it gives up is that nobody else writes between its reads; who needs that gives an ID.
 *
 * What an attacker or an accident may do, and what stands against it:
 * - A fenced client connects anew and replays: refused by its owner text.  One that has no token
 *   of its own (plain TCP) is fenced by its scope, all of whose tokenless connections are refused.
 * - The old owner's payload arrives behind the fence: the second comparison.
 * - The process that holds the lock dies and another gets its pid: the start time is in the token.
 * - A standby with a change waiting has gone when it is let in: its connection is cut, not served.
 * - A crash between the fence and its record: the break was not answered, the old owner may still
 *   come back; nobody else has been granted anything.
 * - A grace that was running when the lock was broken: the owner is fenced, the grace forgotten.
 * - A restart during a handover: both are in the record.
 * - A restart while a successor waits to be let in, then a break: whether it was let in is not
 *   known, so it is fenced beside whom the break before fenced.
 */
#ifndef BLOCKD_ACCESS_LOCK_H
#define BLOCKD_ACCESS_LOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <bsd/sys/queue.h>

#include "common/base/err.h"
#include "thin/thin.h"

#define LOCK_TEXT_MAX	     THIN_LOCK_TEXT_MAX
#define LOCK_NO_EPOCH	     UINT64_MAX
#define LOCK_STANDBY_MS	     30000u  /* a standby's change waits so long, then EPERM */
#define LOCK_LEAVE_MS	     10000u  /* for an owner whose connections have been closed */
#define LOCK_DEATH_MS	     1000u   /* for a process that has lost its last connection */
#define LOCK_HANDOVER_TTL_MS 300000u /* where no other is given */
#define LOCK_GRACE_MS	     30000u  /* likewise */

enum lock_second { LOCK_REFUSE, LOCK_WAIT, LOCK_READONLY, LOCK_STANDBY };

struct lock_policy {
	enum lock_second second_writer;
	uint32_t wait_ms; /* of LOCK_WAIT */
	uint32_t grace_ms;
	bool keep;	 /* a lost connection keeps the lock until it is broken */
	bool disconnect; /* a fenced client's change closes its connection instead of EPERM */
};

enum lock_state { LOCK_FREE, LOCK_HELD, LOCK_RESERVED, LOCK_HANDOVER };

enum lock_role {
	LOCK_ASKING, /* its GO waits for an answer */
	LOCK_WRITER, /* was granted `epoch`, which may be an old one by now */
	LOCK_STANDS, /* standby */
	LOCK_OUT,    /* refused or read-only: no business here any more */
};

enum lock_verdict { LOCK_AS_WRITER, LOCK_AS_STANDBY, LOCK_AS_READER, LOCK_REFUSED };

enum lock_event {
	LOCK_EV_ACQUIRED,
	LOCK_EV_RELEASED,
	LOCK_EV_REFUSED,
	LOCK_EV_RESERVED, /* the owner's last connection was lost */
	LOCK_EV_EXPIRED,  /* a grace or a handover's time is over */
	LOCK_EV_HANDOVER, /* announced */
	LOCK_EV_TAKEN,	  /* a standby took it from the owner */
	LOCK_EV_BROKEN,
	LOCK_EV_ALLOWED,
	LOCK_EV_FENCED, /* a change of an ex-owner was refused */
	LOCK_EV_FAILED, /* could not be recorded */
};
#define LOCK_EVENT_KINDS (LOCK_EV_FAILED + 1)

struct lock;

/* A connection that asks for write access, from its GO to its end.  The caller's memory; all zero
 * but what lock_open() asks for. */
struct lock_conn {
	TAILQ_ENTRY(lock_conn) link;
	struct lock *lock;
	uint64_t epoch;	   /* LOCK_NO_EPOCH: none */
	uint32_t admitted; /* changes in the engine */
	enum lock_role role;
	char owner[LOCK_TEXT_MAX + 1]; /* set by the caller before lock_open() */
	bool can_return;	    /* likewise: its owner is one that can connect anew as itself */
	bool wants_standby, single; /* likewise: options of the export's name */
	bool leaving;		    /* the peer has closed; what it sent is still being read */
	bool gone;		    /* the socket is closed; what was admitted is still under way */
	bool pending;		    /* standby: a change waits */
	bool tired;		    /* ... has waited in vain */
	bool joined;		    /* is the owner's, or about to be */
	bool announced;		    /* its first refusal as an ex-owner has been told */
	bool changed;		    /* set by the caller: the peer has sent a change */
	uint64_t since_ms;	    /* waiting began */
	uint64_t until_ms;	    /* and ends */
};

struct lock_ops {
	/* Make the record durable, then lock_saved().  One at a time. */
	void (*save)(void *user, const struct thin_lock *record);
	/* The answer to lock_open(); may come before it returns.  `text` of a refusal. */
	void (*decided)(void *user, struct lock_conn *conn, enum lock_verdict verdict,
			const char *text);
	/* A change that waited may be tried again: lock_admits() decides. */
	void (*resume)(void *user, struct lock_conn *conn);
	/* Close this connection; lock_close() follows, at once or later. */
	void (*cut)(void *user, struct lock_conn *conn, const char *reason);
	void (*event)(void *user, enum lock_event event, const char *text);
};

struct lock {
	uint64_t epoch; /* a change must carry this one */
	uint64_t saved_epoch;
	const struct lock_ops *ops;
	void *user;
	struct lock_policy policy;
	uint32_t kept_policy, kept_wait_ms, kept_grace_ms; /* the record's own */
	uint64_t now_ms, now_s;
	char name[THIN_PATH_MAX + 1]; /* the volume's, for what is said to people; the caller's */

	char owner[LOCK_TEXT_MAX + 1]; /* "": nobody */
	bool active;		       /* false: reserved for the owner, until ... */
	bool granted;		       /* active, and a connection has been let in */
	bool written;		       /* the owner may have something to come back for */
	bool unsure;		       /* let in before the restart, or not?  `fenced` is set */
	uint64_t owner_until_ms;       /* UINT64_MAX: for ever */
	uint64_t since_s;
	char fenced[LOCK_TEXT_MAX + 1]; /* a fence, or several with blanks in between */
	char heir[LOCK_TEXT_MAX + 1];	/* whom a handover or a break named; "": nobody */
	char bound[LOCK_TEXT_MAX + 1];	/* the owner text of the one that came */
	uint64_t heir_until_ms;

	uint64_t change, saving_change, saved_change; /* of the record, counted */
	uint64_t saving_epoch;
	bool saving, running, again;
	int save_error;
	TAILQ_HEAD(, lock_conn) conns;
	uint64_t counts[LOCK_EVENT_KINDS];
};

/*
 * `record`: what the pool has, zeroes for a volume never locked.  `policy`: NULL for the record's.
 * `owner_back`: the owner in it is one that can come back (a holder ID, a process that is still
 * alive); its grace began at `loaded_ms`.
 */
void lock_init(struct lock *lock, const struct lock_ops *ops, void *user,
	       const struct thin_lock *record, const struct lock_policy *policy, bool owner_back,
	       uint64_t loaded_ms, uint64_t now_ms, uint64_t now_s);
/* The clock, before any of the calls below. */
void lock_set_now(struct lock *lock, uint64_t now_ms, uint64_t now_s);
/* NULL: the record's. */
void lock_set_policy(struct lock *lock, const struct lock_policy *policy);
/* What a record says of the policy; `ret` gets the defaults for what it does not say. */
void lock_policy_load(const struct thin_lock *record, struct lock_policy *ret_policy);

/* May this change begin?  Also when it is refused: what to do then, lock_change(). */
static inline bool lock_admits(const struct lock_conn *conn)
{
	return conn->epoch == conn->lock->epoch;
}

enum lock_wait { LOCK_MAY, LOCK_MAY_NOT, LOCK_PARK, LOCK_CUT };
/* A change that lock_admits() did not admit: PARK until `resume`. */
enum lock_wait lock_change(struct lock_conn *conn);

/* Ask; `decided` answers.  The connection belongs to the lock until lock_leave(). */
void lock_open(struct lock *lock, struct lock_conn *conn);
/* What lock_open() would be answered now (a wait counts as its success).  Changes nothing. */
enum lock_verdict lock_predict(const struct lock *lock, const struct lock_conn *conn, char *text,
			       size_t size);
/* Would a further connection of this client be admitted beside it, as the same owner? */
bool lock_shares(const struct lock_conn *conn);
/* The peer has closed its side: what it sent before is still being served. */
void lock_hung_up(struct lock_conn *conn);
/* The socket is closed, nothing more will begin; `clean`: by a DISC that was served.  The caller
 * has brought can_return up to date, and `leaving`: the peer had closed its side. */
void lock_close(struct lock_conn *conn, bool clean);
/* Behind lock_close(), when nothing is admitted any more. */
void lock_leave(struct lock_conn *conn);
/* A change has been answered by the engine: something may have been waiting for that. */
void lock_drained(struct lock *lock);
/* The process that owns the lock has ended. */
void lock_owner_died(struct lock *lock);
void lock_saved(struct lock *lock, int res);
/* Do what is due. */
void lock_run(struct lock *lock);
/* Refuse all that ask: the end has come. */
void lock_refuse_all(struct lock *lock, const char *why);
uint64_t lock_deadline_ms(const struct lock *lock);

/* ---- for administrators; -errno with a sentence ---- */

/* `to` as in lock_target_check(). */
int lock_handover(struct lock *lock, const char *to, uint64_t ttl_ms, uint64_t if_epoch,
		  struct err *err);
int lock_cancel(struct lock *lock, struct err *err);
/* `if_epoch` 0: any.  -ESTALE: it is another by now. */
int lock_break(struct lock *lock, const char *to, uint64_t if_epoch, struct err *err);
int lock_allow(struct lock *lock, struct err *err);
/* What had been decided when the lock's `change` was this is durable, and nothing that was admitted
 * under an epoch before `epoch` is in the engine any more. */
bool lock_is_settled(const struct lock *lock, uint64_t change, uint64_t epoch);
/* Settings that the pool keeps; `in_force`: and that hold now. */
void lock_keep_policy(struct lock *lock, const struct lock_policy *policy, bool in_force);

enum lock_state lock_state(const struct lock *lock);
const char *lock_state_name(enum lock_state state);
const char *lock_event_name(enum lock_event event);

/* ---- lock_text.c: owners as text ---- */

/*
 * Whom a handover may name: "holder=ID" or just "ID", "pid=N", "uid=N", "addr=ADDRESS", a whole
 * owner as lock show prints it, or "any".  Writes the canonical form.
 */
int lock_target_check(const char *text, char ret[LOCK_TEXT_MAX + 1], struct err *err);
bool lock_target_matches(const char *target, const char *owner);
/* What to fence so that this owner cannot come back. */
void lock_fence_of(const char *owner, char ret[LOCK_TEXT_MAX + 1]);
/* The same beside those that are fenced already; where there is no room the first goes. */
void lock_fence_add(const char *owner, char fences[LOCK_TEXT_MAX + 1]);
bool lock_fence_matches(const char *fences, const char *owner);
bool lock_is_process(const char *owner);
bool lock_is_holder(const char *owner);
/* An ID for holder=: 1 to 64 of letters, digits, "._-:". */
bool lock_holder_valid(const char *id, size_t len);
/* Why this connection may not write now. */
void lock_refusal(const struct lock *lock, const struct lock_conn *conn, char *text, size_t size);

#endif
