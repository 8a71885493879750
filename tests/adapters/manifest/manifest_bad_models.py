"""Manifests whose models are wrong. Each with the places and findings it must give, and hints where there are some."""

from manifest_bad import HEAD, case, in_model

CASES = (
    # --- models
    case("model null", HEAD + "models:\n  m:\n", "3:5 m is empty"),
    case("model a text", HEAD + "models: {m: https://h/x}\n", '2:13 m is "https://h/x"'),
    case("model name with a slash", HEAD + "models: {org/m: {state: absent}}\n", '2:10 the name "org/m"'),
    case("model name with a space", HEAD + 'models: {"a b": {state: absent}}\n', '2:10 the name "a b"'),
    case("model name of dots", HEAD + "models: {..: {state: absent}}\n", '2:10 the name ".."'),
    case("model name with a dash first", HEAD + "models: {-m: {state: absent}}\n", '2:10 the name "-m"'),
    case(
        "model name too long",
        HEAD + "models: {" + "a" * 129 + ": {state: absent}}\n",
        '2:10 the name "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…"',
    ),
    case("model name empty", HEAD + 'models: {"": {state: absent}}\n', '2:10 the name ""'),
    case("model name no ASCII", HEAD + "models: {mödel: {state: absent}}\n", '2:10 the name "mödel"'),
    case(
        "model names that differ in case",
        HEAD + "models:\n  m: {state: absent}\n  M: {state: absent}\n",
        '4:3 the model "M" beside "m"',
    ),
    case("model without source", HEAD + "models:\n  m: {priority: high}\n", "3:3 models.m without source"),
    case("model of nothing", HEAD + "models:\n  m: {}\n", "3:3 models.m without source"),
    case("url for source", HEAD + "models:\n  m: {url: https://h/x}\n", '3:7 the unknown key "url" → source'),
    case("unknown model key", in_model("    prioritty: high\n"), '5:5 the unknown key "prioritty" → priority'),
    case("section key in a model", in_model("    maxSize: 1GiB\n"), '5:5 the unknown key "maxSize"'),
    case("priority unknown", in_model("    priority: hihg\n"), '5:15 priority is "hihg" → high'),
    case("priority a number", in_model("    priority: 1\n"), "5:15 priority is 1"),
    case("state unknown", in_model("    state: running\n"), '5:12 state is "running"'),
    case("state null", in_model("    state:\n"), "5:11 state is empty"),
    case("pin yes", in_model("    pin: yes\n"), '5:10 pin is "yes" → true'),
    case("pin a number", in_model("    pin: 1\n"), "5:10 pin is 1"),
    case("extract sometimes", in_model("    extract: sometimes\n"), '5:14 extract is "sometimes"'),
    case("extract a number", in_model("    extract: 1\n"), "5:14 extract is 1"),
    case("memory without unit", in_model("    memory: 4G\n"), '5:13 memory is "4G" → 4GB or 4GiB'),
    case("runtime that is not there", in_model("    runtime: defualt\n"), '5:14 runtime is "defualt" → default'),
    case("format slip", in_model("    format: ggfu\n"), '5:13 format is "ggfu" → gguf'),
    case("format unknown", in_model("    format: word\n"), '5:13 format is "word"'),
    case("format a list", in_model("    format: [gguf]\n"), "5:13 format is a list"),
    case("sha256 short", in_model("    sha256: abc123\n"), '5:13 sha256 is "abc123"'),
    case(
        "sha256 of md5",
        in_model("    sha256: md5:d41d8cd98f00b204e9800998ecf8427e\n"),
        '5:13 sha256 is "md5:d41d8cd98f00b204e9800998ecf8427e"',
    ),
    case(
        "sha256 with a g",
        in_model("    sha256: " + "g" * 64 + "\n"),
        '5:13 sha256 is "gggggggggggggggggggggggggggggggggggggggggggggggggggggggggggg…"',
    ),
    case("size not known", in_model("    size: unknown\n"), '5:11 size is "unknown"'),
    case("links a text", in_model("    links: /opt/m\n"), '5:12 links is "/opt/m"'),
    case("link relative", in_model("    links: [opt/m]\n"), '5:13 links[0] is "opt/m"'),
    case("link with dots", in_model("    links: [/opt/../etc/passwd]\n"), '5:13 links[0] is "/opt/../etc/passwd"'),
    case("link is root", in_model("    links: [/]\n"), '5:13 links[0] is "/"'),
    case(
        "link twice in a model", in_model("    links: [/opt/m, /opt/m]\n"), '5:21 the link "/opt/m", which m writes too'
    ),
    case(
        "link of two lines",
        in_model('    links: ["/opt/m\\nx"]\n'),
        '5:13 links[0] is "/opt/m\N{REPLACEMENT CHARACTER}x"',
    ),
    case(
        "link below a link",
        in_model("    links: [/o/x/y/z, /o/x-1]\n")
        + "  n:\n    source: https://h.example/n.gguf\n    links: [/o/x, /o/x/y]\n",
        '5:13 the link "/o/x/y/z", below a link of n',
        '8:19 the link "/o/x/y", below a link of n',
    ),
    case(
        "link of two models",
        in_model("    links: [/opt/m]\n") + "  n:\n    source: https://h.example/n.gguf\n    links: [/opt/m]\n",
        '8:13 the link "/opt/m", which m writes too',
    ),
    case(
        "when unknown key", in_model("    when: {label: {site: lab}}\n"), '5:12 the unknown key "label" → matchLabels'
    ),
    case("when memory a size", in_model("    when: {memory: 8GiB}\n"), '5:20 memory is "8GiB"'),
    case("when memory an arrow", in_model('    when: {memory: "=>8GiB"}\n'), '5:20 memory is "=>8GiB"'),
    case("when memory in lower case", in_model('    when: {memory: ">=8gib"}\n'), '5:20 memory is ">=8gib" → >=8GiB'),
    case(
        "when operator",
        in_model("    when: {matchExpressions: [{key: site, operator: in, values: [a]}]}\n"),
        '5:53 operator is "in" → In',
    ),
    case(
        "when In without values",
        in_model("    when: {matchExpressions: [{key: site, operator: In}]}\n"),
        "5:31 In without values",
    ),
    case(
        "when Exists with values",
        in_model("    when: {matchExpressions: [{key: site, operator: Exists, values: [a]}]}\n"),
        "5:31 Exists with values",
    ),
    case(
        "when expression without key",
        in_model("    when: {matchExpressions: [{operator: Exists}]}\n"),
        "5:31 models.m.when.matchExpressions[0] without key",
    ),
    case("rollout of a number", in_model("    rollout: 10\n"), "5:14 rollout is 10 → 10%"),
    case("rollout above 100", in_model("    rollout: 110%\n"), '5:14 rollout is "110%"'),
    case("download policy", in_model("    download: auto\n"), '5:15 download is "auto"'),
    case("include for a file", in_model('    include: ["*.bin"]\n'), "5:5 include for a single file"),
    case(
        "include a text", in_model('    include: "*.bin"\n'), "5:5 include for a single file", '5:14 include is "*.bin"'
    ),
    case(
        "category unknown", in_model("    metadata: {category: languages}\n"), '5:26 category is "languages" → language'
    ),
    case("contextLength a text", in_model("    metadata: {contextLength: 8k}\n"), '5:31 contextLength is "8k"'),
    case("metadata a mapping in a mapping", in_model("    metadata: {more: {a: b}}\n"), "5:22 more is a mapping"),
    case("tags a text", in_model("    metadata: {tags: small}\n"), '5:22 tags is "small"'),
    case("dependsOn nobody", in_model("    dependsOn: [n]\n"), '5:17 dependsOn[0] is "n"'),
    case("dependsOn itself", in_model("    dependsOn: [m]\n"), '5:17 dependsOn is "m"'),
    case(
        "publish unknown", in_model("    publish: [hugging-face]\n"), '5:15 publish[0] is "hugging-face" → huggingface'
    ),
)
