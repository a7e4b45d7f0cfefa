/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Running operations; see queue.h.
 *
 * Link operations of a batch become messages in their order.  Where a message needs the index of a
 * link that an earlier message of the same batch makes, what has been collected is sent first.
 * Each operation remembers which messages are its own; the worst of their results is its result.
 *
 * Lost acknowledgements (-ENOBUFS) say nothing about the outcome: such an operation is sent once
 * more, and finding its effect there already counts as success.
 */
#include "netd/queue.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nat/wire.h"
#include "vlan/wire.h"

/* Messages of one batch of link operations. */
struct run {
	struct queue *q;
	struct plan_op *const *ops;
	size_t count;
	bool undo;
	struct nlbuf b;
	size_t *first;	/* per op: its first message in b, SIZE_MAX: none yet */
	size_t *length; /* per op: how many */
	struct vlan_resolver res;
	struct err *err;
};

static int resolve(void *ctx, const char *name)
{
	return nl_ifindex(ctx, name);
}

static uint16_t message_type(const struct nlbuf *b, size_t index)
{
	size_t at = 0;

	while (index--)
		at += NLMSG_ALIGN(
			((const struct nlmsghdr *)(const void *)(b->data + at))->nlmsg_len);
	return ((const struct nlmsghdr *)(const void *)(b->data + at))->nlmsg_type;
}

/* Results that mean: it is already so. */
static int forgive(uint16_t type, int result, bool again)
{
	if (type == RTM_DELLINK && result == -ENODEV)
		return 0;
	if (type == RTM_DELADDR && (result == -EADDRNOTAVAIL || result == -ENODEV))
		return 0;
	if (type == RTM_NEWADDR && result == -EEXIST)
		return 0;
	if (type == RTM_NEWLINK && result == -EEXIST && again)
		return 0;
	return result;
}

#define TAKE_BACK_TRIES 3

/* Undo what a failed operation may have done; nobody can do more if this fails, too. */
static void take_back(struct run *w, const struct vlan_op *op)
{
	int results[16] = { 0 };
	bool failed = true;

	for (int i = 0; i < TAKE_BACK_TRIES && failed; i++) {
		struct nlbuf b = { 0 };

		failed = vlan_wire_op(&b, op, !w->undo, &w->res) != 0;
		if (!failed && b.message_count &&
		    b.message_count <= sizeof(results) / sizeof(results[0]))
			failed = nl_batch(w->q->nl, &b, results, NULL) != 0;
		for (size_t k = 0; k < b.message_count && !failed; k++)
			failed = forgive(message_type(&b, k), results[k], true) != 0;
		nlbuf_clear(&b);
	}
	w->q->failures += failed;
}

/* Fold the results of an operation's messages into its result. */
static void settle(struct run *w, size_t i, const int *results, bool again)
{
	const struct vlan_op *op = (const struct vlan_op *)w->ops[i];
	bool some_worked = false;
	int worst = 0;

	for (size_t k = 0; k < w->length[i]; k++) {
		int r = forgive(message_type(&w->b, w->first[i] + k), results[w->first[i] + k],
				again);

		if (r && !worst)
			worst = r;
		some_worked = some_worked || !r;
	}
	w->ops[i]->result = worst;
	/* also the TAP of a failed mark, and what nobody knows after a second try */
	if (worst &&
	    (again || (worst != -ENOBUFS && (some_worked || vlan_wire_tap_add(op, w->undo)))))
		take_back(w, op);
}

static int send_messages(struct run *w, bool again)
{
	int *results;
	int r;

	if (!w->b.message_count)
		return 0;
	results = calloc(w->b.message_count, sizeof(*results));
	if (!results)
		return -ENOMEM;
	w->q->batches++;
	w->q->messages += w->b.message_count;
	r = nl_batch(w->q->nl, &w->b, results, w->err);
	for (size_t i = 0; i < w->count; i++) {
		if (w->length[i] && w->ops[i]->result != -EINPROGRESS)
			continue; /* settled by an earlier send */
		if (w->length[i])
			settle(w, i, results, again);
	}
	nlbuf_reset(&w->b);
	free(results);
	return r == -ENOBUFS ? 0 : r; /* the operations concerned say so themselves */
}

