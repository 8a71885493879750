"""The shortcuts of reading formats, by one byte of the content or by a lone file's name, change no verdict."""

import dataclasses
import json
import pickle
import random
import struct
import zipfile
from io import BytesIO

import gguf
import numpy as np
import pytest
from formats_made import field, flatbuffer, make_gguf, make_whisper
from safetensors.numpy import save
from sampling import others_slow
from test_formats_pickles import OBJECTS, PACKED
from test_formats_real import external, hidden_data, make_onnx
from test_formats_refused import BAD_HEADERS, LIES, ODD_HEADERS, tensors_file

from reconciler.adapters import formats
from reconciler.adapters.formats import BUILTIN, check, folder, inspect
from reconciler.adapters.formats.reader import HEAD_BYTES, HeaderReader
from reconciler.adapters.formats.window import Window
from reconciler.core.errors import Failure

UNMARKED = tuple(dataclasses.replace(reader, marks=b"") for reader in BUILTIN)
MARKED = [reader for reader in BUILTIN if reader.marks]
MAGICS = [
    b"GGUF", b"FUGG", b"lmgg", b"fmgg", b"tjgg", b"algg", b"\0\0\0\0TFL3", b"\0\0\0\0ORTM", b"\0\0\0\0ET12",
    b"\0\0\0\0ET", b"\x89HDF\r\n\x1a\n", b"\x93NUMPY\1\0", b"PK\3\4", b"PK\1\2", b"PK\5\6", b"\x80\2", b"\x80\4\x95",
    b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18", b"\x08\4\x12\0",
    b"\x08\x08\x3a\0", b"\x0a\x07\x0a\5<unk>", b"\x40\0\0\0\0\0\0\0{", b"\x40\0\0\0\0\0\0\0 \n{",
    b"\4\0\0\0\x09\0TinySpec\0", b"<net name='x' version='11'>", b"<?xml?><net >", b"{", b"<",
    b'{"version": "1.0", "truncation": null', b"version https://git-lfs",
    bytes.fromhex("8a0a6cfc9c46f9206aa85019"), bytes.fromhex("80028a0a6cfc9c46f9206aa85019"),
]  # fmt: skip
WHITE = b" \t\n\r\f\v"
TOKENIZER = b'{"version": "1.0", "truncation": null, "model": {"type": "BPE"}}'
NET = b'<net name="resnet" version="11"><layers/></net>'
TENSORS = b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}'


def zipped(*names):
    data = BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name in names:
            archive.writestr(name, b"x" * 20)
    return data.getvalue()


def array_bytes(array):
    data = BytesIO()
    np.save(data, array, allow_pickle=True)
    return data.getvalue()


def spec_bytes(name=b"TinySpec\0", version=6):
    """A CTranslate2 model without variables."""
    return struct.pack("<IH", version, len(name)) + name + struct.pack("<II", 3, 0)


def tables():
    """FlatBuffers of each kind, with an empty root."""

    def empty(builder):
        builder.StartObject(1)
        return builder.EndObject()

    return {f"{word} table": flatbuffer(word, empty) for word in (b"TFL3", b"ORTM", b"ET12", b"ET99", b"ETxx", b"NONE")}


def written(folder_):
    """Files of the formats' own writers."""
    for endian in (gguf.GGUFEndian.LITTLE, gguf.GGUFEndian.BIG):
        yield f"gguf {endian.name}", make_gguf(folder_ / endian.name, tokens=300, endian=endian).read_bytes()
    yield "whisper", make_whisper(folder_ / "whisper").read_bytes()
    yield "onnx", make_onnx(folder_ / "onnx").read_bytes()
    yield "onnx with data beside it", make_onnx(folder_ / "onnx", "w.bin").read_bytes()
    for place in ("node", "subgraph", "sparse", "function"):
        yield f"onnx with data in a {place}", hidden_data(place, external("w.bin"))


