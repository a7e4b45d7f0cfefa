/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The NBD protocol's constants and messages as bytes (doc/proto.md of NetworkBlockDevice/nbd).
 *
 * Everything on the wire is big-endian; the be types are byte arrays, so the structs have neither
 * padding nor alignment and may lie anywhere in a buffer.
 */
#ifndef BLOCKD_NBD_WIRE_H
#define BLOCKD_NBD_WIRE_H

#include <assert.h>
#include <stdint.h>

#include "common/base/bytes.h"

/* ---- limits ---- */

#define NBD_STRING_MAX	     4096u	 /* bytes of any string ("Terms and conventions") */
#define NBD_PAYLOAD_MAX	     (32u << 20) /* of one READ or WRITE, as advertised */
#define NBD_BLOCK_MIN	     1u		 /* advertised block sizes */
#define NBD_BLOCK_PREFERRED  4096u
#define NBD_UNFRAGMENTED_MIN (64u << 10) /* DF reads up to this must be served */

/* ---- handshake ---- */

#define NBD_MAGIC	    0x4e42444d41474943ull /* "NBDMAGIC" */
#define NBD_OPTION_MAGIC    0x49484156454f5054ull /* "IHAVEOPT" */
#define NBD_OPT_REPLY_MAGIC 0x0003e889045565a9ull
#define NBD_EXPORT_ZEROES   124u /* behind the reply to EXPORT_NAME */

#define NBD_FLAG_FIXED_NEWSTYLE (1u << 0) /* handshake flags, both directions */
#define NBD_FLAG_NO_ZEROES	(1u << 1)
#define NBD_CLIENT_FLAGS_KNOWN	(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES)

enum nbd_option {
	NBD_OPT_EXPORT_NAME = 1,
	NBD_OPT_ABORT = 2,
	NBD_OPT_LIST = 3,
	NBD_OPT_STARTTLS = 5,
	NBD_OPT_INFO = 6,
	NBD_OPT_GO = 7,
	NBD_OPT_STRUCTURED_REPLY = 8,
	NBD_OPT_LIST_META_CONTEXT = 9,
	NBD_OPT_SET_META_CONTEXT = 10,
	NBD_OPT_EXTENDED_HEADERS = 11,
};

enum nbd_rep {
	NBD_REP_ACK = 1,
	NBD_REP_SERVER = 2,
	NBD_REP_INFO = 3,
	NBD_REP_META_CONTEXT = 4,
};

#define NBD_REP_ERR(n)	     ((1u << 31) | (n))
#define NBD_REP_ERR_UNSUP    NBD_REP_ERR(1)
#define NBD_REP_ERR_POLICY   NBD_REP_ERR(2)
#define NBD_REP_ERR_INVALID  NBD_REP_ERR(3)
#define NBD_REP_ERR_PLATFORM NBD_REP_ERR(4)
#define NBD_REP_ERR_UNKNOWN  NBD_REP_ERR(6)
#define NBD_REP_ERR_SHUTDOWN NBD_REP_ERR(7)
#define NBD_REP_ERR_TOO_BIG  NBD_REP_ERR(9)

enum nbd_info {
	NBD_INFO_EXPORT = 0,
	NBD_INFO_NAME = 1,
	NBD_INFO_DESCRIPTION = 2,
	NBD_INFO_BLOCK_SIZE = 3,
};

#define NBD_FLAG_HAS_FLAGS	   (1u << 0) /* transmission flags */
#define NBD_FLAG_READ_ONLY	   (1u << 1)
#define NBD_FLAG_SEND_FLUSH	   (1u << 2)
#define NBD_FLAG_SEND_FUA	   (1u << 3)
#define NBD_FLAG_ROTATIONAL	   (1u << 4)
#define NBD_FLAG_SEND_TRIM	   (1u << 5)
#define NBD_FLAG_SEND_WRITE_ZEROES (1u << 6)
#define NBD_FLAG_SEND_DF	   (1u << 7)
#define NBD_FLAG_CAN_MULTI_CONN	   (1u << 8)
#define NBD_FLAG_SEND_CACHE	   (1u << 10)
#define NBD_FLAG_SEND_FAST_ZERO	   (1u << 11)

struct nbd_greeting {
	be64_t magic, option_magic;
	be16_t flags;
};
static_assert(sizeof(struct nbd_greeting) == 18, "wire size");

struct nbd_option_header {
	be64_t magic;
	be32_t option, len;
};
static_assert(sizeof(struct nbd_option_header) == 16, "wire size");

struct nbd_option_reply {
	be64_t magic;
	be32_t option, type, len;
};
static_assert(sizeof(struct nbd_option_reply) == 20, "wire size");

