# SPDX-License-Identifier: GPL-2.0-or-later
"""
A guest that counts: a boot sector without any cache.  It writes each count into one of 64 sectors
through the BIOS, says it on its serial port once the write is answered, and reads each sector before
it writes it again: what it finds must be the count of 64 writes ago.  So it sees a lost write and a
doubled one itself ("W"; "F": an error of the disk), and what it said can be compared with the volume.
"""
import re

import nbd
from sandbox import check, sh

SLOTS, FIRST = 64, 8  # sectors

GUEST = r"""
.code16
start:	cli
	xor %ax, %ax
	mov %ax, %ds
	mov %ax, %es
	mov %ax, %ss
	mov $0x7c00, %sp
	sti
	mov %dl, drive
	movl $0, count
	movw $64, left		/* where did it end?  the largest count of all sectors */
scan:	movzwl left, %eax
	dec %eax
	call sector
	mov $0x4200, %ax
	call disk
	mov 0x8000, %eax
	cmp count, %eax
	jbe older
	mov %eax, count
older:	decw left
	jnz scan
	mov $'B', %al
	call put
next:	incl count
	mov count, %eax
	and $63, %eax
	call sector
	mov count, %eax
	sub $64, %eax
	jbe write		/* the first round */
	mov $0x4200, %ax
	call disk
	mov count, %eax
	sub $64, %eax
	cmp %eax, 0x8000
	jne wrong
	cmp %eax, 0x81fc
	jne wrong
write:	mov count, %eax
	mov $0x8000, %di
	mov $128, %cx
	cld
	rep stosl
	mov $0x4300, %ax
	call disk
	mov count, %ebx
	mov $8, %cx
digit:	rol $4, %ebx
	mov %bl, %al
	and $15, %al
	add $'a', %al
	call put
	loop digit
	mov $'\n', %al
	call put
	jmp next
sector:	add $8, %eax
	mov %eax, lba
	ret
disk:	mov $packet, %si
	mov drive, %dl
	int $0x13
	jc failed
	ret
put:	push %ax
	mov $0x3fd, %dx
busy:	in %dx, %al
	test $0x20, %al
	jz busy
	pop %ax
	mov $0x3f8, %dx
	out %al, %dx
	ret
failed:	mov $'F', %al		/* an error of the disk */
	jmp stop
wrong:	mov $'W', %al		/* not what was written 64 writes ago */
stop:	call put
halt:	hlt
	jmp halt
packet:	.byte 16, 0
	.word 1, 0x8000, 0
lba:	.long 0, 0
drive:	.byte 0
count:	.long 0
left:	.word 0
	.org 510
	.word 0xaa55
"""


def boot_sector():
    with open("guest.s", "w") as f:
        f.write(GUEST)
    sh("as", "--32", "-o", "guest.o", "guest.s")
    sh("ld", "-m", "elf_i386", "-Ttext", "0x7c00", "--oformat", "binary", "-e", "start",
       "-o", "guest.bin", "guest.o")
    with open("guest.bin", "rb") as f:
        sector = f.read()
    check(len(sector) == 512, f"a boot sector of {len(sector)} bytes")
    return sector


def counts(said):
    """All that it has said whole."""
    return [int("".join("%x" % (ord(c) - 97) for c in word), 16)
            for word in re.findall(r"([a-p]{8})\n", said)]


def install(server, volume):
    h = nbd.NBD()
    h.connect_uri(server.uri(volume))
    h.pwrite(boot_sector(), 0)
    h.shutdown()


def on_the_volume(server, volume):
    """The newest count, after a look at all: they are those of the last 64 writes."""
    h = nbd.NBD()
    h.connect_uri(server.uri(f"{volume};ro"))
    data = h.pread(SLOTS * 512, FIRST * 512)
    h.shutdown()
    found = [int.from_bytes(data[i * 512:i * 512 + 4], "little") for i in range(SLOTS)]
    newest = max(found)
    for i, n in enumerate(found):
        sector = data[i * 512:(i + 1) * 512]
        check(sector == sector[:4] * 128, f"sector {i} is torn")
        check(n % SLOTS == i or not n, f"sector {i} has count {n}")
        check(newest - n < SLOTS or newest < SLOTS, f"sector {i} has {n}, the newest is {newest}")
    return newest
