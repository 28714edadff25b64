"""Lost packets and half-open connections, in a network namespace; skipped where there can be none.

What is tested is in `network_faults.py`, which runs in that namespace.
"""

import pathlib
import subprocess
import sys

import pytest

NAMESPACE = ["unshare", "--net", "sh", "-ec", 'ip link set lo up; exec "$@"', "sh"]
# The same rule as in the scenarios: a kernel module might be missing.
RULE = "iptables -A INPUT -m statistic --mode random --probability 0.5 -j DROP".split()
SECONDS = 300


def test_packets_are_lost_and_clients_vanish():
    try:
        tried = subprocess.run([*NAMESPACE, *RULE], capture_output=True, text=True, timeout=SECONDS)
    except OSError as error:
        pytest.skip(f"no network namespace: {error}")
    if tried.returncode != 0:
        pytest.skip(f"no network namespace with a firewall, which takes root: {tried.stderr}")
    script = pathlib.Path(__file__).with_name("network_faults.py")
    command = [*NAMESPACE, sys.executable, str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
