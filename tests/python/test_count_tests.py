"""`tools/count_tests.py` against closing lines as the test runners really print them."""

import importlib.util

import pytest

from model_server import PROJECT

spec = importlib.util.spec_from_file_location("count_tests", PROJECT / "tools" / "count_tests.py")
count_tests = importlib.util.module_from_spec(spec)
spec.loader.exec_module(count_tests)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("     Summary [   0.005s] 3 tests run: 3 passed, 0 skipped", (3, 0)),
        ("     Summary [   0.005s] 3 tests run: 2 passed (1 slow), 1 failed, 0 skipped", (2, 1)),
        ("     Summary [1.2s] 4/9 tests run: 2 passed, 1 failed, 1 timed out, 0 skipped", (2, 2)),
        ("test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out", (5, 0)),
        ("test result: FAILED. 5 passed; 2 failed; 0 ignored; 0 measured", (5, 2)),
        ("==== 2 failed, 10 passed, 1 skipped, 1 error in 12.34s ====", (10, 3)),
        ("==== 10 passed, 3 warnings in 75.34s (0:01:15) ====", (10, 0)),
        ("\x1b[32m==== \x1b[1m10 passed\x1b[0m in 7.50s ====\x1b[0m", (10, 0)),
        ("test predict::tests::three_passed ... ok", (0, 0)),
        ("== test-rust took 12 s", (0, 0)),
    ],
)
def test_closing_line_counts(line, expected):
    assert count_tests.count([line + "\n"]) == expected


@pytest.mark.parametrize(
    ("text", "status", "expected"),
    [
        ("1 passed in 0.01s\n", "0", 0),
        ("1 passed in 0.01s\n", "2", 2),
        ("1 failed in 0.01s\n", "0", 1),
        ("nothing\n", "0", 1),
    ],
)
def test_exit_status(tmp_path, text, status, expected):
    log = tmp_path / "log"
    log.write_text(text)
    assert count_tests.main(log, status) == expected
