"""The deployment gate: does a running server answer what the exported model did? No TensorFlow."""

from .errors import GoldenError, VerificationError
from .gate import VerifyOptions, verify
from .goldens import Expected, Record, read_export, read_golden
from .reports import AddressReport, OutputReport, SignatureReport, VerificationReport

__all__ = [
    "AddressReport",
    "Expected",
    "GoldenError",
    "OutputReport",
    "Record",
    "SignatureReport",
    "VerificationError",
    "VerificationReport",
    "VerifyOptions",
    "read_export",
    "read_golden",
    "verify",
]
