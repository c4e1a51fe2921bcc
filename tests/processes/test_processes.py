"""Child processes: started with every option of Popen, fed, waited for."""

import asyncio
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from support.children import DEVNULL, PIPE, STDOUT, Witness, living, output_of, python

IS_ROOT = os.getuid() == 0

# -- the ordinary -------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [0, 1, 42, 255])
def test_the_exit_status_and_the_output_come_back(loop, status):
    answer = loop.run_until_complete(output_of("sh", "-c", f"echo out; exit {status}"))
    assert answer == (status, b"out\n")


def test_a_child_killed_by_a_signal_has_a_negative_status(loop):
    assert loop.run_until_complete(output_of("sh", "-c", "kill -9 $$")) == (-9, b"")


def test_a_shell_command(loop):
    async def main():
        process = await asyncio.create_subprocess_shell(
            "echo $((6 * 7)) | cat; exit 3", stdout=PIPE
        )
        output, errors = await process.communicate()
        return process.returncode, output, errors

    assert loop.run_until_complete(main()) == (3, b"42\n", None)


def test_all_three_pipes(loop):
    async def main():
        process = await asyncio.create_subprocess_exec(
            *("sh", "-c", "cat; echo done >&2"), stdin=PIPE, stdout=PIPE, stderr=PIPE
        )
        answer = await process.communicate(b"through the child")
        return process.returncode, *answer

    assert loop.run_until_complete(main()) == (0, b"through the child", b"done\n")


def test_megabytes_go_in_and_come_out(loop):
    data = os.urandom(1 << 16) * 48

    async def main():
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        output, _ = await process.communicate(data)
        return output

    assert loop.run_until_complete(main()) == data


def test_a_conversation_line_by_line(loop):
    async def main():
        async with living("cat", stdin=PIPE, stdout=PIPE) as process:
            for number in range(50):
                line = f"line {number}\n".encode()
                process.stdin.write(line)
                await process.stdin.drain()
                assert await process.stdout.readline() == line
            process.stdin.close()
            await process.stdin.wait_closed()
            assert await process.stdout.read() == b""
            assert await process.wait() == 0

    loop.run_until_complete(main())


def test_a_child_that_does_not_read_its_input_is_no_error(loop):
    async def main():
        process = await asyncio.create_subprocess_exec("true", stdin=PIPE)
        await process.communicate(bytes(1 << 20))
        return process.returncode

    assert loop.run_until_complete(main()) == 0


def test_the_protocol_is_notified_of_everything_in_order(loop):
    async def main():
        transport, witness = await loop.subprocess_exec(Witness, "sh", "-c", "cat; echo err >&2")
        assert isinstance(transport, asyncio.SubprocessTransport)
        assert transport.get_protocol() is witness
        assert witness.calls == ["made"]
        assert transport.get_returncode() is None
        stdin = transport.get_pipe_transport(0)
        assert isinstance(stdin, asyncio.WriteTransport)
        assert isinstance(transport.get_pipe_transport(1), asyncio.ReadTransport)
        assert transport.get_pipe_transport(3) is None
        stdin.write(b"in")
        stdin.close()
        assert await witness.lost is None
        assert transport.get_returncode() == 0
        transport.close()
        return witness

    witness = loop.run_until_complete(main())
    assert witness.received == {1: b"in", 2: b"err\n"}
    assert witness.calls[0] == "made" and witness.calls[-1] == "lost"
    assert sorted(witness.calls[1:-1]) == ["exited", "pipe 0 lost", "pipe 1 lost", "pipe 2 lost"]


def test_several_wait_for_one_child_and_one_more_after_its_end(loop):
    async def main():
        async with living() as process:
            waits = [asyncio.ensure_future(process.wait()) for _ in range(3)]
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(process.wait(), 0.01)
            process.terminate()
            statuses = await asyncio.gather(*waits)
            return [*statuses, await process.wait(), process.returncode]

    assert loop.run_until_complete(main()) == [-signal.SIGTERM] * 5


def test_a_thousand_children_at_once(programs):
    done = programs.run(
        """
        import asyncio, os, resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = 4096 if hard == resource.RLIM_INFINITY else min(4096, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))

        async def one(number):
            process = await asyncio.create_subprocess_exec("sh", "-c", f"exit {number % 100}")
            return await process.wait() == number % 100

        async def main():
            assert all(await asyncio.gather(*(one(number) for number in range(1000))))

        before = len(os.listdir("/proc/self/fd"))
        run(main())
        assert len(os.listdir("/proc/self/fd")) == before
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            print("no child is left")
        """,
        timeout=100,
    )
    assert done.stdout == "no child is left\n"


def test_a_loop_in_another_thread_has_children_too(loop_factory):
    def work():
        loop = loop_factory()
        try:
            return loop.run_until_complete(output_of("echo", "from a thread"))
        finally:
            loop.close()

    results = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    thread.join(20)
    assert results == [(0, b"from a thread\n")]


# -- options ------------------------------------------------------------------------------------

SHOW = "import os, signal, sys; print({})"


def options():
    yield "cwd", {"cwd": "/"}, python(SHOW.format("os.getcwd()")), "/"
    yield "env", {"env": {"ONLY": "this"}}, ("/bin/sh", "-c", "echo $ONLY:$HOME"), "this:"
    yield "umask", {"umask": 0o27}, ("sh", "-c", "umask"), "0027"
    yield (
        "start_new_session",
        {"start_new_session": True},
        python(SHOW.format("os.getsid(0) == os.getpid()")),
        "True",
    )
    yield (
        "preexec_fn",
        {"preexec_fn": lambda: os.write(1, b"before ")},
        ("echo", "after"),
        "before after",
    )
    yield "executable", {"executable": "/bin/sh"}, ("named", "-c", "echo $0"), "named"
    if sys.version_info >= (3, 11):
        yield (
            "process_group",
            {"process_group": 0},
            python(SHOW.format("os.getpgid(0) == os.getpid()")),
            "True",
        )
    who = 65534 if IS_ROOT else os.getuid()
    yield "user", {"user": who}, ("id", "-u"), f"{who}"
    who = 65534 if IS_ROOT else os.getgid()
    yield "group", {"group": who}, ("id", "-g"), f"{who}"
    if IS_ROOT:  # no other account may
        yield "extra_groups", {"group": who, "extra_groups": [7, 8]}, ("id", "-G"), f"{who} 7 8"


