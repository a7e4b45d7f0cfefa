/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vnetctl tunnel status, genkey, pubkey, rotate.  Keys are made here, without netd. */
#include "netd/ctl/vnetctl_tunnel.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "netd/keyfile.h"
#include "vpn/vpn.h"

static const struct output_column tunnel_columns[] = {
	{ "tunnel", "tunnel", OUTPUT_TEXT },
	{ "state", "state", OUTPUT_TEXT },
	{ "error", "error", OUTPUT_TEXT },
	{ "public_key", "public key", OUTPUT_TEXT },
	{ "listen_port", "port", OUTPUT_NUMBER },
	{ "mtu", "mtu", OUTPUT_NUMBER },
	{ "engine", "engine", OUTPUT_TEXT },
	{ "aead", "cipher by", OUTPUT_TEXT },
	{ "crashes", "netd-wg restarted", OUTPUT_NUMBER },
	{ 0 },
};
static const struct output_column peer_columns[] = {
	{ "peer", "PEER", OUTPUT_TEXT },
	{ "state", "STATE", OUTPUT_TEXT },
	{ "endpoint", "ENDPOINT", OUTPUT_TEXT },
	{ "handshake_age_ms", "HANDSHAKE", OUTPUT_DURATION },
	{ "tx_bytes", "SENT", OUTPUT_SIZE },
	{ "rx_bytes", "RECEIVED", OUTPUT_SIZE },
	{ "rx_lost", "LOST", OUTPUT_NUMBER },
	{ "allowed", "ALLOWED", OUTPUT_TEXT },
	{ "unresolved", "NAME", OUTPUT_TEXT },
	{ 0 },
};

int vnetctl_tunnel_status(struct cli *cli)
{
	json_t *answer, *tunnels, *one, *args = json_object();
	size_t i;
	int r;

	if (cli->argc)
		json_object_set_new(args, "name", json_string(cli->argv[0]));
	r = vnetctl_ask(cli, "tunnels", args, &answer);
	if (r)
		return r;
	tunnels = json_object_get(answer, "tunnels");
	output_json(cli->out, answer);
	if (!output_is_json(cli->out))
		json_array_foreach(tunnels, i, one)
		{
			if (i)
				output_note(cli->out, "%s", "");
			output_record(cli->out, one, tunnel_columns);
			output_table(cli->out, json_object_get(one, "peers"), peer_columns,
				     "it has no peer");
		}
	if (!json_array_size(tunnels))
		output_note(cli->out, "there is no tunnel");
	json_decref(answer);
	return CLI_OK;
}

static int failed(struct cli *cli, const struct err *err)
{
	if (output_is_json(cli->out)) {
		json_t *o = json_pack("{s:s}", "error", err->text);

		output_json(cli->out, o);
		json_decref(o);
	}
	cli_fail(cli, err);
	return CLI_FAILED;
}

static void show_key(struct cli *cli, const char *name, const uint8_t key[KEY_LEN])
{
	char text[KEY_TEXT_MAX + 1];

	key_format(key, text);
	if (output_is_json(cli->out)) {
		json_t *o = json_pack("{s:s}", name, text);

		output_json(cli->out, o);
		json_decref(o);
	} else {
		strcat(text, "\n");
		output_raw(cli->out, text);
	}
	OPENSSL_cleanse(text, sizeof(text));
}

/* As wg(8) does: a file that others can read is no place for it. */
static void warn_of_readers(void)
{
	struct stat sb;

	if (fstat(STDOUT_FILENO, &sb) == 0 && S_ISREG(sb.st_mode) && (sb.st_mode & 077))
		fprintf(stderr, "vnetctl: warning: others can read this file; netd will refuse it "
				"(write it under umask 077)\n");
}

int vnetctl_tunnel_genkey(struct cli *cli)
{
	struct err err = { 0 };
	uint8_t key[KEY_LEN];
	int r = vpn_private_key_new(key);

	if (r < 0) {
		err_sys(&err, r, "a new key");
		return failed(cli, &err);
	}
	warn_of_readers();
	show_key(cli, "private_key", key);
	OPENSSL_cleanse(key, sizeof(key));
	return CLI_OK;
}

static int read_key(uint8_t key[KEY_LEN], struct err *err)
{
	char text[256] = "";
	size_t len = fread(text, 1, sizeof(text) - 1, stdin);
	int r;

	while (len && strchr(" \t\r\n", text[len - 1]))
		len--;
	text[len] = '\0';
	r = key_parse(text, key, err);
	OPENSSL_cleanse(text, sizeof(text));
	return r < 0 ? err_context(err, "standard input") : 0;
}

/* Of a file, of a running tunnel (its name has no slash), or of what stdin says. */
int vnetctl_tunnel_pubkey(struct cli *cli)
{
	const char *of = cli->argc ? cli->argv[0] : NULL;
	uint8_t key[KEY_LEN] = { 0 }, public[KEY_LEN];
	struct err err = { 0 };
	int r;

	if (of && key_parse(of, key, NULL) == 0) {
		r = err_set(
			&err, -EINVAL,
			"that is a key, and everybody here can see it in the list of processes: "
			"give it on standard input, or a file with it");
		OPENSSL_cleanse(key, sizeof(key));
	} else if (of && !strchr(of, '/')) {
		json_t *answer, *one;

		r = vnetctl_ask(cli, "tunnels", json_pack("{s:s}", "name", of), &answer);
		if (r)
			return r;
		one = json_array_get(json_object_get(answer, "tunnels"), 0);
		r = key_parse(json_string_value(json_object_get(one, "public_key"))
				      ? json_string_value(json_object_get(one, "public_key"))
				      : "",
			      public, &err);
		json_decref(answer);
		if (r < 0)
			err_set(&err, r, "tunnel %s is not up", of);
	} else {
		r = of ? keyfile_read(of, key, &err) : read_key(key, &err);
		if (r == 0) {
			r = vpn_public_key(key, public);
			if (r < 0)
				err_sys(&err, r, "public key");
		}
		OPENSSL_cleanse(key, sizeof(key));
	}
	if (r < 0)
		return failed(cli, &err);
	show_key(cli, "public_key", public);
	return CLI_OK;
}

int vnetctl_tunnel_rotate(struct cli *cli)
{
	json_t *answer;
	int r = vnetctl_ask(cli, "tunnel_rotate", json_pack("{s:s}", "name", cli->argv[0]),
			    &answer);

	if (r)
		return r;
	output_json(cli->out, answer);
	output_note(cli->out, "%s", json_string_value(json_object_get(answer, "public_key")));
	if (!output_is_json(cli->out))
		fprintf(stderr,
			"on each peer, within three minutes: vnetctl peer set NAME "
			"public_key=%s (or in the file that defines it, and vnetctl apply)\n",
			json_string_value(json_object_get(answer, "public_key")));
	json_decref(answer);
	return CLI_OK;
}
