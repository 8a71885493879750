"""Manifests that are right, by what they show."""

COMMIT = "5359861c739e955e79d9a303bcbc70fb988958b1"
SHA = "60ed5bc3dd14eea856493d334349b405782ddcaf0028d4b5df4088345fba2efe"

FULL = f"""\
# yaml-language-server: $schema=../schemas/manifest.v1.schema.json
apiVersion: reconciler/v1
kind: Manifest                       # optional
metadata: {{name: kiosk, labels: {{site: lab, version: 1.10, beta: true}}}}

cache:
  maxSize: 40GiB
  minFreeSpace: 2GiB
  evictionPolicy: lru
  evictionMode: conservative
  retention: 30d
  cleanupInterval: 24h
  scrub: {{rate: 5MB/s, maxAge: 7d}}
  compression: none
  maxEvictions: 50%
memory:
  budget: 12GiB
  warning: 500MB
  critical: 200MB
network:
  require: any
  bandwidth: 20MB/s
  windows: ["22:00-06:00", "12:00-24:00"]
  models: 3
  connections: 8
  timeout: 30s
  mirrors: ["http://cache.lan/{{sha256}}"]
  credentials:
    models.example.com: {{bearer: {{env: MODELS_TOKEN}}}}
    "m.example.com:8443": {{basic: {{user: kiosk, password: {{file: secrets/password}}}}}}
    "[::1]:8080": {{headers: {{X-Api-Key: {{file: /run/secrets/key}}, X-Other: {{env: OTHER}}}}}}
runtimes:
  default: {{type: page-cache}}
  triton: {{type: open-inference, url: "http://127.0.0.1:8000", options: {{repository: /srv, port: 1}}}}
defaults: {{priority: normal, state: present}}

models:
  whisper-base:
    source: hf://ggerganov/whisper.cpp@{COMMIT}/ggml-base.bin
    sha256: {SHA}
    priority: critical
    state: loaded
    runtime: default
    memory: 400MB
  llama:
    source: [https://models.example.com/llama.gguf, s3://mirror/llama.gguf]
    size: 4.7GB
    format: gguf
    when: {{matchLabels: {{site: lab}}, arch: [aarch64], memory: ">=8GiB"}}
    pin: true
    allowUnsafe: false
    links: [/opt/app/models/llama.gguf]
    metadata: {{category: language, contextLength: 8192, license: llama3, quantization: Q4_K_M}}
  sherpa:
    source: https://models.example.com/sherpa.tar.bz2
    extract: auto
  bert:
    files:
      - {{path: model.onnx, source: "https://m.example.com/model.onnx", sha256: {SHA}, role: primary}}
      - {{path: tokenizer.json, source: "https://m.example.com/tokenizer.json", role: tokenizer, optional: true}}
  old-model: {{state: absent}}
"""

RICH = """\
apiVersion: reconciler/v1
cache: {maxSize: 60%, minFreeSpace: 1000000, retention: never, cleanupInterval: 0, maxEvictions: 3, evictionMode: aggressive}
memory: {budget: 60%}
network: {bandwidth: unlimited, timeout: 1m30s, require: unmetered}
models:
  repo:
    source: hf://org/repo:Q4_K_M@main
    include: ["*.safetensors", "*.json"]
    exclude: ["*.bin"]
    rollout: 10%
    download: unmetered
    publish: [huggingface]
    signature: {type: minisign, key: [/etc/key.pub, keys/b.pub]}
    dependsOn: [image, local]
    when:
      os: linux
      hostname: [kiosk-*, "7"]
      accelerator: cuda
      disk: "> 64GB"
      matchExpressions:
        - {key: site, operator: In, values: [lab, 7, true]}
        - {key: beta, operator: DoesNotExist}
  image: {source: "oci://registry.example/org/model:v1", extract: false}
  local: {source: "file:models/x%20y.gguf", role: adapter, format: executorch, size: 8.0}
  chat: {source: "ollama://llama3.2:1b", extract: true}
  several:
    files:
      - {source: https://h.example/a.safetensors}
      - {source: [https://h.example/b.json, file:b.json], path: sub/b.json, size: 12kB}
    metadata: {category: vision, supportsThinking: true, tags: [small, 7], version: 1.10, minMemory: 8GiB, extra: 5, more: x, yes: true}
"""

GOOD = {
    "the manifest of the documentation": FULL,
    "everything else": RICH,
    "no models at all": "apiVersion: reconciler/v1\nmodels: {}\n",
    "JSON": '{"apiVersion": "reconciler/v1", "models": {"m": {"state": "absent"}}}',
    "byte order mark and Windows line ends": "\ufeffapiVersion: reconciler/v1\r\nmodels: {}\r\n",
    "YAML 1.2 directive": "%YAML 1.2\n---\napiVersion: reconciler/v1\nmodels: {}\n...\n",
    "no newline at the end": "apiVersion: reconciler/v1\nmodels: {}",
    "names that other readers take for booleans": "apiVersion: reconciler/v1\nmodels: {no: {state: absent}, on: {state: absent}, y: {state: absent}}\n",
}
