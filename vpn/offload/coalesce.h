/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Joining received packets into superframes for a TUN or TAP with vnet headers.
 *
 *	coalesce_add(c, packet, len)	for each packet of a batch; it stays where it is
 *	coalesce_frame(c, i, iov)	for i below coalesce_frame_count(): what to writev()
 *	coalesce_reset(c)		then the packets' memory is free again
 *
 * TCP segments of one flow that follow each other become one frame whose segmentation gives the
 * same packets again, byte for byte; so do UDP datagrams when `udp` is set (only where the device
 * takes USO).  Everything else passes as it is.  Order within a flow is kept; flows do not keep
 * order among each other within a batch.
 *
 * Nothing is copied: a frame is a list of pieces of the packets, the first packet's headers are
 * changed in place when the frame is asked for.  One thread; memory is allocated at start only.
 */
#ifndef VPN_OFFLOAD_COALESCE_H
#define VPN_OFFLOAD_COALESCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "vpn/offload/vnet.h"

/* Packets of one frame, at most; with the vnet header an iovec for each and one more. */
#define COALESCE_PACKETS_MAX 128
#define COALESCE_IOV_MAX     (COALESCE_PACKETS_MAX + 2)

struct coalesce;

/*
 * For batches of up to `packets_max` packets, each with `l2_len` bytes (0 or 14) before its IP
 * header.  -ENOMEM.
 */
int coalesce_new(size_t packets_max, size_t l2_len, bool tcp, bool udp, struct coalesce **ret)
	__attribute__((warn_unused_result, nonnull));
void coalesce_free(struct coalesce *c);
/* Change what is joined, between batches. */
void coalesce_set(struct coalesce *c, bool tcp, bool udp) __attribute__((nonnull));

/* Borrow `packet` until coalesce_reset().  False when the batch is full. */
bool coalesce_add(struct coalesce *c, uint8_t *packet, size_t len)
	__attribute__((warn_unused_result, nonnull));

size_t coalesce_frame_count(const struct coalesce *c) __attribute__((nonnull));
/*
 * Frame `i` in order of arrival: iov[0] is the vnet header, owned by `c`; to be called once for
 * each.  Returns the number of iovecs, at most COALESCE_IOV_MAX.
 */
size_t coalesce_frame(struct coalesce *c, size_t i, struct iovec *iov) __attribute__((nonnull));
/* Packets in frame i. */
size_t coalesce_frame_packets(const struct coalesce *c, size_t i) __attribute__((nonnull));
void coalesce_reset(struct coalesce *c) __attribute__((nonnull));

#endif
