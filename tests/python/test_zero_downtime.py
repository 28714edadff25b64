"""No request fails while versions and models come and go, whichever way that is told the server."""

import pytest

from changing_models import Serving
from steady_load import Load


@pytest.mark.parametrize(("by_file", "rounds"), [(False, 20), (True, 2)], ids=["rpc", "file"])
def test_no_request_fails_while_models_change(start_server, tmp_path, by_file, rounds):
    serving = Serving(start_server, tmp_path, by_file)
    places = [serving.latest, serving.label, serving.steady, serving.visitor]

    with Load(serving.server, places) as load:
        current = 1
        for round in range(rounds):
            current = serving.round(current, round + 2, rolls_back=round % 2 == 0)

    print(
        f"{serving.changes} changes, {len(load.calls)} requests, "
        f"p50 {load.quantile_ms(0.5):.1f} ms, p99 {load.quantile_ms(0.99):.1f} ms"
    )
    assert load.complaints() == []
    for place in places:
        answered = sum(call.version is not None for call in load.calls if call.place is place)
        assert answered > 0, f"{place.name} was never asked"
