/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The aware backend, and trunks of the per-vlan backend, on a kernel that has bridge VLAN filtering
 * and 8021q (in the emulated VM; 77 elsewhere).  Frames are checked on the wire, tags included.
 *
 *	a1, a2: access 10    b1: access 20    t1: trunk 10,20 native 30    n1: access 30
 *	up0: uplink (all VIDs tagged)          each has its peer NAMEp in namespace `far`
 */
#include "tests/net/kernel.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/socket.h>

#include "tests/net/net_fixture.h"

#define WAIT_MS	 30000
#define QUIET_MS 150

static struct net_fixture f;
static enum vlan_backend backend;
static int host_ns, far_ns;

static const char *const nics[] = { "a1", "a2", "b1", "t1", "n1", "up0" };
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static struct prefix gw10[1];
static struct vlan_bridge bridges[] = { { .name = "guests", .uplink = "up0" } };
static struct vlan_segment segments[] = {
	{ .bridge = "guests", .vid = 10, .addresses = gw10, .address_count = 1 },
	{ .bridge = "guests", .vid = 20 },
	{ .bridge = "guests", .vid = 30 },
};
#define PORT(n) .name = (n), .bridge = "guests", .kind = VLAN_PORT_EXISTING
static struct vlan_port ports[5];
static const struct vlan_net nothing;

static struct vlan_net whole(void)
{
	static const struct vlan_port fresh[] = {
		{ PORT("a1"), .access = 10 }, { PORT("a2"), .access = 10 },
		{ PORT("b1"), .access = 20 }, { PORT("t1"), .native = 30 },
		{ PORT("n1"), .access = 30 },
	};

	memcpy(ports, fresh, sizeof(ports));
	vlan_vids_add(&ports[3].tagged, 10, 10);
	vlan_vids_add(&ports[3].tagged, 20, 20);
	return (struct vlan_net){ .bridges = bridges,
				  .bridge_count = 1,
				  .segments = segments,
				  .segment_count = COUNT(segments),
				  .ports = ports,
				  .port_count = COUNT(ports) };
}

static long run(const struct vlan_net *net)
{
	struct err err = { 0 };
	long n = net_run(&f, net, NULL, backend, &err);

	if (n < 0)
		fail_msg("%ld %s", n, err.text);
	return n;
}

static int world(void **state)
{
	struct err err = { 0 };

	(void)state;
	gw10[0] = (struct prefix){ .len = 24 };
	must(addr_parse("10.10.0.1", &gw10[0].addr, &err), &err);
	sh("ip netns add far");
	for (size_t i = 0; i < COUNT(nics); i++)
		sh("ip link add %s type veth peer name %sp netns far && ip -n far link set %sp up",
		   nics[i], nics[i], nics[i]);
	host_ns = open("/proc/self/ns/net", O_RDONLY);
	far_ns = open("/run/netns/far", O_RDONLY);
	return 0;
}

static int setup(void **state)
{
	struct err err = { 0 };

	(void)state;
	must(nl_open(&f.nl, &err), &err);
	must(observe_caps(f.nl, &f.vcaps, &f.ncaps, &err), &err);
	queue_init(&f.q, f.nl, &f.ncaps, true);
	return 0;
}

static int setup_aware(void **state)
{
	backend = VLAN_BACKEND_AWARE;
	return setup(state);
}

static int setup_per_vlan(void **state)
{
	backend = VLAN_BACKEND_PER_VLAN;
	return setup(state);
}

static int teardown(void **state)
{
	(void)state;
	run(&nothing);
	sh("test -z \"$(ip -br link show type bridge)$(ip -br link show type vlan)\"");
	sh("test -z \"$(cat /sys/class/net/a1/ifalias)\"");
	nl_close(f.nl);
	return 0;
}

/* ---- frames ---- */

static int far_socket(const char *nic)
{
	struct sockaddr_ll ll = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
	char name[IF_NAMESIZE];
	int on = 1, fd;

	snprintf(name, sizeof(name), "%sp", nic);
	assert_int_equal(setns(far_ns, CLONE_NEWNET), 0);
	fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, htons(ETH_P_ALL));
	ll.sll_ifindex = (int)if_nametoindex(name);
	assert_int_equal(setns(host_ns, CLONE_NEWNET), 0);
	assert_true(fd >= 0 && ll.sll_ifindex);
	assert_int_equal(bind(fd, (struct sockaddr *)&ll, sizeof(ll)), 0);
	assert_int_equal(setsockopt(fd, SOL_PACKET, PACKET_AUXDATA, &on, sizeof(on)), 0);
	return fd;
}

