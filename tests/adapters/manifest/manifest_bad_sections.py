"""Manifests whose frame or sections are wrong. Each with the places and findings it must give, and hints where there are some."""

from manifest_bad import HEAD, at_top, case

CASES = (
    # --- the frame
    case("apiVersion missing", "models: {}\n", "1:1 the manifest without apiVersion"),
    case("apiVersion of another", "apiVersion: v1\nmodels: {}\n", '1:13 apiVersion is "v1"'),
    case(
        "apiVersion in other case",
        "apiVersion: Reconciler/V1\nmodels: {}\n",
        '1:13 apiVersion is "Reconciler/V1" → reconciler/v1',
    ),
    case("apiVersion a number", "apiVersion: 1\nmodels: {}\n", "1:13 apiVersion is 1"),
    case("kind wrong", HEAD + "kind: ModelManifest\nmodels: {}\n", '2:7 kind is "ModelManifest" → Manifest'),
    case("models missing", HEAD, "1:1 the manifest without models"),
    case("models null", HEAD + "models:\n", "2:8 models is empty"),
    case("models a list", HEAD + "models:\n  - name: m\n", "3:3 models is a list"),
    case("models a text", HEAD + "models: none\n", '2:9 models is "none"'),
    case(
        "nothing right",
        "a: 1\nb: 2\n",
        "1:1 the manifest without apiVersion",
        "1:1 the manifest without models",
        '1:1 the unknown key "a"',
        '2:1 the unknown key "b"',
    ),
    case("unknown top-level key", at_top("model: {}\n"), '3:1 the unknown key "model" → models'),
    case("key of a section at the top", at_top("maxSize: 1GiB\n"), '3:1 the unknown key "maxSize"'),
    case("snake case", at_top("cache: {max_size: 1GiB}\n"), '3:9 the unknown key "max_size" → maxSize'),
    case("kebab case", at_top("cache: {max-size: 1GiB}\n"), '3:9 the unknown key "max-size" → maxSize'),
    case("wrong case", at_top("Cache: {}\n"), '3:1 the unknown key "Cache" → cache'),
    case(
        "slip of the finger",
        at_top("cache: {evictonPolicy: lru}\n"),
        '3:9 the unknown key "evictonPolicy" → evictionPolicy',
    ),
    case("section null", at_top("cache:\n"), "3:7 cache is empty"),
    case("section a list", at_top("memory: []\n"), "3:9 memory is a list without entries"),
    case("manifest name", at_top('metadata: {name: "a b"}\n'), '3:18 name is "a b"'),
    case("unknown metadata key", at_top("metadata: {lables: {}}\n"), '3:12 the unknown key "lables" → labels'),
    case("label a list", at_top("metadata: {labels: {site: [a]}}\n"), "3:27 site is a list"),
    case("label name", at_top('metadata: {labels: {"-site": a}}\n'), '3:21 the name "-site"'),
    # --- cache and memory
    case("size without unit", at_top("cache: {maxSize: 40G}\n"), '3:18 maxSize is "40G" → 40GB or 40GiB'),
    case("size in lower case", at_top("cache: {maxSize: 40gb}\n"), '3:18 maxSize is "40gb" → 40GB'),
    case("size a float", at_top("cache: {maxSize: 1.5}\n"), "3:18 maxSize is 1.5 → 1.5%"),
    case("size negative", at_top("cache: {maxSize: -1}\n"), "3:18 maxSize is -1"),
    case("size words", at_top("cache: {maxSize: big}\n"), '3:18 maxSize is "big"'),
    case("size too large", at_top("cache: {maxSize: 9000PiB}\n"), '3:18 maxSize is "9000PiB"'),
    case("size with a comma", at_top('cache: {maxSize: "1,5GB"}\n'), '3:18 maxSize is "1,5GB" → 1.5GB'),
    case("share above 100", at_top("cache: {maxSize: 101%}\n"), '3:18 maxSize is "101%"'),
    case("share negative", at_top("cache: {minFreeSpace: -5%}\n"), '3:23 minFreeSpace is "-5%"'),
    case("policy unknown", at_top("cache: {evictionPolicy: lruu}\n"), '3:25 evictionPolicy is "lruu" → lru'),
    case("policy in other case", at_top("cache: {evictionPolicy: LRU}\n"), '3:25 evictionPolicy is "LRU" → lru'),
    case(
        "policy with underscore",
        at_top("cache: {evictionPolicy: largest_first}\n"),
        '3:25 evictionPolicy is "largest_first" → largest-first',
    ),
    case("mode unknown", at_top("cache: {evictionMode: polite}\n"), '3:23 evictionMode is "polite"'),
    case(
        "retention without unit", at_top("cache: {retention: 30}\n"), "3:20 retention is 30 → 30s or 30m or 30h or 30d"
    ),
    case("retention in words", at_top("cache: {retention: 30 days}\n"), '3:20 retention is "30 days" → 30d'),
    case("retention unordered", at_top("cache: {retention: 5m1h}\n"), '3:20 retention is "5m1h"'),
    case("retention of ages", at_top("cache: {retention: 9000w}\n"), '3:20 retention is "9000w"'),
    case(
        "cleanup interval of minutes",
        at_top("cache: {cleanupInterval: 15}\n"),
        "3:26 cleanupInterval is 15 → 15s or 15m or 15h or 15d",
    ),
    case("compression unknown", at_top("cache: {compression: gzip}\n"), '3:22 compression is "gzip"'),
    case("maxEvictions", at_top("cache: {maxEvictions: half}\n"), '3:23 maxEvictions is "half"'),
    case("maxEvictions a share of a number", at_top("cache: {maxEvictions: 0.5}\n"), "3:23 maxEvictions is 0.5 → 0.5%"),
    case("budget true", at_top("memory: {budget: true}\n"), "3:18 budget is true"),
    case(
        "critical above warning",
        at_top("memory: {warning: 100MB, critical: 200MB}\n"),
        "3:36 critical 200,000,000 above warning 100,000,000 bytes",
    ),
    case("warning a share", at_top("memory: {warning: 5%}\n"), '3:19 warning is "5%"'),
    # --- network
    case("requirement unknown", at_top("network: {require: wlan}\n"), '3:20 require is "wlan"'),
    case("bandwidth a size", at_top("network: {bandwidth: 20MB}\n"), '3:22 bandwidth is "20MB" → 20MB/s'),
    case("bandwidth of bits", at_top("network: {bandwidth: 20mbit}\n"), '3:22 bandwidth is "20mbit" → 20Mbit/s'),
    case("bandwidth zero", at_top("network: {bandwidth: 0}\n"), "3:22 bandwidth is 0"),
    case("window", at_top('network: {windows: ["22-06"]}\n'), '3:21 windows[0] is "22-06"'),
    case("window of 25 o'clock", at_top('network: {windows: ["25:00-06:00"]}\n'), '3:21 windows[0] is "25:00-06:00"'),
    case("window a text", at_top('network: {windows: "22:00-06:00"}\n'), '3:20 windows is "22:00-06:00"'),
    case("window of nothing", at_top('network: {windows: ["22:00-22:00"]}\n'), '3:21 windows[0] is "22:00-22:00"'),
    case("window read as a number", at_top("network: {windows: [2200]}\n"), "3:21 windows[0] is 2200"),
    case(
        "far too many windows", at_top(f"network: {{windows: [{', '.join(['x'] * 65)}]}}\n"), "3:20 windows is a list"
    ),
    case("no models at once", at_top("network: {models: 0}\n"), "3:19 models is 0"),
    case("connections in quotes", at_top('network: {connections: "8"}\n'), '3:24 connections is "8"'),
    case("connections of half", at_top("network: {connections: 2.5}\n"), "3:24 connections is 2.5"),
    case("timeout zero", at_top("network: {timeout: 0s}\n"), '3:20 timeout is "0s"'),
    case(
        "mirror without digest",
        at_top('network: {mirrors: ["http://cache.lan/"]}\n'),
        '3:21 mirrors[0] is "http://cache.lan/"',
    ),
    case(
        "mirror with a password",
        at_top('network: {mirrors: ["http://u:s3cret@cache.lan/{sha256}"]}\n'),
        '3:21 mirrors[0] is "http://cache.lan/0000000000000000000000000000000000000000000…"',
    ),
    case(
        "secret as plain text",
        at_top("network: {credentials: {h.example: {bearer: s3cret}}}\n"),
        "3:45 bearer is a value (not shown)",
    ),
    case(
        "secret from the environment by value",
        at_top('network: {credentials: {h.example: {bearer: "${TOKEN}"}}}\n'),
        "3:45 bearer is a value (not shown)",
        environ={"TOKEN": "s3cret"},
    ),
    case(
        "password as a number",
        at_top("network: {credentials: {h.example: {basic: {user: u, password: 1234}}}}\n"),
        "3:64 password is a value (not shown)",
    ),
    case(
        "password missing",
        at_top("network: {credentials: {h.example: {basic: {user: u}}}}\n"),
        '3:37 network.credentials."h.example".basic without password',
    ),
    case(
        "two kinds of credentials",
        at_top("network: {credentials: {h.example: {bearer: {env: A}, basic: {user: u, password: {env: B}}}}}\n"),
        '3:25 network.credentials."h.example" with bearer, basic',
    ),
    case(
        "no kind of credentials",
        at_top("network: {credentials: {h.example: {}}}\n"),
        '3:25 network.credentials."h.example" with none',
    ),
    case(
        "secret with two references",
        at_top("network: {credentials: {h.example: {bearer: {env: A, file: /b}}}}\n"),
        '3:37 network.credentials."h.example".bearer with env, file',
    ),
    case(
        "secret reference unknown",
        at_top("network: {credentials: {h.example: {bearer: {vault: a}}}}\n"),
        '3:46 the unknown key "(not shown)"',
    ),
    case(
        "credentials for a URL",
        at_top('network: {credentials: {"https://h.example": {bearer: {env: A}}}}\n'),
        '3:25 the name "https://h.example"',
    ),
    case(
        "credentials for a port that is none",
        at_top('network: {credentials: {"h.example:99999": {bearer: {env: A}}}}\n'),
        '3:25 the port of "h.example:99999"',
    ),
    case(
        "credentials twice",
        at_top("network: {credentials: {h.example: {bearer: {env: A}}, H.example: {bearer: {env: B}}}}\n"),
        '3:56 the host "H.example" again',
    ),
    case(
        "header that is ours",
        at_top("network: {credentials: {h.example: {headers: {Range: {env: A}}}}}\n"),
        '3:47 the header "Range"',
    ),
    case(
        "header with a space",
        at_top('network: {credentials: {h.example: {headers: {"X Key": {env: A}}}}}\n'),
        '3:47 the name "(not shown)"',
    ),
    case(
        "header as plain text",
        at_top("network: {credentials: {h.example: {headers: {X-Key: s3cret}}}}\n"),
        "3:54 (not shown) is a value (not shown)",
    ),
    case(
        "user with a colon",
        at_top('network: {credentials: {h.example: {basic: {user: "a:b", password: {env: B}}}}}\n'),
        "3:51 user is a value (not shown)",
    ),
    # --- runtimes and defaults
    case(
        "runtime without type",
        at_top('runtimes: {gpu: {url: "http://127.0.0.1:1"}}\n'),
        "3:12 runtimes.gpu without type",
    ),
    case(
        "runtime type slip", at_top("runtimes: {gpu: {type: page_cache}}\n"), '3:24 type is "page_cache" → page-cache'
    ),
    case(
        "runtime url",
        at_top('runtimes: {gpu: {type: open-inference, url: "127.0.0.1:8000"}}\n'),
        '3:45 url is "127.0.0.1:8000"',
    ),
    case(
        "runtime url with a user",
        at_top('runtimes: {gpu: {type: open-inference, url: "http://me@127.0.0.1:8000"}}\n'),
        '3:45 url is "http://127.0.0.1:8000"',
    ),
    case("runtime name", at_top('runtimes: {"a/b": {type: page-cache}}\n'), '3:12 the name "a/b"'),
    case("source in defaults", at_top("defaults: {source: https://h/x}\n"), '3:12 the unknown key "source"'),
    case("priority in defaults", at_top("defaults: {priority: urgent}\n"), '3:22 priority is "urgent"'),
)