/* Append the messages of one operation; -EINPROGRESS marks those that wait for an answer. */
static int encode(struct run *w, size_t i)
{
	const struct vlan_op *op = (const struct vlan_op *)w->ops[i];
	size_t bytes = w->b.len_bytes, count = w->b.message_count;
	int r = vlan_wire_op(&w->b, op, w->undo, &w->res);

	if (r) { /* half an operation is none */
		w->b.len_bytes = bytes;
		w->b.message_count = count;
		return r;
	}
	w->first[i] = count;
	w->length[i] = w->b.message_count - count;
	w->ops[i]->result = w->length[i] ? -EINPROGRESS : 0;
	return 0;
}

static int make_tap(struct run *w, const struct vlan_op *op)
{
	const struct vlan_link *add = vlan_wire_tap_add(op, w->undo);
	const struct vlan_link *own = vlan_wire_tap_own(op, w->undo);

	if (add)
		return nl_tap_add(w->q->nl, add, w->err);
	return own ? nl_tap_own(w->q->nl, own, w->err) : 0;
}

/* Something to be deleted that is not there (with no index to name it by) is done. */
static bool goes_away(const struct vlan_op *op, bool undo)
{
	return op->kind == (undo ? VLAN_OP_ADDR_ADD : VLAN_OP_ADDR_DEL);
}

/* The link that an operation is about. */
static const char *subject(const struct plan_op *op)
{
	const struct vlan_op *v = (const struct vlan_op *)op;

	return (v->after ? v->after : v->before)->name;
}

/*
 * A link of somebody else's of which something could not be undone stays as it is from there on:
 * half undone it might lose its mark, and nobody would know that it is to be given back.
 */
static bool is_stuck(const struct run *w, const struct vlan_op *op)
{
	if (!w->undo || (op->after ? op->after : op->before)->kind != VLAN_KIND_OTHER)
		return false;
	for (size_t i = 0; i < w->q->stuck_count; i++)
		if (!strcmp(w->q->stuck[i], subject(&op->op)))
			return true;
	return w->q->stuck_count == QUEUE_STUCK_MAX;
}

static void note_stuck(struct queue *q, struct plan_op *const *ops, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (ops[i]->result && q->stuck_count < QUEUE_STUCK_MAX)
			snprintf(q->stuck[q->stuck_count++], VLAN_NAME_MAX, "%s", subject(ops[i]));
}

static int add_op(struct run *w, size_t i)
{
	const struct vlan_op *op = (const struct vlan_op *)w->ops[i];
	int r = is_stuck(w, op) ? -EBUSY : make_tap(w, op);

	w->ops[i]->result = r;
	if (r)
		return 0;
	r = encode(w, i);
	if (r == -ENODEV && w->b.message_count) { /* perhaps made by what is waiting here */
		r = send_messages(w, false);
		if (!r)
			r = encode(w, i);
	}
	if (r == -ENODEV && goes_away(op, w->undo))
		r = 0;
	if (r == -ENODEV || r == -ENOMEM) {
		w->ops[i]->result = r;
		if (r == -ENODEV && w->err && !w->err->code)
			err_set(w->err, r, "the interface is not there");
		if (vlan_wire_tap_add(op, w->undo))
			take_back(w, op);
		r = r == -ENOMEM ? r : 0;
	}
	return r;
}

/* Operations whose answers were lost, once more. */
static int send_again(struct run *w)
{
	bool any = false;
	int r = 0;

	for (size_t i = 0; i < w->count && !r; i++) {
		w->length[i] = 0;
		if (w->ops[i]->result != -ENOBUFS)
			continue;
		any = true;
		r = encode(w, i);
	}
	if (!any || r)
		return r;
	w->q->retries++;
	return send_messages(w, true);
}

/* Links that came back get their ports' settings, addresses and state in a second run. */
static int restore(struct run *w)
{
	int r = 0;

	for (size_t i = 0; i < w->count && !r; i++) {
		size_t first = w->b.message_count;

		w->length[i] = 0;
		if (w->ops[i]->result)
			continue;
		r = vlan_wire_restore(&w->b, (const struct vlan_op *)w->ops[i], &w->res);
		w->first[i] = first;
		w->length[i] = w->b.message_count - first;
		if (w->length[i])
			w->ops[i]->result = -EINPROGRESS;
	}
	return r ? r : send_messages(w, true);
}

static int run_links(struct queue *q, struct plan_op *const *ops, size_t count, bool undo,
		     struct err *err)
{
	struct run w = { .q = q, .ops = ops, .count = count, .undo = undo, .err = err };
	int r = 0;

