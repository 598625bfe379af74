"""The simulated fleet: against queueing theory, and what its page says of retries."""

import subprocess
import sys
from pathlib import Path

import pytest
import simulate_fleet
from maskport.serving.client import NO_RETRIES
from simulate_fleet import POLICIES, SERVERS, Fleet, Server, simulate

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/scale.md").read_text()


@pytest.mark.parametrize("load", [0.4, 0.8, 1.5])
def test_a_server_without_a_queue_loses_what_erlangs_formula_says(load):
    fleet = Fleet(20.0, replicas=1, lost=0, load=load, server=Server(2), policy=NO_RETRIES, seconds=1000, deadline=60)
    outcome = simulate(fleet)
    offered = 2 * load  # calls under way, were none refused
    lost = (offered**2 / 2) / (1 + offered + offered**2 / 2)
    assert 1 - outcome.share(0, 900) == pytest.approx(lost, abs=0.02)


def test_a_full_server_answers_its_rate_and_no_more():
    fleet = Fleet(20.0, replicas=2, lost=0, load=4, server=SERVERS["short queue (8)"], policy=NO_RETRIES, seconds=200)
    assert simulate(fleet).share(20, 180) == pytest.approx(2 / 4, abs=0.02)


def test_the_budget_brings_a_fleet_back_that_unbounded_retries_hold_under():
    fleet = Fleet(10.0, replicas=5, lost=2, load=3.4, outage=(20, 40), seconds=220, clients=10)
    none, bounded, unbounded = (simulate(Fleet(**{**vars(fleet), "policy": policy})) for policy in POLICIES.values())
    assert none.recovery_s == 0
    assert 0 < bounded.recovery_s < 150
    assert bounded.attempts_a_call(40, 200) < 1.25  # each call gives back a fifth of a repetition
    assert unbounded.recovery_s is None
    assert unbounded.share(200, 215) < 0.1
    # Before anything happens, all is well.
    assert min(one.share(0, 20) for one in (none, bounded, unbounded)) > 0.99


def test_the_same_fleet_has_the_same_outcome():
    fleet = Fleet(5.0, replicas=3, lost=1, load=2, outage=(10, 20), seconds=60)
    assert simulate(fleet) == simulate(fleet)


@pytest.mark.parametrize("model", ["light", "unet"])
def test_the_pages_costs_are_those_of_the_measured_rate(model):
    rate = simulate_fleet.measured_rate(model)
    assert f"| {model}, 16 | {rate:.1f} |" in (ROOT / "BENCHMARKS.md").read_text()
    (line,) = [line for line in PAGE.splitlines() if line.startswith(f"| {model} (")]
    told = [float(cell.replace(",", "")) for cell in line.strip("| ").split("|")[1:]]
    hours = 1e6 / rate / 3600
    wanted = [rate, hours, 2 * hours, 2000 * hours, 1000 * hours / (7 * 24)]
    assert told == pytest.approx(wanted, rel=0.03)


def test_mistakes_are_one_line():
    command = [sys.executable, ROOT / "scripts/simulate_fleet.py", "--replicas=4", "--lost=4"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("--lost=4: of 4 replicas, some must be left")
