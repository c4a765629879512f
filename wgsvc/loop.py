"""
The event loop: coroutines that wait for descriptors, times and each other.

Not asyncio: importing that costs 45 ms of a 40 ms start (measured), and its child
watcher and signal handling are what this program exists to do itself. An idle loop
sleeps in one system call without a timeout: no wake-ups.
"""

from __future__ import annotations

import selectors
import time
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Sequence

from wgsvc.light import Any, Generic, TypeVar

T = TypeVar("T")
Coro = Coroutine[Any, Any, T]


class CancelledError(BaseException):
    """
    Raised inside a task that somebody cancelled; clean up and let it pass.

    `errors` are what failed in a clean-up, for whoever cancelled.
    """

    def __init__(self) -> None:
        super().__init__()
        self.errors: Sequence[Exception] = ()


class Future(Generic[T]):
    """A value that comes later, once. Several tasks may wait for it."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._done = False
        self._result: T | None = None
        self._error: BaseException | None = None
        self._waiting: list[_Wait] = []

    @property
    def done(self) -> bool:
        """Whether the value, or an error in its place, is there."""
        return self._done

    def set(self, result: T) -> None:
        """Give the value; a second one is ignored."""
        self._finish(result, None)

    def fail(self, error: BaseException) -> None:
        """Give an error instead of a value."""
        self._finish(None, error)

    def _finish(self, result: T | None, error: BaseException | None) -> None:
        if self._done:
            return
        self._done, self._result, self._error = True, result, error
        waiting, self._waiting = self._waiting, []  # each takes itself off the list
        for wait in waiting:
            wait.wake(value=True)

    def value(self) -> T:
        """Return the value, or raise the error; only once it is done."""
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]  # done, hence a T

    async def wait(self, timeout_s: float | None = None) -> bool:
        """Return True when it is done, False when `timeout_s` ended first."""
        if self._done:
            return True
        return await _Wait(self._loop, timeout_s, future=self)

    def __await__(self) -> Generator[_Wait, bool, T]:
        if not self._done:
            yield from _Wait(self._loop, None, future=self).__await__()
        return self.value()


class Task(Future[T]):
    """A running coroutine; its future is what the coroutine returns."""

    def __init__(self, loop: Loop, coro: Coro[T]) -> None:
        super().__init__(loop)
        self._coro = coro
        self.waiting_on: _Wait | None = None
        self._cancelled = False  # asked for
        self._interrupt: CancelledError | None = None  # not yet raised in the coroutine
        self._refused: Exception | None = None  # likewise: why the last wait could not begin

    def drop(self) -> None:
        """End it without another step. Called by the loop alone."""
        self._coro.close()

    def cancel(self) -> None:
        """Raise CancelledError where the task waits; once, so that its clean-up can wait too."""
        if self._done or self._cancelled:
            return
        self._cancelled = True
        self._interrupt = CancelledError()
        if self.waiting_on is not None:
            self.waiting_on.wake()

    def step(self, woken: bool | None) -> None:  # noqa: FBT001 - what the wait returns
        """Run until the next wait. Called by the loop alone."""
        self.waiting_on = None
        error: BaseException | None = self._interrupt or self._refused
        self._interrupt = self._refused = None
        try:
            wait = self._coro.send(woken) if error is None else self._coro.throw(error)
        except StopIteration as stop:
            self.set(stop.value)
        except CancelledError as cancelled:
            self.fail(cancelled)
        except Exception as failure:  # noqa: BLE001 - handed to whoever awaits the task
            self._loop.unhandled(self, failure)
            self.fail(failure)
        else:
            self.waiting_on = wait
            try:
                wait.start(self)
            except (OSError, KeyError, ValueError) as refused:
                # The descriptor can't be waited for. That is this task's fault and nobody else's.
                self._loop.ready.append((self, None))
                self._refused = refused


class _Wait:
    """One reason a task waits: a descriptor, a time, a future; whichever comes first."""

    __slots__ = ("_armed", "_deadline", "_events", "_fd", "_future", "_loop", "_task")

    def __init__(
        self,
        loop: Loop,
        timeout_s: float | None,
        *,
        fd: int = -1,
        events: int = 0,
        future: Future[Any] | None = None,
    ) -> None:
        self._loop = loop
        self._deadline = None if timeout_s is None else time.monotonic() + timeout_s
        self._fd, self._events, self._future = fd, events, future
        self._task: Task[Any] | None = None
        self._armed = False

    def __await__(self) -> Generator[_Wait, bool, bool]:
        return (yield self)

    def start(self, task: Task[Any]) -> None:
        self._task, self._armed = task, True
        if self._fd >= 0:
            self._loop.selector.register(self._fd, self._events, self)
        elif self._future is not None:
            if self._future.done:
                self.wake(value=True)
                return
            self._future._waiting.append(self)  # noqa: SLF001 - two halves of one thing
        if self._deadline is not None:
            self._loop.add_timer(self._deadline, self)

    def wake(self, *, value: bool = False) -> None:
        if not self._armed or self._task is None:
            return
        self._armed = False
        if self._fd >= 0:
            self._loop.selector.unregister(self._fd)
        elif self._future is not None and self in self._future._waiting:  # noqa: SLF001
            self._future._waiting.remove(self)  # noqa: SLF001
        self._loop.ready.append((self._task, value))

    @property
    def armed(self) -> bool:
        return self._armed


class Loop:
    """Runs tasks until told to stop. One a process, one thread."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.ready: deque[tuple[Task[Any], bool | None]] = deque()
        self._timers: list[tuple[float, int, _Wait]] = []
        self._sequence = 0
        self._stopping = False
        self.on_error: Callable[[BaseException], None] = lambda _error: None

    def close(self) -> None:
        """Give the descriptor back; what was about to run never does, and Python is told so."""
        for task, _ in self.ready:
            task.drop()
        self.selector.close()

    def spawn(self, coro: Coro[T]) -> Task[T]:
        """Start a coroutine as a task; it runs from the next turn on."""
        task = Task(self, coro)
        self.ready.append((task, None))
        return task

    def future(self) -> Future[Any]:
        """Return a new future of this loop."""
        return Future(self)

    async def readable(self, fd: int, timeout_s: float | None = None) -> bool:
        """Wait until `fd` can be read without blocking; False if the time ends first."""
        return await _Wait(self, timeout_s, fd=fd, events=selectors.EVENT_READ)

    async def writable(self, fd: int, timeout_s: float | None = None) -> bool:
        """Wait until `fd` can be written without blocking; False if the time ends first."""
        return await _Wait(self, timeout_s, fd=fd, events=selectors.EVENT_WRITE)

    def time(self) -> float:
        """Return seconds of a clock that nobody sets."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait for a time."""
        await _Wait(self, seconds)

    async def finish(self, coro: Coro[T]) -> T:
        """Await a coroutine to its end; a cancel of the caller waits until then."""
        task = self.spawn(coro)
        interrupt: CancelledError | None = None
        while not task.done:
            try:
                await task.wait()
            except CancelledError as cancelled:
                interrupt = cancelled
        if interrupt is not None:
            raise interrupt
        return task.value()

    def add_timer(self, deadline: float, wait: _Wait) -> None:
        """Wake `wait` at a time of time.monotonic(). For waits alone."""
        self._sequence += 1
        self._timers.append((-deadline, -self._sequence, wait))
        self._timers.sort()  # the next one is the last; there are few, and heapq takes 0.3 ms

    def unhandled(self, task: Task[Any], error: BaseException) -> None:
        """Tell `on_error` of an exception that ended a task nobody waits for."""
        if not task._waiting:  # noqa: SLF001 - nobody will see it otherwise
            self.on_error(error)

    def stop(self) -> None:
        """Make `run_forever` return after this turn."""
        self._stopping = True

    def run(self, coro: Coro[T]) -> T:
        """Run until this coroutine is done; return its value or raise its error."""
        task = self.spawn(coro)
        self._run_ready()
        while not task.done:
            self._sleep()
            self._run_ready()
        return task.value()

    def run_forever(self) -> None:
        """Run until `stop`."""
        self._run_ready()
        while not self._stopping:
            self._sleep()
            self._run_ready()

    def _run_ready(self) -> None:
        while self.ready:
            task, woken = self.ready.popleft()
            if not task.done:
                task.step(woken)

    def _sleep(self) -> None:
        while self._timers and not self._timers[-1][2].armed:
            self._timers.pop()
        timeout_s = None
        if self._timers:
            timeout_s = max(0.0, -self._timers[-1][0] - time.monotonic())
        for key, _ in self.selector.select(timeout_s):
            key.data.wake(value=True)
        now = time.monotonic()
        while self._timers and -self._timers[-1][0] <= now:
            self._timers.pop()[2].wake(value=False)
