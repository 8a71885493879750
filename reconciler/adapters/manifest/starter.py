"""The commented manifest that ``reconciler init`` writes, with figures that suit the machine."""

from reconciler.core.units import exact_size

_GIB = 1 << 30
SCHEMA_COMMENT = "# yaml-language-server: $schema={schema}\n"
_TEXT = """\
apiVersion: reconciler/v1
kind: Manifest
metadata:
  name: {name}
  # labels: {{site: lab}}          # what `when:` of a model can ask for

cache:                           # the disk
  maxSize: {max_size:<15} # most that all models may take; also a share such as 60%
  minFreeSpace: {min_free:<10} # what always stays free
  evictionPolicy: lru            # lru | lfu | fifo | largest-first
  retention: 30d                 # what is unwanted and unused for so long goes; or never

memory:                          # the RAM, for models with `state: loaded`
  budget: {budget:<16} # most that loaded models may take together

network:
  models: 3                      # models downloaded at once
  # bandwidth: 20MB/s            # whole process; without it: unlimited
  # windows: ["22:00-06:00"]     # local time; without it: always
  # credentials:                 # secrets only by reference
  #   models.example.com: {{bearer: {{env: MODELS_TOKEN}}}}

# defaults: {{priority: normal}}   # merged under every model

# One entry per model. An empty mapping asks for no models at all.
models: {{}}
#  whisper-base:
#    source: hf://ggerganov/whisper.cpp/ggml-base.bin
#    sha256: 60ed5bc3dd14eea856493d334349b405782ddcaf0028d4b5df4088345fba2efe
#    priority: high              # critical | high | normal | low
#    state: loaded               # present | loaded | absent
#  encoder:
#    files:
#      - {{path: model.onnx, source: "https://models.example.com/model.onnx"}}
#      - {{path: tokenizer.json, source: "https://models.example.com/tokenizer.json", role: tokenizer}}
"""


def starter(
    disk_total_bytes: int, disk_free_bytes: int, memory_total_bytes: int, *, name: str = "models", schema: str = ""
) -> str:
    """A manifest that validates, asks for nothing yet, and shows what can be asked for.

    Args:
        disk_total_bytes: of the file system that holds the store.
        disk_free_bytes: free on it now; half of that is offered to the store, in whole GiB, at least 1 GiB.
        memory_total_bytes: RAM; 60 % of it is offered to loaded models.
        name: of the manifest.
        schema: where an editor finds the schema, a path or URL.
    """
    max_size = max(disk_free_bytes // 2 // _GIB, 1) * _GIB
    min_free = min(max(disk_total_bytes // 20 // _GIB, 1), 10) * _GIB
    budget = memory_total_bytes * 6 // 10 // _GIB * _GIB
    text = _TEXT.format(
        name=name,
        max_size=exact_size(max_size),
        min_free=exact_size(min_free),
        budget=exact_size(budget) if budget else "60%",
    )
    return SCHEMA_COMMENT.format(schema=schema or "manifest.v1.schema.json") + text
