"""What the image's tests share: the image, which `run.sh` has built, and its containers."""

import os

import pytest

from containers import Container


@pytest.fixture(scope="session")
def image():
    """The image's name."""
    return os.environ["IMAGE"]


@pytest.fixture(scope="session")
def base_image():
    """The name of the image that it was built on."""
    return os.environ["BASE_IMAGE"]


@pytest.fixture
def start(image, tmp_path):
    """Starts containers, `start(arguments, …)` as `Container`, and removes them after the test."""
    started = []

    def start(arguments=(), image=image, **options):
        log = tmp_path / f"{len(started)}.log"
        started.append(Container(image, log, arguments, **options))
        return started[-1]

    yield start
    for container in started:
        container.remove()
