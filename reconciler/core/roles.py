"""What each file of a tree is for, judged by its name, and which one is primary.

A tree (a repository, a prefix, an image, an unpacked archive) declares no roles. Exactly one file becomes primary: the
one a runtime is pointed at. Formats that can be read safely come first, then the first shard, then what lies highest.
"""

import re
from collections.abc import Sequence

from reconciler.core.words import Role

_BY_NAME: tuple[tuple[re.Pattern[str], Role], ...] = (
    (re.compile(r"mmproj.*\.gguf|.*[-_.]mmproj.*\.gguf"), Role.VISION_PROJECTOR),
    (re.compile(r"adapter(_model)?\.(safetensors|gguf|bin)|.*[-_.]lora[-_.].*\.(safetensors|gguf)"), Role.ADAPTER),
    (
        re.compile(r"(tokenizer|tokenizer_config|special_tokens_map|added_tokens)\.json|.*\.(tiktoken|spm)"),
        Role.TOKENIZER,
    ),
    (re.compile(r"tokenizer\.model|(sentencepiece|spiece)(\.bpe)?\.model|tokens\.txt"), Role.TOKENIZER),
    (re.compile(r"(vocab|vocabulary|shared_vocabulary)\.(txt|json)|dict\.txt"), Role.VOCABULARY),
    (re.compile(r"merges\.txt|bpe\.model"), Role.MERGES),
    (re.compile(r"(labels|classes|categories|id2label)\.(txt|json|csv)"), Role.LABELS),
    (re.compile(r".*config.*\.(json|ya?ml)|params\.json|configuration\.json"), Role.CONFIG),
)
_WEIGHTS = (
    ".gguf", ".safetensors", ".onnx", ".ort", ".tflite", ".pte", ".mlmodel", ".xml", ".ggml", ".npz", ".pb", ".h5",
    ".keras", ".bin", ".pt", ".pth", ".ckpt", ".pkl",
)  # fmt: skip
_TEXTS = ("", ".md", ".txt", ".json", ".yaml", ".yml", ".py", ".png", ".jpg", ".pdf", ".html")
_SHARD = re.compile(r"-(\d{5})-of-\d{5}(?=\.)")


def role_by_name(path: str) -> Role:
    """The role a name suggests; companion where it suggests none."""
    name = path.rpartition("/")[2].lower()
    return next((role for pattern, role in _BY_NAME if pattern.fullmatch(name)), Role.COMPANION)


def assign_roles(paths: Sequence[str]) -> dict[str, Role]:
    """A role for every path; exactly one is primary where there is any path at all."""
    roles = {path: role_by_name(path) for path in paths}
    companions = [path for path, role in roles.items() if role is Role.COMPANION]
    if companions and not any(_is_weights(path) for path in companions):  # a README is not what an adapter's user opens
        companions = [path for path, role in roles.items() if role is Role.ADAPTER] or companions
    rest = companions or list(paths)
    if rest:
        roles[min(rest, key=_preference)] = Role.PRIMARY
    return roles


def _is_weights(path: str) -> bool:
    return path.lower().endswith(_WEIGHTS)


def _preference(path: str) -> tuple[int, int, int, str]:
    name = path.rpartition("/")[2].lower()
    suffix = "." + name.rpartition(".")[2] if "." in name else ""
    is_text = suffix in _TEXTS or name.startswith(("license", "readme", "."))
    rank = _WEIGHTS.index(suffix) if suffix in _WEIGHTS else len(_WEIGHTS) + is_text
    shard = _SHARD.search(name)
    return rank, int(shard[1]) if shard else 0, path.count("/"), path
