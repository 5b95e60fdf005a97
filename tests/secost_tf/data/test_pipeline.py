import dataclasses
import itertools

import numpy as np
import pytest
import tensorflow as tf
from split_files import batches_of_epoch, ids_of, write_scores

from secost_tf.data.augmentation import make_augmentation
from secost_tf.data.pipeline import (
    RecordCache,
    Worker,
    draws_per_label,
    pieces,
    scoring_data,
    steps_per_epoch,
)
from secost_tf.data.splits import Split
from secost_tf.data.teacher_scores import check_teacher_scores
from secost_tf.runs.settings import TrainConfig
from tfrecord_tools.shards import files, records
from tfrecord_tools.shards import info as shards


@pytest.fixture
def train(kept_data) -> Split:
    return Split(kept_data, shards.read_dataset_info(kept_data, "train"))


@pytest.fixture
def marked_data(tmp_path, write_split) -> str:
    """Clips that can be told apart by their first value, their index; clip 3 has no label."""

    def mark(clips):
        return [
            dataclasses.replace(clip, log_mel=np.full_like(clip.log_mel, index))
            for index, clip in enumerate(clips)
        ]

    write_split(tmp_path / "data", "train", (11, 9, 10), change=mark)
    return str(tmp_path / "data")


@pytest.fixture
def marked(marked_data) -> Split:
    return Split(marked_data, shards.read_dataset_info(marked_data, "train"))


def clip_order(split: Split, **options) -> list[int]:
    """Return the indices of the marked clips in the order of an epoch."""
    return [
        int(value)
        for inputs, _ in batches_of_epoch(split, 4, **options)
        for value in inputs["log_mel"][:, 0, 0].numpy()
    ]


# --- epochs ---


def test_an_epoch_holds_each_clip_at_most_once_in_full_batches(marked):
    batches = list(batches_of_epoch(marked, 4, seed=5))
    assert (
        [len(inputs["log_mel"]) for inputs, _ in batches]
        == [4] * 7
        == [4] * steps_per_epoch(marked, 4)
    )
    order = clip_order(marked, seed=5)
    assert len(order) == len(set(order)) == 28 and set(order) < set(range(30))
    assert order != sorted(order)


def test_an_epoch_says_how_many_batches_it_holds(train):
    assert batches_of_epoch(train, 4).cardinality().numpy() == 7


def test_no_pass_ends_by_waiting_for_the_tuner(train):
    for dataset in (batches_of_epoch(train, 4), scoring_data(train, 4)):
        assert dataset.options().autotune.enabled is False


def test_left_over_clips_change_with_the_epoch(marked):
    left_over = {
        frozenset(set(range(30)) - set(clip_order(marked, epoch=epoch))) for epoch in range(4)
    }
    assert all(len(clips) == 2 for clips in left_over) and len(left_over) > 1


def test_the_order_is_a_function_of_seed_and_epoch(marked):
    first = clip_order(marked, seed=1, epoch=0)
    assert clip_order(marked, seed=1, epoch=0) == first
    assert clip_order(marked, seed=1, epoch=1) != first
    assert clip_order(marked, seed=2, epoch=0) != first


def test_a_small_shuffle_buffer_still_gives_every_clip_once(marked):
    order = clip_order(marked, shuffle_clips=2)
    assert len(set(order)) == 28


def test_a_batch_larger_than_the_data_is_an_error(train, kept_data):
    message = (
        rf"batch_size: expected at most the 30 clips to train on \(train of {kept_data}\), got 31"
    )
    with pytest.raises(ValueError, match=message):
        batches_of_epoch(train, 31)
    assert steps_per_epoch(train, 30) == 1


# --- parts of passes ---


def test_pieces_lie_in_a_row_of_passes():
    sizes = [3, 0, 5, 2]
    row = [pieces(sizes, 7, place, place + 1) for place in range(30)]
    row = [(piece.shard, piece.first) for (piece,) in row]
    clips = {(shard, clip) for shard, size in enumerate(sizes) for clip in range(size)}
    passes = [row[:10], row[10:20], row[20:]]
    assert all(set(each) == clips for each in passes)
    assert len({tuple(each) for each in passes}) == 3  # each pass in an order of its own
    for start, stop in ((0, 10), (4, 17), (9, 30), (12, 13), (5, 5)):
        parts = [
            (piece.shard, piece.first + clip)
            for piece in pieces(sizes, 7, start, stop)
            for clip in range(piece.clips)
        ]
        assert parts == row[start:stop]


