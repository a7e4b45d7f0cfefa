/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Endpoints; see endpoint.h.
 *
 * The resolver's thread and its owner share one block with two lists, questions and answers.  It
 * belongs to both: whoever leaves last frees it, so a getaddrinfo() that hangs for half a minute
 * holds nobody up.  The thread ends when there is nothing left to ask.
 */
#include "netd/endpoint.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/units.h"
#include "common/daemon/loop.h"

/* --- text ----------------------------------------------------------------------------------- */

static int refuse(struct err *err, const char *text)
{
	return err_set(err, -EINVAL,
		       "found \"%.80s\", expected HOST:PORT with a name or an address "
		       "([address]:port for IPv6)",
		       text);
}

static bool name_valid(const char *name)
{
	size_t label = 0;

	for (const char *p = name; *p; p++) {
		bool letter = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
			      (*p >= '0' && *p <= '9') || *p == '-' || *p == '_';

		if (*p != '.' && !letter)
			return false;
		if (*p == '.' && !label)
			return false;
		label = *p == '.' ? 0 : label + 1;
		if (label > 63)
			return false;
	}
	/* "300.1.2.3" is no name: the last label of one is not a number */
	name = strrchr(name, '.') ? strrchr(name, '.') + 1 : name;
	return strspn(name, "0123456789") != strlen(name) || !*name;
}

int endpoint_parse(const char *text, struct endpoint *ret, struct err *err)
{
	const char *colon = strrchr(text, ':'), *host = text;
	size_t len = colon ? (size_t)(colon - text) : 0;
	union endpoint_addr a;
	uint64_t port;

	if (!len || number_parse(colon + 1, 1, 65535, "a port", &port, NULL) < 0)
		return refuse(err, text);
	if (host[0] == '[' && host[len - 1] == ']') {
		host++;
		len -= 2;
	} else if (memchr(host, ':', len)) {
		return refuse(err, text);
	}
	if (!len || len >= sizeof(ret->host))
		return refuse(err, text);
	memcpy(ret->host, host, len);
	ret->host[len] = '\0';
	ret->port = (uint16_t)port;
	ret->numeric = true;
	ret->numeric = endpoint_numeric(ret, &a) == 0;
	if (!ret->numeric && (host != text || !name_valid(ret->host)))
		return refuse(err, text);
	return 0;
}

int endpoint_numeric(const struct endpoint *e, union endpoint_addr *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (!e->numeric)
		return -EAGAIN;
	if (inet_pton(AF_INET, e->host, &ret->v4.sin_addr) == 1) {
		ret->v4.sin_family = AF_INET;
		ret->v4.sin_port = htons(e->port);
		return 0;
	}
	if (inet_pton(AF_INET6, e->host, &ret->v6.sin6_addr) == 1) {
		ret->v6.sin6_family = AF_INET6;
		ret->v6.sin6_port = htons(e->port);
		return 0;
	}
	return -EINVAL;
}

char *endpoint_format(const union endpoint_addr *a, char ret_text[ENDPOINT_TEXT_MAX])
{
	char host[INET6_ADDRSTRLEN] = "";

	if (a->sa.sa_family == AF_INET) {
		inet_ntop(AF_INET, &a->v4.sin_addr, host, sizeof(host));
		snprintf(ret_text, ENDPOINT_TEXT_MAX, "%s:%u", host, ntohs(a->v4.sin_port));
	} else {
		inet_ntop(AF_INET6, &a->v6.sin6_addr, host, sizeof(host));
		snprintf(ret_text, ENDPOINT_TEXT_MAX, "[%s]:%u", host, ntohs(a->v6.sin6_port));
	}
	return ret_text;
}

bool endpoint_addr_equal(const union endpoint_addr *a, const union endpoint_addr *b)
{
	if (a->sa.sa_family != b->sa.sa_family)
		return false;
	if (a->sa.sa_family == AF_INET)
		return a->v4.sin_port == b->v4.sin_port &&
		       a->v4.sin_addr.s_addr == b->v4.sin_addr.s_addr;
	return a->v6.sin6_port == b->v6.sin6_port &&
	       memcmp(&a->v6.sin6_addr, &b->v6.sin6_addr, sizeof(a->v6.sin6_addr)) == 0;
}

/* --- names ---------------------------------------------------------------------------------- */

struct question {
	struct question *next;
	bool answered;
	union endpoint_addr addrs[ENDPOINT_ANSWER_MAX];
	size_t count;
	char why[96];
	char text[];
};

struct shared {
	pthread_mutex_t lock;
	unsigned users;		    /* the owner, and the thread while there is one */
	bool running;		    /* there is one */
	struct question *questions; /* answered ones too, until the owner takes them */
	struct loop_waker *waker;   /* NULL: the owner has gone */
};

struct resolver {
	struct shared *shared;
	struct loop_waker *waker;
	resolver_fn answered;
	void *ctx;
};

