"""What asyncio's own transports ask of a selector loop: its selector and its transports."""

from __future__ import annotations

import selectors
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .loop import Loop


class NativeSelector(selectors.BaseSelector):
    """A view of the descriptors that the loop watches.

    The core does the selecting; asyncio only looks here to describe a transport.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop = weakref.ref(loop)

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        loop = self._loop()
        events = loop._watched(fd) if loop is not None else 0
        if not events:
            raise KeyError(f"{fileobj!r} is not registered")
        return selectors.SelectorKey(fileobj, fd, events, None)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return {}

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        raise RuntimeError("tokioloop selects natively: run the loop instead")

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        raise RuntimeError("use add_reader() and add_writer() of the loop")

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        raise RuntimeError("use remove_reader() and remove_writer() of the loop")

    def close(self) -> None:
        """The core owns the descriptors."""


class TransportMap(weakref.WeakValueDictionary[int, Any]):
    """Which transport uses a descriptor: asyncio's own, or one of the core's."""

    def __init__(self, loop: Loop) -> None:
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
        return native if native is not None else super().get(fd, default)

    def __delitem__(self, fd: int) -> None:
        loop = self._loop()
        if loop is None or not loop._disown_fd(fd):
            super().__delitem__(fd)

    def __setitem__(self, fd: int, transport: Any) -> None:
        loop = self._loop()
        if loop is None or not loop._own_fd(transport):
            super().__setitem__(fd, transport)
