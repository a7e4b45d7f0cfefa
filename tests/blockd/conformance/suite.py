# SPDX-License-Identifier: GPL-2.0-or-later
"""
NBD conformance: what servers get wrong, a test each, over raw sockets to blockd itself, and over
libnbd and qemu where they can express it.  The source is doc/proto.md of NetworkBlockDevice/nbd.

Each line is a sentence and its tests, as file.function; the runner refuses a line whose test does
not exist and a test that is in no line.  The same rules are tested without sockets, byte by byte
and with an engine that fails on demand, by tests/blockd/handshake_*.c and transmit_*.c.

Handshake
  unknown client flag bits drop the connection: handshake.unknown_client_flags_drop
  an unknown option is ERR_UNSUP with its payload skipped: handshake.unknown_options_are_skipped
  ABORT is acknowledged: handshake.abort_is_acknowledged
  an early close is a clean end (SIGPIPE ignored): handshake.early_close_is_clean
  LIST with data is INVALID: handshake.list_with_data_is_invalid
  LIST names what there is, with descriptions: handshake.list_describes, clients.nbdinfo_lists
  EXPORT_NAME that cannot be granted drops: handshake.export_name_drops
  EXPORT_NAME sends the 124 zeroes unless told: handshake.export_name_zeroes
  GO never sends the 124 zeroes: handshake.go_sends_no_zeroes
  INFO predicts the GO that follows: handshake.info_predicts_go, clients.libnbd_info_predicts
  INFO changes nothing (no lock, no open) before GO: handshake.info_opens_nothing
  DF only with structured replies: handshake.df_needs_structured_replies, clients.libnbd_df
  unknown info requests ignored: handshake.unknown_infos_are_ignored
  option payloads bounded before allocation: handshake.option_payloads_are_bounded
  connections capped (default 100): handshake.connections_are_capped
  a client that has not finished its handshake in 10 s is dropped: handshake.handshakes_end_in_time
  export names: handshake.export_names, clients.qemu_shows_our_text

Meta contexts
  SET before structured replies is INVALID: contexts.set_needs_structured_replies
  SET replaces the old selection even when it fails: contexts.set_replaces
  zero queries select none: contexts.zero_queries_select_none
  bound to the name later used in GO: contexts.bound_to_the_name
  "base:" lists but is ignored in SET: contexts.wildcards_only_list
  unknown namespaces are ignored, not errors: contexts.unknown_namespaces, clients.libnbd_contexts
  each context has its chunk: contexts.one_chunk_each, clients.maps_agree
  a snapshot's blocks are shared and a layer down: clients.snapshots_are_shared
  "qemu:dirty-bitmap:SNAP" tells what differs from a snapshot, bit 0 is NBD_STATE_DIRTY:
    contexts.bitmaps_tell_what_changed, clients.bitmaps_are_read_by_all
  ... of this volume, or of another in its lineage, and is none for all else:
    contexts.bitmaps_need_a_common_past
  "qemu:dirty-bitmap:" lists them all, "qemu:" and no query a bounded number and a hint:
    contexts.bitmaps_are_listed
  too many contexts are TOO_BIG: contexts.too_many_bitmaps
  a selected bitmap's snapshot stays, or GO is refused: contexts.bitmaps_hold_their_snapshot
  a client that leaves before GO's answer holds nothing: contexts.early_leavers_hold_nothing

Transmission
  with structured replies READ is always structured, even an early EINVAL:
    transmission.read_is_always_structured
  FUA is accepted on every command: transmission.fua_on_every_command, clients.qemu_io_fua
  FLUSH covers every write already answered on any connection: transmission.flush_covers_all
  WRITE and WRITE_ZEROES past the end are ENOSPC, READ/TRIM/STATUS past the end EINVAL:
    transmission.past_the_end, clients.libnbd_past_the_end
  offset+length overflow checked in 64 bits: transmission.overflow, clients.libnbd_past_the_end
  read-only gives EPERM to WRITE, TRIM and WRITE_ZEROES:
    transmission.read_only, clients.libnbd_read_only, clients.qemu_refuses_read_only
  unknown commands and flags EINVAL without losing sync:
    transmission.unknown_commands, transmission.unknown_flags, clients.libnbd_flags
  a simple-reply read that fails after its header disconnects: transmission.simple_read_fails_late
  a structured one pads its chunk and adds an error chunk (here: a failed part is an error chunk
  alone): transmission.structured_read_fails, clients.libnbd_read_error
  no overlapping chunks: transmission.chunks_do_not_overlap, clients.libnbd_chunks
  N-1 status extents shorter than the request: transmission.status_extents, clients.maps_agree
  REQ_ONE exactly one: transmission.req_one, clients.libnbd_req_one
  NO_HOLE leaves the range provisioned: transmission.no_hole, clients.qemu_zeroes
  FAST_ZERO fails with ENOTSUP and no change unless truly fast: transmission.fast_zero
  TRIM and ZEROES up to 4 GiB-1 just work: transmission.four_gib, clients.libnbd_four_gib
  a WRITE longer than the maximum is drained or disconnected, never buffered:
    transmission.oversize_write
  DISC finishes what is outstanding: transmission.disc_finishes
  only the eight errors of the protocol go on the wire: transmission.only_eight_errors
  every request of a pipeline is answered once: transmission.pipelining
"""
import os
import re
import socket
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "lib"))
sys.dont_write_bytecode = True
import sandbox
from rawnbd import Client
from sandbox import check

TESTS = []


def sentence(test):
    """Marks a test; it is called with the server."""
    TESTS.append(test)
    return test


def named(file):
    """The tests that the table above has for a file."""
    return set(re.findall(rf"\b{file}\.(\w+)", __doc__))


def run(script, make):
    """Run all of a script's tests, each on the server that make() has started or on none."""
    file = os.path.basename(script)
    mine = {t.__name__ for t in TESTS}
    check(mine == named(file), f"tests and table differ: {sorted(mine ^ named(file))}")

    def main():
        server = make()
        with server:
            for test in TESTS:
                test(server)
                check(server.alive(), f"the server has ended in {test.__name__}")
                print("ok", test.__name__)
        print(f"{len(TESTS)} sentences")
        server.verify()

    sandbox.run(main)


def connect(server):
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(server.socket)
    return Client(sock)


def go(server, name="demo", structured=True, contexts=("base:allocation",)):
    return connect(server).go(name, structured, contexts)
