"""A process that has imported the light part of continuum, and forks for each command.

Most of a short command's time is Python's start and its imports, and the tests give thousands of
them. Each still runs in a process of its own, which begins where `python -m continuum` begins; only
what is imported by then is the same for all. Tests of the start itself do not use this.

Run as a script, with the number of a socket that requests come from: JSON, with three file
descriptors, for stdout, for stderr, and for the number and the exit code of the process.
"""

import importlib
import json
import multiprocessing
import os
import socket
import sys
import tempfile
from multiprocessing import forkserver, resource_tracker
from typing import Any

MAX_REQUEST_BYTES = 1 << 20
PRELOADS = ("continuum.training.weights", "continuum.training.train")
PRELOAD_VARIABLE = "CONTINUUM_PRELOAD"


def serve(requests: socket.socket) -> dict[str, Any] | None:
    """Answer until nobody asks any more; in the process of a command, what was asked."""
    while True:
        raw, descriptors, _, _ = socket.recv_fds(requests, MAX_REQUEST_BYTES, 3)
        if not raw:
            return None
        asked: dict[str, Any] = json.loads(raw)
        if asked["arguments"][:1] == ["run"]:
            os.environ[PRELOAD_VARIABLE] = ",".join(PRELOADS)
            forkserver.ensure_running()  # It imports while the command starts.
            del os.environ[PRELOAD_VARIABLE]
        if os.fork() == 0:  # it waits for the command, the server for the next request
            stdout, stderr, told = descriptors
            command = os.fork()
            if command == 0:
                requests.close()
                os.close(told)
                for descriptor, number in ((stdout, 1), (stderr, 2)):
                    os.dup2(descriptor, number)
                    os.close(descriptor)
                return asked
            os.write(told, f"{command}\n".encode())
            os.close(stdout)
            os.close(stderr)
            _, status = os.waitpid(command, 0)
            os.write(told, f"{os.waitstatus_to_exitcode(status)}\n".encode())
            os._exit(0)
        for descriptor in descriptors:
            os.close(descriptor)
        _reap()


def _reap() -> None:
    """Those who have waited for a command and told its end."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _become(asked: dict[str, Any]) -> None:
    """Begin as `python -m continuum` would with these arguments."""
    if os.environ == asked["environment"]:
        # The server is no child of this process, so that it lives is not for it to ask.
        forkserver._forkserver.ensure_running = (  # type: ignore[method-assign]
            resource_tracker.ensure_running
        )
        forkserver.ensure_running = resource_tracker.ensure_running
    else:  # The server's is another: this command has its own.
        vars(forkserver._forkserver).update(vars(forkserver.ForkServer()))
        vars(multiprocessing.current_process())["_config"].pop("tempdir", None)
        tempfile.tempdir = None
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["folder"])
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(
        2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False
    )
    main = sys.modules["continuum.__main__"]
    sys.modules["__main__"] = main
    sys.argv = [str(main.__file__), *asked["arguments"]]


if __name__ == "__main__":
    import continuum.__main__ as command
    from continuum import cli
    from continuum.execution.launchers.local import PRELOAD

    for name in cli.COMMANDS:
        importlib.import_module(f"{cli.__name__}.{name}")
    assert not {"torch", "numpy", "huggingface_hub"} & sys.modules.keys(), "no light commands"
    forkserver.set_forkserver_preload([PRELOAD])
    asked = serve(socket.socket(fileno=int(sys.argv[1])))
    if asked is not None:
        _become(asked)
        command.main()
