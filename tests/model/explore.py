# SPDX-License-Identifier: GPL-2.0-or-later
"""Every interleaving of a few operations over the model of lineage.py, and what must hold in between.

    content     what a map says is what was written, of each volume and snapshot, for ever
    difference  of any two: what differs, by comparison of all blocks
    allocated   exactly what the maps, hidden ones and trees under reclaim have, each once: nothing
                referred to is free, and nothing leaks
    at rest     no work left: allocated is what can be reached, and the counters are right
    crash       each state that the durable checkpoint and the log may leave: recovers to all of the
                above, and names no block that could have been given out meanwhile

Equal states are looked at once: blocks and nodes are renamed in the order in which they are met, and
generations become their rank, as only their order counts.
"""
import itertools

from lineage import (BLOCKS, CKPT, CURSOR, FREED, GEN, HIDDEN, I_BOUND, I_CURSOR, I_MAPPED, I_OWNER,
                     I_ROOT, LIVE, LOG_BOUND, MAPPED, OF, OWN, PARENT, ROOT, SIZE, SNAP, SPLICING,
                     STATE, WIDTH, Broken, Pool)


# ---- what must hold ----

def own_part(p, root, bound, lo, hi, out):
    """What is younger than `bound` of a tree between two places: its blocks, its nodes."""
    if not root or p.nodes[root][0] <= bound:
        return
    if hi == BLOCKS and p.nodes[root][1]:
        out.append(root)
    for i, leaf in enumerate(p.nodes[root][2]):
        if not leaf or not lo <= i * WIDTH < hi or p.nodes[leaf][0] <= bound:
            continue
        if p.nodes[leaf][1]:
            out.append(leaf)
        out += [e[0] for e in p.nodes[leaf][2] if e and e[1] > bound]


def owned(p):
    out = []
    for i, v in p.vols.items():
        at, start = p.cursor(i), v[CURSOR] if v[SPLICING] else 0
        if at:
            own_part(p, v[ROOT], p.bound(i, 0), start, at, out)
        own_part(p, v[ROOT], p.bound(i, at), max(at, start), BLOCKS, out)
    for it in p.items:
        own_part(p, it[I_ROOT], it[I_BOUND], it[I_CURSOR], BLOCKS, out)
    return out


