"""Flagfiles by path and by name, inside one another, and what is wrong with them."""

import pytest

from tfrecord_tools import flagfiles
from tfrecord_tools.flagfiles import expand_flagfiles, find_file, list_shipped_files


@pytest.fixture(autouse=True)
def _shipped(tmp_path, monkeypatch):
    """Two flagfiles and a table that come with the package, and an empty current directory."""
    folder = tmp_path / "flagfiles"
    (folder / "experiments").mkdir(parents=True)
    (folder / "demo.flags").write_text(
        "# A comment.\n--stage=2\n\n// Another.\n  --width=0.125  \n"
    )
    (folder / "experiments" / "heads.flags").write_text("--flagfile=demo.flags\n--stage=0\n")
    (folder / "experiments" / "rates.csv").write_text("a,b\n")
    monkeypatch.setattr(flagfiles, "_FOLDERS", (tmp_path / "missing", folder))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def test_shipped_files_have_no_folder_in_their_names():
    assert list(list_shipped_files()) == ["demo.flags", "heads.flags", "rates.csv"]


def test_a_name_is_looked_up_here_first(tmp_path):
    assert find_file("demo.flags") == tmp_path / "flagfiles" / "demo.flags"
    (tmp_path / "here" / "demo.flags").write_text("--stage=7")
    assert find_file("demo.flags").read_text() == "--stage=7"
    assert expand_flagfiles(["--flagfile=demo.flags"]) == ["--stage=7"]


@pytest.mark.parametrize("given", [["--flagfile=demo.flags"], ["-flagfile", "demo.flags"]])
def test_lines_stand_in_the_place_of_their_flagfile(given):
    expected = ["--stage=1", "--stage=2", "--width=0.125", "a.wav", "--alpha=0.3"]
    assert expand_flagfiles(["--stage=1", *given, "a.wav", "--alpha=0.3"]) == expected


def test_flagfiles_inside_flagfiles(tmp_path):
    mine = tmp_path / "mine.flags"
    mine.write_text("--flagfile=heads.flags\n--seed=1\n")
    arguments = [f"--flagfile={mine}", "--flagfile=demo.flags"]
    first = ["--stage=2", "--width=0.125", "--stage=0", "--seed=1"]
    assert expand_flagfiles(arguments) == [*first, "--stage=2", "--width=0.125"]


def test_nothing_is_expanded_after_two_dashes():
    assert expand_flagfiles(["--", "--flagfile=demo.flags"]) == ["--", "--flagfile=demo.flags"]


@pytest.mark.parametrize("name", ["nothing.flags", "flags/demo.flags", "demo"])
def test_a_missing_flagfile_lists_those_that_come_with_the_package(name):
    message = f"^{name}: there is no such file; .* with secost_tf: demo.flags, heads.flags$"
    with pytest.raises(ValueError, match=message):
        expand_flagfiles([f"--flagfile={name}"])


def test_a_missing_table_lists_tables():
    with pytest.raises(ValueError, match=r"^rate\.csv: there is .* with secost_tf: rates\.csv$"):
        find_file("rate.csv")


def test_a_package_without_flagfiles(tmp_path, monkeypatch):
    monkeypatch.setattr(flagfiles, "_FOLDERS", (tmp_path / "missing",))
    with pytest.raises(ValueError, match="with secost_tf: none"):
        find_file("demo.flags")


@pytest.mark.parametrize("arguments", [["--flagfile"], ["--flagfile="]])
def test_a_flagfile_without_a_name(arguments):
    with pytest.raises(ValueError, match="--flagfile: expected a file, got none"):
        expand_flagfiles(arguments)


def test_a_flagfile_that_holds_itself(tmp_path):
    (tmp_path / "a.flags").write_text(f"--flagfile={tmp_path}/b.flags")
    (tmp_path / "b.flags").write_text(f"--flagfile={tmp_path}/a.flags")
    with pytest.raises(ValueError, match=r"/a\.flags: a flagfile that holds itself"):
        expand_flagfiles([f"--flagfile={tmp_path}/a.flags"])