@pytest.mark.parametrize(
    ("given", "command", "expected"),
    [pytest.param(*case, id=name) for name, *case in options()],
)
def test_options_of_popen(loop, given, command, expected):
    status, output = loop.run_until_complete(output_of(*command, **given))
    assert (status, output.decode().strip()) == (0, expected)


@pytest.mark.parametrize(("restore", "expected"), [(True, -signal.SIGPIPE), (False, 0)])
def test_restore_signals(loop, restore, expected):
    """Python ignores SIGPIPE, which most programs do not expect."""
    status, _ = loop.run_until_complete(
        output_of("sh", "-c", "kill -PIPE $$", restore_signals=restore)
    )
    assert status == expected


def test_pass_fds_and_close_fds(loop):
    reading, writing = os.pipe()

    async def main(**options):
        # Not `>&{writing}`: some shells know one-digit numbers only.
        command = f"echo through > /dev/fd/{writing}"
        process = await asyncio.create_subprocess_exec(
            "sh", "-c", command, stderr=DEVNULL, **options
        )
        return await process.wait()

    with open(reading, "rb") as reader, open(writing, "wb"):
        assert loop.run_until_complete(main()) != 0
        assert loop.run_until_complete(main(pass_fds=[writing])) == 0
        assert reader.readline() == b"through\n"


def test_the_size_of_the_pipes(loop):
    async def main():
        async with living(stdout=PIPE, pipesize=4096) as process:
            pipe = process._transport.get_pipe_transport(1).get_extra_info("pipe")
            return fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ)

    assert loop.run_until_complete(main()) == 4096


def test_errors_into_the_output(loop):
    async def main():
        process = await asyncio.create_subprocess_exec(
            "sh", "-c", "echo one; echo two >&2", stdout=PIPE, stderr=STDOUT
        )
        return await process.communicate()

    assert loop.run_until_complete(main()) == (b"one\ntwo\n", None)


def test_files_descriptors_and_nothing_as_standard_streams(loop, tmp_path):
    (tmp_path / "in").write_bytes(b"from a file")

    async def main():
        with open(tmp_path / "in", "rb") as source, open(tmp_path / "out", "wb") as target:
            process = await asyncio.create_subprocess_exec(
                "cat", stdin=source, stdout=target.fileno(), stderr=DEVNULL
            )
            assert (process.stdin, process.stdout, process.stderr) == (None, None, None)
            return await process.wait()

    assert loop.run_until_complete(main()) == 0
    assert (tmp_path / "out").read_bytes() == b"from a file"


def test_a_socket_as_standard_stream(loop):
    near, far = socket.socketpair()
    far.settimeout(20)

    async def main():
        process = await asyncio.create_subprocess_exec("echo", "hello", stdout=near)
        return await process.wait()

    with near, far:
        assert loop.run_until_complete(main()) == 0
        assert far.recv(100) == b"hello\n"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"universal_newlines": True}, "universal_newlines must be False"),
        ({"bufsize": 1}, "bufsize must be 0"),
        ({"text": True}, "text must be False"),
        ({"encoding": "ascii"}, "encoding must be None"),
        ({"errors": "strict"}, "errors must be None"),
        ({"shell": True}, "shell must be False"),
        ({"creationflags": 8}, "creationflags is only supported on Windows platforms"),
    ],
)
def test_arguments_that_are_refused(loop, given, message):
    with pytest.raises(ValueError, match=message):
        loop.run_until_complete(asyncio.wait_for(output_of("true", **given), 20))


def test_a_shell_command_must_be_a_string(loop):
    with pytest.raises(ValueError, match="cmd must be a string"):
        loop.run_until_complete(loop.subprocess_shell(Witness, ["echo"]))
    with pytest.raises(ValueError, match="shell must be True"):
        loop.run_until_complete(loop.subprocess_shell(Witness, "echo", shell=False))


# -- starts that fail (the `loop` fixture checks the descriptors) -------------------------------


@pytest.mark.parametrize(
    ("command", "given", "error"),
    [
        (("/nowhere/to/be/found",), {}, FileNotFoundError),
        (("/",), {}, PermissionError),
        (("true",), {"cwd": "/nowhere"}, FileNotFoundError),
        (("nul\0",), {}, ValueError),
        (("true",), {"preexec_fn": lambda: 1 / 0}, subprocess.SubprocessError),
        (("true",), {"no_such_option": 1}, TypeError),
        ((1,), {}, TypeError),
    ],
)
def test_a_program_that_does_not_start(loop, command, given, error):
    async def main():
        with pytest.raises(error):
            await asyncio.create_subprocess_exec(
                *command, stdin=PIPE, stdout=PIPE, stderr=PIPE, **given
            )

    loop.run_until_complete(main())


def test_a_failed_start_warns_of_no_unclosed_transports(loop, recwarn):
    async def main():
        with pytest.raises(FileNotFoundError):
            await asyncio.create_subprocess_exec("/nowhere", stdout=PIPE)

    loop.run_until_complete(main())
    assert [str(warning.message) for warning in recwarn] == []
