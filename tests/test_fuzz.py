"""Random command lines: every one is accepted or refused in one line, none ends in a traceback."""

import argparse
import random

import pytest

import utils.running
from tests.tiny import TINY_ARGS, load_script
from utils.errors import UserError

CASES = 150  # per script
VALUES = [
    "0", "1", "-1", "2", "7", "40", "1e9", "99999999999999999999", "0.5", "1.0", "-0.1", "nan", "inf", "-inf", "", " ",
    "abc", "None", "0x10", "1_000", "١", "../../etc", "a/b", ".hidden", "ok-name", "digits", "folder", "none",
    "real_in_noise", "random_in_noise", "13-CNN", "PR18", "auto", "bf16", "\n", "ü", "--", "*", "x" * 300,
]  # fmt: skip


def random_flags(parser: argparse.ArgumentParser, chance: random.Random) -> list[str]:
    words = []
    for action in chance.sample(parser._actions[1:], chance.randint(0, 6)):  # without --help
        words.append(chance.choice(action.option_strings))
        if action.nargs != 0:
            words += chance.choices(VALUES, k=chance.choice([0, 1, 1, 1, 1, 2, 3]))
    if chance.random() < 0.1:
        words.append(chance.choice(["stray", "--no_such_flag", "--epoch", "--exp", "-h=1"]))
    return words


@pytest.mark.parametrize("script", TINY_ARGS)
def test_random_flags_are_accepted_or_refused_in_one_line(script, monkeypatch):
    seed = random.randrange(10**9)
    chance, accepted, refused = random.Random(seed), 0, 0
    module = load_script(script)
    monkeypatch.setattr(utils.running, "run", lambda *_: None)  # what flags lead to, not the work itself
    for _ in range(CASES):
        flags = random_flags(module.parser(), chance)
        if script == "ssl.py" and chance.random() < 0.8:
            flags.append("--forget")
        try:
            module.main(flags)
            accepted += 1
        except UserError as error:
            line = str(error)
            assert " — " in line and "\n" not in line, (seed, flags)
            refused += 1
        except Exception as error:
            raise AssertionError(f"seed {seed}: {script} {flags}: {error!r}") from error
    assert accepted and refused, seed  # the draw reaches both outcomes
