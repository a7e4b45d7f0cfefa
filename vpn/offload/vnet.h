/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The vnet header of TUN and TAP, with what Linux 6.2 added and Debian 12's headers lack. */
#ifndef VPN_OFFLOAD_VNET_H
#define VPN_OFFLOAD_VNET_H

#include <linux/if_tun.h>
#include <linux/virtio_net.h>

#ifndef VIRTIO_NET_HDR_GSO_UDP_L4
#define VIRTIO_NET_HDR_GSO_UDP_L4 5
#endif
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

#endif
