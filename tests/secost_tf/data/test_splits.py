import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from split_files import drain, ids_of, write_scores

from secost_tf.data.splits import Split, find_damage
from secost_tf.data.splits import read_clips as read_clips_by_id
from secost_tf.data.teacher_scores import check_teacher_scores
from tfrecord_tools.shards import info
from tfrecord_tools.shards import records as schema


@pytest.fixture
def train(kept_data) -> Split:
    return Split(kept_data, info.read_dataset_info(kept_data, "train"))


@pytest.fixture
def scores_dir(train, tmp_path) -> str:
    """Scores for `kept_data`, 0.5 everywhere."""
    return write_scores(train, tmp_path / "scores", lambda video_id: [0.5] * 4)


# --- parts ---


@pytest.mark.parametrize("share", [0.0, 0.02, 0.25, 1.0])
def test_about_the_asked_share_of_ids_is_chosen(train, share):
    ids = tf.constant([f"clip {index}" for index in range(20_000)])
    chosen = dataclasses.replace(train, subset="validation", validation_share=share).selects(ids)
    # four standard deviations of a share of 20,000 draws
    assert abs(np.mean(chosen.numpy()) - share) <= 4 * np.sqrt(share * (1 - share) / 20_000)


def test_the_choice_depends_on_the_id_alone(train, tiny_data):
    """Pinned, so that a run made today and one made later leave out the same clips."""
    ids = tf.constant(["--aE2O5G5WE_0", "--4gqARaEJE_0", "-0RWZT-miFs_420000", "0a1b"])
    for split in (train, Split(tiny_data, info.read_dataset_info(tiny_data, "eval"))):
        validation = dataclasses.replace(split, subset="validation", validation_share=0.25)
        assert validation.selects(ids).numpy().tolist() == [False, False, True, True]


def test_an_unknown_subset_is_an_error(train):
    with pytest.raises(
        ValueError, match="subset: expected one of all, training, validation, got 'test'"
    ):
        dataclasses.replace(train, subset="test")


# --- clips.csv ---


def damage_clips_csv(data_dir: str, change) -> Split:
    path = Path(data_dir, "train", info.CLIPS_CSV)
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")
    return Split(data_dir, info.read_dataset_info(data_dir, "train"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda lines: lines[:-1],
            r"does not list the clips of dataset\.json; convert the split again",
        ),
        (
            lambda lines: ["id,shard", *lines[1:]],
            r"expected a column 'video_id'; .*; convert the split again",
        ),
        (
            lambda lines: [*lines, "x,9,0,40"],
            r"does not list the clips of dataset\.json; convert the split again",
        ),
        (
            lambda lines: [*lines, "x,first,0,40"],
            r"line 32: shard: expected a whole number, got 'first'; .*; convert the split again",
        ),
    ],
)
def test_a_clip_list_that_does_not_fit_is_an_error(tiny_data, change, message):
    split = damage_clips_csv(tiny_data, change)
    with pytest.raises(ValueError, match=rf"clips\.csv.*{message}"):
        split.clip_ids  # noqa: B018


def test_clip_ids_may_hold_any_character(tmp_path, write_split):
    odd = 'a,b "c"\u2028d'
    write_split(
        tmp_path,
        "train",
        (3,),
        change=lambda clips: [dataclasses.replace(clips[0], video_id=odd), *clips[1:]],
    )
    split = Split(str(tmp_path), info.read_dataset_info(str(tmp_path), "train"))
    assert split.clip_ids == [[odd, "train-clip-001", "train-clip-002"]] == [ids_of(split)]


# --- teacher scores that do not fit ---


def without(index):
    return lambda records: records[:index] + records[index + 1 :]


def swap_first_two(records):
    return [records[1], records[0], *records[2:]]


def stranger(records):
    return [records[0], schema.encode_teacher_scores("stranger", [0.5] * 4), *records[1:]]


SECOND_SHARD = "train-00001-of-00003.tfrecord"  # clips 11 to 19


@pytest.mark.parametrize(
    ("change", "check_message", "stream_ids"),
    [
        pytest.param(
            without(2),
            "no scores for clips train-clip-013;",
            ("train-clip-013", "train-clip-014"),
            id="removed",
        ),
        pytest.param(
            without(8),
            "no scores for clips train-clip-019;",
            ("train-clip-019", "end of the shard"),
            id="last removed",
        ),
        pytest.param(
            lambda records: records[:3],
            r"no scores for clips train-clip-014, .*train-clip-018 and 1 more;",
            ("train-clip-014", "end of the shard"),
            id="many removed",
        ),
        pytest.param(
            stranger,
            "scores for clips that are not in the split: stranger;",
            ("stranger", "train-clip-012"),
            id="added",
        ),
        pytest.param(
            swap_first_two,
            r"another order than the shard's \(clip / scores\): train-clip-011 / train-clip-012, "
            "train-clip-012 / train-clip-011;",
            ("train-clip-011", "train-clip-012"),
            id="swapped",
        ),
        pytest.param(
            lambda records: [*records, records[-1]],
            r"another order than the shard's \(clip / scores\): end of the shard / train-clip-019;",
            ("train-clip-019", "end of the shard"),
            id="last twice",
        ),
    ],
)
def test_scores_that_do_not_fit_the_clips_are_an_error(
    train, scores_dir, rewrite_shard, change, check_message, stream_ids
):
    check_teacher_scores(train, scores_dir)
    drain(train, scores_dir)
    rewrite_shard(f"{scores_dir}/{SECOND_SHARD}", change)
    with pytest.raises(ValueError, match=check_message) as checked:
        check_teacher_scores(train, scores_dir)
    assert SECOND_SHARD in str(checked.value) and f"delete {scores_dir}" in str(checked.value)
    with pytest.raises(tf.errors.InvalidArgumentError) as streamed:
        drain(train, scores_dir)
    assert all(video_id in streamed.value.message for video_id in stream_ids)
    assert SECOND_SHARD in streamed.value.message


