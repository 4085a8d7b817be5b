"""tritonclient's clients behind one Client of ours: who may share one, and what a fork leaves of them.

HTTP's are built on gevent, whose event loop belongs to one thread: each thread gets one of its own. gRPC's are made for
threads. Neither survives a fork: a child process would read answers from its parent's connection, or wait for threads
that it does not have. So it gets its own, and the parent's is left alone.
"""

import functools
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from clients.errors import InvalidInput

_PATIENCE_S = 2.0  # of a fork, with requests over gRPC that are under way
# Clients of grpc.aio, whose thread polls for as long as there is one, and streams.
_unforkable: "weakref.WeakSet[Any]" = weakref.WeakSet()
# What does not work in this process, because its parent was using it.
_broken: list[str] = []
# The parent's clients: deleted here, gRPC's would close their channels and wait for the parent's threads.
_never_deleted: list[Any] = []


class Handles:
    """Gives out the client that belongs to the calling thread and process, and opens it if need be."""

    def __init__(self, open_one: Callable[[], Any], protocol: str):
        self._open_one = open_one
        self._is_http = protocol == "http"
        self._is_closed = False
        self._forget()
        if self._is_http:
            _restart_gevent_in_children()

    def get(self) -> Any:
        """The client to use here and now.

        Raises:
            InvalidInput: `close` was called, or gRPC does not work in this process.
        """
        if self._is_closed:
            raise InvalidInput("this client is closed; open another")
        if self._pid != os.getpid():
            _never_deleted.extend(self._opened)
            self._forget()
        if not self._is_http:
            check_grpc()
        clients = _this_thread().clients if self._is_http else self._shared
        client = clients.get(self)
        if client is None or client not in self._opened:
            client = clients[self] = self._open_one()
            self._opened.add(client)
        return client

    def drop(self) -> None:
        """Let the calling thread begin anew over HTTP: a request was left half-way."""
        client = _this_thread().clients.pop(self, None) if self._is_http else None
        if client is not None:
            client.close()

    def _forget(self) -> None:
        self._shared: weakref.WeakKeyDictionary[Handles, Any] = weakref.WeakKeyDictionary()
        self._opened: weakref.WeakSet[Any] = weakref.WeakSet()
        self._pid = os.getpid()

    def close(self) -> None:
        """Close all that this process opened."""
        self._is_closed = True
        for client in list(self._opened) if self._pid == os.getpid() else ():
            client.close()
        self._shared.clear()


class _Thread:
    """A thread's HTTP clients; with the thread, it ends gevent's event loop, which would keep four descriptors."""

    def __init__(self) -> None:
        import gevent
        import gevent.monkey

        self.clients: weakref.WeakKeyDictionary[Handles, Any] = weakref.WeakKeyDictionary()
        self._hub, self._thread = gevent.get_hub(), threading.get_ident()
        # Ctrl-C reaches the caller; the event loop need not print it as well.
        self._hub.NOT_ERROR = (*self._hub.NOT_ERROR, KeyboardInterrupt)
        # In a program that is all gevent, as Locust is, "threads" are greenlets of one event loop.
        is_main = threading.current_thread() is threading.main_thread()
        self._owns_loop = not (is_main or gevent.monkey.is_module_patched("threading"))

    def __del__(self) -> None:
        if self._owns_loop and threading.get_ident() == self._thread:
            from gevent.hub import set_hub

            set_hub(self._hub)  # The thread has lost it already; without it, closing would start another.
            for client in list(self.clients.values()):
                client.close()
            self._hub.destroy(destroy_loop=True)


_threads = threading.local()


def _this_thread() -> _Thread:
    if not hasattr(_threads, "own"):
        _threads.own = _Thread()
    own: _Thread = _threads.own
    return own


@functools.cache
def _restart_gevent_in_children() -> None:
    import gevent

    # Its event loop waits for the parent's events.
    os.register_at_fork(after_in_child=gevent.reinit)


class _Gate:
    """Holds a fork up until no thread is within gRPC, and threads until the fork is done."""

    def __init__(self) -> None:
        self.calling: set[int] = set()
        self._is_forking = False
        self._changed = threading.Condition()

    def enter(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._is_forking)
            self.calling.add(threading.get_ident())

    def leave(self) -> None:
        with self._changed:
            self.calling.discard(threading.get_ident())
            self._changed.notify_all()

    def before_fork(self) -> None:
        with self._changed:
            self._is_forking = True
            own = {threading.get_ident()}
            self._changed.wait_for(lambda: not self.calling - own, _PATIENCE_S)

    def after_fork(self) -> None:
        with self._changed:
            self._is_forking = False
            self._changed.notify_all()


_gate = _Gate()


@contextmanager
def grpc_call() -> Iterator[None]:
    """Mark that this thread is within gRPC."""
    _gate.enter()
    try:
        yield
    finally:
        _gate.leave()


def survives_no_fork(opened: Any) -> None:
    """Mark a client of grpc.aio or a stream, for as long as it exists."""
    _unforkable.add(opened)


@functools.cache
def _look_at_grpc_when_forking() -> None:
    def after_in_child() -> None:
        _never_deleted.extend(_unforkable)
        if _unforkable or _gate.calling - {threading.get_ident()}:
            _broken.append("grpc")
        _gate.__init__()  # type: ignore[misc]

    os.register_at_fork(before=_gate.before_fork, after_in_parent=_gate.after_fork, after_in_child=after_in_child)


def check_grpc() -> None:
    """Raise InvalidInput where gRPC would hang or crash: its locks and pollers are those of another process."""
    _look_at_grpc_when_forking()
    if _broken:
        raise InvalidInput(
            "this process was forked while its parent used gRPC (an open AsyncClient, a stream, or a long request in "
            "another thread), which gRPC does not survive; fork before, start processes with multiprocessing's 'spawn' "
            "or use HTTP"
        )