/* Receive a frame: its length and tag (0: none). */
static ssize_t receive(int fd, uint8_t *buf, size_t size, unsigned *ret_vid)
{
	char control[CMSG_SPACE(sizeof(struct tpacket_auxdata))];
	struct iovec iov = { buf, size };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = control,
			    .msg_controllen = sizeof(control) };
	ssize_t n = recvmsg(fd, &m, 0);

	*ret_vid = 0;
	for (struct cmsghdr *c = n < 0 ? NULL : CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		struct tpacket_auxdata aux;

		if (c->cmsg_level != SOL_PACKET || c->cmsg_type != PACKET_AUXDATA)
			continue;
		memcpy(&aux, CMSG_DATA(c), sizeof(aux));
		if (aux.tp_status & TP_STATUS_VLAN_VALID)
			*ret_vid = aux.tp_vlan_tci & 0xfff;
	}
	return n;
}

#define TYPE_HI 0x88
#define TYPE_LO 0xb5

/* A broadcast out of the far end of `nic`, tagged when vid is not 0; `id` tells it from others. */
static bool try_frame(int fd, unsigned vid, uint8_t id)
{
	uint8_t frame[80] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0, 0, 0, 0, 7 };
	size_t at = 12;

	if (vid) {
		frame[12] = 0x81;
		frame[14] = (uint8_t)(vid >> 8);
		frame[15] = (uint8_t)vid;
		at = 16;
	}
	frame[at] = TYPE_HI;
	frame[at + 1] = TYPE_LO;
	frame[at + 2] = id;
	return send(fd, frame, sizeof(frame), 0) == sizeof(frame);
}

static void send_frame(int fd, unsigned vid, uint8_t id)
{
	assert_true(try_frame(fd, vid, id));
}

/* Whether frame `id` comes out with exactly this tag; with another one the test fails. */
static bool comes_out(int fd, uint8_t id, unsigned vid, bool expected)
{
	double end = now_ms() + (expected ? WAIT_MS : QUIET_MS);
	uint8_t buf[256];
	unsigned tag;

	while (now_ms() < end) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		ssize_t n;

		if (poll(&p, 1, 10) != 1)
			continue;
		n = receive(fd, buf, sizeof(buf), &tag);
		if (n < 15 || buf[12] != TYPE_HI || buf[13] != TYPE_LO || buf[14] != id)
			continue;
		assert_int_equal(tag, vid);
		return true;
	}
	return false;
}

#define NOWHERE 0xffffu

/* Send into one port and look at all others: expected[i] is the tag at nics[i], or NOWHERE. */
static void check_spread(const char *from, unsigned vid, const unsigned expected[COUNT(nics)])
{
	static uint8_t id;
	int fds[COUNT(nics)], tx = -1;

	id++;
	for (size_t i = 0; i < COUNT(nics); i++) {
		fds[i] = far_socket(nics[i]);
		if (!strcmp(nics[i], from))
			tx = fds[i];
	}
	send_frame(tx, vid, id);
	for (size_t i = 0; i < COUNT(nics); i++) {
		bool want = expected[i] != NOWHERE;

		if (fds[i] != tx && comes_out(fds[i], id, expected[i], want) != want)
			fail_msg("from %s tag %u: %s %s", from, vid,
				 want ? "nothing at" : "something at", nics[i]);
	}
	for (size_t i = 0; i < COUNT(nics); i++)
		close(fds[i]);
}

#define N NOWHERE
/*				   a1 a2 b1 t1  n1 up0 */
static const unsigned vlan10[] = { 0, 0, N, 10, N, 10 };
static const unsigned vlan20[] = { N, N, 0, 20, N, 20 };
static const unsigned vlan30[] = { N, N, N, 0, 0, 30 };
static const unsigned nobody[] = { N, N, N, N, N, N };

