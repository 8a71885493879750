"""Manifests with a secret in the open, where one belongs or anywhere else: its place is told, no part of it is."""

from manifest_bad import HEAD, at_top, case, from_source, in_model

SECRET = "s3cret/s3cret"


def of_host(text):
    return at_top(f"network:\n  credentials:\n    h: {text}\n")


CASES = (
    # --- below network.credentials no word is told but those of the schema
    case("secret as a host's value", of_host(SECRET), "5:8 h is a value (not shown)"),
    case("secret as basic", of_host(f'{{basic: "u:{SECRET}"}}'), "5:16 basic is a value (not shown)"),
    case("secret as headers", of_host(f'{{headers: "X: {SECRET}"}}'), "5:18 headers is a value (not shown)"),
    case("secret in a list", of_host(f"{{bearer: [{SECRET}]}}"), "5:17 bearer is a list"),
    case(
        "secret as the name of a variable", of_host(f"{{bearer: {{env: {SECRET}}}}}"), "5:23 env is a value (not shown)"
    ),
    case("secret with a space as a variable", of_host('{bearer: {env: "s3cret "}}'), "5:23 env is a value (not shown)"),
    case(
        "secret as an unknown key",
        of_host("{bearer: {env: A}, s3cret: x}"),
        "5:5 network.credentials.h with bearer, (not shown)",
        '5:27 the unknown key "(not shown)"',
    ),
    case(
        "secret as a key of a reference", of_host(f"{{bearer: {{{SECRET}: x}}}}"), '5:18 the unknown key "(not shown)"'
    ),
    case("secret as a header's name", of_host("{headers: {s3cret: x}}"), "5:27 (not shown) is a value (not shown)"),
    case("secret as a header twice", of_host("{headers: {s3cret: {env: A}, S3cret: {env: A}}}"), "5:37 a header again"),
    case(
        "secret as a key twice",
        of_host("{bearer: {s3cret: x, s3cret: y}}"),
        '5:18 the unknown key "(not shown)"',
        '5:29 the key "(not shown)" again',
    ),
    case("secret that reads as a number", of_host("{bearer: 12e99999}"), "5:17 (not shown)"),
    case("secret that reads as an alias", of_host("{bearer: *s3cret}"), "5:17 the alias (not shown)"),
    case("secret that reads as an anchor", of_host("{bearer: &s3cret x}"), "5:17 the anchor (not shown)"),
    case("secret that reads as a tag", of_host("{bearer: !s3cret x}"), "5:17 the tag (not shown)"),
    case(
        "secret as a key that reads as a number",
        of_host("{bearer: {1234567: x}}"),
        "5:9 network.credentials.h.bearer with none",
        "5:18 the key (not shown), which is no text",
    ),
    case(
        "secret in place of credentials",
        at_top(f"network: {{credentials: {SECRET}}}\n"),
        "3:24 credentials is a value (not shown)",
    ),
    case("secret in place of network", at_top(f"network: {SECRET}\n"), "3:10 network is a value (not shown)"),
    case(
        "secret below a misspelt network",
        at_top("netwrk: {credentials: {h: {bearer: !s3cret x}}}\n"),
        '3:1 the unknown key "netwrk" → network',
        "3:36 the tag (not shown)",
    ),
    case(
        "secret in the host's place",
        at_top(f'network: {{credentials: {{"https://u:{SECRET}@h/?s={SECRET}": {{bearer: {{env: A}}}}}}}}\n'),
        '3:25 the name "https://…@h/"',
    ),
    # --- anywhere else what stands before an @ and after a ? is not told
    case("query without a scheme", from_source(f'"//h/x?sig={SECRET}"'), '4:13 source is "//h/x…"'),
    case("user after one slash", from_source(f'"https:/u:{SECRET}@h/x?sig={SECRET}"'), '4:13 source is "https:/…@h/x"'),
    case("user without a scheme", from_source(f'"u:{SECRET}@h/x?sig={SECRET}"'), '4:13 source is "…@h/x"'),
    case("user after back slashes", from_source(f"'https:\\\\u:{SECRET}@h/x'"), '4:13 source is "https://…@h/x"'),
    case("password with a question mark", from_source('"https://u:s3cret?s3cret@h/x"'), '4:13 source is "https://…"'),
    case("password with a hash", from_source('"https://u:s3cret#s3cret@h/x"'), '4:13 source is "https://…"'),
    case("query with an at sign", from_source('"https://h/?s=s3cret@s3cret"'), '4:13 source is "https://…"'),
    case("password before a bucket", from_source(f'"s3://u:{SECRET}@b/x"'), '4:13 source is "s3://…@b/x"'),
    case("password before a hub", from_source(f'"hf://u:{SECRET}@a/b"'), '4:13 source is "hf://…@a/b"'),
    case("revision is no user", from_source('"hf://a/b@main/../x"'), '4:13 source is "hf://a/b@main/../x"'),
    case(
        "URL as a priority", in_model(f'    priority: "https://u:{SECRET}@h/x"\n'), '5:15 priority is "https://…@h/x"'
    ),
    case("URL as a link", in_model(f'    links: ["https://u:{SECRET}@h/x"]\n'), '5:13 links[0] is "https://…@h/x"'),
    case("URL as a model", HEAD + f'models: {{m: "https://u:{SECRET}@h/x"}}\n', '2:13 m is "https://…@h/x"'),
    case(
        "URL as a model's name",
        HEAD + f'models: {{"https://u:{SECRET}@h/x?s3cret": {{}}}}\n',
        '2:10 the name "https://…@h/x"',
    ),
    case("URL as a key", in_model(f'    "https://u:{SECRET}@h/x": 1\n'), '5:5 the unknown key "https://…@h/x"'),
    case(
        "URL half from the environment",
        in_model(f'    priority: "${{S}}://u:{SECRET}@h/x"\n'),
        '5:15 priority is "…@h/x", whose value is something else',
        environ={"S": "https"},
    ),
    case("name with a version", HEAD + "models: {whisper@v2: {}}\n", '2:10 the name "whisper@v2"'),
)
