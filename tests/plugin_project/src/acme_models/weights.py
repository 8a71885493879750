"""Acme's weights: ``ACME``, the number of parameters in four bytes, the weights."""

from reconciler.core.ports import FormatReport


class Reader:
    name = "acme-weights"

    def read(self, path: str, size_bytes: int) -> FormatReport | None:
        with open(path, "rb") as file:
            head = file.read(8)
        if not head.startswith(b"ACME"):
            return None
        if len(head) < 8:
            return FormatReport(self.name, errors=("it is cut off",))
        facts = (("architecture", "acme"), ("parameters", int.from_bytes(head[4:], "little")))
        return FormatReport(self.name, metadata=facts)


READER = Reader()
