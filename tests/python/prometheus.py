"""Runs a real Prometheus and asks it.

Not here: what is asked (the tests).
"""

import contextlib
import json
import subprocess
import time
import urllib.parse
import urllib.request

from model_server import free_ports
from programs import program

SECONDS = 60


@contextlib.contextmanager
def running_prometheus(folder, jobs):
    """The address of a Prometheus that scrapes these pages each second: job, host and port, path."""
    binary = program("prometheus")
    scraped = [
        {"job_name": name, "metrics_path": path, "static_configs": [{"targets": [target]}]}
        for name, target, path in jobs
    ]
    # Subqueries without a step of their own take the evaluation interval.
    intervals = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    # JSON is YAML.
    config = {"global": intervals, "scrape_configs": scraped}
    (folder / "prometheus.yml").write_text(json.dumps(config))
    address = f"127.0.0.1:{free_ports(1)[0]}"
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            [
                binary,
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address={address}",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield address
    finally:
        process.terminate()
        process.wait(30)


def query(address, expression, is_answer=bool, seconds=SECONDS):
    """The expression's values with their labels, once `is_answer` takes them."""
    url = f"http://{address}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as reply:
                result = json.load(reply)["data"]["result"]
        except OSError:
            result = []
        values = [(it["metric"], float(it["value"][1])) for it in result]
        if is_answer(values):
            return values
        assert time.monotonic() < deadline, f"{expression} is {values}"
        time.sleep(0.2)
