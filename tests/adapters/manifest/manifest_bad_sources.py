"""Manifests whose sources, files or references to the environment are wrong, and several things at once. Each with the places and findings it must give, and hints where there are some."""

from manifest_bad import HEAD, at_top, case, from_source, in_model, with_files

CASES = (
    # --- sources
    case("source a number", from_source("123"), "4:13 source is 123"),
    case("source null", from_source("~"), "4:13 source is null"),
    case("source empty", from_source('""'), "4:13 source is an empty text"),
    case("source an empty list", from_source("[]"), "4:13 source is a list without entries"),
    case("source a mapping", from_source("{url: https://h/x}"), "4:13 source is a mapping"),
    case("source in a list a number", from_source("[https://h/x, 5]"), "4:27 source[1] is 5"),
    case("source without scheme", from_source("models/x.gguf"), '4:13 source is "models/x.gguf"'),
    case("source of another scheme", from_source("ftp://h/x.gguf"), '4:13 source is "ftp://h/x.gguf"'),
    case("source scheme slip", from_source("htps://h/x.gguf"), '4:13 source is "htps://h/x.gguf" → https'),
    case("source with a password", from_source("https://me:s3cret@h/x.gguf"), '4:13 source is "https://h/x.gguf"'),
    case("source with a user", from_source("https://me@h/x.gguf"), '4:13 source is "https://h/x.gguf"'),
    case("source without host", from_source("https:///x.gguf"), '4:13 source is "https:///x.gguf"'),
    case("source without name", from_source("https://h.example"), '4:13 source is "https://h.example"'),
    case(
        "source ends in a slash", from_source("https://h.example/models/"), '4:13 source is "https://h.example/models/"'
    ),
    case(
        "source with a hostile name",
        from_source("https://h.example/a%2f..%2fb"),
        '4:13 source is "https://h.example/a%2f..%2fb"',
    ),
    case("source named ..", from_source("https://h.example/a/.."), '4:13 source is "https://h.example/a/.."'),
    case("source with a space", from_source('"https://h.example/a b"'), '4:13 source is "https://h.example/a b"'),
    case(
        "source with a placeholder",
        from_source("hf://org/repo@<commit>/x.bin"),
        '4:13 source is "hf://org/repo@<commit>/x.bin"',
    ),
    case("source with a port that is none", from_source("https://h:port/x"), '4:13 source is "https://h:port/x"'),
    case("source with a fragment", from_source("https://h/x#y"), '4:13 source is "https://h/x"'),
    case("source twice", from_source("[https://h/x, https://h/x]"), '4:27 source[1] is "https://h/x"'),
    case("tree and file mixed", from_source("[hf://org/repo, https://h/x]"), '4:29 source is "https://h/x"'),
    case("hf without repository", from_source("hf://org"), '4:13 source is "hf://org"'),
    case(
        "hf with quant and path",
        from_source("hf://org/repo:Q4_K_M/x.gguf"),
        '4:13 source is "hf://org/repo:Q4_K_M/x.gguf"',
    ),
    case("hf path that climbs", from_source("hf://org/repo/../x.gguf"), '4:13 source is "hf://org/repo/../x.gguf"'),
    case("hf folder", from_source("hf://org/repo/sub/"), '4:13 source is "hf://org/repo/sub/"'),
    case("s3 without key", from_source("s3://bucket"), '4:13 source is "s3://bucket"'),
    case("oci in upper case", from_source("oci://h/Repo:tag"), '4:13 source is "oci://h/Repo:tag"'),
    case("ollama with a space", from_source('"ollama://a b"'), '4:13 source is "ollama://a b"'),
    case("file on another machine", from_source("file://server/share/x"), '4:13 source is "file://server/share/x"'),
    case("file that is a folder", from_source("file:models/"), '4:13 source is "file:models/"'),
    case("drive letter", from_source("'C:\\models\\x.gguf'"), '4:13 source is "C:\\models\\x.gguf"'),
    case(
        "sha256 for a tree",
        from_source("hf://org/repo") + "    sha256: " + "a" * 64 + "\n",
        "5:5 sha256 for a whole tree",
    ),
    case(
        "name of 300 bytes",
        from_source("https://h/" + "a" * 300),
        '4:13 source is "https://h/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…"',
    ),
    # --- files
    case(
        "files and source",
        with_files("      - {source: https://h/x}\n") + "    source: https://h/y\n",
        "4:5 models.m with source and files",
    ),
    case("files empty", HEAD + "models:\n  m: {files: []}\n", "3:14 files is a list without entries"),
    case("files a mapping", HEAD + "models:\n  m: {files: {a: https://h/x}}\n", "3:14 files is a mapping"),
    case("file without source", with_files("      - {path: x}\n"), "5:9 models.m.files[0] without source"),
    case("file a text", with_files("      - https://h/x\n"), '5:9 files[0] is "https://h/x"'),
    case(
        "file path absolute",
        with_files("      - {path: /etc/passwd, source: https://h/x}\n"),
        '5:16 path is "/etc/passwd"',
    ),
    case("file path climbs", with_files("      - {path: ../x, source: https://h/x}\n"), '5:16 path is "../x"'),
    case(
        "file path with a backslash", with_files("      - {path: 'a\\b', source: https://h/x}\n"), '5:16 path is "a\\b"'
    ),
    case("file path with a drive", with_files("      - {path: 'C:x', source: https://h/x}\n"), '5:16 path is "C:x"'),
    case(
        "file path too long",
        with_files("      - {path: " + "a" * 256 + ", source: https://h/x}\n"),
        '5:16 path is "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…"',
    ),
    case("file path empty", with_files('      - {path: "", source: https://h/x}\n'), "5:16 path is an empty text"),
    case(
        "file paths equal",
        with_files("      - {path: x, source: https://h/x}\n      - {path: x, source: https://h/y}\n"),
        "6:16 the path \"x\", which collides with 'x'",
    ),
    case(
        "file paths that differ in case",
        with_files(
            "      - {path: Model.onnx, source: https://h/x}\n      - {path: model.onnx, source: https://h/y}\n"
        ),
        "6:16 the path \"model.onnx\", which collides with 'Model.onnx'",
    ),
    case(
        "file paths that differ in Unicode form",
        with_files(
            '      - {path: "caf\\u00e9", source: https://h/x}\n      - {path: "cafe\\u0301", source: https://h/y}\n'
        ),
        "6:16 the path \"café\", which collides with 'café'",
    ),
    case(
        "file that is a folder of another",
        with_files("      - {path: a, source: https://h/x}\n      - {path: a/b, source: https://h/y}\n"),
        "6:16 the path \"a/b\", which collides with 'a'",
    ),
    case(
        "file names equal",
        with_files("      - {source: https://h/x}\n      - {source: https://g/x}\n"),
        "6:18 the path \"x\", which collides with 'x'",
    ),
    case("file with a tree", with_files("      - {source: hf://org/repo}\n"), '5:18 source is "hf://org/repo"'),
    case("file role unknown", with_files("      - {source: https://h/x, role: main}\n"), '5:37 role is "main"'),
    case(
        "files all optional",
        with_files("      - {source: https://h/x, optional: true}\n"),
        "4:5 models.m with nothing but optional files",
    ),
    case(
        "sha256 beside files",
        with_files("      - {source: https://h/x}\n") + "    sha256: " + "a" * 64 + "\n",
        "6:5 sha256 beside files",
    ),
    case(
        "include beside files",
        with_files("      - {source: https://h/x}\n") + '    include: ["*"]\n',
        "6:5 include beside files",
    ),
    # --- the environment
    case("variable not set", from_source("https://${HOST}/x"), "4:21 ${HOST}, which is not set"),
    case(
        "variable not set in a list",
        at_top('network: {mirrors: ["http://${CACHE}/{sha256}"]}\n'),
        "3:29 ${CACHE}, which is not set",
    ),
    case("variable with a default", from_source("https://${HOST:-h}/x"), "4:21 ${ without a name and }"),
    case("variable without a name", from_source("https://h/${}"), "4:23 ${ without a name and }"),
    case("variable not closed", from_source('"https://h/${HOST"'), "4:24 ${ without a name and }"),
    case(
        "variable with a wrong value",
        in_model("    priority: ${P}\n"),
        '5:15 priority is "${P}", whose value is something else',
        environ={"P": "s3cret"},
    ),
    case(
        "variable with a wrong size",
        in_model("    size: ${P}\n"),
        '5:11 size is "${P}", whose value is something else',
        environ={"P": "s3cret"},
    ),
    case(
        "variable in a URL that is wrong",
        from_source("https://${P}/x"),
        '4:13 source is "https://${P}/x", whose value is something else',
        environ={"P": "me:s3cret@h"},
    ),
    case(
        "variable with a newline and control",
        in_model('    metadata: {author: "${P}"}\n'),
        "5:24 a control character in a text",
        environ={"P": "a\x07b"},
    ),
    case("variable in a key", HEAD + 'models: {"${P}": {state: absent}}\n', '2:10 the name "${P}"', environ={"P": "m"}),
    # --- all at once
    case(
        "many problems at once",
        HEAD
        + "kind: Manifst\ncache: {maxSize: 40G, evictionPolicy: lru2}\nmodels:\n  a: {source: 5, pin: yes}\n  b: {priority: urgent}\n  a: {state: gone}\n",
        '2:7 kind is "Manifst" → Manifest',
        '3:18 maxSize is "40G" → 40GB or 40GiB',
        '3:39 evictionPolicy is "lru2" → lru',
        "5:15 source is 5",
        '5:23 pin is "yes" → true',
        "6:3 models.b without source",
        '6:17 priority is "urgent"',
        '7:3 the key "a" again',
    ),
    case(
        "problems before a broken line",
        HEAD + "cache: {maxSize: 40G}\nmodels:\n  a: {pin: yes}\n  b: [\n",
        '2:18 maxSize is "40G" → 40GB or 40GiB',
        '4:12 pin is "yes" → true',
        "6:1 a bracket or sign where a value belongs",
    ),
    case(
        "two documents, both wrong",
        HEAD + "models: {}\ncache: {maxSize: 40G}\n---\ncache: {maxSize: 1GiB, minFreSpace: 1GB}\n",
        '3:18 maxSize is "40G" → 40GB or 40GiB',
        '5:24 the unknown key "minFreSpace" → minFreeSpace',
    ),
    case(
        "Windows line ends",
        (HEAD + "models:\n  m:\n    prioritty: high\n    state: absent\n").replace("\n", "\r\n"),
        '4:5 the unknown key "prioritty" → priority',
    ),
    case("after a byte order mark", "\ufeff" + HEAD + "models: {}\nkind: X\n", '3:7 kind is "X"'),
)
