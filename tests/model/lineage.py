# SPDX-License-Identifier: GPL-2.0-or-later
"""The rules of thin/lineage.h as an executable model.

A pool of a few blocks on which all that thin/ decides about lineage happens in the same order and by
the same comparisons: births, bounds, the walk in step, trees under reclaim and their owners, what is
freed by a record and what at a checkpoint, the cut, the log and its replay.  What it leaves out is
speed and bytes: a map has always two levels (a root of LEAVES leaves of WIDTH entries), a block's
content is its number, which is never given twice.  So instead of reusing blocks, the model checks
that no state that a crash could leave names a block which might have been given to somebody else.

    node    (birth, written, entries); of a root the entries are numbers of leaves, of a leaf
            (block, birth); 0 or None: nothing.  A node that is written is never changed
    log     records since the durable checkpoint; in front of `flushed` they are durable
    held    freed, and not to be given out before record n is durable (LOG, n) or checkpoint n is
            (CKPT, n)
    image   the durable checkpoint; `cut`: one that is being written

A mistake that the rules forbid can be switched on by its name (`bad`; the list is in `run`).
"""
LEAVES, WIDTH = 2, 2
BLOCKS = LEAVES * WIDTH
LIVE, SNAP, HIDDEN = 1, 2, 3
LOG, CKPT = 0, 1

# The fields of a volume.
STATE, OF, PARENT, GEN, ROOT, SIZE, SPLICING, CURSOR, LOG_BOUND, OWN, MAPPED, FREED = range(12)
# ... of a tree under reclaim.
I_ROOT, I_BOUND, I_CURSOR, I_OWNER, I_MAPPED = range(5)

class Broken(Exception):
    """A rule does not hold."""


