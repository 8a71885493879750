"""A runtime that remembers what is loaded in a folder, ACME_MEMORY."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from reconciler.core.desired import RuntimeSpec
from reconciler.core.ports import CancelToken, RuntimeModel


class Memory:
    type = "acme-memory"

    def _note(self, model: RuntimeModel) -> Path:
        return Path(os.environ["ACME_MEMORY"]) / model.name

    def observe(self, models: Sequence[RuntimeModel]) -> Mapping[str, int]:
        return {model.name: model.size_bytes for model in models if self._note(model).exists()}

    def load(self, model: RuntimeModel, cancel: CancelToken) -> int:
        self._note(model).touch()
        return model.size_bytes

    def unload(self, model: RuntimeModel, cancel: CancelToken) -> None:
        self._note(model).unlink(missing_ok=True)

    def estimate(self, model: RuntimeModel) -> int:
        return model.size_bytes


def make(spec: RuntimeSpec) -> Memory:
    return Memory()
