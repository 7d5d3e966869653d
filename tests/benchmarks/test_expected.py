"""What a script expects, read off what it prints."""

import pytest

from tests.benchmarks.expected import Cost, bytes_in, expected
from utils.training.expectation import Expectation


@pytest.mark.parametrize(
    ("said", "cost"),
    [
        (Expectation(75.2, 1_310_000_000, 0, 42_000_000), Cost(75, 1.3e9, 42e6)),
        (Expectation(731, 900_000_000, 0, 1_500_000_000), Cost(720, 0.9e9, 1.5e9)),
        (Expectation(12_600, 10_000_000_000, 0, 5, 2_800_000_000, images_on_host=True), Cost(12_600, 10e9, 1e6)),
        (Expectation(3 * 86_400, 0, 0, 1_000_000), Cost(3 * 86_400, 0, 1e6)),
    ],
)
def test_the_line_is_read_whole(said, cost):
    assert expected(f"device: CPU\nexpected: {said}\n") == cost


def test_the_bytes_of_a_folder_are_those_of_its_files_in_whole_blocks(tmp_path):
    assert bytes_in(tmp_path / "nowhere") == 0
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(bytes(100_000))
    assert 100_000 <= bytes_in(tmp_path) < 100_000 + 3 * 4096  # folders have blocks of their own
