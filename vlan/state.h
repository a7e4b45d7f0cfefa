/* SPDX-License-Identifier: GPL-2.0-or-later */
/* States under construction.  Internal to vlan/. */
#ifndef VLAN_STATE_H
#define VLAN_STATE_H

#include "vlan/vlan.h"

/* "ashlar:use:" and what to go back to. */
#define VLAN_MARK_USE VLAN_MARK "use:"

/* Append a zeroed link; NULL without memory.  Moves the array: pointers into it die. */
struct vlan_link *vlan_state_add(struct vlan_state *s);
/* Append an address; 0 or -ENOMEM. */
int vlan_link_add_addr(struct vlan_link *l, const struct prefix *p, bool ours);
/* The membership, made when it is not there; NULL without memory. */
struct vlan_membership *vlan_link_members(struct vlan_link *l);
/* By name; the index of the second of two with one name in *ret_dup and -EEXIST. */
int vlan_state_sort(struct vlan_state *s, size_t *ret_dup);

/* An interface name: 1 to 15 bytes without space, slash, colon; not "." or "..". */
bool vlan_name_valid(const char *name);
/* Copy a name that is known to fit. */
void vlan_name_copy(char *dst, const char *src);

/* The mark of a link that we use, and what it says; false when it is not one. */
void vlan_use_mark(const struct vlan_link *observed, char *ret_alias);
bool vlan_use_parse(const char *alias, uint32_t *ret_mtu, bool *ret_up, const char **ret_old);

#endif
