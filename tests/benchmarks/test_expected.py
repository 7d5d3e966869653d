"""What a script expects, read off what it prints."""

import pytest

from tests.benchmarks.expected import Cost, expected


@pytest.mark.parametrize(
    ("printed", "cost"),
    [
        ("expected: about 75 s, 1.3 GB of memory, 42 MB of disk", Cost(75, 1.3e9, 42e6)),
        ("x\nexpected: about 12 min, 0.9 GB of memory, 1.5 GB of disk\n", Cost(720, 0.9e9, 1.5e9)),
        ("expected: about 3.5 h, 10.0 GB of memory, 1 MB of disk; 2.8 GB of images stay", Cost(12600, 10e9, 1e6)),
    ],
)
def test_the_line_is_read_whole(printed, cost):
    assert expected(printed) == cost