struct nbd_export_reply { /* to EXPORT_NAME */
	be64_t size;
	be16_t flags;
};
static_assert(sizeof(struct nbd_export_reply) == 10, "wire size");

struct nbd_info_export {
	be16_t info;
	be64_t size;
	be16_t flags;
};
static_assert(sizeof(struct nbd_info_export) == 12, "wire size");

struct nbd_info_block_size {
	be16_t info;
	be32_t min, preferred, max;
};
static_assert(sizeof(struct nbd_info_block_size) == 14, "wire size");

/* ---- transmission ---- */

#define NBD_REQUEST_MAGIC	   0x25609513u
#define NBD_SIMPLE_REPLY_MAGIC	   0x67446698u
#define NBD_STRUCTURED_REPLY_MAGIC 0x668e33efu

enum nbd_cmd {
	NBD_CMD_READ = 0,
	NBD_CMD_WRITE = 1,
	NBD_CMD_DISC = 2,
	NBD_CMD_FLUSH = 3,
	NBD_CMD_TRIM = 4,
	NBD_CMD_CACHE = 5,
	NBD_CMD_WRITE_ZEROES = 6,
	NBD_CMD_BLOCK_STATUS = 7,
};

#define NBD_CMD_FLAG_FUA       (1u << 0)
#define NBD_CMD_FLAG_NO_HOLE   (1u << 1)
#define NBD_CMD_FLAG_DF	       (1u << 2)
#define NBD_CMD_FLAG_REQ_ONE   (1u << 3)
#define NBD_CMD_FLAG_FAST_ZERO (1u << 4)

#define NBD_REPLY_FLAG_DONE (1u << 0)

enum nbd_reply_type {
	NBD_REPLY_TYPE_NONE = 0,
	NBD_REPLY_TYPE_OFFSET_DATA = 1,
	NBD_REPLY_TYPE_OFFSET_HOLE = 2,
	NBD_REPLY_TYPE_BLOCK_STATUS = 5,
	NBD_REPLY_TYPE_ERROR = 0x8001,
	NBD_REPLY_TYPE_ERROR_OFFSET = 0x8002,
};

/* The only errors that may go on the wire ("Error values"). */
enum nbd_error {
	NBD_OK = 0,
	NBD_EPERM = 1,
	NBD_EIO = 5,
	NBD_ENOMEM = 12,
	NBD_EINVAL = 22,
	NBD_ENOSPC = 28,
	NBD_EOVERFLOW = 75,
	NBD_ENOTSUP = 95,
	NBD_ESHUTDOWN = 108,
};

#define NBD_STATE_HOLE (1u << 0) /* base:allocation */
#define NBD_STATE_ZERO (1u << 1)

struct nbd_request {
	be32_t magic;
	be16_t flags, type;
	uint8_t cookie[8];
	be64_t offset;
	be32_t len;
};
static_assert(sizeof(struct nbd_request) == 28, "wire size");

struct nbd_simple_reply {
	be32_t magic, error;
	uint8_t cookie[8];
};
static_assert(sizeof(struct nbd_simple_reply) == 16, "wire size");

struct nbd_chunk { /* the header of a structured reply chunk */
	be32_t magic;
	be16_t flags, type;
	uint8_t cookie[8];
	be32_t len;
};
static_assert(sizeof(struct nbd_chunk) == 20, "wire size");

struct nbd_chunk_data { /* OFFSET_DATA, the data follows */
	struct nbd_chunk chunk;
	be64_t offset;
};
static_assert(sizeof(struct nbd_chunk_data) == 28, "wire size");

struct nbd_chunk_hole { /* OFFSET_HOLE */
	struct nbd_chunk chunk;
	be64_t offset;
	be32_t len;
};
static_assert(sizeof(struct nbd_chunk_hole) == 32, "wire size");

struct nbd_chunk_status { /* BLOCK_STATUS, descriptors follow */
	struct nbd_chunk chunk;
	be32_t context_id;
};
static_assert(sizeof(struct nbd_chunk_status) == 24, "wire size");

struct nbd_status_desc {
	be32_t len, flags;
};
static_assert(sizeof(struct nbd_status_desc) == 8, "wire size");

struct nbd_chunk_error { /* ERROR without a message */
	struct nbd_chunk chunk;
	be32_t error;
	be16_t message_len;
};
static_assert(sizeof(struct nbd_chunk_error) == 26, "wire size");

struct nbd_chunk_error_offset { /* ERROR_OFFSET without a message */
	struct nbd_chunk chunk;
	be32_t error;
	be16_t message_len;
	be64_t offset;
};
static_assert(sizeof(struct nbd_chunk_error_offset) == 34, "wire size");

#endif
