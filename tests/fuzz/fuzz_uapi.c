// SPDX-License-Identifier: GPL-2.0-or-later
/* What wg(8) or netd say to netd-wg, and what netd remembers of what it hears: texts. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "netd/wg/memory.h"
#include "netd/wg/uapi.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vpn_config config = { .workers = 1, .mtu = 1420, .aead = VPN_AEAD_OPENSSL };
	struct uapi_device device = { .listen_port = 5, .mtu = 1420 };
	struct wg_text text = { 0 };
	struct wg_memory *memory;
	struct uapi_wish wish;
	struct err err;
	char *copy;

	if (!size)
		return 0;
	copy = malloc(size);
	memcpy(copy, data + 1, size - 1);
	copy[size - 1] = 0;
	assert(!vpn_new(&config, &device.vpn, NULL) && !wg_memory_new(&memory));
	wg_memory_learn(memory, copy);
	(void)!uapi_set(&device, copy, data[0] & 1, 1000000000, &wish, &err);
	uapi_get(&device, true, 2000000000, &text);
	assert(!text.failed);
	/* What it says of itself it understands. */
	wg_memory_learn(memory, text.data);
	wg_text_clear(&text);
	wg_memory_recall(memory, &text);
	assert(!text.data || !uapi_set(&device, text.data, true, 1, &wish, &err));
	wg_text_clear(&text);
	wg_memory_free(memory);
	vpn_free(device.vpn);
	free(copy);
	return 0;
}
