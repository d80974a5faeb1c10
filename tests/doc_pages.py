"""Runs what the pages of the documentation tell people to type.

A page's blocks run in their order, in one folder. They become one Python script, each on the lines where it stands
on the page, so that a traceback names them; a shell block is a call of bash. `xqg` on bash's path is answered, like
the script itself, by a fork of one process that has imported what commands need: both then start in milliseconds.

    ```bash                                  run
    ```bash {.slow}                          run by `make docs-test` alone
    ```bash {.not-run reason="…"}            not run; its xqg commands are parsed
"""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from command_server import IMPORTS

SLOW = bool(os.environ.get("XQG_DOCS_SLOW"))
FENCE = re.compile(r"^```(\w*)(?: (\{[^\n]*\}))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SERVER = """
import atexit, runpy, signal, socket, subprocess, warnings
import torch

def shell(code):
    subprocess.run(["bash", "-euxo", "pipefail", "-c", code], check=True, stdin=subprocess.DEVNULL)

def answer(connection):
    case, fds, *_ = socket.recv_fds(connection, 1 << 20, 2)
    case = json.loads(case)
    for number, fd in enumerate(fds, start=1):
        os.dup2(fd, number)
    os.chdir(case["cwd"])
    os.environ.update(case["env"])
    if case["argv"][0] == "xqg":
        return main(case["argv"][1:])
    warnings.filterwarnings("error", category=DeprecationWarning, module="__main__")
    runpy.run_path(case["argv"][0], {"shell": shell}, "__main__")
    return 0

listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
print("ready", flush=True)
while True:
    connection, _ = listener.accept()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks: they answer themselves
    if not os.fork():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        code = 99
        try:
            code = answer(connection)
        except BaseException:
            traceback.print_exc()
        atexit._run_exitfuncs()  # a page's temporary folders go, which os._exit would leave
        sys.stdout.flush()
        sys.stderr.flush()
        connection.send(str(code).encode())
        os._exit(code)
    connection.close()
"""
XQG = """\
#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    case = {{"argv": ["xqg", *sys.argv[1:]], "cwd": os.getcwd(), "env": dict(os.environ)}}
    socket.send_fds(server, [json.dumps(case).encode()], [1, 2])
    sys.exit(int(server.recv(4) or 99))
"""


class Block(NamedTuple):
    """A fenced block of a page."""

    line: int  # of its first line, from 1
    language: str
    attributes: str
    code: str

    @property
    def runs(self) -> bool:
        """Whether it is run here and now."""
        if self.language not in ("bash", "python") or ".not-run" in self.attributes:
            return False
        return SLOW or ".slow" not in self.attributes


def blocks(page: Path) -> list[Block]:
    """Return a page's fenced blocks."""
    text = page.read_text("utf-8")
    return [Block(text.count("\n", 0, m.start()) + 2, m[1], m[2] or "", m[3]) for m in FENCE.finditer(text)]


class PageServer:
    """Runs pages and commands, each in a fork of one process that has imported what they need."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.short = folder, TemporaryDirectory(prefix="xqg-", dir="/tmp")
        self.address = f"{self.short.name}/socket"  # whose path may have 104 bytes
        (folder / "bin").mkdir()
        xqg = folder / "bin" / "xqg"
        xqg.write_text(XQG.format(python=sys.executable, address=self.address), "utf-8")
        xqg.chmod(0o755)
        self.process = subprocess.Popen(
            [sys.executable, "-c", IMPORTS + SERVER, self.address], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout.readline() == "ready\n"

    def __call__(self, argv: list[str], cwd: Path) -> str:
        """Run `xqg …`, or a script; return what it wrote, to stdout and stderr. It must succeed."""
        path = f"{self.folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        case = {"argv": argv, "cwd": str(cwd), "env": {"PATH": path}}
        with open(self.folder / "said", "w+", encoding="utf-8") as said, socket.socket(socket.AF_UNIX) as server:
            server.settimeout(900 if SLOW else 170)
            server.connect(self.address)
            socket.send_fds(server, [json.dumps(case).encode()], [said.fileno()] * 2)
            code = server.recv(4)
            said.seek(0)
            text = said.read()
        assert code == b"0", text[-5000:]
        return text

    def run_page(self, page: Path, cwd: Path) -> str:
        """Run a page's blocks in a folder; return what they wrote."""
        lines = [""] * page.read_text("utf-8").count("\n")
        for block in filter(lambda block: block.runs, blocks(page)):
            code = block.code.splitlines() if block.language == "python" else [f"shell({block.code!r})"]
            lines[block.line - 1 : block.line - 1 + len(code)] = code
        script = self.folder / f"{page.name}.py"
        script.write_text("\n".join(lines), "utf-8")
        return self([str(script)], cwd)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)
        self.short.cleanup()