def reached(p, trees):
    """Blocks, and nodes that are on the disk, under these roots, each from a cursor on."""
    out = set()
    for root, cursor in trees:
        if not root:
            continue
        leaves = [i for i in p.nodes[root][2][cursor // WIDTH:] if i]
        out.update(i for i in (root, *leaves) if p.nodes[i][1])
        for leaf in leaves:
            out.update(e[0] for e in p.nodes[leaf][2] if e)
    return out


def passed_through(p, it):
    """What reclaim still reads or frees; shared nodes only while it counts for somebody."""
    out = []
    own_part(p, it[I_ROOT], it[I_BOUND], it[I_CURSOR], BLOCKS, out)
    nodes = (it[I_ROOT], *p.nodes[it[I_ROOT]][2][it[I_CURSOR] // WIDTH:])
    return out + [i for i in nodes if i and it[I_OWNER] and p.nodes[i][1]]


def check_difference(p):
    for a, b in itertools.combinations(sorted(p.oracle), 2):
        if len(p.oracle[a]) != len(p.oracle[b]):
            continue
        for x, y in ((a, b), (b, a)):
            if p.diff(x, y) != [v for v, (m, n) in enumerate(zip(p.oracle[x], p.oracle[y]))
                                if m != n]:
                raise Broken(f"the difference of {x} to {y} is wrong")


def check_at_rest(p):
    if p.items or p.splice or p.spliceable():
        return
    if p.alloc != reached(p, [(v[ROOT], 0) for v in p.vols.values()]):
        raise Broken("at rest, what is allocated is not what can be reached")
    for i, v in p.vols.items():
        entries = [p.entry(i, n) for n in range(BLOCKS)]
        own = sum(bool(e) and e[1] > p.gen_of(v[PARENT]) for e in entries)
        if v[STATE] == HIDDEN and len(p.children(i)) < 2:
            raise Broken(f"{i} is deleted and stays")
        if v[OWN] != own or v[MAPPED] != sum(map(bool, entries)):
            raise Broken(f"{i} counts {v[OWN]} own and {v[MAPPED]} mapped blocks, "
                         f"has {own} and {sum(map(bool, entries))}")


def check(p):
    """All but crashes."""
    if sorted(p.oracle) != sorted(p.named()):
        raise Broken("volumes and snapshots are not those there should be")
    for i, content in p.oracle.items():
        if p.content(i) != content:
            raise Broken(f"{i} has {p.content(i)}, should have {content}")
    out = owned(p)
    if len(out) != len(set(out)):
        raise Broken("a block has two owners")
    if set(out) != p.alloc:
        raise Broken(f"allocated and without an owner: {p.alloc - set(out)}; "
                     f"owned and free: {set(out) - p.alloc}")
    check_difference(p)
    check_at_rest(p)


def to_rest(p):
    for _ in range(100):
        if p.items:
            p.reclaim_step()
        elif p.splice:
            p.splice_step()
        elif p.spliceable():
            p.choose(p.spliceable()[0])
        else:
            check(p)
            return
    raise Broken("the background work never ends")


# ---- crashes ----

class Crashes:
    """Recoveries, each done once: many states share a checkpoint and the beginning of its log."""

    def __init__(self):
        self.known, self.images, self.count = {}, {}, 0

    @staticmethod
    def choices(p):
        """How much of the log is there, and whose data is not."""
        for keep in range(p.flushed, len(p.log) + 1):
            writes = [n for n in range(p.flushed, keep) if p.log[n][0] == "write"]
            for count in range(len(writes) + 1):
                for skipped in itertools.combinations(writes, count):
                    yield keep, skipped

    def recover(self, p, keep, skipped):
        """(the pool, what it names)"""
        self.images[id(p.image)] = p.image
        key = (id(p.image), p.log[:keep], skipped)
        if key not in self.known:
            r = p.recovered(keep, skipped)
            names = {i for i in r.read if i in r.nodes and r.nodes[i][1]}
            names |= reached(r, [(v[ROOT], v[SPLICING] and v[CURSOR]) for v in r.vols.values()])
            names |= set().union(*(passed_through(r, it) for it in r.items))
            check(r)
            close(r)
            to_rest(r.copy())
            self.known[key] = r, names
            self.count += 1
        return self.known[key]

    def check(self, p):
        safe = p.alloc | p.held.keys()
        for keep, skipped in self.choices(p):
            try:
                lost = self.recover(p, keep, skipped)[1] - safe
                if lost:
                    raise Broken(f"names {sorted(lost)}, which may belong to others by now")
            except Broken as e:
                raise Broken(f"after a crash that leaves {keep} of {len(p.log)} records"
                             f" ({len(skipped)} without data): {e}") from None


def close(p):
    """The checkpoint that a recovery ends with."""
    p.log, p.flushed, p.held = (), 0, {}
    p.checkpoint_cut()
    p.checkpoint_durable()


# ---- equal states ----

def key_of(p):
    names, vols, out, gens = {}, {}, [], []
    alloc, held, ck, nodes = p.alloc, p.held, p.ck, p.nodes
    for i in sorted({*p.vols, *(i for i, _ in p.image[3]), *p.oracle}):
        vols[i] = len(vols) + 1
    vols[0] = 0

    def block(b):
        if b in names:
            out.append(names[b])
            return False
        names[b] = len(names) + 1
        h = held.get(b)
        out.extend((-1, b in alloc, h and (h[0], h[1] - (ck if h[0] == CKPT else 0))))
        return True

    def tree(root):
        if not root:
            out.append(0)
            return
        for i in (root, *nodes[root][2]):
            if not i:
                out.append(0)
            elif block(i):
                birth, written, entries = nodes[i]
                gens.append(birth)
                out.append(written)
                if i != root:
                    for e in entries:
                        if e:
                            block(e[0])
                            gens.append(e[1])
                        else:
                            out.append(0)

    def forest(volumes, items, splice):
        for i, v in volumes:
            out.extend((vols.get(i), v[STATE], vols.get(v[OF]), vols.get(v[PARENT]), v[SIZE],
                        v[SPLICING], v[CURSOR], v[OWN], v[MAPPED], v[FREED]))
            gens.extend((v[GEN], v[LOG_BOUND]))
            tree(v[ROOT])
        for it in items:
            out.extend((it[I_CURSOR], vols.get(it[I_OWNER]), it[I_MAPPED]))
            gens.append(it[I_BOUND])
            tree(it[I_ROOT])
        out.append(vols.get(splice))

    forest(sorted(p.vols.items()), p.items, p.splice)
    forest(p.image[3], p.image[4], p.image[6])
    out.extend((vols.get(p.former), p.flushed, p.cut and (ck - p.cut[0][1], p.cut[1])))
    gens.extend((p.gen, p.image[0], p.cut[0][0] if p.cut else 0))
    if p.cut:
        forest(p.cut[0][3], p.cut[0][4], p.cut[0][6])
    for rec in p.log:
        if rec[0] == "write":
            out.extend(("w", vols.get(rec[1]), rec[2]))
            block(rec[3])
            gens.append(rec[4])
        elif rec[0] == "snapshot":
            out.extend(("s", tuple((vols.get(a), vols.get(b)) for a, b in rec[1])))
            gens.append(rec[2])
        elif rec[0] in ("unmap", "resize"):
            out.extend((rec[0], vols.get(rec[1]), rec[2:]))
        else:
            out.extend((rec[0], tuple(vols.get(a) for a in rec[1:])))
    for vol, v, b, gen in p.writing:
        out.extend((vols[vol], v))
        block(b)
        gens.append(gen)
    rank = {g: n for n, g in enumerate(sorted(set(gens)))}
    return tuple(out), tuple(rank[g] for g in gens)


# ---- operations ----

def write(p, vol, v):
    p.log_record(("write", vol, v, p.fresh(), p.gen))


def admit(p, vol, v):
    p.writing += ((vol, v, p.fresh(), p.gen),)


def publish(p, n):
    vol, v, block, gen = p.writing[n]
    p.writing = p.writing[:n] + p.writing[n + 1:]
    p.log_record(("write", vol, v, block, gen if "birth-at-admission" in p.bad else p.gen))


def unmap(p, vol, lo, hi):
    p.log_record(("unmap", vol, lo, hi))


def resize(p, vol, size):
    p.log_record(("resize", vol, size))


def snapshot(p, *of):
    p.log_record(("snapshot", tuple((vol, p.next_vol + n) for n, vol in enumerate(of)), p.gen))


def clone(p, snap):
    p.log_record(("clone", p.next_vol, snap))


def rollback(p, vol, snap):
    p.log_record(("rollback", vol, snap, p.next_vol))


def delete(p, vol):
    p.log_record(("delete", vol))


def choose(p, vol):
    p.choose(vol)


def walk(p):
    p.splice_step()


def reclaim(p):
    p.reclaim_step()


def flush(p):
    p.flush()


def cut(p):
    p.checkpoint_cut()


def durable(p):
    p.checkpoint_durable()


def on_volume(p, config, vol, free):
    """Operations on a volume that exist in the configuration, with their arguments."""
    v, of = p.vols[vol], [s for s in p.named() if p.vols[s][OF] == vol]
    busy = any(w[0] == vol for w in p.writing)
    for at in config.writes:
        if at < v[SIZE]:
            yield write, vol, at
    for at in config.admits:
        if at < v[SIZE] and len(p.writing) < 1:
            yield admit, vol, at
    for lo, hi in config.unmaps:
        if hi <= v[SIZE] and any(p.oracle[vol][lo:hi]):
            yield unmap, vol, lo, hi
    for size in config.sizes:
        if size != v[SIZE] and not busy:
            yield resize, vol, size
    if free and "snapshot" in config.ops:
        yield snapshot, vol
    for s in of:
        if free and "rollback" in config.ops and not busy:
            yield rollback, vol, s
    if not of and "delete" in config.ops and not busy:
        yield delete, vol


def background(p):
    for n in range(len(p.writing)):
        yield publish, n
    if p.cut:
        yield (durable,)
    for vol in p.spliceable():
        yield choose, vol
    if p.splice_ready():
        yield (walk,)
    if p.items:
        yield (reclaim,)


def requests(p, config):
    free = len(p.vols) < config.volumes
    live = [i for i, v in p.vols.items() if v[STATE] == LIVE]
    for vol in live:
        yield from on_volume(p, config, vol, free)
    if len(live) > 1 and "group" in config.ops and len(p.vols) + 1 < config.volumes:
        yield (snapshot, *live)
    for snap in [i for i, v in p.vols.items() if v[STATE] == SNAP]:
        if "snap-delete" in config.ops:
            yield delete, snap
        if free and "clone" in config.ops:
            yield clone, snap


def words(op):
    return " ".join([op[0].__name__, *map(str, op[1:])])


# ---- the search ----

class Found(Exception):
    """A rule is broken: what led there."""


class Search:
    """All that can happen with so many requests, checkpoints, flushes and crashes."""

    def __init__(self, config, bad=frozenset()):
        self.config, self.bad = config, bad
        self.crashes, self.seen = Crashes(), set()
        self.states = 0

    def begin(self):
        p = Pool(self.bad)
        for vol in range(1, self.config.live + 1):
            p.volume_add(vol, LIVE, 0)
            p.oracle[vol] = (0,) * BLOCKS
        close(p)
        return p

    def look(self, p, left):
        """Whether it is a new state; all of it is checked."""
        key = key_of(p), left
        if key in self.seen:
            return False
        self.seen.add(key)
        self.states += 1
        check(p)
        self.crashes.check(p)
        return True

    def operations(self, p, left):
        """(operation, what is left behind it)"""
        for op in background(p):
            yield op, left
        for n, ops in enumerate((requests(p, self.config), () if p.cut else ((cut,),),
                                 ((flush,),) if p.flushed < len(p.log) else ())):
            if left[n]:
                for op in ops:
                    yield op, left[:n] + (left[n] - 1,) + left[n + 1:]

    def successors(self, p, left):
        """(pool, words, what is left, operation still to be done)"""
        for op, behind in self.operations(p, left):
            yield p.copy(), words(op), behind, op
        for keep in sorted({p.flushed, len(p.log)}) if left[3] else ():
            yield (self.crashes.recover(p, keep, ())[0].copy(), f"crash with {keep} records",
                   left[:3] + (left[3] - 1,), None)

    def go(self, p, op, left, way):
        try:
            if op:
                op[0](p, *op[1:])
            return self.look(p, left)
        except Broken as e:
            raise Found(f"{self.config.name}: {'; '.join(way)}: {e}") from None

    def run(self, left):
        p, way = self.begin(), ()
        for op in self.config.script:
            way += (words(op),)
            self.go(p, op, (), way)
        todo = [(p, left, ())]
        while todo:
            fresh = []
            for p, left, way in todo:
                for q, text, behind, op in self.successors(p, left):
                    if self.go(q, op, behind, way + (text,)):
                        fresh.append((q, behind, way + (text,)))
            todo = fresh
        return self
