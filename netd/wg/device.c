/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The TUN or TAP of a tunnel; see sockets.h.
 *
 * What the device hands out depends on TUNSETOFFLOAD: with TSO the kernel gives superframes of up
 * to 64 KiB instead of packets, with USO (Linux 6.2) also of UDP.  gso_max_size is lowered so that
 * a sealed superframe fits one send.
 */
#include "netd/wg/sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>

#include <libmnl/libmnl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>

#include "common/base/cleanup.h"
#include "vpn/offload/vnet.h"

static int set_request_name(struct ifreq *q, const char *name)
{
	if (!*name || strlen(name) >= sizeof(q->ifr_name))
		return -EINVAL;
	strcpy(q->ifr_name, name);
	return 0;
}

static int attach(int fd, const char *name, bool l2, struct err *err)
{
	struct ifreq q = { 0 };

	if (set_request_name(&q, name))
		return err_set(err, -EINVAL, "\"%s\" is no name for a device", name);
	q.ifr_flags = (short)((l2 ? IFF_TAP : IFF_TUN) | IFF_NO_PI | IFF_VNET_HDR);
	if (!ioctl(fd, TUNSETIFF, &q))
		return 0;
	if (errno == EBUSY)
		return err_set(err, -EBUSY, "device %s is in use by another process", name);
	if (errno == EINVAL)
		return err_set(err, -EINVAL,
			       "device %s exists and is of another kind; delete it or choose "
			       "another name",
			       name);
	return err_sys(err, -errno, "device %s", name);
}

static int set_offload(int fd, bool offload, bool *ret_uso)
{
	unsigned tcp = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;

	*ret_uso = false;
	if (!offload)
		return ioctl(fd, TUNSETOFFLOAD, 0) ? -errno : 0;
	if (!ioctl(fd, TUNSETOFFLOAD, tcp | TUN_F_USO4 | TUN_F_USO6)) {
		*ret_uso = true;
		return 0;
	}
	return ioctl(fd, TUNSETOFFLOAD, tcp) ? -errno : 0;
}

/* Older kernels (before 6.0?) may refuse: then large superframes take two sends. */
static void limit_superframes(const char *name)
{
	uint8_t buf[256];
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	struct ifinfomsg *i;
	struct mnl_socket *s;

	h->nlmsg_type = RTM_NEWLINK;
	h->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	h->nlmsg_seq = 1;
	i = mnl_nlmsg_put_extra_header(h, sizeof(*i));
	i->ifi_index = (int)if_nametoindex(name);
	mnl_attr_put_u32(h, IFLA_GSO_MAX_SIZE, WG_GSO_MAX_BYTES);
	s = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	if (!s)
		return;
	if (!mnl_socket_bind(s, 0, MNL_SOCKET_AUTOPID) && mnl_socket_sendto(s, h, h->nlmsg_len) > 0)
		(void)mnl_socket_recvfrom(s, buf, sizeof(buf));
	mnl_socket_close(s);
}

int wg_device_set_mtu(const char *name, uint16_t mtu, struct err *err)
{
	CLEANUP_CLOSE int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq q = { 0 };

	if (fd < 0 || set_request_name(&q, name))
		return err_sys(err, fd < 0 ? -errno : -EINVAL, "device %s", name);
	q.ifr_mtu = mtu;
	if (ioctl(fd, SIOCSIFMTU, &q))
		return err_sys(err, -errno, "device %s: MTU %u", name, mtu);
	return 0;
}

int wg_device_open(const char *name, bool l2, uint16_t mtu, bool offload, struct wg_device *ret,
		   struct err *err)
{
	CLEANUP_CLOSE int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	bool uso;
	int r;

	if (fd < 0)
		return err_sys(err, -errno, "/dev/net/tun");
	r = attach(fd, name, l2, err);
	if (r)
		return r;
	if (ioctl(fd, TUNSETPERSIST, 1))
		return err_sys(err, -errno, "device %s: TUNSETPERSIST", name);
	r = set_offload(fd, offload, &uso);
	if (r)
		return err_sys(err, r, "device %s: TUNSETOFFLOAD", name);
	r = wg_device_set_mtu(name, mtu, err);
	if (r)
		return r;
	if (offload)
		limit_superframes(name);
	*ret = (struct wg_device){ .fd = fd, .uso = uso };
	fd = -1;
	return 0;
}

void wg_device_release(int fd)
{
	(void)ioctl(fd, TUNSETPERSIST, 0);
}
