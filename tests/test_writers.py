"""What writes a file: through symbolic links, never over a device, a pipe or a socket, whole or not at all."""

import os
import stat

import pytest
import torch

from nomul.cli import main
from nomul.errors import InputError
from nomul.files import new_folder, replace_file, write_atomically, write_folder
from nomul.formats.checkpoint import save_dense
from nomul.formats.container import write_container
from nomul.formats.huggingface import save_bitnet
from nomul.formats.ternary import TernaryLayer
from nomul.model import checkpoints

LAYER = TernaryLayer("a", torch.ones((4, 5), dtype=torch.int8), 0.5)
WRITERS = {
    "write_atomically": lambda path: write_atomically(path, b"new"),
    "write_folder": lambda path: write_folder(path.parent, {path.name: b"new"}),
    "write_container": lambda path: write_container(path, {"a": torch.ones(3)}, {}),
    "save_dense": lambda path: save_dense(path, [LAYER], {}, {}),
}
TEXT = checkpoints.path().parent / "sonnet18.txt"
COMMANDS = {
    "trace": ("trace", "--tokens", "1"),
    "import": ("import", str(checkpoints.path())),
    "train": ("train", "--text", str(TEXT), "--steps", "1", "--batch", "1", "--device", "cpu"),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize("there", [True, False])
def test_a_writer_writes_through_links(tmp_path, write, there):
    target = tmp_path / "far" / "target"
    target.parent.mkdir()
    if there:
        target.write_bytes(b"old")
    near = tmp_path / "near"
    near.mkdir()
    (near / "middle").symlink_to(target)
    (near / "link").symlink_to("middle")
    write(near / "link")
    assert (near / "link").is_symlink() and (near / "middle").is_symlink() and not target.is_symlink()
    assert target.read_bytes() == (near / "link").read_bytes() != b"old"
    assert [path.name for path in target.parent.iterdir()] == ["target"]
    assert sorted(path.name for path in near.iterdir()) == ["link", "middle"]


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize("linked", [True, False])
def test_a_writer_refuses_what_is_no_plain_file(tmp_path, write, linked):
    node = tmp_path / "node"
    os.mknod(node, 0o600 | stat.S_IFSOCK)
    path = tmp_path / "link" if linked else node
    if linked:
        path.symlink_to(node)
    with pytest.raises(InputError, match=rf"^{path} cannot be written: it is a device, a pipe or a socket, and only"):
        write(path)
    assert stat.S_ISSOCK(node.stat().st_mode)
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=r"folder cannot be written: it is a folder, and only a plain file is"):
        write(tmp_path / "folder")


def test_links_that_lead_in_a_circle(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(InputError, match=r"/a cannot be written: Too many levels of symbolic links$"):
        write_atomically(tmp_path / "a", b"x")


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
def test_commands_refuse_a_pipe_as_their_output(tmp_path, capsys, arguments):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "-o", str(pipe)])
    captured = capsys.readouterr()
    assert (stop.value.code, captured.out) == (2, "")
    assert captured.err.splitlines()[-1].startswith(f"nomul: {pipe} cannot be written: it is a device, a pipe or a s")
    assert stat.S_ISFIFO(pipe.stat().st_mode) and list(tmp_path.iterdir()) == [pipe]


def test_a_new_folder_appears_behind_its_link(tmp_path):
    (tmp_path / "folder").symlink_to("real")
    save_bitnet(tmp_path / "folder", [LAYER], {}, {})
    assert sorted(path.name for path in (tmp_path / "real").iterdir()) == ["config.json", "model.safetensors"]
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").symlink_to("empty")
    save_bitnet(tmp_path / "other", [LAYER], {}, {})
    assert (tmp_path / "empty" / "config.json").is_file() and (tmp_path / "other").is_symlink()


def test_what_fails_leaves_nothing(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"old")

    def half(path):
        path.write_bytes(b"half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        replace_file(file, half)
    with pytest.raises(RuntimeError), new_folder(tmp_path / "folder") as folder:
        half(folder / "a")
    assert list(tmp_path.iterdir()) == [file] and file.read_bytes() == b"old"
