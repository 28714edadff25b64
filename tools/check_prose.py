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
    for number, line in enumerate(lines, 1):
        before = lines[number - 2] if number > 1 else ""
        if MARKER in line or MARKER in before:
            continue
        if path.suffix == ".md":
            if line.lstrip().startswith("```"):
                in_code = not in_code
            text = "" if in_code else line
        elif path.suffix == ".rs":
            text = rust_prose(line, messages)
        else:
            text = line[line.index("#") :] if "#" in line else ""
        text = re.sub(r"`[^`]*`|\"[^\"]*\"" if path.suffix == ".md" else r"`[^`]*`", "", text)
        if text:
            yield number, text


def rust_prose(line: str, messages: bool) -> str:
    comment = re.search(r"(?:^|\s)//[/!]?(.*)", line)
    text = comment.group(1) if comment else ""
    if messages:
        code = line[: comment.start()] if comment else line
        # A word alone is a key or a label; braces hold the name of a variable.
        strings = (it for it in re.findall(r'"((?:[^"\\]|\\.)*)"', code) if " " in it)
        text += " " + " ".join(re.sub(r"\{[^{}]*\}", "", it) for it in strings)
    return text


if __name__ == "__main__":
    sys.exit(main())
