import numpy as np
import pytest
from scipy.special import expit

from secost_tf.data.splits import Split
from secost_tf.data.teacher_scores import check_teacher_scores
from secost_tf.evaluation.scoring import Scorer
from secost_tf.runs import load_student
from tfrecord_tools.shards import files, info
from tfrecord_tools.shards import records as schema


@pytest.fixture(scope="module")
def scored(kept_run, kept_data):
    """Return the student of stage 0 and the train split."""
    return load_student(kept_run, 0), Split(kept_data, info.read_dataset_info(kept_data, "train"))


def test_batched_logits_are_those_of_each_clip_alone(scored, kept_data, read_clips):
    student, split = scored
    ids, labels, logits = Scorer(student, batch_size=7).split(split)
    clips = read_clips(kept_data, "train")
    assert ids == [clip.video_id for clip in clips]
    for index, clip in enumerate(clips):
        alone = student(
            {
                "log_mel": clip.log_mel[None].astype(np.float32),
                "num_frames": np.array([len(clip.log_mel)], np.int32),
            },
            training=False,
        )
        np.testing.assert_allclose(logits[index], alone["logits"][0], atol=1e-5)
        assert np.flatnonzero(labels[index]).tolist() == list(clip.labels)
    assert np.ptp(logits, axis=0).min() > 1e-3  # not one answer for all clips


def test_written_scores_stand_beside_the_shards(scored, tmp_path):
    student, split = scored
    folder = str(tmp_path / "teacher_scores")
    scorer = Scorer(student, batch_size=8)
    scorer.write_teacher_scores(split, folder)
    check_teacher_scores(split, folder)
    _, _, logits = scorer.split(split)
    records = [
        schema.decode_teacher_scores(record)
        for shard in split.info.shards
        for record in files.read_records(f"{folder}/{shard.file}")
    ]
    assert [video_id for video_id, _ in records] == [
        video_id for ids in split.clip_ids for video_id in ids
    ]
    np.testing.assert_array_equal(
        [scores for _, scores in records], expit(logits, dtype=np.float64).astype(np.float32)
    )


def test_a_graph_is_traced_once_for_all_lengths(scored):
    student, split = scored
    scorer = Scorer(student, batch_size=3)
    scorer.split(split)
    assert scorer._logits.experimental_get_tracing_count() == 1


def test_scoring_many_stages_brings_no_retracing_warning(scored, caplog):
    student, split = scored
    for _ in range(6):
        Scorer(student, batch_size=30).split(split)
    assert not [record for record in caplog.records if "retracing" in record.getMessage()]


def test_a_damaged_shard_is_named(scored, tiny_data, flip_byte):
    student, _ = scored
    split = Split(tiny_data, info.read_dataset_info(tiny_data, "eval"))
    path = split.info.shard_paths(tiny_data)[1]
    flip_byte(path, -100)
    with pytest.raises(ValueError, match=rf"{path}: record 4 .*wrong checksum"):
        Scorer(student, batch_size=4).split(split)
