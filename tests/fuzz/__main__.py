"""`python -m fuzz`: the fuzzer as a command; see `--help`."""

from __future__ import annotations

import argparse
import secrets
import sys
import time
import warnings

from . import TARGETS
from .loop import Finding, Product, Report, attempt, explore

SLICE_SECONDS = 2.0
MOST_FINDINGS = 10


def main() -> int:
    parser = argparse.ArgumentParser(prog="make fuzz", description="Hostile tokens and keys against leyden.auth.")
    parser.add_argument("--seconds", type=float, default=600, help="how long to go on (600)")
    parser.add_argument("--seed", type=int, default=None, help="start from this number instead of a random one")
    parser.add_argument("--target", action="append", choices=[target.name for target in TARGETS], help="only this one")
    parser.add_argument("--case", help="try one case again, by the name a finding gave it")
    wanted = parser.parse_args()
    # What a library says of odd keys on the side is of no interest here.
    warnings.simplefilter("ignore")
    if wanted.case:
        return _again(wanted.case)
    seed = secrets.randbits(32) if wanted.seed is None else wanted.seed
    targets = [target for target in TARGETS if not wanted.target or target.name in wanted.target]
    reports = {target.name: Report() for target in targets}
    end = time.monotonic() + wanted.seconds
    print(f"seed {seed}, {wanted.seconds:.0f} s", flush=True)
    while (left := end - time.monotonic()) > 0:
        for target in targets:
            slice_seconds = min(SLICE_SECONDS, left / len(targets))
            explore(
                target,
                Product(),
                seed,
                seconds=slice_seconds,
                most_findings=MOST_FINDINGS,
                report=reports[target.name],
            )
    for name, report in reports.items():
        print(f"{name}: {report}")
    findings = [finding for report in reports.values() for finding in report.findings]
    for finding in findings:
        _show(finding)
    print(f"{sum(report.cases for report in reports.values())} cases, {len(findings)} findings")
    return 1 if findings else 0


def _again(name: str) -> int:
    target = next((target for target in TARGETS if target.name == name.partition(":")[0]), None)
    if target is None:
        print(f"no target has the name of {name}", file=sys.stderr)
        return 2
    report = Report()
    attempt(target, Product(), name, report)
    print(report)
    for finding in report.findings:
        _show(finding)
    return 1 if report.findings else 0


def _show(finding: Finding) -> None:
    print(f"\n{finding.why}\n  again: make fuzz FUZZ_CASE={finding.name}\n  {ascii(finding.case)[:4000]}")


if __name__ == "__main__":
    sys.exit(main())