class Pool:
    """What is in memory, on the disk, and what the clients were promised."""

    __slots__ = ("bad", "gen", "ck", "next_vol", "next_id", "nodes", "vols", "items", "alloc",
                 "held", "splice", "former", "log", "flushed", "image", "cut", "oracle",
                 "writing", "replaying", "read", "ghosts")

    def __init__(self, bad=frozenset()):
        self.bad = bad
        self.gen, self.ck, self.next_vol, self.next_id = 1, 0, 1, 1
        self.nodes, self.vols, self.items = {}, {}, []
        self.alloc, self.held = set(), {}
        self.splice, self.former = 0, 0
        self.log, self.flushed = (), 0
        self.image = self.cut = None
        self.oracle = {}
        self.writing = ()
        self.replaying = False
        self.read = set()  # nodes that a replay has read
        self.ghosts = ()  # parents of leaves that are gone, for one of the mistakes

    def copy(self):
        p = Pool.__new__(Pool)
        p.bad, p.gen, p.ck, p.next_vol = self.bad, self.gen, self.ck, self.next_vol
        p.next_id, p.nodes = self.next_id, dict(self.nodes)
        p.vols = {i: list(v) for i, v in self.vols.items()}
        p.items = [list(it) for it in self.items]
        p.alloc, p.held = set(self.alloc), dict(self.held)
        p.splice, p.former = self.splice, self.former
        p.log, p.flushed, p.image, p.cut = self.log, self.flushed, self.image, self.cut
        p.oracle, p.writing, p.replaying = dict(self.oracle), self.writing, False
        p.read, p.ghosts = set(), self.ghosts
        return p

    # ---- space ----

    def fresh(self):
        self.next_id += 1
        return self.next_id - 1

    def free(self, block, kind, at):
        if block not in self.alloc:
            raise Broken(f"block {block} is freed twice")
        self.alloc.discard(block)
        if not self.replaying:
            self.held[block] = (kind, at)

    def free_at_checkpoint(self, block, walk=False):
        self.free(block, CKPT, self.ck + 1)
        if walk and "walk-frees-at-once" in self.bad:
            self.held.pop(block, None)

    def free_by_record(self, block, pos):
        self.free(block, LOG, pos)
        if "freed-at-once" in self.bad:
            self.held.pop(block, None)

    # ---- nodes ----

    def node(self, i):
        """Read it: whoever does needs it to be there."""
        n = self.nodes[i]
        if self.replaying:
            self.read.add(i)
        elif n[1] and i not in self.alloc and i not in self.held:
            raise Broken(f"node {i} is read after it was given back")
        return n

    def node_new(self, entries):
        i = self.fresh()
        self.nodes[i] = (self.gen, False, entries)
        return i

    def drop_node(self, i):
        if self.nodes[i][1]:
            self.free_at_checkpoint(i)

    def set_entry(self, i, index, value):
        birth, written, entries = self.nodes[i]
        assert not written
        self.nodes[i] = (birth, written, entries[:index] + (value,) + entries[index + 1:])

    # ---- who has what ----

    def gen_of(self, vol):
        return self.vols[vol][GEN] if vol else 0

    def bound(self, vol, v):
        p = self.vols[vol][PARENT]
        if p and self.vols[p][SPLICING] and v < self.vols[p][CURSOR] and \
                "bound-without-cursor" not in self.bad:
            p = self.vols[p][PARENT]
        return self.gen_of(p)

    def cursor(self, vol):
        p = self.vols[vol][PARENT]
        return self.vols[p][CURSOR] if p and self.vols[p][SPLICING] else 0

    def children(self, vol):
        return [i for i, v in self.vols.items() if v[PARENT] == vol]

    def below(self, vol):
        todo = [vol]
        while todo:
            at = todo.pop()
            yield at
            todo += self.children(at)

    def cut_count(self, vol):
        return sum(it[I_OWNER] == vol for it in self.items)

    def named(self):
        return [i for i, v in self.vols.items() if v[STATE] != HIDDEN]

    def drop_block(self, vol, v, block, birth, pos):
        vv = self.vols[vol]
        own = birth > self.gen_of(vv[PARENT])
        vv[MAPPED] -= 1
        vv[OWN] -= own
        if birth <= self.bound(vol, v):
            return
        if not own:
            self.vols[vv[PARENT]][FREED] += 1
        if birth > vv[LOG_BOUND] or "freed-by-record-in-splice" in self.bad:
            self.free_by_record(block, pos)
        else:
            self.free_at_checkpoint(block)

    # ---- the map ----

    def dirty(self, vol, i, v, width):
        """Node `i` over `v` as one that may be changed."""
        if not i:
            return self.node_new((0,) * width)
        birth, written, entries = self.node(i)
        own = birth > self.bound(vol, v)
        if "frozen-node-stamped-late" in self.bad:
            own |= not written
        if own and not written:
            self.nodes[i] = (self.gen, False, entries)
            return i
        n = self.node_new(entries)
        if own:
            self.drop_node(i)
        return n

    def dirty_leaf(self, vol, v):
        vv = self.vols[vol]
        root = vv[ROOT] = self.dirty(vol, vv[ROOT], v, LEAVES)
        leaf = self.dirty(vol, self.nodes[root][2][v // WIDTH], v, WIDTH)
        self.set_entry(root, v // WIDTH, leaf)
        return leaf

    def entry(self, vol, v):
        root = self.vols[vol][ROOT]
        leaf = self.node(root)[2][v // WIDTH] if root else 0
        return self.node(leaf)[2][v % WIDTH] if leaf else 0

    def content(self, vol):
        return tuple(e[0] if e else 0
                     for e in (self.entry(vol, v) for v in range(self.vols[vol][SIZE])))

    def apply_write(self, vol, v, block, birth, pos):
        leaf = self.dirty_leaf(vol, v)
        old = self.nodes[leaf][2][v % WIDTH]
        if old:
            self.drop_block(vol, v, old[0], old[1], pos)
        if block in self.alloc:
            raise Broken(f"a record names block {block}, which is in use")
        self.alloc.add(block)
        self.set_entry(leaf, v % WIDTH, (block, birth))
        self.vols[vol][OWN] += 1
        self.vols[vol][MAPPED] += 1

    def cut_off(self, vol, root, v):
        bound = 0 if "cut-as-if-single" in self.bad else self.bound(vol, v)
        self.items.append([root, bound, 0, vol, 0])

    def unmap_leaf(self, vol, root, leaf, base, lo, hi, pos):
        at = max(base, lo)
        leaf = self.dirty(vol, leaf, at, WIDTH)
        self.set_entry(root, base // WIDTH, leaf)
        for v in range(at, min(base + WIDTH, hi)):
            e = self.nodes[leaf][2][v % WIDTH]
            if e:
                self.drop_block(vol, v, e[0], e[1], pos)
                self.set_entry(leaf, v % WIDTH, 0)
        if not any(self.nodes[leaf][2]):
            self.drop_node(leaf)
            self.set_entry(root, base // WIDTH, 0)

    def unmap_part(self, vol, lo, hi, pos):
        vv = self.vols[vol]
        if lo >= hi or not vv[ROOT]:
            return
        if lo == 0 and hi >= BLOCKS:
            self.cut_off(vol, vv[ROOT], lo)
            vv[ROOT] = 0
            return
        root = vv[ROOT] = self.dirty(vol, vv[ROOT], lo, LEAVES)
        whole = [i for i in range(LEAVES) if lo <= i * WIDTH and (i + 1) * WIDTH <= hi
                 and self.nodes[root][2][i]]
        if whole:
            entries = self.nodes[root][2]
            self.cut_off(vol, self.node_new(tuple(e if i in whole else 0
                                                  for i, e in enumerate(entries))), lo)
            for i in whole:
                self.set_entry(root, i, 0)
        for i in range(LEAVES):
            leaf = self.nodes[root][2][i]
            if leaf and lo < (i + 1) * WIDTH and i * WIDTH < hi:
                self.unmap_leaf(vol, root, leaf, i * WIDTH, lo, hi, pos)
        if not any(self.nodes[root][2]):
            self.drop_node(root)
            vv[ROOT] = 0

    def apply_unmap(self, vol, lo, hi, pos):
        at = self.cursor(vol)
        if not lo < at < hi or "range-over-the-cursor" in self.bad:
            at = lo
        self.unmap_part(vol, lo, at, pos)
        self.unmap_part(vol, at, hi, pos)

    # ---- the forest ----

    def new_owner(self, was, now):
        for it in self.items:
            if it[I_OWNER] == was:
                it[I_OWNER] = now

    def volume_add(self, i, state, of, like=None):
        self.vols[i] = [state, of, 0, 0, 0, BLOCKS, False, 0, 0, 0, 0, 0]
        self.next_vol = max(self.next_vol, i + 1)
        if like:
            for field in (ROOT, SIZE, MAPPED):
                self.vols[i][field] = self.vols[like][field]

    def take_place(self, fresh, vol):
        self.vols[fresh][PARENT] = self.vols[vol][PARENT]
        self.vols[fresh][OWN] = self.vols[vol][OWN]
        self.vols[fresh][GEN] = self.gen
        if "leftovers-to-the-head" not in self.bad:
            self.new_owner(vol, fresh)

    def attach(self, vol, parent):
        self.vols[vol][PARENT] = parent
        self.vols[vol][LOG_BOUND] = max(self.vols[vol][LOG_BOUND], self.gen_of(parent))

    def apply_snapshot(self, pairs, gen):
        self.gen = max(self.gen, gen)
        for vol, snap in pairs:
            self.volume_add(snap, SNAP, vol, vol)
            self.take_place(snap, vol)
            self.attach(vol, snap)
            self.vols[vol][OWN] = 0
        self.gen += "generation-stays" not in self.bad

    def apply_clone(self, vol, snap):
        self.volume_add(vol, LIVE, 0, snap)
        self.attach(vol, snap)

    def apply_rollback(self, vol, snap, old):
        self.volume_add(old, HIDDEN, 0, vol)
        self.take_place(old, vol)
        self.vols[vol][OWN] = 0
        for field in (ROOT, SIZE, MAPPED):
            self.vols[vol][field] = self.vols[snap][field]
        self.attach(vol, snap)

    def apply_delete(self, vol):
        vv = self.vols[vol]
        vv[STATE], vv[OF] = HIDDEN, 0
        vv[GEN] = vv[GEN] or self.gen

    def apply_resize(self, vol, size, pos):
        if size < self.vols[vol][SIZE]:
            self.apply_unmap(vol, size, BLOCKS, pos)
        self.vols[vol][SIZE] = size

    def apply(self, rec, pos):
        """A record's effect: when it is logged, and when it is replayed."""
        kind = rec[0]
        if kind == "write":
            self.gen = max(self.gen, rec[4])
            self.apply_write(rec[1], rec[2], rec[3], rec[4], pos)
        elif kind == "unmap":
            self.apply_unmap(rec[1], rec[2], rec[3], pos)
        elif kind == "snapshot":
            self.apply_snapshot(rec[1], rec[2])
        elif kind == "clone":
            self.apply_clone(rec[1], rec[2])
        elif kind == "rollback":
            self.apply_rollback(rec[1], rec[2], rec[3])
        elif kind == "delete":
            self.apply_delete(rec[1])
        else:
            self.apply_resize(rec[1], rec[2], pos)

    # ---- background: the walk in step ----

    def spliceable(self):
        """Hidden ones that something is to be done about; while a walk goes on: none."""
        if self.splice:
            return []
        found = []
        for i, v in self.vols.items():
            if v[STATE] != HIDDEN:
                continue
            children = self.child_count(i)
            if children == 0 or (children == 1 and not self.child_waits(i)) or \
                    (children == 2 and "two-children" in self.bad):
                found.append(i)
        return found

    def child_count(self, vol):
        return len(self.children(vol)) + self.ghosts.count(vol)

    def child_waits(self, vol):
        return "splice-does-not-wait" not in self.bad and \
            any(self.cut_count(c) for c in self.children(vol)[:1])

    def choose(self, vol):
        if self.children(vol):
            self.splice, self.former = vol, self.children(vol)[0]
            self.vols[vol][SPLICING], self.vols[vol][CURSOR], self.vols[vol][FREED] = True, 0, 0
            return
        vv = self.vols.pop(vol)
        self.new_owner(vol, 0)
        if vv[ROOT]:
            self.items.append([vv[ROOT], self.gen_of(vv[PARENT]), 0, 0, 0])
        if "leaf-stays-a-child" in self.bad:
            self.ghosts += (vv[PARENT],)

    def splice_ready(self):
        return self.splice and not self.child_waits(self.splice)

    def splice_step(self):
        snap = self.vols[self.splice]
        if snap[ROOT] and snap[CURSOR] < BLOCKS:
            self.walk(snap)
        if not snap[ROOT] or snap[CURSOR] >= BLOCKS:
            self.spliced()

    def walk(self, snap):
        child = self.children(self.splice)[0]
        if "splice-with-former-child" in self.bad and self.former in self.vols:
            child = self.former
        root, peer = snap[ROOT], self.vols[child][ROOT]
        bound = 0 if "bound-ignored-by-splice" in self.bad else self.gen_of(snap[PARENT])
        if root == peer or self.nodes[root][0] <= bound:
            snap[CURSOR] = BLOCKS
            return
        leaves, peers = self.node(root)[2], self.node(peer)[2] if peer else (0,) * LEAVES
        i = snap[CURSOR] // WIDTH
        while i < LEAVES and (not leaves[i] or leaves[i] == peers[i]
                              or self.nodes[leaves[i]][0] <= bound):
            i += 1
        if i < LEAVES:
            self.walk_leaf(leaves[i], peers[i], bound)
            if not self.nodes[root][1]:
                self.set_entry(root, i, 0)
            self.drop_node(leaves[i])
            i += 1
            snap[CURSOR] = i * WIDTH
        if i == LEAVES:
            if not self.nodes[root][1]:
                snap[ROOT] = 0
            self.drop_node(root)
            snap[CURSOR] = BLOCKS

    def walk_leaf(self, leaf, peer, bound):
        others = self.node(peer)[2] if peer else (0,) * WIDTH
        for e, other in zip(self.node(leaf)[2], others):
            if e and e[1] > bound and (e != other or "shared-is-freed" in self.bad):
                self.free_at_checkpoint(e[0], walk=True)
                self.vols[self.splice][FREED] += 1

    def spliced(self):
        snap, child = self.vols[self.splice], self.children(self.splice)[0]
        self.vols[child][OWN] += snap[OWN] - snap[FREED]
        self.new_owner(self.splice, child)
        for c in self.children(self.splice):
            self.attach(c, snap[PARENT])
        del self.vols[self.splice]
        self.splice = self.former = 0

    # ---- background: trees under reclaim ----

    def bound_of_item(self, it):
        owner = it[I_OWNER]
        if "bound-of-today" in self.bad and owner:
            return self.bound(owner, 0)
        return it[I_BOUND]

    def reclaim_step(self):
        it = self.items[0]
        owner = it[I_OWNER]
        root, bound = it[I_ROOT], self.bound_of_item(it)
        if owner or self.nodes[root][0] > bound:
            leaves, i = self.node(root)[2], it[I_CURSOR] // WIDTH
            while i < LEAVES and not (leaves[i] and (owner or self.nodes[leaves[i]][0] > bound)):
                i += 1
            if i < LEAVES:
                self.reclaim_leaf(it, root, leaves[i], i, bound, owner)
                i += 1
            if i < LEAVES:
                it[I_CURSOR] = i * WIDTH
                return
            if self.nodes[root][0] > bound:
                self.drop_node(root)
        self.settle(it, owner)
        self.items.pop(0)

    def reclaim_leaf(self, it, root, leaf, i, bound, owner):
        for e in self.node(leaf)[2]:
            if not e:
                continue
            it[I_MAPPED] += 1
            if e[1] <= bound:
                continue
            self.free_at_checkpoint(e[0], walk=True)
            if owner and e[1] > self.gen_of(self.vols[owner][PARENT]):
                self.vols[owner][OWN] -= 1
            elif owner and self.vols[owner][PARENT]:
                self.vols[self.vols[owner][PARENT]][FREED] += 1
        if not owner or not self.children(owner):
            self.settle(it, owner)
        if self.nodes[leaf][0] > bound:
            if not self.nodes[root][1]:
                self.set_entry(root, i, 0)
            self.drop_node(leaf)

    def settle(self, it, owner):
        for vol in self.below(owner) if owner else ():
            self.vols[vol][MAPPED] -= it[I_MAPPED]
        it[I_MAPPED] = 0

    # ---- the checkpoint ----

    def all_trees(self):
        return [v[ROOT] for v in self.vols.values()] + [it[I_ROOT] for it in self.items]

    def write_nodes(self):
        for root in self.all_trees():
            if not root:
                continue
            for i in (*self.nodes[root][2], root):
                if i and not self.nodes[i][1]:
                    birth, _, entries = self.nodes[i]
                    self.nodes[i] = (birth, True, entries)
                    self.alloc.add(i)

    def checkpoint_cut(self):
        """What the checkpoint will be; nothing is durable yet."""
        self.write_nodes()
        vols = tuple((i, tuple(v)) for i, v in sorted(self.vols.items()))
        items = tuple(tuple(it) for it in self.items)
        if "splice-cursor-not-durable" in self.bad:
            vols = tuple((i, v[:CURSOR] + (0,) + v[CURSOR + 1:]) for i, v in vols)
        if "reclaim-cursor-not-durable" in self.bad:
            items = tuple(it[:I_CURSOR] + (0,) + it[I_CURSOR + 1:] for it in items)
        self.ck += 1
        image = (self.gen, self.ck, self.next_vol, vols, items, frozenset(self.alloc),
                 self.splice, tuple(sorted(self.oracle.items())))
        self.cut = (image, len(self.log))
        self.gen += 1

    def checkpoint_durable(self):
        self.image, pos = self.cut
        self.cut = None
        self.forget_nodes()
        self.log = self.log[pos:]
        self.flushed = max(self.flushed - pos, 0)
        done, held = self.image[1], {}
        for block, (kind, n) in self.held.items():
            if kind == CKPT and n > done:
                held[block] = (kind, n)
            elif kind == LOG and n >= pos:
                held[block] = (kind, n - pos)
        self.held = held

    def forget_nodes(self):
        """Nobody can come back to these."""
        roots = self.all_trees() + [v[ROOT] for _, v in self.image[3]] + \
            [it[I_ROOT] for it in self.image[4]]
        known = self.nodes
        self.nodes = {i: known[i] for r in roots if r for i in (r, *known[r][2]) if i}

    def flush(self):
        self.flushed = len(self.log)
        self.held = {b: h for b, h in self.held.items() if h[0] == CKPT}

    def recovered(self, keep, skipped):
        """After a crash that left `keep` records of the log, without the data of `skipped`."""
        p = Pool(self.bad)
        gen, p.ck, p.next_vol, vols, items, alloc, p.splice, oracle = self.image
        p.gen, p.next_id = gen + 1, self.next_id
        p.nodes = self.nodes.copy()
        p.vols = {i: list(v) for i, v in vols}
        for v in p.vols.values():
            v[LOG_BOUND] = p.vols[v[PARENT]][GEN] if v[PARENT] else 0
        p.items = [list(it) for it in items]
        p.alloc, p.oracle = set(alloc), dict(oracle)
        p.former = p.children(p.splice)[0] if p.splice else 0
        p.replaying = True
        for n, rec in enumerate(self.log[:keep]):
            if n not in skipped:
                p.apply(rec, n)
                p.expect(rec)
        seen = [r[4] if r[0] == "write" else r[2] if r[0] == "snapshot" else 0 for r in self.log]
        p.gen = max([p.gen] + seen) + 1
        p.replaying = False
        p.image = self.image
        return p

    # ---- what clients may expect, by plain copies ----

    def expect(self, rec):
        o, kind = self.oracle, rec[0]
        if kind == "write":
            o[rec[1]] = o[rec[1]][:rec[2]] + (rec[3],) + o[rec[1]][rec[2] + 1:]
        elif kind == "unmap":
            o[rec[1]] = tuple(0 if rec[2] <= v < rec[3] else b for v, b in enumerate(o[rec[1]]))
        elif kind == "snapshot":
            for vol, snap in rec[1]:
                o[snap] = o[vol]
        elif kind in ("clone", "rollback"):
            o[rec[1]] = o[rec[2]]
        elif kind == "delete":
            del o[rec[1]]
        elif kind == "resize":
            o[rec[1]] = (o[rec[1]] + (0,) * BLOCKS)[:rec[2]]

    def log_record(self, rec):
        self.log += (rec,)
        self.apply(rec, len(self.log) - 1)
        self.expect(rec)

    # ---- the difference of two ----

    def diff(self, a, b):
        """The blocks that differ, by both maps in step."""
        base, found = self.vols[b], []
        roots = self.vols[a][ROOT], base[ROOT]
        if roots[0] == roots[1]:
            return found
        pa, pb = (self.node(r)[2] if r else (0,) * LEAVES for r in roots)
        for i, (la, lb) in enumerate(zip(pa, pb)):
            if la == lb:
                continue
            if "diff-pruned-by-birth" in self.bad and la and self.nodes[la][1] and \
                    self.nodes[la][0] <= base[GEN]:
                continue
            ea, eb = (self.node(leaf)[2] if leaf else (0,) * WIDTH for leaf in (la, lb))
            found += [i * WIDTH + k for k in range(WIDTH) if ea[k] != eb[k]]
        return found
