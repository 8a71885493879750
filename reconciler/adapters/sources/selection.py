"""Which files of a tree are taken: globs, quantizations, shard sets, projectors, indexes. Pure; names in, names out.

Globs are those of the hub's own client: ``*`` crosses folders, a pattern that ends in ``/`` takes all below it; ``**/``
also matches nothing. Quantization is told by name, as llama.cpp does it.

``hf://ORG/REPO:QUANT`` takes the GGUF files of that quantization, with all shards and the projector that lies nearest.
``:latest`` stands for the default chain: Q4_K_M, then Q8_0, then the first by name. The chain also decides where
nothing was chosen at all (no quant, no path, no globs) and the repository's weights are GGUF only, in several
quantizations: nobody means two hundred gigabytes of the same model by that.
"""

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

DEFAULT_CHAIN = ("Q4_K_M", "Q8_0")
ANY_QUANT = ("latest", "auto", "default")
INDEX_SUFFIXES = (".safetensors.index.json", ".bin.index.json")

_QUANT = re.compile(
    r"(?:^|[-._/])((?:ud-)?(?:i?q|tq)\d(?:_[a-z0-9]+)*|bf16|f16|fp16|f32|fp32|mxfp4(?:_moe)?|nvfp4)(?=[-./])",
    re.IGNORECASE,
)
_SHARD = re.compile(r"(.*-)(\d{5})-of-(\d{5})(\.[A-Za-z0-9.]+)")
_OTHER_WEIGHTS = (".safetensors", ".onnx", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".tflite", ".pte", ".msgpack")
_PROJECTOR_CHAIN = ("F16", "BF16", "Q8_0", "F32")
_ALIASES = {"FP16": "F16", "FP32": "F32"}


def select(paths: Iterable[str], include: Sequence[str], exclude: Sequence[str]) -> list[str]:
    """The paths that some include glob takes (all where there is none) and no exclude glob drops, in order."""
    return [
        path
        for path in paths
        if (not include or any(_matches(path, glob) for glob in include))
        and not any(_matches(path, glob) for glob in exclude)
    ]


def quant_of(path: str) -> str:
    """The quantization that a GGUF's name tells, upper case; empty where it tells none."""
    found = _QUANT.findall(path)
    return _normal(found[-1]) if found else ""


def is_projector(path: str) -> bool:
    """Whether a GGUF is the vision part of another."""
    name = path.rpartition("/")[2].lower()
    return name.endswith(".gguf") and "mmproj" in name


def quants_of(paths: Iterable[str]) -> dict[str, list[str]]:
    """The GGUF models of a repository by quantization: the first file of each, sorted by name."""
    quants: dict[str, list[str]] = {}
    for path in sorted(paths):
        if _is_model(path) and _is_first_shard(path):
            quants.setdefault(quant_of(path), []).append(path)
    return quants


def needs_choice(paths: Sequence[str]) -> bool:
    """Whether the weights are GGUF only, in more than one quantization."""
    if any(path.lower().endswith(_OTHER_WEIGHTS) for path in paths):
        return False
    return sum(len(files) for files in quants_of(paths).values()) > 1


def pick_quant(paths: Sequence[str], quant: str) -> list[str]:
    """The files of one quantization, complete with shards and projector; empty where there is no such.

    Args:
        paths: all of the repository.
        quant: as written, in any case; empty or ``latest`` for the default chain.
    """
    quants = quants_of(paths)
    first = _by_chain(quants) if not quant or quant.lower() in ANY_QUANT else _exactly(quants, quant)
    if first is None:
        return []
    chosen = [first, *complete_shards(first, paths)]
    projector = pick_projector(paths, first)
    return sorted({*chosen, *([projector] if projector else [])})


def pick_projector(paths: Iterable[str], model: str) -> str | None:
    """The projector for ``model``: in the nearest folder above or beside it, F16 before BF16, Q8_0 and F32."""
    folder = model.rpartition("/")[0]
    near = [path for path in paths if is_projector(path) and _is_within(folder, path.rpartition("/")[0])]
    return min(near, key=_projector_preference, default=None)


def complete_shards(path: str, paths: Iterable[str]) -> list[str]:
    """The other names of ``path``'s shard set (whether they exist or not); empty where it is no shard.

    Also the index that lists the set, where it is in ``paths``.
    """
    match = _SHARD.fullmatch(path)
    if match is None or not 1 <= int(match[2]) <= int(match[3]) <= 10_000:
        return []
    head, _, count, tail = match.groups()
    names = [f"{head}{number:05d}-of-{count}{tail}" for number in range(1, int(count) + 1)]
    index = f"{head.removesuffix('-')}{tail}.index.json"
    return [name for name in names if name != path] + ([index] if index in set(paths) else [])


def is_index(path: str) -> bool:
    """Whether the file lists the shards of a model."""
    return path.endswith(INDEX_SUFFIXES)


def _matches(path: str, glob: str) -> bool:
    pattern = glob + "*" if glob.endswith("/") else glob
    return fnmatchcase(path, pattern) or (pattern.startswith("**/") and fnmatchcase(path, pattern[3:]))


def _normal(quant: str) -> str:
    return _ALIASES.get(quant.upper(), quant.upper())


def _is_model(path: str) -> bool:
    return path.lower().endswith(".gguf") and not is_projector(path) and "imatrix" not in path.lower()


def _is_first_shard(path: str) -> bool:
    match = _SHARD.fullmatch(path)
    return match is None or int(match[2]) == 1


def _exactly(quants: dict[str, list[str]], quant: str) -> str | None:
    wanted = _normal(quant)
    files = quants.get(wanted) or quants.get(f"UD-{wanted}") or []
    return files[0] if files else None


def _by_chain(quants: dict[str, list[str]]) -> str | None:
    for quant in DEFAULT_CHAIN:
        if (found := _exactly(quants, quant)) is not None:
            return found
    return min((path for files in quants.values() for path in files), default=None)


def _is_within(folder: str, ancestor: str) -> bool:
    return not ancestor or folder == ancestor or folder.startswith(f"{ancestor}/")


def _projector_preference(path: str) -> tuple[int, int, str]:
    quant = quant_of(path)
    rank = _PROJECTOR_CHAIN.index(quant) if quant in _PROJECTOR_CHAIN else len(_PROJECTOR_CHAIN)
    return -path.count("/"), rank, path
