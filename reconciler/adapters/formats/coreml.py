"""Core ML ``.mlmodel``: a protobuf ``Model`` (apple/coremltools ``Model.proto``).

Its fields are specificationVersion, description, and the model proper in one field of number 200 or above.
"""

from reconciler.adapters.formats.protobuf import SPAN, VARINT, fields
from reconciler.adapters.formats.reader import Facts, HeaderReader, report
from reconciler.adapters.formats.window import Lie, Window
from reconciler.core.ports import FormatReport

_KINDS = {
    200: "pipelineClassifier", 201: "pipelineRegressor", 202: "pipeline", 300: "glmRegressor",
    301: "supportVectorRegressor", 302: "treeEnsembleRegressor", 303: "neuralNetworkRegressor",
    304: "bayesianProbitRegressor", 400: "glmClassifier", 401: "supportVectorClassifier",
    402: "treeEnsembleClassifier", 403: "neuralNetworkClassifier", 404: "kNearestNeighborsClassifier",
    500: "neuralNetwork", 501: "itemSimilarityRecommender", 502: "mlProgram", 555: "customModel",
    556: "linkedModel", 560: "classConfidenceThresholding",
}  # fmt: skip


def _claims(window: Window) -> bool:
    if window.peek(0, 1) != b"\x08":
        return False
    seen: list[int] = []
    for field in fields(window):
        known = {1: VARINT, 2: SPAN, 10: VARINT}.get(field.number, SPAN if field.number >= 200 else -1)
        if field.wire != known or (field.number == 1 and not 0 < field.value < 100):
            return False
        seen.append(field.number)
    return 1 in seen and any(number >= 200 for number in seen)


def _describe(window: Window) -> FormatReport:
    facts: Facts = {}
    for field in fields(window):
        if field.number == 1:
            facts["specificationVersion"] = field.value
        elif field.number == 2:
            for part in fields(window, field.offset, field.size):
                if part.number == 100:
                    _authors(window, part.offset, part.size, facts)
        elif field.number in _KINDS:
            facts["architecture"] = _KINDS[field.number]
    if "specificationVersion" not in facts:
        raise Lie("it has no specification version")
    return report("coreml", facts)


def _authors(window: Window, offset: int, size: int, facts: Facts) -> None:
    """Metadata: 1 short description, 2 version, 3 author, 4 license."""
    words = {1: "description", 2: "modelVersion", 3: "author", 4: "license"}
    for field in fields(window, offset, size):
        if field.number in words:
            facts[words[field.number]] = field.text(window, 200)


READER = HeaderReader("coreml", _claims, _describe, marks=b"\x08")