static void frames_go_where_they_belong(void **state)
{
	struct vlan_net net = whole();

	(void)state;
	assert_true(run(&net) > 0);
	assert_int_equal(run(&net), 0);
	sleep(2); /* carriers of veth pairs that just came up */
	check_spread("a1", 0, vlan10);
	check_spread("b1", 0, vlan20);
	check_spread("n1", 0, vlan30);
	check_spread("t1", 10, vlan10);
	check_spread("t1", 20, vlan20);
	check_spread("t1", 0, vlan30);
	check_spread("up0", 10, vlan10);
	check_spread("up0", 30, vlan30);
	check_spread("up0", 40, nobody); /* not declared */
	check_spread("up0", 1, nobody);
	check_spread("up0", 0, nobody); /* the default VLAN that everybody would be in */
	if (backend == VLAN_BACKEND_AWARE)
		check_spread("a1", 20, nobody); /* a guest cannot tag itself into another VLAN */
}

static void gateway_answers(void **state)
{
	struct vlan_net net = whole();

	(void)state;
	run(&net);
	sh("ip -n far addr add 10.10.0.11/24 dev a1p");
	sh("for i in 1 2 3 4 5; do ip netns exec far ping -c 1 -W 1 10.10.0.1 >/dev/null && exit "
	   "0; "
	   "sleep 1; done; exit 1");
	sh("ip -n far addr del 10.10.0.11/24 dev a1p");
}

static void drift_is_found_and_repaired(void **state)
{
	static const char *const damage_aware[] = {
		"bridge vlan del dev a1 vid 10",
		"bridge vlan add dev a1 vid 20",
		"bridge vlan add dev b1 vid 10 pvid untagged",
		"bridge vlan del dev t1 vid 20",
		"bridge vlan del dev guests vid 10 self",
		"ip link del guests.10",
		"ip link set b1 nomaster",
		"ip link set guests type bridge vlan_filtering 0",
		"ip link del guests",
	};
	static const char *const damage_per_vlan[] = {
		"ip link del t1.10",
		"ip link set up0.20 nomaster",
		"ip link del guests.10",
		"ip link set t1.20 down",
	};
	const char *const *damage = backend == VLAN_BACKEND_AWARE ? damage_aware : damage_per_vlan;
	size_t count = backend == VLAN_BACKEND_AWARE ? COUNT(damage_aware) : COUNT(damage_per_vlan);
	struct vlan_net net = whole();

	(void)state;
	run(&net);
	for (size_t i = 0; i < count; i++) {
		sh("%s", damage[i]);
		if (run(&net) == 0)
			fail_msg("not noticed: %s", damage[i]);
		if (run(&net) != 0)
			fail_msg("not repaired: %s", damage[i]);
	}
}

static bool stop_once(void *arg)
{
	int *left = arg;

	return (*left)-- == 0;
}

/* Stopped at every batch of a change, the undo leaves what was there. */
static void undo_leaves_what_was_there(void **state)
{
	struct vlan_net a, b;
	struct vlan_port other[5];

	(void)state;
	for (int n = 0; n < 60; n++) {
		struct err err = { 0 };
		int left = n;
		long r;

		a = whole();
		memcpy(other, ports, sizeof(other));
		other[0].access = 20;
		other[1].access = 0;
		other[1].native = 10;
		other[1].tagged = ports[3].tagged;
		other[1].tagged.bits[0] &= ~(UINT64_C(1) << 10);
		other[3].native = 0;
		b = a;
		b.ports = other;
		b.port_count = 4;
		b.segment_count = 2;
		run(&a);
		f.q.stop = stop_once;
		f.q.stop_arg = &left;
		r = net_run(&f, &b, NULL, backend, &err);
		f.q.stop = NULL;
		if (r >= 0) {
			assert_int_equal(run(&b), 0);
			return;
		}
		if (run(&a) != 0)
			fail_msg("stopped at batch %d: something was not undone", n);
	}
	fail_msg("never ran through");
}

/* From one backend to the other and back, as when the kernel is exchanged, with all that moves. */
static void backends_change_places(void **state)
{
	struct vlan_net net = whole();

	(void)state;
	for (int i = 0; i < 4; i++) {
		struct err err = { 0 };
		int left = 4 + i;

		backend = i % 2 ? VLAN_BACKEND_PER_VLAN : VLAN_BACKEND_AWARE;
		run(&net);
		if (run(&net) != 0)
			fail_msg("%s does not rest", vlan_backend_name(backend));
		/* and broken off on the way to the other */
		f.q.stop = stop_once;
		f.q.stop_arg = &left;
		(void)net_run(&f, &net, NULL, i % 2 ? VLAN_BACKEND_AWARE : VLAN_BACKEND_PER_VLAN,
			      &err);
		f.q.stop = NULL;
		if (run(&net) != 0)
			fail_msg("%s was not put back: %s", vlan_backend_name(backend), err.text);
	}
}

