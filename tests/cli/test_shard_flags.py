"""`--num-shards`, `--shard`, `--repair` and `xqg merge`, as they are typed."""

import json
import os

import pytest
from command_server import COMMANDS


def names(*shards, of=2) -> list[str]:
    return [f"shard-{i:05d}-of-{of:05d}" for i in shards]


@pytest.mark.parametrize(
    ("command", "whole", "out"), [("encode", "encode", "P"), ("accumulate", "accumulate", "Q"), ("index", "index", "I")]
)
def test_shards_on_two_machines_are_merged_to_the_whole(command, whole, out, scene, accept, refuse):
    words = COMMANDS[command]
    said, _ = accept(words, "--num-shards", 2, "--shard", "1", swap={"out": "A"})
    assert said == "A: 1 of 2 shards, 1 written now\n"
    said, _ = accept(words, "--num-shards", 2, "--shard", "0", "--json", swap={"out": "B"})
    assert json.loads(said) == {"output": "B", "num_shards": 2, "shards": names(0), "written": names(0)}
    assert refuse("merge B --output M") == "of 2 shards some are missing: 1; write or give these too"
    said, _ = accept("merge B A --output M")
    assert said == "M: 5 passages, 384 dimensions\n"
    for name in os.listdir(scene / out):
        assert (scene / "M" / name).read_bytes() == (scene / out / name).read_bytes(), name
    assert sorted(os.listdir(scene / "M")) == sorted(os.listdir(scene / out))


def test_a_command_goes_on_with_the_shards_that_are_not_there(scene, accept):
    accept("encode-shards", "--shard", "1")
    assert accept("encode-shards")[0] == "out: 2 of 2 shards, 1 written now\n"
    assert accept("encode-shards", "--shard", "0-1")[0] == "out: 2 of 2 shards, 0 written now\n"
    assert sorted(os.listdir(scene / "out")) == names(0, 1)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--shard", "0"], "some shards are chosen: of how many? (--num-shards, --shard)"),
        (["--num-shards", "2", "--shard", "2"], "shard 2 of 2 shards; expected 0 to 1 (--shard)"),
        (["--num-shards", "0"], "num_shards is 0; expected a whole number, 1 or more (--num-shards)"),
        (["--num-shards", "6"], "6 shards of 5 passages; expected 5 at most (--num-shards)"),
    ],
)
@pytest.mark.parametrize("command", ["encode", "accumulate", "index"])
def test_shards_that_cannot_be_are_refused(command, flags, expected, refuse):
    assert refuse(command, *flags) == expected


def test_indexes_a_language_are_not_cut(refuse):
    error = refuse("index", "--num-shards", 2, "--language-aware")
    assert error == "shards are of one index, not of one a language (--num-shards, --language-aware)"


@pytest.mark.parametrize(
    ("command", "file"),
    [("encode", "vectors.npy"), ("accumulate", "sum-ru.npy"), ("index", "index"), ("encode-shards", "vectors.npy")],
)
def test_what_was_damaged_is_named_and_written_again(command, file, scene, accept, refuse):
    accept(command)
    path = next((scene / "out").rglob(file))
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    name = path.relative_to(scene)
    changed = f"{name}: changed since it was written (its checksum differs); "
    if "shards" in command:
        assert refuse(command).startswith(changed)
        assert refuse(command).endswith(" (--repair)")
    _, stderr = accept(command, "--repair")
    assert stderr.startswith(f"xqg {command.split('-')[0]}: warning: repaired: {changed}")
    assert path.read_bytes() == whole
    assert accept(command, "--repair")[1] == ""


def test_repair_leaves_what_another_command_wrote(scene, accept, refuse):
    accept("encode")
    error = refuse("encode", "--repair", "--dtype", "float16")
    assert error == (
        'out/meta.json: dtype is "float32" there and "float16" here; give another output, or overwrite this one '
        "(--output, --overwrite)"
    )
