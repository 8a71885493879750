"""The sections ``cache``, ``memory``, ``network`` and ``runtimes``: from walked trees to policies."""

from reconciler.adapters.manifest.border import Border
from reconciler.adapters.manifest.credentials import parse_credentials
from reconciler.adapters.manifest.nearest import nearest
from reconciler.adapters.manifest.tree import Node
from reconciler.core.policies import CachePolicy, MemoryPolicy, NetworkPolicy, RuntimeSpec, Size, Window
from reconciler.core.units import parse_duration, parse_rate, parse_share, parse_size, parse_size_or_share
from reconciler.core.words import Compression, EvictionMode, EvictionPolicy, NetworkRequirement

KNOWN_RUNTIMES = ("page-cache", "open-inference", "llama-server")


def parse_cache(node: Node | None, border: Border) -> CachePolicy:
    """The limits of the disk."""
    default = CachePolicy()
    if node is None:
        return default
    limit = node.child("maxEvictions")
    percent, count = default.max_evictions_percent, default.max_evictions_count
    if limit is not None:
        is_share = limit.kind == "string"
        percent = border.convert(limit, "cache.maxEvictions", parse_share, 0.0) if is_share else None
        count = None if is_share else limit.value
    return CachePolicy(
        max_size=border.convert(node.child("maxSize"), "cache.maxSize", parse_size_or_share, default.max_size),
        min_free=border.convert(
            node.child("minFreeSpace"), "cache.minFreeSpace", parse_size_or_share, default.min_free
        ),
        policy=EvictionPolicy(_word(node, "evictionPolicy", default.policy)),
        mode=EvictionMode(_word(node, "evictionMode", default.mode)),
        retention_s=border.convert(node.child("retention"), "cache.retention", _retention, default.retention_s),
        cleanup_interval_s=border.convert(
            node.child("cleanupInterval"), "cache.cleanupInterval", _interval, default.cleanup_interval_s
        ),
        scrub_bytes_per_s=_scrub_rate(node.child("scrub"), border),
        scrub_max_age_s=_scrub_age(node.child("scrub"), border),
        compression=Compression(_word(node, "compression", default.compression)),
        max_evictions_percent=percent,
        max_evictions_count=count,
    )


def _scrub_rate(node: Node | None, border: Border) -> int | None:
    default = CachePolicy().scrub_bytes_per_s
    return border.convert(node.child("rate"), "cache.scrub.rate", _rate, default) if node else default


def _scrub_age(node: Node | None, border: Border) -> float | None:
    default = CachePolicy().scrub_max_age_s
    return border.convert(node.child("maxAge"), "cache.scrub.maxAge", _retention, default) if node else default


def parse_memory(node: Node | None, border: Border) -> MemoryPolicy:
    """The limits of the RAM."""
    default = MemoryPolicy()
    if node is None:
        return default
    no_budget: Size | None = None
    warning = border.convert(node.child("warning"), "memory.warning", parse_size, default.warning_bytes)
    critical = border.convert(node.child("critical"), "memory.critical", parse_size, default.critical_bytes)
    if critical > warning and (low := node.child("critical") or node.child("warning")) is not None:
        expected = "a critical threshold that is not above the warning threshold"
        border.findings.add(low.place, f"critical {critical:,} above warning {warning:,} bytes", expected)
    return MemoryPolicy(
        budget=border.convert(node.child("budget"), "memory.budget", parse_size_or_share, no_budget),
        warning_bytes=warning,
        critical_bytes=critical,
    )


def parse_network(node: Node | None, border: Border) -> NetworkPolicy:
    """How downloads behave."""
    default = NetworkPolicy()
    if node is None:
        return default
    windows, mirrors = node.child("windows"), node.child("mirrors")
    return NetworkPolicy(
        require=NetworkRequirement(_word(node, "require", default.require)),
        bandwidth_bytes_per_s=border.convert(node.child("bandwidth"), "network.bandwidth", _rate, None),
        windows=_windows(windows, border),
        models=_number(node, "models", default.models),
        connections=_number(node, "connections", default.connections),
        timeout_s=border.convert(node.child("timeout"), "network.timeout", _timeout, default.timeout_s),
        mirrors=_mirrors(mirrors, border),
        credentials=parse_credentials(node.child("credentials"), border),
    )


def parse_runtimes(node: Node | None, border: Border) -> tuple[RuntimeSpec, ...]:
    """The runtimes, sorted by name; ``default`` is always among them."""
    specs = {"default": RuntimeSpec("default")}
    for name, child in (node.value if node is not None else {}).items():
        if child.kind == "object":
            specs[name] = _runtime(name, child, border)
    return tuple(specs[name] for name in sorted(specs))


def _runtime(name: str, node: Node, border: Border) -> RuntimeSpec:
    path = f"runtimes.{name}"
    kind, url, options = node.child("type"), node.child("url"), node.child("options")
    if not node.has("type") and name != "default":
        border.findings.add(node.key_place, f"{path} without type", "type: page-cache, or another kind", path=path)
    if kind is not None and kind.value not in KNOWN_RUNTIMES:
        _strange_runtime(kind, f"{path}.type", border)
    if url is not None and border.reference(url, f"{path}.url") is None:
        url = None
    pairs = ((key, child.text) for key, child in sorted(options.value.items())) if options is not None else ()
    return RuntimeSpec(
        name=name,
        type=kind.value if kind is not None else "page-cache",
        url=url.value if url is not None else None,
        options=tuple(pairs),
    )


def _strange_runtime(node: Node, path: str, border: Border) -> None:
    """A kind that is not ours: somebody else's, or a slip where it is close to one of ours."""
    if node.value in border.extensions().runtimes:
        return
    meant = nearest(node.value, KNOWN_RUNTIMES)
    if meant:
        expected = f"one of {', '.join(KNOWN_RUNTIMES)}, or one that a package adds"
        border.findings.value(node, path, expected, hint=f"did you mean {meant}?")


def _windows(node: Node | None, border: Border) -> tuple[Window, ...]:
    windows = []
    for index, child in enumerate(node.value if node is not None else ()):
        if child.kind == "string":
            start, end = (int(word[:2]) * 60 + int(word[3:5]) for word in child.value.split("-"))
            windows.append(Window(start, end))
            if start == end:
                border.findings.value(child, f"network.windows[{index}]", "a span that does not end where it starts")
    return tuple(windows)


def _mirrors(node: Node | None, border: Border) -> tuple[str, ...]:
    mirrors = []
    for index, child in enumerate(node.value if node is not None else ()):
        if child.kind != "string":
            continue
        template: str = child.value
        child.value = template.replace("{sha256}", "0" * 64)  # the braces are no part of a URL's grammar
        if border.reference(child, f"network.mirrors[{index}]") is not None:
            child.value = template
            mirrors.append(template)
    return tuple(mirrors)


def _word(node: Node, key: str, default: str) -> str:
    child = node.child(key)
    return default if child is None else str(child.value)


def _number(node: Node, key: str, default: int) -> int:
    child = node.child(key)
    return default if child is None else int(child.value)


def _retention(text: str) -> float | None:
    return None if text == "never" else parse_duration(text)


def _interval(text: str | int) -> float:
    return parse_duration(str(text))


def _rate(text: str | int) -> int | None:
    return None if text == "unlimited" else parse_rate(text)


def _timeout(text: str) -> float:
    seconds = parse_duration(text)
    if seconds < 0.1:
        raise ValueError("a time-out of at least 100ms")
    return seconds
