"""Loading is left to threads of low priority, and serving is not."""

import pathlib
import sys

import pytest

import onnx_models


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority of their own")
def test_no_thread_that_serves_is_of_low_priority(start_server, tmp_path):
    """Not those either that loading and warming up have started, with and without batching."""
    onnx_models.publish(tmp_path / "m", 1, onnx_models.says_its_version(1))
    for flags in ([], ["--enable_batching"], ["--tensorflow_inter_op_parallelism=2"]):
        base_path = f"--model_base_path={tmp_path / 'm'}"
        server = start_server(["--model_name=m", base_path, *flags], ["m"])
        for _ in range(20):
            assert server.predict_rest("m", b'{"instances": [0]}')[0] == 200

        by_thread = niceness_by_thread(server.process.pid)

        assert len(by_thread) > 3
        assert set(by_thread.values()) == {by_thread[server.process.pid]}, by_thread


def niceness_by_thread(pid):
    """Field 19 of each thread's `stat`, see proc_pid_stat(5)."""
    tasks = pathlib.Path(f"/proc/{pid}/task").iterdir()
    return {
        int(task.name): int((task / "stat").read_text().rpartition(")")[2].split()[16])
        for task in tasks
    }
