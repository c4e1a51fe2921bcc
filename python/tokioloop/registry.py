"""The selector and the map of transports that asyncio's own transports expect of their loop."""

from __future__ import annotations

import selectors
import weakref
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import _core


class Registrations(Mapping[Any, selectors.SelectorKey]):
    """The map of a selector. Keys are descriptors, or the file objects that were registered."""

    def __init__(self, selector: NativeSelector) -> None:
        self._selector = selector

    def __getitem__(self, fileobj: Any) -> selectors.SelectorKey:
        key = self._selector._keys().get(self._selector._number(fileobj))
        if key is None:
            raise KeyError(f"{fileobj!r} is not registered")
        return key

    def __iter__(self) -> Iterator[int]:
        return iter(self._selector._keys())

    def __len__(self) -> int:
        return len(self._selector._keys())


class NativeSelector(selectors.BaseSelector):
    """A read-only view of the descriptors that the loop watches.

    The core polls them itself; asyncio reads this view to describe its transports.
    """

    def __init__(self, loop: _core.NativeLoop) -> None:
        self._loop = weakref.ref(loop)
        self._map = Registrations(self)

    def _keys(self) -> dict[int, selectors.SelectorKey]:
        loop = self._loop()
        return {
            fd: selectors.SelectorKey(file, fd, events, tuple(handles))
            for file, fd, events, handles in (loop._registered() if loop is not None else ())
        }

    def _number(self, fileobj: Any) -> int:
        try:
            return selectors._fileobj_to_fd(fileobj)  # type: ignore[attr-defined, no-any-return]
        except ValueError:
            # The file is closed and has no number: the core finds it by the object.
            loop = self._loop()
            fd = loop._registered_fd(fileobj) if loop is not None else None
            if fd is None:
                raise
            return fd

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._map

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        raise RuntimeError("tokioloop selects natively: run the loop instead")

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        raise RuntimeError("use add_reader() and add_writer() of the loop")

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        raise RuntimeError("use remove_reader() and remove_writer() of the loop")

    def close(self) -> None:
        """Do nothing: the core owns the descriptors."""


class TransportMap(weakref.WeakValueDictionary[int, Any]):
    """The transport of each descriptor in use: one of the core's, or one of asyncio's."""

    def __init__(self, loop: _core.NativeLoop) -> None:
        super().__init__()
        self._loop = weakref.ref(loop)

    def __getitem__(self, fd: int) -> Any:
        transport = self.get(fd)
        if transport is None:
            raise KeyError(fd)
        return transport

    def get(self, fd: int, default: Any = None) -> Any:
        loop = self._loop()
        native = loop._fd_owner(fd) if loop is not None else None
        if native is not None:
            return native
        # Nearly always there are only the core's. (Typeshed leaves `data` out.)
        return super().get(fd, default) if self.data else default  # type: ignore[attr-defined]

    def __delitem__(self, fd: int) -> None:
        loop = self._loop()
        if loop is None or not loop._disown_fd(fd):
            super().__delitem__(fd)

    def __setitem__(self, fd: int, transport: Any) -> None:
        loop = self._loop()
        if loop is None or not loop._own_fd(transport):
            super().__setitem__(fd, transport)
