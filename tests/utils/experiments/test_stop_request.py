"""A stop signal that comes at an awkward moment."""

import signal

import pytest

from utils.experiments.stop_request import StopRequest


@pytest.mark.parametrize("closing", [False, True])
def test_no_signal_is_lost_while_one_request_opens_or_closes_within_another(monkeypatch, closing):
    set_handler, sent = signal.signal, []

    def interrupted(signum, handler):
        before = set_handler(signum, handler)
        if not sent:
            sent.append(signum)
            signal.raise_signal(signum)
        return before

    with StopRequest("outer") as outer:
        inner = StopRequest("inner")
        with monkeypatch.context() as patch:
            if not closing:
                patch.setattr(signal, "signal", interrupted)
            inner.__enter__()
            patch.setattr(signal, "signal", interrupted)
            inner.__exit__()
        assert outer.signum == sent[0] == signal.SIGINT