def assembled():
    """Contents put together here, sound ones and others."""
    piece = field(1, field(1, b"<unk>"))
    yield from {
        "sentencepiece": piece + field(1, field(1, b"<s>")) + field(1, field(1, b"a")),
        "core ml": field(1, 4) + field(2, field(100, field(1, b"digits"))) + field(500, bytes(300)),
        "core ml without words": field(1, 7) + field(502, bytes(9)),
        "onnx that begins with its producer": field(2, b"pytorch") + field(1, 8) + field(8, field(2, 17)),
        "onnx that begins with its graph": field(7, field(2, b"g")) + field(1, 8),
        "onnx that begins with its opset": field(8, field(2, 17)) + field(1, 8) + field(7, b""),
        "a tag of two bytes": b"\x88\0\4" + field(500, bytes(9)),
        "ctranslate2": spec_bytes(),
        "ctranslate2 of another version": spec_bytes(version=2),
        "ctranslate2 of the newest version": spec_bytes(version=32),
        "ctranslate2 of no version": spec_bytes(version=33),
        "safetensors": save({"a": np.zeros((3, 4), np.float32)}, {"format": "pt"}),
        "safetensors of more than is read at once": save({"a": np.zeros(600_000, np.float32)}),
        "npz": zipped("a.npy", "b.npy"),
        "pytorch": zipped("m/data.pkl", "m/data/0"),
        "torchscript": zipped("m/constants.pkl", "m/code/x.py"),
        "another zip": zipped("a.txt"),
        "old pytorch": pickle.dumps(0x1950A86A20F9469CFC6C, 2) + bytes(40),
        "npy": array_bytes(np.zeros((2, 3))),
        "npy of objects": array_bytes(np.array([{}], object)),
        "hdf5": b"\x89HDF\r\n\x1a\n\0" + bytes(100),
        "tokenizer": TOKENIZER,
        "other JSON": b'{"version": 3}',
        "openvino": NET,
        "openvino with a prolog": b'<?xml version="1.0"?>\n' + NET,
        "openvino behind a mark": b"\xef\xbb\xbf" + NET,
        "text": b"hello, this is text",
        "nothing": b"",
        "zeros": bytes(4096),
    }.items()
    for white in map(bytes, zip(WHITE, strict=True)):
        yield f"tokenizer behind {white}", white + TOKENIZER
        yield f"openvino behind {white}", white + NET
        yield f"safetensors behind {white}", tensors_file(white + TENSORS)
    yield from tables().items()
    yield from LIES.items()
    yield from {name: tensors_file(header) for name, header in (BAD_HEADERS | ODD_HEADERS).items()}.items()
    for number, value in enumerate(OBJECTS):
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            yield f"pickle {number} of protocol {protocol}", pickle.dumps(value, protocol)
    for name, pack in PACKED.items():
        yield f"{name} of a pickle", pack(pickle.dumps(OBJECTS[0]))
        yield f"{name} of text", pack(b"plain text" * 100)


def chance():
    """Strings that nobody wrote: of each first byte, and behind each magic, also where it is moved or cut."""
    source = random.Random(20)
    for first in range(256):
        for length in (1, 7, 40):
            yield f"chance {first} {length}", bytes([first]) + source.randbytes(length - 1)
    for number, magic in enumerate(MAGICS):
        for count in range(len(magic) + 1):
            yield f"magic {number} cut at {count}", magic[:count]
        for offset in range(HEAD_BYTES):
            yield f"magic {number} at {offset}", source.randbytes(offset) + magic + source.randbytes(40)
        yield f"magic {number} before zeros", magic + bytes(64)


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """Contents by name."""
    pairs = [*written(tmp_path_factory.mktemp("written")), *assembled(), *chance()]
    found = dict(pairs)
    assert len(found) == len(pairs), "two samples have one name"
    return found


def does_claim(reader, data):
    """Whether the reader takes the content for its own, asked without its marks."""
    return dataclasses.replace(reader, marks=b"").look(Window.of_bytes(data)) is not None


def is_asked(reader, data):
    """Whether the reader is asked about the content at all."""
    return not reader.marks or data[:HEAD_BYTES][reader.mark_at : reader.mark_at + 1] in reader.marks


def test_all_readers_can_be_skipped_and_most_are():
    assert all(isinstance(reader, HeaderReader) for reader in BUILTIN)
    assert len(MARKED) > len(BUILTIN) // 2
    assert all(0 <= reader.mark_at < HEAD_BYTES for reader in BUILTIN)


@pytest.mark.parametrize("reader", BUILTIN, ids=lambda reader: reader.name)
def test_no_reader_is_skipped_that_would_claim_the_content(samples, reader):
    claimed = [name for name, data in samples.items() if does_claim(reader, data)]
    assert claimed, "no sample is of this format"
    assert [name for name in claimed if not is_asked(reader, samples[name])] == []


