"""What a verification found, and its forms: a table, JSON, JUnit XML."""

import dataclasses
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import Any


@dataclasses.dataclass(frozen=True)
class OutputReport:
    """How one output of one signature agrees with the recorded one.

    Attributes:
        name: of the output.
        holds: whether it is within its tolerance.
        largest_difference: between values that are held to it, in their own units; infinite where they cannot
            be compared.
        overlap: intersection over union of masks, or the share of equal values of class maps; else None.
        problem: what is wrong; empty where it holds.
    """

    name: str
    holds: bool
    largest_difference: float
    overlap: float | None
    problem: str = ""


@dataclasses.dataclass(frozen=True)
class SignatureReport:
    """How one signature answers over one transport.

    Attributes:
        signature: its name.
        outputs: how each agrees; empty where the call failed.
        latency_ms: median of the lone calls, in milliseconds; None where none was answered.
        request_bytes: of the message.
        response_bytes: of the answer.
        metadata_problem: how the server's metadata of it differ from the export's; empty where they match.
        failure: how the call failed; empty where it was answered.
        left_out: why it was not called; empty where it was.
    """

    signature: str
    outputs: tuple[OutputReport, ...] = ()
    latency_ms: float | None = None
    request_bytes: int = 0
    response_bytes: int = 0
    metadata_problem: str = ""
    failure: str = ""
    left_out: str = ""

    @property
    def problems(self) -> list[str]:
        """All that is wrong with it, for people."""
        found = [f"metadata: {self.metadata_problem}"] if self.metadata_problem else []
        found += [self.failure] if self.failure else []
        return found + [f"output {output.name!r}: {output.problem}" for output in self.outputs if not output.holds]

    @property
    def holds(self) -> bool:
        """Whether it answers as the export did."""
        return not self.problems


@dataclasses.dataclass(frozen=True)
class AddressReport:
    """What was found at one address.

    Attributes:
        address: as it was given.
        version: that answered; None where none did.
        signatures: each one's report.
        problems: what is wrong beyond single signatures.
        causes: what most likely is behind the problems, and what to do.
        notes: what is worth knowing, and is not wrong.
    """

    address: str
    version: int | None = None
    signatures: tuple[SignatureReport, ...] = ()
    problems: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether everything that can be asked there was asked, and answered as the export did."""
        was_asked = any(not one.left_out for one in self.signatures)
        return was_asked and not self.problems and all(one.holds for one in self.signatures)

    def all_problems(self) -> list[str]:
        """Returns every problem, for people."""
        return [*self.problems] + [
            f"signature {one.signature!r}: {problem}" for one in self.signatures for problem in one.problems
        ]


@dataclasses.dataclass(frozen=True)
class VerificationReport:
    """What was found at all addresses.

    Attributes:
        model: its name on the server.
        expected: the folder that says what must be answered.
        addresses: each one's report.
    """

    model: str
    expected: str
    addresses: tuple[AddressReport, ...]

    @property
    def holds(self) -> bool:
        """Whether the deployed model answers as the exported one did, at every address."""
        return bool(self.addresses) and all(one.holds for one in self.addresses)

    def to_json(self) -> dict[str, Any]:
        """Returns a form for JSON; differences without a number (infinite ones) are null."""
        report = {"holds": self.holds} | dataclasses.asdict(self)
        for address, found in zip(self.addresses, report["addresses"], strict=True):
            found["holds"] = address.holds
            found["signatures"] = [_signature_json(one) for one in address.signatures]
        return report

    def to_junit(self) -> str:
        """Returns JUnit XML: a suite for each address, a case for each signature and one for the model itself."""
        root = ET.Element("testsuites", name="mask-verify")
        for address in self.addresses:
            cases: list[tuple[str, list[str], str, float | None]] = [("model", list(address.problems), "", None)]
            cases += [(one.signature, one.problems, one.left_out, one.latency_ms) for one in address.signatures]
            suite = ET.SubElement(
                root,
                "testsuite",
                name=_xml_text(f"{self.model} at {address.address}"),
                tests=str(len(cases)),
                failures=str(sum(bool(problems) for _, problems, _, _ in cases)),
                errors="0",
                skipped=str(sum(bool(left_out) and not problems for _, problems, left_out, _ in cases)),
                time=f"{sum((latency or 0) for _, _, _, latency in cases) / 1000:.3f}",
            )
            for name, problems, left_out, latency in cases:
                seconds = f"{(latency or 0) / 1e3:.3f}"
                case = ET.SubElement(suite, "testcase", classname=f"mask-verify.{self.model}", name=name, time=seconds)
                if problems:
                    failure = ET.SubElement(case, "failure", message=_xml_text(problems[0]))
                    causes = [f"likely cause: {cause}" for cause in address.causes]
                    failure.text = _xml_text("\n".join([*problems, *causes]))
                elif left_out:
                    ET.SubElement(case, "skipped", message=left_out)
        ET.indent(root)
        return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"

    def table(self) -> str:
        """Returns what people read: a table for each address."""
        return "\n\n".join("\n".join(self._lines(address)) for address in self.addresses)

    def _lines(self, address: AddressReport) -> Iterator[str]:
        version = f", version {address.version}" if address.version is not None else ""
        verdict = "agrees" if address.holds else "DOES NOT AGREE"
        yield f"{self.model} at {address.address}{version}: {verdict} with {self.expected}"
        if not address.signatures:
            return
        header = ("signature", "agrees", "difference", "overlap", "ms", "sent", "received", "metadata")
        rows = [header, *map(_row, address.signatures)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = [
                cell.ljust(width) if column in (0, 1, 7) else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            yield ("  " + "  ".join(cells)).rstrip()
        yield from (f"  note: {note}" for note in address.notes)


def _row(report: SignatureReport) -> tuple[str, ...]:
    differences = [output.largest_difference for output in report.outputs]
    overlaps = [output.overlap for output in report.outputs if output.overlap is not None]
    agrees = "yes" if all(output.holds for output in report.outputs) and not report.failure else "NO"
    return (
        report.signature,
        "left out" if report.left_out else agrees,
        f"{max(differences):.4g}" if differences else "",
        f"{min(overlaps):.4f}" if overlaps else "",
        f"{report.latency_ms:.1f}" if report.latency_ms is not None else "",
        f"{report.request_bytes:,}" if report.request_bytes else "",
        f"{report.response_bytes:,}" if report.response_bytes else "",
        "DIFFERS" if report.metadata_problem else "matches",
    )


def _signature_json(report: SignatureReport) -> dict[str, Any]:
    return {
        "signature": report.signature,
        "holds": report.holds,
        "latency_ms": report.latency_ms,
        "request_bytes": report.request_bytes,
        "response_bytes": report.response_bytes,
        "metadata_matches": not report.metadata_problem,
        "left_out": report.left_out,
        "problems": report.problems,
        "outputs": {
            output.name: {
                "holds": output.holds,
                "largest_difference": output.largest_difference if math.isfinite(output.largest_difference) else None,
                "overlap": output.overlap,
            }
            for output in report.outputs
        },
    }


def _xml_text(text: str) -> str:
    """Returns a text without the characters that XML has no place for: servers' words may hold them."""
    return re.sub("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\N{REPLACEMENT CHARACTER}", text)
