"""Make the small real models that the examples and tests use.

Three formats, each written by its own library, a few hundred KB in all:

* ``digits.onnx``: a classifier of handwritten digits, trained here with scikit-learn, exported with skl2onnx.
* ``digits.safetensors``: the weights of a small neural network for the same task.
* ``tiny.gguf``: a two-layer llama with a byte vocabulary and random weights; llama.cpp loads it and generates.

Run: ``pip install scikit-learn skl2onnx safetensors gguf && python examples/make_models.py``.
The same library versions give the same bytes: every random source is seeded.
"""

from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import save_file
from skl2onnx import to_onnx
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

FOLDER = Path(__file__).parent / "models"
EMBEDDING, LAYERS, HEADS, FEED_FORWARD, CONTEXT = 64, 2, 4, 128, 256


def make_onnx(path: Path) -> None:
    """Train a logistic regression on the digits and export it."""
    pixels, labels = load_digits(return_X_y=True)
    classifier = LogisticRegression(max_iter=200).fit(pixels / 16, labels)
    path.write_bytes(to_onnx(classifier, pixels[:1].astype(np.float32), name="digits").SerializeToString())


def make_safetensors(path: Path) -> None:
    """Train a small network on the digits and keep its weights."""
    pixels, labels = load_digits(return_X_y=True)
    network = MLPClassifier((48,), max_iter=400, random_state=7).fit(pixels / 16, labels)
    tensors = {}
    for layer, (weights, bias) in enumerate(zip(network.coefs_, network.intercepts_, strict=True)):
        tensors[f"layer.{layer}.weight"] = weights.T.astype(np.float32).copy()
        tensors[f"layer.{layer}.bias"] = bias.astype(np.float32)
    save_file(tensors, path, metadata={"format": "pt", "task": "digits"})


def make_gguf(path: Path) -> None:
    """Write a llama whose vocabulary is the 256 bytes; its weights are random, so it babbles."""
    random = np.random.default_rng(7)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_license("apache-2.0")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(EMBEDDING)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(EMBEDDING // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    add_vocabulary(writer)
    add_tensors(writer, random)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_vocabulary(writer: gguf.GGUFWriter) -> None:
    """Three control tokens, then one token a byte."""
    kinds = gguf.TokenType
    tokens = [b"<unk>", b"<s>", b"</s>", *(f"<0x{byte:02X}>".encode() for byte in range(256))]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types([kinds.UNKNOWN, kinds.CONTROL, kinds.CONTROL, *[kinds.BYTE] * 256])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)


def add_tensors(writer: gguf.GGUFWriter, random: np.random.Generator) -> None:
    """Every tensor that the llama architecture asks for."""
    vocabulary = 259

    def add(name: str, *shape: int) -> None:
        writer.add_tensor(name, (random.standard_normal(shape) * 0.08).astype(np.float16))

    add("token_embd.weight", vocabulary, EMBEDDING)
    for block in range(LAYERS):
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            add(f"blk.{block}.{part}.weight", EMBEDDING, EMBEDDING)
        add(f"blk.{block}.ffn_gate.weight", FEED_FORWARD, EMBEDDING)
        add(f"blk.{block}.ffn_up.weight", FEED_FORWARD, EMBEDDING)
        add(f"blk.{block}.ffn_down.weight", EMBEDDING, FEED_FORWARD)
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{block}.{norm}.weight", np.ones(EMBEDDING, np.float32))
    writer.add_tensor("output_norm.weight", np.ones(EMBEDDING, np.float32))
    add("output.weight", vocabulary, EMBEDDING)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    make_onnx(FOLDER / "digits.onnx")
    make_safetensors(FOLDER / "digits.safetensors")
    make_gguf(FOLDER / "tiny.gguf")
    for made in sorted(FOLDER.iterdir()):
        print(f"{made.stat().st_size:>8} {made.name}")
