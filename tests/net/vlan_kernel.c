/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Links on the real kernel (per-vlan backend): made, found in sync, changed, given back, taken
 * away; what is foreign stays; what fails is undone; a plan broken off anywhere converges.
 */
#include "tests/net/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>

#include "tests/net/net_fixture.h"

static struct net_fixture f;

static struct prefix gateway10[2], gateway20[1];

static struct prefix prefix(const char *text)
{
	struct err err = { 0 };
	struct prefix p;

	must(prefix_parse(text, &p, &err), &err);
	return p;
}

static const struct vlan_bridge bridges[] = { { .name = "guests" } };

static struct vlan_segment segments[] = {
	{ .bridge = "guests", .vid = 10, .addresses = gateway10, .address_count = 2 },
	{ .bridge = "guests", .vid = 20, .addresses = gateway20, .address_count = 1, .mtu = 1400 },
	{ .bridge = "guests", .vid = 30 },
};

#define TAP(n, v) .name = (n), .bridge = "guests", .access = (v), .owner = 1000, .group = (gid_t)-1

static const struct vlan_port ports[] = {
	{ TAP("vm1", 10), .queues = 1, .vnet_hdr = true },
	{ TAP("vm2", 10), .queues = 4, .vnet_hdr = true, .isolated = true },
	{ TAP("vm3", 20), .queues = 1 },
	{ .name = "nic0",
	  .bridge = "guests",
	  .access = 30,
	  .kind = VLAN_PORT_EXISTING,
	  .mtu = 1450 },
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static struct vlan_net whole(void)
{
	return (struct vlan_net){ .bridges = bridges,
				  .bridge_count = COUNT(bridges),
				  .segments = segments,
				  .segment_count = COUNT(segments),
				  .ports = ports,
				  .port_count = COUNT(ports),
				  .mac_salt = 42 };
}

static const struct vlan_net nothing;

static long run(const struct vlan_net *net)
{
	struct err err = { 0 };
	long n = net_run(&f, net, NULL, VLAN_BACKEND_PER_VLAN, &err);

	if (n < 0)
		fail_msg("%ld %s", n, err.text);
	return n;
}

static int setup(void **state)
{
	struct err err = { 0 };

	(void)state;
	gateway10[0] = prefix("10.10.0.1/24");
	gateway10[1] = prefix("fd10::1/64");
	gateway20[0] = prefix("10.20.0.1/24");
	sh("ip link add nic0 type veth peer name nic0p; ip link set nic0 mtu 1500 alias 'my nic'");
	sh("ip link add foreign0 type bridge; ip link set foreign0 up; ip addr add 10.99.0.1/24 "
	   "dev foreign0");
	must(nl_open(&f.nl, &err), &err);
	must(observe_caps(f.nl, &f.vcaps, &f.ncaps, &err), &err);
	queue_init(&f.q, f.nl, &f.ncaps, true);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	run(&nothing);
	sh("test \"$(cat /sys/class/net/nic0/ifalias)\" = 'my nic'");
	sh("test $(cat /sys/class/net/nic0/mtu) = 1500");
	sh("test ! -e /sys/class/net/nic0/master");
	sh("ip -br addr show dev foreign0 | grep -q 10.99.0.1/24");
	sh("ip link del nic0; ip link del foreign0");
	sh("test $(ls /sys/class/net | wc -l) = 1"); /* lo; the foreign ones went just now */
	nl_close(f.nl);
	return 0;
}

static void makes_and_is_in_sync(void **state)
{
	struct vlan_net net = whole();

	(void)state;
	assert_true(run(&net) > 0);
	sh("ip -d link show guests.10 | grep -q 'alias ashlar:vlan guests 10'");
	sh("ip -br addr show dev guests.10 | grep -q '10.10.0.1/24.*fd10::1/64'");
	sh("test $(cat /sys/class/net/guests.20/mtu) = 1400");
	sh("test $(cat /sys/class/net/vm3/mtu) = 1400");
	sh("ip -d link show vm2 | grep -q 'isolated on'");
	sh("ip -d link show vm1 | grep -q 'master guests.10'");
	sh("ip -d link show vm1 | grep -q 'isolated off'");
	sh("test \"$(ip -6 -br addr show dev guests.30 | wc -l)\" = 0"); /* no link-local there */
	sh("test $(cat /sys/class/net/nic0/mtu) = 1450");
	assert_int_equal(run(&net), 0);
}

static int open_tap(const char *name, int flags)
{
	struct ifreq ifr = { .ifr_flags = (short)(IFF_TAP | IFF_NO_PI | flags) };
	int fd = open("/dev/net/tun", O_RDWR), r;

	strcpy(ifr.ifr_name, name);
	r = ioctl(fd, TUNSETIFF, &ifr) < 0 ? -errno : 0;
	close(fd);
	return r;
}

/* As qemu does it: by name, as the user that owns it. */
static void owner_opens_the_tap(void **state)
{
	struct vlan_net net = whole();
	int status;
	pid_t pid;

	(void)state;
	run(&net);
	pid = fork();
	if (!pid) {
		if (setgid(1000) || setuid(1000))
			_exit(9);
		if (open_tap("vm1", IFF_VNET_HDR))
			_exit(1);
		if (open_tap("vm2", IFF_VNET_HDR | IFF_MULTI_QUEUE))
			_exit(2);
		if (!open_tap("vm3",
			      IFF_VNET_HDR | IFF_MULTI_QUEUE)) /* other flags than declared */
			_exit(3);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	assert_int_equal(WEXITSTATUS(status), 0);
	pid = fork();
	if (!pid) {
		if (setgid(1001) || setuid(1001))
			_exit(9);
		_exit(open_tap("vm1", IFF_VNET_HDR) == -EPERM ? 0 : 1);
	}
	waitpid(pid, &status, 0);
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void drift_is_found_and_repaired(void **state)
{
	static const char *const damage[] = {
		"ip link del vm1",
		"ip link set vm2 nomaster",
		"bridge link set dev vm2 isolated off",
		"ip link set guests.10 down",
		"ip addr del 10.10.0.1/24 dev guests.10",
		"ip link set guests.20 mtu 1280",
		"ip link set vm3 address 02:00:00:00:00:99",
		"ip link set nic0 nomaster",
		"ip link del guests.20",
		"ip link set vm3 master guests.10",
	};
	struct vlan_net net = whole();

	(void)state;
	run(&net);
	for (size_t i = 0; i < COUNT(damage); i++) {
		sh("%s", damage[i]);
		if (run(&net) == 0)
			fail_msg("not noticed: %s", damage[i]);
		if (run(&net) != 0)
			fail_msg("not repaired: %s", damage[i]);
	}
}

static void foreign_name_is_an_error(void **state)
{
	struct vlan_net net = whole();
	struct err err = { 0 };

	(void)state;
	sh("ip link add guests.30 type bridge");
	assert_int_equal(net_run(&f, &net, NULL, VLAN_BACKEND_PER_VLAN, &err), -EEXIST);
	assert_non_null(strstr(err.text, "guests.30"));
	sh("test ! -e /sys/class/net/guests.10"); /* nothing was begun */
	sh("ip link del guests.30");
}

/* An address that another host's twin would have is ours only with our mark. */
static void foreign_address_stays(void **state)
{
	struct vlan_net net = whole();

	(void)state;
	run(&net);
	sh("ip addr add 10.77.0.1/24 dev guests.10");
	assert_int_equal(run(&net), 0);
	sh("ip -br addr show dev guests.10 | grep -q 10.77.0.1/24");
}

static bool stop_after(void *arg)
{
	int *left = arg;

	return (*left)-- <= 0;
}

/* A plan that ends at batch N, its undo included, as when netd is killed: the next apply converges.
 */
static void broken_off_anywhere_converges(void **state)
{
	static struct vlan_segment moved[COUNT(segments)];
	struct vlan_net a = whole(), b = whole();
	struct vlan_port other[COUNT(ports)];
	int n;

	(void)state;
	memcpy(moved, segments, sizeof(moved));
	memcpy(other, ports, sizeof(other));
	moved[1].vid = 21; /* another VLAN, with the same address */
	other[0].access = 30;
	other[1].isolated = false;
	other[1].queues = 1; /* must be made anew */
	other[2].access = 21;
	b.segments = moved;
	b.ports = other;
	b.port_count = 3;
	for (n = 0; n < 100; n++) {
		struct err err = { 0 };
		int left = n;
		long r;

		run(&a);
		f.q.stop = stop_after;
		f.q.stop_arg = &left;
		r = net_run(&f, &b, NULL, VLAN_BACKEND_PER_VLAN, &err);
		f.q.stop = NULL;
		if (r >= 0)
			break;
		assert_int_equal(r, -ECANCELED);
	}
	assert_in_range(n, 5, 50);
	assert_int_equal(run(&b), 0);
	run(&a);
}

/* One stop, then all goes: what plan_run() undid is really undone. */
static bool stop_once(void *arg)
{
	int *left = arg;

	return (*left)-- == 0;
}

static void undo_leaves_what_was_there(void **state)
{
	struct vlan_net a = whole(), b = whole();
	struct vlan_port other[COUNT(ports)];

	(void)state;
	memcpy(other, ports, sizeof(other));
	other[0].access = 30;
	other[1].queues = 1;
	other[2].access = 10;
	b.ports = other;
	b.port_count = 3; /* gives nic0 back */
	for (int n = 0; n < 100; n++) {
		struct err err = { 0 };
		int left = n;
		long r;

		run(&a);
		f.q.stop = stop_once;
		f.q.stop_arg = &left;
		r = net_run(&f, &b, NULL, VLAN_BACKEND_PER_VLAN, &err);
		f.q.stop = NULL;
		if (r >= 0)
			return;
		if (run(&a) != 0)
			fail_msg("stopped at batch %d: something was not undone", n);
	}
	fail_msg("never ran through");
}

static void many(void **state)
{
	enum { VLANS = 500 };
	struct vlan_segment *s = calloc(VLANS, sizeof(*s));
	struct vlan_net net = whole();
	double t0, t1, t2;

	(void)state;
	for (unsigned i = 0; i < VLANS; i++)
		s[i] = (struct vlan_segment){ .bridge = "guests", .vid = (uint16_t)(i + 1) };
	net.segments = s;
	net.segment_count = VLANS;
	net.port_count = 0;
	t0 = now_ms();
	assert_true(run(&net) > 0);
	t1 = now_ms();
	assert_int_equal(run(&net), 0);
	t2 = now_ms();
	printf("%d vlans: %.0f ms, again %.0f ms\n", VLANS, t1 - t0, t2 - t1);
	run(&nothing);
	free(s);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(makes_and_is_in_sync),	T(owner_opens_the_tap),
		T(drift_is_found_and_repaired), T(foreign_name_is_an_error),
		T(foreign_address_stays),	T(broken_off_anywhere_converges),
		T(undo_leaves_what_was_there),	T(many),
	};

	kernel_unshare();
	sh("mount -t sysfs none /sys");
	/* as udev makes it, whatever this host has */
	sh("mount -t tmpfs none /dev/net && mknod -m 666 /dev/net/tun c 10 200");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