@pytest.mark.parametrize("reader", MARKED, ids=lambda reader: reader.name)
def test_no_other_byte_at_the_mark_makes_a_claim(samples, reader):
    """What is claimed stays so with another mark, or is claimed no more; with a byte that is no mark it never is."""
    claimed = [data for data in samples.values() if len(data) < 1 << 16 and does_claim(reader, data)]
    others = [bytes([byte]) for byte in range(256) if byte not in reader.marks]
    for data in claimed[:12]:
        before, after = data[: reader.mark_at], data[reader.mark_at + 1 :]
        assert [byte for byte in others if does_claim(reader, before + byte + after)] == []


@pytest.mark.slow
@pytest.mark.parametrize("reader", MARKED, ids=lambda reader: reader.name)
def test_what_is_claimed_behind_another_byte_is_not_skipped(samples, reader):
    claimed = [data for data in samples.values() if len(data) < 1 << 16 and does_claim(reader, data)]
    for data in claimed[:12]:
        for byte in range(256):
            moved = bytes([byte]) + data
            assert is_asked(reader, moved) or not does_claim(reader, moved)


@pytest.mark.parametrize("reader", MARKED, ids=lambda reader: reader.name)
def test_what_is_cut_off_is_not_skipped_where_it_is_claimed(samples, reader):
    claimed = [data for data in samples.values() if len(data) < 1 << 16 and does_claim(reader, data)]
    for data in claimed[:12]:
        for length in range(64):
            assert is_asked(reader, data[:length]) or not does_claim(reader, data[:length])


def test_every_report_is_the_same_without_marks(samples, tmp_path):
    different, found = [], set()
    for number, (name, data) in enumerate(samples.items()):
        path = tmp_path / str(number)
        path.write_bytes(data)
        report = inspect(str(path))
        found.add(report.format)
        if report != inspect(str(path), UNMARKED):
            different.append(name)
    assert different == []
    assert found == {reader.name for reader in BUILTIN} | {"unknown"}, "there are samples of every format"


@pytest.mark.slow
def test_every_report_of_a_content_in_memory_is_the_same_without_marks(samples, tmp_path):
    path, different = tmp_path / "m", []
    for name, data in samples.items():
        path.write_bytes(data)
        reports = []
        for readers in (BUILTIN, UNMARKED):
            formats._cache.clear()  # the next content may be of the same size and moment
            reports += [inspect(str(path), readers, memoryview(data)), inspect(str(path), readers)]
            formats._cache.clear()
        if any(one != reports[0] for one in reports):
            different.append(name)
    assert different == []


# --- a lone file

READ_NAMES = [
    "config.json", "README.md", "Manifest.json", "coremldata.bin", "adapter_config.json",
    "model.safetensors.index.json", "pytorch_model.bin.index.json", ".safetensors.index.json",
]  # fmt: skip
OTHER_NAMES = [
    "vocab.txt", "merges.txt", "model.bin", ".gitattributes", "readme.md", "README.txt", "xconfig.json",
    "config.json.bak", "tokenizer_config.json", "index.json", "model.index.json", "model.xml", "manifest.json", "a b",
    "ä.bin", "m.onnx", "m.pkl",
]  # fmt: skip
CONTENTS = {
    "nothing": b"",
    "text": b"hello, this is text",
    "bytes": random.Random(3).randbytes(300),
    "a page": b"<!DOCTYPE html><html></html>",
    "a pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 5\n",
    "a config": b'{"model_type": "llama", "max_position_embeddings": 4096, "quantization": {"bits": 4}}',
    "a config of another kind": b'{"architectures": ["Bert"], "n_ctx": 512, "quantization_config": {"bits": 8}}',
    "an adapter": b'{"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q", "v"]}',
    "an adapter that cannot be": b'{"peft_type": "LORA", "r": -8}',
    "an index": b'{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}',
    "an index that leads outside": b'{"weight_map": {"a": "../outside.safetensors"}}',
    "no index": b'{"weight_map": 1}',
    "a bundle": b'{"fileFormatVersion": "1.0.0", "itemInfoEntries": {}}',
    "front matter": b"---\nlanguage: en\nlicense: apache-2.0\n---\n# Hello\n",
    "a pickle": pickle.dumps(OBJECTS[0]),
    "a packed pickle": PACKED["gzip"](pickle.dumps(OBJECTS[0])),
    "what cannot be searched": b"\x04\x22\x4d\x18" + bytes(100),
    "a tokenizer": TOKENIZER,
    "a net": NET,
    "tensors": tensors_file(TENSORS),
    "broken tensors": tensors_file(BAD_HEADERS["overlap"]),
    "a cut gguf": LIES["gguf cut off"],
}


