"""Real model files for tests, written by the formats' own libraries or by hand where none is small enough."""

import struct

import flatbuffers
import gguf
import numpy as np


def make_gguf(path, *, tokens=0, endian=gguf.GGUFEndian.LITTLE, tensors=None):
    writer = gguf.GGUFWriter(str(path), "llama", endianess=endian)
    writer.add_context_length(4096)
    writer.add_file_type(15)
    writer.add_name("Tiny")
    writer.add_license("mit")
    if tokens:
        writer.add_token_list([f"token{n}" * (40 if n % 1000 == 7 else 1) for n in range(tokens)])
        writer.add_token_merges([f"a{n} b{n}" for n in range(tokens)])
        writer.add_token_scores([0.5] * tokens)
    for name, data in (tensors or {"x": np.ones((4, 256), np.float32), "y": np.ones((3, 8), np.float16)}).items():
        writer.add_tensor(name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def flatbuffer(identifier, build):
    """A FlatBuffer whose root table ``build(builder)`` returns."""
    builder = flatbuffers.Builder(256)
    builder.Finish(build(builder), file_identifier=identifier)
    return bytes(builder.Output())


def varint(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(number, value):
    """One protobuf field: an int as varint, bytes as a span."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def make_whisper(path, layers=6, file_type=1, filters=80):
    head = struct.pack("<11i", 51865, 1500, 512, 8, layers, 448, 512, 8, 6, 80, file_type)
    path.write_bytes(b"lmgg" + head + struct.pack("<2i", filters, 201) + bytes(80 * 201 * 4))
    return path


def facts(report):
    """What the report of a sound and safe file says."""
    assert report.errors == ()
    assert not report.is_unsafe
    return dict(report.metadata)
