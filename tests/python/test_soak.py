"""Everything at once, for long: all kinds of clients while models and certificates change, a mount
hangs, versions are broken and the reader of the log stops.

`make soak` runs it for half an hour on a release build; `SOAK_SECONDS` says how long.
"""

import collections
import os
import time

import grpc

import attacks
import onnx_models
import soak_clients as clients
from certificates import Authority, write_ssl_config
from changing_models import Serving
from credentials import ADMIN, ALICE, ALL, bearer, hashed, token_identity
from crowd import Crowd
from grpc_calls import GRPC_MODELS
from model_server import poll
from process_usage import Usage, requests_in_flight
from programs import find
from steady_load import GrpcClient, RestClient

SOAK_SECONDS = float(os.environ.get("SOAK_SECONDS", 60))
# Until then caches fill, threads start and the allocator finds its size.
WARM_SECONDS = min(SOAK_SECONDS / 4, 180)
CURVE_POINTS = 20
# Idle threads and connections end by themselves, after up to 10 s on an idle machine. REST connections
# of clients that wait meanwhile end after 50 s.
SETTLE_SECONDS = 40
SEED = 12
# How long a mount hangs and the log is not read.
FAULT_SECONDS = min(SOAK_SECONDS / 10, 20)


def test_soak(start_server, tmp_path, request):
    authority = Authority(tmp_path / "authority")
    config = write_ssl_config(tmp_path / "ssl.config", authority.sign("server"))
    credentials = grpc.composite_channel_credentials(
        grpc.ssl_channel_credentials(authority.certificate.read_bytes()),
        grpc.access_token_call_credentials(ADMIN),
    )
    auth = tmp_path / "auth.config"
    auth.write_text(
        token_identity("admin", ADMIN, ALL)
        + f"identity {{ name: 'alice' password_argon2: '{hashed('hash_password', ALICE)}' }}\n"
    )
    monitoring = tmp_path / "monitoring.config"
    monitoring.write_text("prometheus_config { enable: true }")
    others = {"slow": GRPC_MODELS / "slow", "breaking": tmp_path / "breaking"}
    onnx_models.publish(others["breaking"], 1, onnx_models.says_its_version(1))
    faults = [attacks.BreakingModel(others["breaking"])]
    if find("bindfs"):
        onnx_models.publish(tmp_path / "there" / "distant", 1, onnx_models.says_its_version(1))
        others["distant"] = tmp_path / "here" / "distant"
        mount = attacks.HangingMount(tmp_path / "there", tmp_path / "here", FAULT_SECONDS)
        request.addfinalizer(mount.unmount)
        faults.append(mount)
    else:
        print("bindfs is not installed: no mount hangs")
    reader = attacks.LogReader(tmp_path / "server.log")
    faults.append(attacks.StoppingLogReader(reader, FAULT_SECONDS))
    serving = Serving(
        start_server,
        tmp_path,
        flags=[
            f"--ssl_config_file={config}",
            f"--monitoring_config_file={monitoring}",
            f"--auth_config_file={auth}",
            "--access_log=all",
        ],
        others="".join(
            f"config {{ name: '{name}' base_path: '{path}' model_platform: 'onnx' }}\n"
            for name, path in others.items()
        ),
        credentials=credentials,
        headers=bearer(ADMIN),
        stdout=reader.write_end,
    )
    reader.close()
    server = serving.server
    calls = collections.deque()
    places = [serving.latest, serving.label, serving.steady, serving.visitor]
    changing = clients.Changing(serving, calls)
    crowd = Crowd(
        [
            changing,
            *(clients.Asking(GrpcClient(server, credentials), places, calls) for _ in range(2)),
            *(clients.Asking(RestClient(server), places, calls) for _ in range(2)),
            clients.LargeGrpc(server, credentials, SEED),
            clients.LargeRest(server, SEED),
            clients.Coming(server, credentials),
            clients.Wrong(server, credentials),
            clients.Slow(server),
            clients.Leaving(server),
            clients.Cancelling(server, credentials),
            clients.Scraping(server),
            clients.Rotating(server, authority, config),
            *(attacks.WrongLogins(server) for _ in range(4)),
            *faults,
        ]
    )

    begin = time.monotonic()
    with crowd:
        print_curve(server, begin, begin + WARM_SECONDS, points=1)
        with crowd.quiet():
            # A load returns memory to the system that was freed since the last one.
            changing.act()
            warm = Usage(server.process.pid)
        print(f"after the warm-up, quiet: {warm}")
        print_curve(server, time.monotonic(), begin + SOAK_SECONDS, CURVE_POINTS)
        with crowd.quiet():
            changing.act()
            after = settled_usage(server, warm)
            poll(lambda: requests_in_flight(server) == 0)

    print(f"at the end, quiet: {after}")
    print(f"{changing.judged} answers judged; {crowd.counts()}")
    assert crowd.complaints() == []
    assert not any(client.is_alive() for client in crowd.clients)
    assert all(crowd.counts().values())
    check_usage(after, warm)


def print_curve(server, begin, end, points):
    for point in range(1, points + 1):
        time.sleep(max(0, begin + (end - begin) * point / points - time.monotonic()))
        print(f"{time.monotonic() - begin:.0f} s: {Usage(server.process.pid)}", flush=True)


def settled_usage(server, warm):
    """What the server holds once that is no more than it was, or after a while."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        usage = Usage(server.process.pid)
        try:
            check_usage(usage, warm)
            return usage
        except AssertionError:
            if time.monotonic() > deadline:
                return usage
        time.sleep(0.2)


def check_usage(usage, warm):
    """Half an hour and a minute have to do with the same, so that a leak shows in the former."""
    assert usage.resident <= 1.2 * warm.resident
    assert usage.descriptors <= warm.descriptors
    # The number of idle threads for runs varies slightly.
    assert usage.threads <= warm.threads + 4
