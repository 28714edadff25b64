#!/usr/bin/env python3
"""Counts the tests in the output of `make test`: `count_tests.py LOG STATUS`.

Reads the closing lines of nextest, `cargo test` and pytest, prints the sum as the plain line
`N passed, N failed` and exits with STATUS, or with 1 if a test failed or none ran.
"""

import re
import sys

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# One expression per runner, for the line with which it closes.
CLOSING_LINES = (
    re.compile(r"^\s*Summary \[.*\] +\d+(?:/\d+)? tests? run: (?P<counts>.*)$"),
    re.compile(r"^test result: \w+\. (?P<counts>.*)$"),
    re.compile(r"^=* ?(?P<counts>\d+ .*) in \d+\.\d+s.*$"),
)
COUNT = re.compile(r"(\d+) (passed|failed|timed out|exec failed|errors?)\b")


def main(log, status):
    with open(log, encoding="utf-8", errors="replace") as lines:
        passed, failed = count(lines)
    status = int(status)
    if passed + failed == 0:
        print("no test ran")
        status = status or 1
    if status and not failed:
        print(f"no test failed, but `make test` did not pass (status {status}): see above")
    print(f"{passed} passed, {failed} failed")
    return status or (1 if failed else 0)


def count(lines):
    """The numbers of passed and of failed tests in the closing lines among `lines`."""
    passed = failed = 0
    for line in lines:
        line = COLOUR.sub("", line.rstrip())
        for closing_line in CLOSING_LINES:
            if match := closing_line.match(line):
                for number, outcome in COUNT.findall(match["counts"]):
                    if outcome == "passed":
                        passed += int(number)
                    else:
                        failed += int(number)
                break
    return passed, failed


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
