"""The forms of a report."""

import json
import xml.etree.ElementTree as ET

import pytest
from maskport.serving.verify import AddressReport, OutputReport, SignatureReport, VerificationReport

GOOD = SignatureReport("mask", (OutputReport("mask", True, 0.0, 1.0),), 12.34, 30_000, 4_000)
WRONG = SignatureReport(
    "mask_png", (OutputReport("mask_bytes", False, 255.0, 0.5, "9 values differ <&\x00>"),), 5.0, 10, 20
)
FAILED = SignatureReport("probability", failure="it failed", metadata_problem="input 'image' is missing")
INCOMPARABLE = SignatureReport("info", (OutputReport("info", False, float("inf"), None, "text 'a' instead of 'b'"),), 1)


@pytest.fixture
def report():
    return VerificationReport(
        "coins",
        "served/coins/1",
        (
            AddressReport("grpc://a:8500", 1, (GOOD,)),
            AddressReport("http://a:8501", 2, (GOOD, WRONG, FAILED, INCOMPARABLE), ("gone",), ("because",), ("so",)),
        ),
    )


def test_only_what_holds_everywhere_holds(report):
    good, bad = report.addresses
    assert good.holds
    assert not bad.holds
    assert not report.holds
    assert VerificationReport("coins", "x", (good,)).holds


def test_nothing_asked_is_nothing_proven():
    assert not VerificationReport("coins", "x", ()).holds
    assert not VerificationReport("coins", "x", (AddressReport("grpc://a:8500", 1),)).holds


def test_json_holds_everything_and_no_infinity(report):
    read = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert (read["holds"], read["model"]) == (False, "coins")
    good, bad = read["addresses"]
    assert good["signatures"][0] == {
        "signature": "mask",
        "holds": True,
        "latency_ms": 12.34,
        "request_bytes": 30_000,
        "response_bytes": 4_000,
        "metadata_matches": True,
        "left_out": "",
        "problems": [],
        "outputs": {"mask": {"holds": True, "largest_difference": 0.0, "overlap": 1.0}},
    }
    assert (bad["problems"], bad["causes"], bad["notes"]) == (["gone"], ["because"], ["so"])
    by_name = {one["signature"]: one for one in bad["signatures"]}
    assert by_name["info"]["outputs"]["info"]["largest_difference"] is None
    assert not by_name["probability"]["metadata_matches"]
    assert by_name["probability"]["problems"] == ["metadata: input 'image' is missing", "it failed"]


def test_junit_is_xml_with_a_case_for_each_signature(report):
    root = ET.fromstring(report.to_junit())
    good, bad = root.findall("testsuite")
    assert (good.get("tests"), good.get("failures")) == ("2", "0")
    assert (bad.get("tests"), bad.get("failures")) == ("5", "4")
    failures = {case.get("name"): case.find("failure") for case in bad.findall("testcase")}
    assert set(failures) == {"model", "mask", "mask_png", "probability", "info"}
    assert failures["mask"] is None
    assert failures["mask_png"].get("message") == "output 'mask_bytes': 9 values differ <&�>"
    assert failures["model"].text.splitlines() == ["gone", "likely cause: because"]


def test_what_was_left_out_is_named_and_proves_nothing():
    left_out = SignatureReport("class_map", left_out="not callable over REST: uint16")
    assert not AddressReport("http://a:8501", 1, (left_out,)).holds
    report = VerificationReport("coins", "x", (AddressReport("http://a:8501", 1, (GOOD, left_out)),))
    assert report.holds
    assert report.table().splitlines()[-1].split() == ["class_map", "left", "out", "matches"]
    (suite,) = ET.fromstring(report.to_junit()).findall("testsuite")
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("3", "0", "1")
    assert suite.find("testcase/skipped").get("message") == "not callable over REST: uint16"


def test_the_table_names_what_fails(report):
    lines = report.table().splitlines()
    assert lines[0] == "coins at grpc://a:8500, version 1: agrees with served/coins/1"
    assert lines[1].split() == ["signature", "agrees", "difference", "overlap", "ms", "sent", "received", "metadata"]
    assert lines[2].split() == ["mask", "yes", "0", "1.0000", "12.3", "30,000", "4,000", "matches"]
    assert "coins at http://a:8501, version 2: DOES NOT AGREE with served/coins/1" in lines
    assert ["probability", "NO", "DIFFERS"] in [line.split() for line in lines]
    assert lines[-1] == "  note: so"
