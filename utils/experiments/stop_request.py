"""Being asked to stop: Ctrl-C and SIGTERM end a run after the step it is in, a second one at once.

Of several processes (utils/ranks.py) any may be asked, and all stop after the same step.
"""

from __future__ import annotations

import signal
import sys
from typing import Any, ClassVar, Self

from utils import launch, ranks
from utils.errors import Stopped

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Notes the first stop signal while it is open, for `raise_if_asked` between two steps.

    One that is opened within another shares what that one has noted, so that no signal is lost between them, and what
    to type to go on, of which the outer one knows the whole.
    """

    _open: ClassVar[list[StopRequest]] = []  # the innermost last

    def __init__(self, command: str) -> None:
        self.command = command  # what to type to go on
        self.signum: int | None = None
        self.after_a_loss = False  # whether another process had ended then: it was torchrun that passed that on
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        outer = self._open[-1] if self._open else None
        if outer is not None:
            self.command = outer.command
        self._previous = {signum: signal.signal(signum, self._note) for signum in SIGNALS}
        self._open.append(self)
        if outer is not None:
            self._take_over(outer)  # only now: until then that one has noted what came
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
        self._open.remove(self)
        if self._open:
            self._open[-1]._take_over(self)

    def _take_over(self, other: StopRequest) -> None:
        """Note what another one has noted, unless something has come here meanwhile, or comes now."""
        if self.signum is None and other.signum is not None:
            self.signum, self.after_a_loss = other.signum, other.after_a_loss

    def _note(self, signum: int, _frame: object) -> None:
        if self.signum is not None and not ranks.current().several:  # asked twice: do not wait for the step
            raise Stopped(signum, self.command, launch.launcher())
        self.signum, self.after_a_loss = signum, bool(launch.gone())
        if not launch.launched():  # else torchrun may have passed on that another one is gone, and says what it does
            print("\nstopping after this step (again: at once)", file=sys.stderr, flush=True)

    def asked(self) -> bool:
        """Whether a signal came, to this process or to one that shares its work: all of these ask together."""
        agreed = int(ranks.current().agreed(self.signum or 0))
        if agreed:  # else one may have come here while the others were asked: it is for the next time
            self.signum = agreed
        return bool(agreed)

    def raise_if_asked(self) -> None:
        """Raises Stopped where a signal came."""
        if self.asked():
            raise Stopped(self.signum, self.command, launch.launcher())