static void leave(struct shared *s)
{
	bool last;

	pthread_mutex_lock(&s->lock);
	last = --s->users == 0;
	pthread_mutex_unlock(&s->lock);
	if (!last)
		return;
	while (s->questions) {
		struct question *q = s->questions;

		s->questions = q->next;
		free(q);
	}
	pthread_mutex_destroy(&s->lock);
	free(s);
}

static void take_answers(struct question *q, const struct addrinfo *list, uint16_t port)
{
	for (; list && q->count < ENDPOINT_ANSWER_MAX; list = list->ai_next) {
		union endpoint_addr *a = &q->addrs[q->count];

		if (list->ai_addrlen > sizeof(*a))
			continue;
		memset(a, 0, sizeof(*a));
		memcpy(a, list->ai_addr, list->ai_addrlen);
		if (a->sa.sa_family == AF_INET)
			a->v4.sin_port = htons(port);
		else
			a->v6.sin6_port = htons(port);
		q->count++;
	}
}

static void answer(struct question *q)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_DGRAM, .ai_flags = AI_ADDRCONFIG };
	struct addrinfo *list = NULL;
	struct endpoint e;
	int r;

	if (endpoint_parse(q->text, &e, NULL) < 0)
		return;
	r = getaddrinfo(e.host, NULL, &hints, &list);
	if (r == 0)
		take_answers(q, list, e.port);
	else
		snprintf(q->why, sizeof(q->why), "%s", gai_strerror(r));
	if (list)
		freeaddrinfo(list);
}

static struct question *next_question(struct shared *s)
{
	struct question *q = s->waker ? s->questions : NULL;

	while (q && q->answered)
		q = q->next;
	return q;
}

static void *work(void *arg)
{
	struct shared *s = arg;
	struct question *q;

	pthread_mutex_lock(&s->lock);
	while ((q = next_question(s))) {
		pthread_mutex_unlock(&s->lock);
		answer(q); /* only the thread writes into it until it is answered */
		pthread_mutex_lock(&s->lock);
		q->answered = true;
		if (s->waker)
			loop_waker_wake(s->waker);
	}
	s->running = false;
	pthread_mutex_unlock(&s->lock);
	leave(s);
	return NULL;
}

/* All signals stay with the main thread. */
static int start_thread(struct shared *s)
{
	pthread_attr_t attr;
	sigset_t all, old;
	pthread_t thread;
	int r;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&thread, &attr, work, s);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	return r ? -EAGAIN : 0;
}

int resolver_ask(struct resolver *r, const char *text)
{
	struct shared *s = r->shared;
	struct question *q = calloc(1, sizeof(*q) + strlen(text) + 1), **end;
	int rc = 0;

	if (!q)
		return -ENOMEM;
	strcpy(q->text, text);
	pthread_mutex_lock(&s->lock);
	for (end = &s->questions; *end; end = &(*end)->next)
		if (!(*end)->answered && strcmp((*end)->text, text) == 0)
			break;
	if (*end) {
		free(q);
	} else {
		*end = q;
		if (!s->running) {
			s->running = true;
			s->users++;
			rc = start_thread(s);
		}
		if (rc < 0) {
			s->running = false;
			s->users--;
			*end = NULL;
			free(q);
		}
	}
	pthread_mutex_unlock(&s->lock);
	return rc;
}

static struct question *take_answered(struct shared *s)
{
	struct question *q, **at;

	pthread_mutex_lock(&s->lock);
	for (at = &s->questions; *at && !(*at)->answered; at = &(*at)->next)
		;
	q = *at;
	if (q)
		*at = q->next;
	pthread_mutex_unlock(&s->lock);
	return q;
}

static void on_woken(void *ctx)
{
	struct resolver *r = ctx;
	struct question *q;

	while ((q = take_answered(r->shared))) {
		r->answered(r->ctx, q->text, q->addrs, q->count,
			    q->count	? ""
			    : q->why[0] ? q->why
					: "it has no address");
		free(q);
	}
}

int resolver_new(struct loop *loop, resolver_fn answered, void *ctx, struct resolver **ret)
{
	struct resolver *r = calloc(1, sizeof(*r));
	struct shared *s = calloc(1, sizeof(*s));

	if (!r || !s || loop_waker_new(loop, on_woken, r, &r->waker) < 0) {
		free(r);
		free(s);
		return -ENOMEM;
	}
	pthread_mutex_init(&s->lock, NULL);
	s->users = 1;
	s->waker = r->waker;
	r->shared = s;
	r->answered = answered;
	r->ctx = ctx;
	*ret = r;
	return 0;
}

void resolver_free(struct resolver *r)
{
	if (!r)
		return;
	pthread_mutex_lock(&r->shared->lock);
	r->shared->waker = NULL;
	pthread_mutex_unlock(&r->shared->lock);
	loop_waker_free(r->waker);
	leave(r->shared);
	free(r);
}
