"""Programs that once failed, as small as they could be made. Run as seeds -1, -2, ..."""

from random_programs.programs import Program, Step

FOUND = {
    "chaos": [
        # A destructor drops the handle of a later call while the loop closes.
        Program(
            ("outside first", "never run"),
            (
                Step("soon", 743, 0, 5, then=(Step("soon", 0, 0, 302),)),
                Step("soon", then=(Step("drop_handles"),)),
                Step("drop_handles"),
                Step("soon"),
                Step("soon"),
                Step("drop_handles"),
            ),
        ),
        Program(
            ("outside last",),
            (
                Step("generator"),
                Step("drop_things"),
                Step("threadsafe", then=(Step("drop_handle"),)),
                Step("threadsafe", 0, 0, 311),
                Step("close_loop"),
            ),
        ),
        # A sock_* call that is never awaited keeps its socket.
        Program((), (Step("later", 313, 0, 392, then=(Step("pair"), Step("awaitable", 49))),)),
    ],
    "decided": [
        # A callback cancels its own handle, and looks at it.
        Program((), (Step("soon", then=(Step("cancel"), Step("handle", 0, 409))),)),
        # A transport is closed by a callback of another context than its maker's.
        Program(
            (),
            (
                Step("pipe", 0, 7, then=(Step("threadsafe", 0, 0, 954),)),
                Step("threadsafe", 0, 0, 612, then=(Step("transport", 0, 453),)),
            ),
        ),
    ],
}