static volatile bool flooding;

static void *flood(void *arg)
{
	while (flooding) {
		if (!try_frame(*(int *)arg, 0, 0xee))
			sched_yield(); /* the kernel is busy with those before */
	}
	return NULL;
}

/*
 * a1 moves between VLANs 10 and 20 under a burst; its frames must never come out of n1 (30), nor
 * untagged out of the uplink, nor there with any tag but 10 and 20.
 */
static void moving_leaks_nothing(void **state)
{
	struct vlan_net net = whole();
	int tx, rx, up;
	pthread_t thread;
	uint8_t buf[256];
	unsigned tag, heard = 0, tags[4096] = { 0 };

	(void)state;
	run(&net);
	tx = far_socket("a1");
	rx = far_socket("n1");
	up = far_socket("up0");
	flooding = true;
	assert_int_equal(pthread_create(&thread, NULL, flood, &tx), 0);
	/* Until both were heard, which a busy machine may be long about. */
	for (int i = 0; i < 20 || (i < 1000 && !(tags[10] && tags[20])); i++) {
		ports[0].access = i % 2 ? 10 : 20;
		run(&net);
		while (receive(rx, buf, sizeof(buf), &tag) >= 0)
			heard += buf[12] == TYPE_HI && buf[14] == 0xee;
		for (ssize_t n; (n = receive(up, buf, sizeof(buf), &tag)) >= 0;)
			if (n > 14 && buf[12] == TYPE_HI && buf[14] == 0xee)
				tags[tag]++;
	}
	flooding = false;
	pthread_join(thread, NULL);
	assert_int_equal(heard, 0);
	assert_true(tags[10] && tags[20]);
	tags[10] = tags[20] = 0;
	for (unsigned i = 0; i < 4096; i++)
		assert_int_equal(tags[i], 0);
	close(tx);
	close(rx);
	close(up);
}

/* All VIDs on a bridge with an uplink and a trunk: ranges, so a handful of messages. */
static void all_vids(void **state)
{
	struct vlan_segment *s = calloc(VLAN_VID_MAX, sizeof(*s));
	struct vlan_net net = whole();
	uint64_t messages;
	double t0, t1, t2;

	(void)state;
	for (unsigned i = 0; i < VLAN_VID_MAX; i++)
		s[i] = (struct vlan_segment){ .bridge = "guests", .vid = (uint16_t)(i + 1) };
	net.segments = s;
	net.segment_count = VLAN_VID_MAX;
	vlan_vids_add(&ports[3].tagged, 31, VLAN_VID_MAX);
	messages = f.q.messages;
	t0 = now_ms();
	run(&net);
	t1 = now_ms();
	assert_in_range(f.q.messages - messages, 1, 40);
	assert_int_equal(run(&net), 0);
	t2 = now_ms();
	printf("4094 VLANs, aware: %.0f ms, again %.0f ms (emulated)\n", t1 - t0, t2 - t1);
	run(&nothing);
	free(s);
}

int main(int argc, char **argv)
{
#define A(name) cmocka_unit_test_setup_teardown(name, setup_aware, teardown)
#define P(name) cmocka_unit_test_setup_teardown(name, setup_per_vlan, teardown)
	const struct CMUnitTest tests[] = {
		A(frames_go_where_they_belong), A(gateway_answers),
		A(drift_is_found_and_repaired), A(undo_leaves_what_was_there),
		A(moving_leaks_nothing),	A(all_vids),
		P(frames_go_where_they_belong), P(gateway_answers),
		P(drift_is_found_and_repaired), P(undo_leaves_what_was_there),
		A(backends_change_places),
	};
	struct vlan_caps v;
	struct nat_caps n;
	struct nl *nl;

	kernel_unshare();
	sh("mount -t sysfs none /sys && mount -t tmpfs none /run");
	if (nl_open(&nl, NULL) || observe_caps(nl, &v, &n, NULL))
		return 1;
	nl_close(nl);
	if (vlan_backend_choose(&v) != VLAN_BACKEND_AWARE) {
		fprintf(stderr, "no bridge VLAN filtering or no 8021q in this kernel\n");
		return 77;
	}
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, world, NULL);
}
