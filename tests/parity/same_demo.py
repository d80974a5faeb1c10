"""Proves that a change of the structure changed no result: two revisions' demos, byte for byte.

    python tests/parity/same_demo.py REVISION

runs `xqg demo` as REVISION has it and as the working tree has it, on this machine and in its
environment, and compares every file of both.  What holds a version or a time is left out of the
comparison: `version` in JSON, the seconds in what is printed.  Exits with 1 and a line for each
file that differs.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
OF_THE_MOMENT = {"version", "time", "seconds", "date"}


def demo(tree: Path, output: Path) -> str:
    """Run the demo of a source tree; return what it prints, without folder and seconds."""
    done = subprocess.run(
        [sys.executable, "-m", "xqg_pyserini", "demo", "--output", str(output)],
        cwd=tree,  # comes first on the path, before an installed package
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{tree}: the demo failed\n{done.stderr}")
    return re.sub(r"\(\d+ s\)", "(… s)", done.stdout.replace(str(output), "DIR"))


def checkout(revision: str, folder: Path) -> Path:
    """Write a revision's files into a folder, its resources where the package looks for them."""
    archive = subprocess.run(["git", "-C", str(ROOT), "archive", revision], capture_output=True, check=True)
    folder.mkdir()
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    (folder / "xqg_pyserini" / "resources").symlink_to(folder / "resources")
    return folder


def content(path: Path) -> Any:
    """Return a file's bytes; of JSON, without what is of the moment."""
    data = path.read_bytes()
    if path.suffix != ".json" or not any(f'"{key}"'.encode() in data for key in OF_THE_MOMENT):
        return data
    return json.dumps(_without(json.loads(data)), ensure_ascii=False)


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without(v) for k, v in value.items() if k not in OF_THE_MOMENT}
    return [_without(item) for item in value] if isinstance(value, list) else value


def main(revision: str) -> int:
    """Compare the demos; return 0 where all is the same."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        before, after = folder / "before", folder / "after"
        said = [demo(checkout(revision, folder / "tree"), before), demo(ROOT, after)]
        files = {tree: {p.relative_to(tree) for p in tree.rglob("*") if p.is_file()} for tree in (before, after)}
        differing = [f"only one has {name}" for name in sorted(files[before] ^ files[after])]
        both = sorted(files[before] & files[after])
        differing += [f"{name} differs" for name in both if content(before / name) != content(after / name)]
        if said[0] != said[1]:
            differing.append("what is printed differs")
    print("\n".join(differing) or f"{len(both)} files and what is printed are the same")
    return 1 if differing else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    os.environ.pop("XQG_ENCODERS", None)
    raise SystemExit(main(sys.argv[1]))
