#!/usr/bin/env python3
"""Finds Rust files of more than 450 lines, and functions of more than 60 without a reason.

The reason is a sentence that begins with `Long` in the comment above the function, for example `Long,
because it is a table`. It relies on rustfmt's layout: a function ends with a brace that is indented like
its first line.

Usage: tools/check_sizes.py
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAX_FILE_LINES = 450
MAX_FUNCTION_LINES = 60

FUNCTION = re.compile(
    r"( *)(?:pub(?:\([^)]*\))? )?(?:default |const |async |unsafe |extern \"C\" )*fn (\w+)"
)
REASON = re.compile(r"//.*\bLong\b")


def main() -> int:
    listed = subprocess.run(
        ["git", "ls-files", "*.rs"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    count = 0
    for name in listed.splitlines():
        lines = (ROOT / name).read_text().splitlines()
        if len(lines) > MAX_FILE_LINES:
            print(f"{name}: {len(lines)} lines, at most {MAX_FILE_LINES}: split it by what it owns")
            count += 1
        for number, function, length in long_functions(lines):
            print(f"{name}:{number}: {function} has {length} lines, at most {MAX_FUNCTION_LINES}")
            count += 1
    print(f"check_sizes: {count} complaints")
    return 1 if count else 0


def long_functions(lines):
    """`(line, name, length)` of each function that is too long and gives no reason."""
    for start, line in enumerate(lines):
        begun = FUNCTION.match(line)
        if begun is None:
            continue
        end = end_of(lines, start, begun[1])
        length = end - start + 1
        if length > MAX_FUNCTION_LINES and not has_reason(lines, start):
            yield start + 1, begun[2], length


def end_of(lines, start, indent):
    """The last line of a function."""
    for number in range(start, len(lines)):
        if lines[number].endswith((";", "}")):
            # A declaration in a trait, or all on one line.
            return number
        if lines[number].endswith("{"):
            break
    ends = (number for number in range(start, len(lines)) if lines[number] == indent + "}")
    return next(ends, len(lines) - 1)


def has_reason(lines, start):
    number = start - 1
    while number >= 0 and lines[number].lstrip().startswith(("//", "#[")):
        if REASON.search(lines[number]):
            return True
        number -= 1
    return False


if __name__ == "__main__":
    sys.exit(main())
