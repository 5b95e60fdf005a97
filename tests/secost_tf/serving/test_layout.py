import os
import re
import threading
from pathlib import Path

import pytest

from secost_tf.serving.layout import digest, files_below, latest_version, new_version, versions
from tfrecord_tools import storage


def add(folder: str, name: str, text: str = "x") -> None:
    storage.make_dirs(os.path.dirname(os.path.join(folder, name)))
    Path(folder, name).write_text(text)


def test_versions_count_on(tmp_path):
    models = tmp_path / "models" / "secost"
    assert versions(str(models)) == []
    for number in (1, 2):
        with new_version(str(models)) as (version, folder):
            assert version == number and os.listdir(folder) == []
            assert versions(str(models)) == list(range(1, number))
            add(folder, "saved_model.pb")
        assert sorted(os.listdir(models)) == [str(version) for version in range(1, number + 1)]
    (models / "10").mkdir()
    (models / "notes").mkdir()
    with new_version(str(models)) as (version, _):
        assert version == 11
    assert versions(str(models)) == [1, 2, 10, 11]


def test_an_error_leaves_no_version_and_a_kill_is_cleared_away(tmp_path):
    with pytest.raises(OSError, match="full"), new_version(str(tmp_path)) as (_, folder):
        add(folder, "saved_model.pb")
        raise OSError("full")
    assert os.listdir(tmp_path) == []
    add(str(tmp_path / "partial-1"), "left_by_a_killed_export")
    with new_version(str(tmp_path)) as (_, folder):
        assert os.listdir(folder) == []
    assert os.listdir(tmp_path) == ["1"]


def test_a_version_that_came_up_meanwhile_stays(tmp_path):
    with (
        pytest.raises(ValueError, match=r"1 has come up in the meantime: .*export again"),
        new_version(str(tmp_path)) as (_, folder),
    ):
        add(folder, "saved_model.pb", "mine")
        add(str(tmp_path / "1"), "saved_model.pb", "theirs")
    assert files_below(str(tmp_path)) == ["1/saved_model.pb"]
    assert (tmp_path / "1" / "saved_model.pb").read_text() == "theirs"


def test_a_server_that_polls_never_sees_half_a_model(tmp_path):
    """Looks as TensorFlow Serving does, for folders named by numbers, all the while."""
    names = ["variables/variables.index", "assets/classes.csv", "saved_model.pb"]
    seen, stop = [], threading.Event()

    def poll():
        while not stop.is_set():
            seen.extend(
                tuple(files_below(entry.path))
                for entry in os.scandir(tmp_path)
                if entry.name.isdigit()
            )

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        for _ in range(20):
            with new_version(str(tmp_path)) as (_, folder):
                for name in names:
                    add(folder, name)
    finally:
        stop.set()
        thread.join()
    assert set(seen) <= {tuple(sorted(names))}


def test_object_storage_gets_the_model_s_graph_last(monkeypatch):
    import tensorflow as tf

    copied = []
    plain = tf.io.gfile.copy
    monkeypatch.setattr(
        tf.io.gfile,
        "copy",
        lambda source, target, **options: (copied.append(target), plain(source, target, **options)),
    )
    for number in (1, 2):
        copied.clear()
        with new_version("ram://models/secost") as (version, folder):
            assert version == number
            for name in ("saved_model.pb", "assets/classes.csv", "variables/variables.index"):
                add(folder, name)
        final = f"ram://models/secost/{number}"
        assert copied == [
            f"{final}/{name}"
            for name in ("assets/classes.csv", "variables/variables.index", "saved_model.pb")
        ]
    assert latest_version("ram://models/secost") == "ram://models/secost/2"


@pytest.mark.parametrize("other", ["model.tflite", "model.onnx"])
def test_formats_are_not_mixed(tmp_path, other):
    add(str(tmp_path / "3"), other)
    with (
        pytest.raises(
            ValueError,
            match=rf"{tmp_path} holds {other[6:]} models .*3\): export as saved_model to another",
        ),
        new_version(str(tmp_path)),
    ):
        pass
    with new_version(str(tmp_path), other[6:]) as (version, _):
        assert version == 4


def test_the_latest_version(tmp_path):
    for number in (2, 9, 10):
        add(str(tmp_path / str(number)), "saved_model.pb")
    (tmp_path / "11").mkdir()
    assert latest_version(str(tmp_path)) == str(tmp_path / "10")
    assert latest_version(str(tmp_path / "2")) == str(tmp_path / "2")
    for folder, problem in (
        (tmp_path / "11", "no model in it"),
        (tmp_path / "none", "no such folder"),
    ):
        with pytest.raises(
            ValueError,
            match=rf"{re.escape(str(folder))}: expected .*saved_model.pb.* there is {problem}",
        ):
            latest_version(str(folder))


def test_the_digest_is_that_of_the_model_alone(tmp_path):
    def of(**files) -> str:
        folder = tmp_path / str(len(os.listdir(tmp_path)))
        for name, text in files.items():
            add(str(folder), name.replace("__", "/"), text)
        return digest(str(folder))

    plain = of(saved_model__pb="", **{"saved_model.pb": "graph", "variables/index": "w"})
    assert plain == of(
        **{"saved_model.pb": "graph", "variables/index": "w", "model_card.md": "words"}
    )
    assert (
        len(
            {
                plain,
                of(**{"saved_model.pb": "graph", "variables/index": "v"}),
                of(**{"saved_model.pb": "w"}),
            }
        )
        == 3
    )