def verdict(files, declared, **more):
    """The report, or why there is none."""
    try:
        return check(files, declared, **more)
    except Failure as failure:
        return failure.kind, failure.reason, failure.message, failure.hint


@pytest.fixture
def shortcut(monkeypatch):
    """Whether a lone file may be told by its own report alone: set ``is_on``; ``taken`` counts."""
    real = folder.stands_alone

    class Switch:
        is_on, taken = True, 0

    def stands_alone(path, report):
        is_alone = Switch.is_on and real(path, report)
        Switch.taken += is_alone
        return is_alone

    monkeypatch.setattr(folder, "stands_alone", stands_alone)
    return Switch


@pytest.mark.parametrize("name", READ_NAMES + OTHER_NAMES)
@pytest.mark.parametrize("where", others_slow("", "sub/", "sub/sub/"))
def test_a_lone_file_has_the_verdict_that_a_long_look_gives(shortcut, tmp_path, name, where):
    different = []
    for number, (what, data) in enumerate(CONTENTS.items()):
        place = tmp_path / str(number)
        place.write_bytes(data)
        files = [(where + name, str(place))]
        for declared in ("auto", "unknown", "bin", "gguf", "Auto"):
            for more in ({}, {"is_whole": True}, {"is_whole": False}, {"allow_unsafe": True}):
                verdicts = []
                for shortcut.is_on in (True, False):
                    verdicts += [verdict(files, declared, **more)]
                    verdicts += [verdict(files, declared, **more, content=memoryview(data))]
                if any(one != verdicts[0] for one in verdicts):
                    different.append((what, declared, more))
    assert different == []
    assert bool(shortcut.taken) == (name not in READ_NAMES)


@pytest.mark.slow
def test_a_lone_file_named_by_its_path_has_that_verdict_too(shortcut, tmp_path):
    for name in READ_NAMES + OTHER_NAMES:
        for data in CONTENTS.values():
            (tmp_path / name).write_bytes(data)
            verdicts = []
            for shortcut.is_on in (True, False):
                formats._cache.clear()  # the next content may be of the same size and moment
                verdicts.append(verdict(str(tmp_path / name), "auto"))
            assert verdicts[0] == verdicts[1], name
    formats._cache.clear()
    assert shortcut.taken


def test_what_a_lone_file_says_of_its_model_is_still_read(tmp_path):
    def facts_of(name, what):
        (tmp_path / name).write_bytes(CONTENTS[what])
        formats._cache.clear()
        return dict(check(str(tmp_path / name)).metadata)

    assert facts_of("config.json", "a config") == {
        "architecture": "llama", "contextLength": 4096, "quantization": "int4",
    }  # fmt: skip
    assert facts_of("README.md", "front matter") == {"license": "apache-2.0"}
    assert facts_of("notes.md", "front matter") == {}
    with pytest.raises(Failure) as caught:
        facts_of("model.safetensors.index.json", "an index that leads outside")
    assert caught.value.reason == "wrong_format"
    (tmp_path / "adapter_config.json").write_bytes(CONTENTS["an adapter"])
    formats._cache.clear()
    with pytest.raises(Failure) as caught:
        check(str(tmp_path / "adapter_config.json"), is_whole=True)
    assert caught.value.reason == "model_incomplete"


def test_a_strangers_reader_is_asked_about_every_content(tmp_path):
    asked = []

    class Mine:
        name = "mine"

        def read(self, path, size_bytes):
            asked.append(size_bytes)

    for number, data in enumerate(CONTENTS.values()):
        (tmp_path / str(number)).write_bytes(data)
        inspect(str(tmp_path / str(number)), (Mine(), *BUILTIN))
    assert asked == [len(data) for data in CONTENTS.values()]


def test_a_report_that_says_more_than_unknown_is_never_cut_short(tmp_path):
    (tmp_path / "m").write_bytes(json.dumps({"a": 1}).encode())
    unknown = inspect(str(tmp_path / "m"))
    assert folder.stands_alone("m", unknown)
    for more in ({"format": "gguf"}, {"is_unsafe": True}, {"errors": ("x",)}, {"warnings": (("warning", "x"),)}):
        assert not folder.stands_alone("m", dataclasses.replace(unknown, **more))
    assert not folder.stands_alone("m", dataclasses.replace(unknown, metadata=(("a", 1),)))
