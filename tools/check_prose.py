#!/usr/bin/env python3
"""Finds wording that reads badly in comments, documentation and messages.

The words are common English used in a way that makes a reader stop, or a house word for which the field
has a term; each row of PATTERNS says what to write instead. Texts that TensorFlow Serving has stay as they
are: a line is skipped if it, or the line before it, has the marker `prose: as TensorFlow Serving`.

    tools/check_prose.py [PATH...]     all of the repository without a path
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MARKER = "prose: as TensorFlow Serving"

# The patterns to find, and the advice for each.
PATTERNS = [
    (r"\bwhat(?:ever)?\b(?! to\b| kind\b| if\b)(?![^.]*\?)", "the noun instead of a clause with `what`"),
    (r"(?:^|[.;:(] )who(?:ever)?\b(?![^.]*\?)|\bwhoever\b", "the noun instead of a clause with `who`"),
    (r"\bso (?:many|much|long|few|large|small)\b(?! as\b| that\b)", "the number or the size itself"),
    (r"(?<!\bthere )\b(?:is|are|was|were) no\b(?! longer\b)", "is not a"),
    (r", since\b", "because"),
    (r"\bmay\b", "can, might, or is allowed to"),
    (r"\bbesides?\b", "next to, with, in addition to"),
    (r"\bat once\b", "immediately, or at the same time"),
    (r"\bunder way\b", "in flight"),
    (r"\b(?:nobody|anew)\b", "no client, again"),
    (r"\btold\b", "notified, distinguished"),
    (r"\bthe original(?:'s|s)?\b", "TensorFlow Serving"),
]
COMPILED = [(re.compile(pattern, re.IGNORECASE), advice) for pattern, advice in PATTERNS]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", type=Path)
    parser.add_argument("--comments", action="store_true", help="leave messages out")
    arguments = parser.parse_args()
    found = 0
    for path in files(arguments.paths):
        for number, text in prose(path, messages=not arguments.comments):
            for pattern, advice in COMPILED:
                for match in pattern.finditer(text):
                    found += 1
                    print(f"{path.relative_to(ROOT)}:{number}: `{match.group()}`: {advice}")
    print(f"check_prose: {found} complaints")
    return 1 if found else 0


def files(paths: list[Path]) -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    kept = [ROOT / name for name in listed.splitlines() if is_ours(name)]
    if not paths:
        return kept
    roots = [path.resolve() for path in paths]
    return [path for path in kept if any(root == path or root in path.parents for root in roots)]


def is_ours(name: str) -> bool:
    if name.startswith(("proto/", "tests/data/")):
        return False
    return name.endswith((".rs", ".md", ".py")) or name == "Makefile"


def prose(path: Path, messages: bool):
    """The lines of a file that are prose: their number, and the text without code."""
    lines = path.read_text().splitlines()
    in_code = False
    rust = RustLines()
    for number, line in enumerate(lines, 1):
        before = lines[number - 2] if number > 1 else ""
        text = rust.prose(line, messages) if path.suffix == ".rs" else ""
        if MARKER in line or MARKER in before:
            continue
        if path.suffix == ".md":
            if line.lstrip().startswith("```"):
                in_code = not in_code
            text = "" if in_code else line
        elif path.suffix != ".rs":
            text = line[line.index("#") :] if "#" in line else ""
        text = re.sub(r"`[^`]*`|\"[^\"]*\"" if path.suffix == ".md" else r"`[^`]*`", "", text)
        if text:
            yield number, text


class RustLines:
    """Reads a Rust file line by line, and knows where a string of several lines is open."""

    # A comment, a raw string, a character, the start of a string.
    TOKEN = re.compile(r"//[/!]?|\bb?r(#*)\"|b?'(?:\\.|[^'\\])'|b?\"")

    def __init__(self):
        # The end of the string that is open, as a pattern; "" outside of strings.
        self.end = ""
        self.is_raw = False

    def prose(self, line: str, messages: bool) -> str:
        comment, strings = "", []
        place = 0
        while place <= len(line):
            if self.end:
                found = re.compile(self.end).search(line, place)
                part = line[place : found.start() if found else len(line)]
                # Raw strings are data of tests.
                if not self.is_raw:
                    strings.append(part)
                if not found:
                    break
                place, self.end = found.end(), ""
                continue
            token = self.TOKEN.search(line, place)
            if not token:
                break
            place = token.end()
            if token.group().startswith("//"):
                comment = line[place:]
                break
            if token.group().endswith('"'):
                self.is_raw = token.group(1) is not None
                self.end = '"' + token.group(1) if self.is_raw else r'(?<!\\)(?:\\\\)*"'
        if not messages:
            return comment
        # A word alone is a key or a label; braces hold the name of a variable.
        texts = (it for it in strings if " " in it.strip())
        return comment + " " + " ".join(re.sub(r"\{[^{}]*\}", "", it) for it in texts)


if __name__ == "__main__":
    sys.exit(main())
