"""A few of the inputs of `python3 -m tests.fuzz`, others each time: taken, or refused in one line."""

import random

import pytest

from tests.fuzz import KINDS, fuzz, spread


@pytest.mark.parametrize("kind, inputs", spread(600).items())
def test_inputs_are_taken_or_refused_in_one_line(kind, inputs):
    seed = random.randrange(10**9)
    found, failures = fuzz(kind, range(inputs), seed)
    again = "".join(f"\n{said}\n^ python3 -m tests.fuzz --seed {seed} --only '{kind}:{k}'" for k, said in failures)
    assert not failures, again
    assert found.total() == inputs


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"names on the page"}))  # a page takes any name
def test_both_outcomes_are_reached_of_every_kind(kind):
    found, _ = fuzz(kind, range(40), seed=1, enough=lambda found: found["taken"] and found["refused"])
    assert found["taken"] and found["refused"]


def test_a_kind_repeats_itself():
    assert fuzz("labels.csv", range(40), 1) == fuzz("labels.csv", range(40), 1)