@pytest.mark.parametrize("index", [0, 4, 9])
def test_a_clip_missing_from_the_shard_stops_the_stream(
    tiny_data, scores_dir, rewrite_shard, index
):
    split = Split(tiny_data, info.read_dataset_info(tiny_data, "train"))
    drain(split, scores_dir)
    rewrite_shard(split.info.shard_paths(tiny_data)[2], without(index))
    with pytest.raises(
        tf.errors.InvalidArgumentError,
        match=f"teacher scores of train-clip-{20 + index:03d} beside",
    ):
        drain(split, scores_dir)


def test_scores_of_a_validation_clip_are_checked_as_well(train, scores_dir, rewrite_shard):
    validation = dataclasses.replace(train, subset="validation", validation_share=0.3)
    training = dataclasses.replace(train, subset="training", validation_share=0.3)
    gone = next(
        index
        for index, video_id in enumerate(train.clip_ids[1])
        if bool(validation.selects(tf.constant(video_id)))
    )
    rewrite_shard(f"{scores_dir}/{SECOND_SHARD}", without(gone))
    with pytest.raises(tf.errors.InvalidArgumentError, match=train.clip_ids[1][gone]):
        drain(training, scores_dir)


def test_one_of_two_score_folders_that_does_not_fit_is_found(
    train, scores_dir, tmp_path, rewrite_shard
):
    other = write_scores(train, tmp_path / "other", lambda video_id: [0.1] * 4)
    rewrite_shard(f"{other}/{SECOND_SHARD}", swap_first_two)
    with pytest.raises(tf.errors.InvalidArgumentError, match="train-clip-012"):
        drain(train, scores_dir, other)


def test_a_missing_score_shard_is_named(train, scores_dir):
    Path(scores_dir, SECOND_SHARD).unlink()
    message = (
        rf"{SECOND_SHARD}: the teacher's scores of clips train-clip-011, .* and 4 more are missing"
    )
    with pytest.raises(ValueError, match=message):
        check_teacher_scores(train, scores_dir)


def test_a_damaged_score_shard_is_named(train, scores_dir, flip_byte):
    flip_byte(Path(scores_dir, SECOND_SHARD), -6)
    with pytest.raises(ValueError, match=f"{SECOND_SHARD}: record 8 .*wrong checksum"):
        check_teacher_scores(train, scores_dir)


def test_scores_of_another_number_of_classes_stop_the_stream(train, tmp_path):
    folder = write_scores(train, tmp_path / "five", lambda video_id: [0.5] * 5)
    with pytest.raises(tf.errors.InvalidArgumentError):
        drain(train, folder)


# --- damage ---


def test_a_flipped_byte_is_found_by_file_and_record(tiny_data, flip_byte):
    split = Split(tiny_data, info.read_dataset_info(tiny_data, "train"))
    path = split.info.shard_paths(tiny_data)[1]
    flip_byte(path, -100)
    with pytest.raises(tf.errors.DataLossError) as error:
        drain(split)
    assert str(find_damage(split, error.value)).startswith(f"{path}: record 8 (byte ")
    assert "wrong checksum" in str(find_damage(split, error.value))


def test_a_record_that_is_no_clip_is_found(tiny_data, rewrite_shard):
    split = Split(tiny_data, info.read_dataset_info(tiny_data, "train"))
    path = split.info.shard_paths(tiny_data)[0]
    rewrite_shard(path, lambda records: [*records[:4], b"not a clip", *records[5:]])
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        drain(split)
    damage = str(find_damage(split, error.value))
    assert damage.startswith(f"{path}: record 4: not a clip record") and damage.endswith(
        "convert the split again"
    )


def test_where_no_shard_is_damaged_tensorflow_s_own_words_stay(train, kept_data):
    error = tf.errors.InvalidArgumentError(None, None, 'line "one"\nline two')
    assert str(find_damage(train, error)) == f'{kept_data}: line \\"one\\"\\nline two'


def test_a_truncated_shard_is_named_before_it_is_read(tiny_data):
    path = Path(tiny_data, "train", SECOND_SHARD)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(
        ValueError, match=rf"{SECOND_SHARD}: shard has \d+ bytes, dataset\.json says \d+"
    ):
        info.read_dataset_info(tiny_data, "train")


def test_clips_are_read_by_their_ids(kept_data, read_clips):
    split = Split(kept_data, info.read_dataset_info(kept_data, "train"))
    stored = read_clips(kept_data, "train")
    clips = read_clips_by_id(split, [stored[25].video_id, stored[3].video_id])
    assert [clip.video_id for clip in clips] == [stored[3].video_id, stored[25].video_id]
    np.testing.assert_array_equal(clips[1].log_mel, stored[25].log_mel.astype(np.float32))
    assert read_clips_by_id(split, []) == []