	w.res = (struct vlan_resolver){ resolve, q->nl };
	w.first = calloc(count, sizeof(*w.first));
	w.length = calloc(count, sizeof(*w.length));
	for (size_t i = 0; i < count; i++)
		ops[i]->result = -ECANCELED; /* not reached */
	if (!w.first || !w.length)
		r = -ENOMEM;
	for (size_t i = 0; i < count && !r; i++)
		r = add_op(&w, i);
	if (!r)
		r = send_messages(&w, false);
	if (!r)
		r = send_again(&w);
	if (!r && undo)
		r = restore(&w);
	for (size_t i = 0; i < count; i++)
		if (ops[i]->result == -EINPROGRESS)
			ops[i]->result = r ? r : -EIO;
	if (undo)
		note_stuck(q, ops, count);
	else
		q->stuck_count = 0;
	free(w.first);
	free(w.length);
	nlbuf_clear(&w.b);
	return r;
}

static int run_nat(struct queue *q, struct plan_op *const *ops, size_t count, bool undo,
		   struct err *err)
{
	struct nlbuf b = { 0 };
	int r = nat_wire_begin(&b);

	if (!r)
		r = nat_wire_ops(&b, (const struct nat_op *const *)ops, count, undo,
				 q->table_flags);
	if (!r)
		r = nat_wire_end(&b);
	for (int attempt = 0; !r; attempt++) {
		struct err e = { 0 };

		q->transactions++;
		r = nl_transact(q->nl, &b, &e);
		q->commits += r == 0;
		/* another transaction of somebody was faster: the kernel asks to try again */
		if ((r == -EBUSY || r == -EAGAIN || r == -EINTR) && attempt < 3) {
			q->retries++;
			r = 0;
			continue;
		}
		if (r && err && !err->code)
			*err = e;
		break;
	}
	for (size_t i = 0; i < count; i++)
		ops[i]->result = r;
	nlbuf_clear(&b);
	return r;
}

/* The first failed operation's line in front of the kernel's words. */
static void name_failure(struct plan_op *const *ops, size_t count, struct err *err)
{
	for (size_t i = 0; i < count; i++) {
		if (!ops[i]->result)
			continue;
		if (err && err->code)
			err_context(err, "%s", ops[i]->text);
		else if (err)
			err_sys(err, ops[i]->result, "%s", ops[i]->text);
		return;
	}
}

static int run(void *ctx, struct plan_op *const *ops, size_t count, bool undo, struct err *err)
{
	struct queue *q = ctx;
	struct err e = { 0 };
	int r = 0;

	if (q->stop && q->stop(q->stop_arg))
		r = -ECANCELED;
	for (size_t i = 0, n; i < count; i += n) {
		n = 1;
		while (i + n < count && ops[i + n]->owner == ops[i]->owner)
			n++;
		if (r) {
			for (size_t k = 0; k < n; k++)
				ops[i + k]->result = r;
			continue;
		}
		if (ops[i]->owner == &vlan_op_owner)
			r = run_links(q, ops + i, n, undo, &e);
		else if (ops[i]->owner == &nat_op_owner)
			r = run_nat(q, ops + i, n, undo, &e);
		else
			r = -EINVAL;
	}
	for (size_t i = 0; i < count; i++)
		q->failures += ops[i]->result != 0;
	name_failure(ops, count, &e);
	if (e.code && err && !err->code)
		*err = e;
	return r;
}

void queue_init(struct queue *q, struct nl *nl, const struct nat_caps *caps, bool own_tables)
{
	memset(q, 0, sizeof(*q));
	q->nl = nl;
	if (own_tables && caps->owner && caps->persist)
		q->table_flags = NAT_TABLE_F_OWNER | NAT_TABLE_F_PERSIST;
}

struct plan_port queue_port(struct queue *q)
{
	return (struct plan_port){ run, q };
}

int queue_adopt_tables(struct queue *q, const struct nat_state *observed, struct err *err)
{
	struct nlbuf b = { 0 };
	int r;

	/* only tables that were owned and outlived their owner can be taken over */
	if (!q->table_flags || !observed->tables || observed->owner ||
	    !(observed->table_flags & NAT_TABLE_F_PERSIST))
		return 0;
	r = nat_wire_begin(&b);
	if (!r)
		r = nat_wire_adopt(&b, q->table_flags);
	if (!r)
		r = nat_wire_end(&b);
	if (!r)
		r = nl_transact(q->nl, &b, err);
	nlbuf_clear(&b);
	return r;
}