def test_short_epochs_go_on_where_the_last_one_ended(marked):
    orders = [
        clip_order(marked, epoch=epoch, steps=5, seed=2) for epoch in range(6)
    ]  # 20 of 30 clips each
    assert [len(order) for order in orders] == [20] * 6
    row = list(itertools.chain(*orders))
    for start in range(0, 120, 30):  # four passes lie in six epochs, over whose ends they reach
        seen = np.bincount(row, minlength=30)
        assert (seen == 4).all(), start
    assert len(set(orders[0])) == 20


def test_long_epochs_hold_several_passes(marked):
    order = clip_order(marked, steps=15, seed=2)
    assert (np.bincount(order, minlength=30) == 2).all()


@pytest.mark.parametrize("steps", [0, 5])
def test_what_is_left_of_an_epoch_is_its_end(marked, steps):
    whole = clip_order(marked, epoch=1, steps=steps, seed=3)
    assert clip_order(marked, epoch=1, steps=steps, seed=3, first_step=2) == whole[8:]


def test_the_validation_share_is_left_out_of_short_epochs_too(marked):
    training = dataclasses.replace(marked, subset="training", validation_share=0.4)
    assert 8 <= training.num_clips < 30
    seen = {clip for epoch in range(12) for clip in clip_order(training, epoch=epoch, steps=2)}
    assert seen == set(clip_order(training, steps=3 * training.num_clips // 4 + 1))


# --- streams and workers ---


def batches_of(split: Split, **options):
    """Return each batch as (first values of its clips, labels, frames)."""
    return [
        (
            inputs["log_mel"][:, 0, 0].numpy().tolist(),
            targets["labels"].numpy().tolist(),
            inputs["num_frames"].numpy().tolist(),
        )
        for inputs, targets in batches_of_epoch(split, 12, **options)
    ]


def clips_of(batches) -> list[float]:
    return list(itertools.chain(*(clips for clips, _, _ in batches)))


@pytest.mark.parametrize("mixup_alpha", [0.0, 0.5])
@pytest.mark.parametrize(("first_step", "steps"), [(0, 0), (1, 0), (1, 3)])
def test_workers_make_the_parts_of_one_worker_s_batches(marked, mixup_alpha, first_step, steps):
    augment = make_augmentation(TrainConfig(mixup_alpha=mixup_alpha), marked.info)
    options = {
        "seed": 3,
        "epoch": 1,
        "streams": 2,
        "first_step": first_step,
        "steps": steps,
        "augment": augment,
    }
    whole = batches_of(marked, **options)
    assert len(whole) == (steps or 2) - first_step
    parts = [batches_of(marked, worker=Worker(index, 2, 1), **options) for index in range(2)]
    assert whole == [
        tuple(a + b for a, b in zip(*both, strict=True)) for both in zip(*parts, strict=True)
    ]
    clips = clips_of(batches_of(marked, seed=3, epoch=1, streams=2))
    assert len(set(clips)) == 24  # still each clip once


def test_a_worker_of_two_replicas_makes_two_batches_a_step(marked):
    whole = batches_of(marked, streams=2, worker=Worker(1, 2, 1))
    halves = batches_of(marked, streams=2, worker=Worker(1, 2, 2))
    assert [len(batch[0]) for batch in halves] == [3] * 4
    assert clips_of(halves) == clips_of(whole)


@pytest.mark.parametrize(("streams", "workers"), [(5, 1), (2, 4), (3, 2)])
def test_batches_that_cannot_be_shared_out(marked, streams, workers):
    with pytest.raises(ValueError, match=f"expected a multiple of the {streams} input streams"):
        batches_of_epoch(marked, 12, streams=streams, worker=Worker(0, workers, 1))


# --- records in memory ---


@pytest.mark.parametrize("options", [{}, {"steps": 5}, {"first_step": 3}, {"balanced": True}])
@pytest.mark.parametrize("share", [0.0, 0.3])
def test_records_in_memory_come_in_the_same_order(marked, tmp_path, share, options):
    folder = write_scores(
        marked, tmp_path / "scores", lambda video_id: [int(video_id[-3:]) / 100] * 4
    )
    split = (
        dataclasses.replace(marked, subset="training", validation_share=share) if share else marked
    )
    cache = RecordCache(split, [folder])
    for epoch in range(2):
        from_files, from_memory = (
            list(
                batches_of_epoch(
                    split, 4, epoch=epoch, teacher_scores_dirs=[folder], cache=source, **options
                )
            )
            for source in (None, cache)
        )
        assert len(from_files) == len(from_memory) > 0
        for pair in zip(from_files, from_memory, strict=True):
            tf.nest.map_structure(np.testing.assert_array_equal, *pair)


# --- balanced sampling ---


def test_draws_per_label_by_hand(marked):
    info = dataclasses.replace(marked.info, num_clips=12, positives=(6, 3, 1, 0))
    assert draws_per_label(info).tolist() == pytest.approx([12 / (3 * 6), 12 / (3 * 3), 12 / 3, 0])


def test_balanced_sampling_draws_each_class_equally_often(marked, marked_data, read_clips):
    clips = read_clips(marked_data, "train")
    drawn = np.zeros(len(clips))
    for epoch in range(8):
        order = clip_order(marked, epoch=epoch, balanced=True)
        assert len(order) == 28
        drawn += np.bincount(order, minlength=len(clips))
    per_label = draws_per_label(marked.info)
    expected = np.array([sum(per_label[label] for label in clip.labels) for clip in clips])
    assert expected.sum() == pytest.approx(30)
    assert drawn[expected == 0].sum() == 0
    classes = np.zeros(4)  # each draw stands for the class that it was drawn for
    for clip, count, mean in zip(clips, drawn, expected, strict=True):
        for label in clip.labels:
            classes[label] += count * per_label[label] / mean
    np.testing.assert_allclose(classes / classes.sum(), 1 / 4, atol=0.05)
    assert np.corrcoef(drawn, expected)[0, 1] > 0.7


def test_balanced_sampling_keeps_scores_beside_their_clips(train, tmp_path):
    rng = np.random.default_rng(0)
    scores = {video_id: rng.random(4) for ids in train.clip_ids for video_id in ids}
    folder = write_scores(train, tmp_path / "scores", scores.__getitem__)
    (_, targets), *_ = batches_of_epoch(train, 4, teacher_scores_dirs=[folder], balanced=True)
    known = {tuple(np.float32(row)) for row in scores.values()}
    assert {tuple(row) for row in targets["teacher_scores"].numpy()} <= known


# --- augmentation ---


def test_augmentation_has_a_seed_of_its_own_in_every_batch_and_epoch(marked):
    def seeds(epoch: int) -> list[tuple[int, int]]:
        def augment(inputs, targets, seed):
            return inputs, {"seed": seed}

        batches = batches_of_epoch(marked, 4, seed=1, epoch=epoch, augment=augment)
        return [tuple(targets["seed"].numpy()) for _, targets in batches]

    assert len({*seeds(0), *seeds(1)}) == 14 and seeds(0) == seeds(0)


# --- what a batch holds ---


@pytest.mark.parametrize("compression", files.COMPRESSIONS)
@pytest.mark.parametrize("feature_dtype", records.FEATURE_DTYPES)
def test_stored_types_and_compression(tmp_path, write_split, feature_dtype, compression):
    """The same batches, but for rounding, with teacher scores beside them."""
    batches = {}
    for name, stored in {
        "plain": {},
        "other": {"feature_dtype": feature_dtype, "compression": compression},
    }.items():
        info = write_split(tmp_path / name, "train", (5, 4), **stored)
        split = Split(str(tmp_path / name), info)
        scores = write_scores(split, tmp_path / f"{name}_scores", lambda video_id: [0.5] * 4)
        check_teacher_scores(split, scores)
        (batch,) = batches_of_epoch(split, 8, teacher_scores_dirs=[scores])
        batches[name] = batch[0]["log_mel"].numpy()
        assert len(list(scoring_data(split, 4))) == 3
    low, high = info.feature_range or (-np.inf, np.inf)
    step = (high - low) / 255 if info.feature_range else 0.0
    np.testing.assert_allclose(
        batches["other"], np.clip(batches["plain"], low, high), atol=step / 2 + 0.004
    )


def test_batches_are_padded_with_zeros_to_their_longest_clip(train, kept_data, read_clips):
    clips = {clip.video_id: clip for clip in read_clips(kept_data, "train")}
    sizes = []
    for inputs, labels, video_ids in scoring_data(train, 8):
        log_mel, num_frames = inputs["log_mel"].numpy(), inputs["num_frames"].numpy()
        sizes.append(len(log_mel))
        assert log_mel.dtype == np.float32 and num_frames.dtype == np.int32
        assert log_mel.shape[1:] == (max(num_frames), 32)
        for row, frames, multi_hot, video_id in zip(
            log_mel, num_frames, labels.numpy(), video_ids.numpy(), strict=True
        ):
            clip = clips.pop(video_id.decode())
            assert frames == len(clip.log_mel)
            np.testing.assert_array_equal(row[:frames], clip.log_mel.astype(np.float32))
            assert not row[frames:].any()
            np.testing.assert_array_equal(multi_hot, np.isin(range(4), clip.labels))
    assert sizes == [8, 8, 8, 6] and not clips


def test_scoring_keeps_the_order_of_the_shards(train):
    scored = [video_id.decode() for *_, ids in scoring_data(train, 7) for video_id in ids.numpy()]
    assert scored == [f"train-clip-{index:03d}" for index in range(30)]


def test_training_labels_are_multi_hot_and_may_be_empty(marked, marked_data, read_clips):
    clips = read_clips(marked_data, "train")
    assert clips[3].labels == () and len(clips[9].labels) == 2
    seen = {}
    for inputs, targets in batches_of_epoch(marked, 5):
        assert set(targets) == {"labels"}
        for value, labels in zip(
            inputs["log_mel"][:, 0, 0].numpy(), targets["labels"].numpy(), strict=True
        ):
            seen[int(value)] = labels
    assert len(seen) == 30
    for index, labels in seen.items():
        np.testing.assert_array_equal(
            labels, np.isin(range(4), clips[index].labels).astype(np.float32)
        )


def test_teacher_scores_are_joined_by_clip_and_averaged(marked, tmp_path):
    def number(video_id):
        return int(video_id.rsplit("-", 1)[1])

    first = write_scores(
        marked, tmp_path / "first", lambda video_id: np.full(4, number(video_id) / 100)
    )
    second = write_scores(
        marked, tmp_path / "second", lambda video_id: np.array([0.0, 0.2, 0.4, 0.6])
    )
    count = 0
    for inputs, targets in batches_of_epoch(marked, 6, seed=3, teacher_scores_dirs=[first, second]):
        clips = inputs["log_mel"][:, 0, 0].numpy()
        expected = (clips[:, None] / 100 + np.array([[0.0, 0.2, 0.4, 0.6]])) / 2
        np.testing.assert_allclose(targets["teacher_scores"], expected, atol=1e-6)
        count += len(clips)
    assert count == 30


# --- training and validation part ---


def test_training_and_validation_are_disjoint_and_together_all(train):
    training = dataclasses.replace(train, subset="training", validation_share=0.3)
    validation = dataclasses.replace(train, subset="validation", validation_share=0.3)
    mine, theirs = ids_of(training), ids_of(validation)
    assert not set(mine) & set(theirs) and sorted(mine + theirs) == ids_of(train)
    assert (training.num_clips, validation.num_clips) == (len(mine), len(theirs))
    assert mine and theirs


def test_training_reads_its_own_part_alone(marked):
    training = dataclasses.replace(marked, subset="training", validation_share=0.3)
    mine = {int(video_id.rsplit("-", 1)[1]) for video_id in ids_of(training)}
    assert set(clip_order(training)) <= mine
    assert len(clip_order(training)) == len(mine) // 4 * 4
