"""Shards to training batches, nothing trained: the share of reading records alone, and how far
ahead of training it is.

    python benchmarks/input_pipeline.py [--clips=8000]

The shards hold clips of ten seconds, float16, 128 KB each, in the cache of the file system. The
sides:

- `batches`: an epoch of `data.TrainingData`, batch 16; the shuffle buffer is small beside the
epoch, as on large sets. - `records`: iterating over TensorFlow's `TFRecordDataset` of the same
files, the limit. - `counted`: the same within TensorFlow, where nothing is handed out; a limit that
no Python program sees. - `training`: a step of the full-width network on sixteen clips, float32.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
from collections.abc import Callable

import pairs

BATCH, SHUFFLE_CLIPS = 16, 256


def batches(folder: str) -> Callable[[], object]:
    """Each call reads an epoch."""
    from secost_tf.data import pipeline, splits
    from tfrecord_tools.shards import info

    split, number = splits.Split(folder, info.read_dataset_info(folder, "train")), itertools.count()
    data = pipeline.TrainingData(split=split, batch_size=BATCH, shuffle_clips=SHUFFLE_CLIPS)

    def work() -> None:
        for _ in data.epoch(next(number)):
            pass

    return work


def records(folder: str) -> Callable[[], object]:
    """Each call reads all records, one file after the other."""
    dataset = record_dataset(folder)

    def work() -> None:
        for _ in dataset:
            pass

    return work


def counted(folder: str) -> Callable[[], object]:
    """Each call reads all records, within TensorFlow."""
    dataset = record_dataset(folder)
    return lambda: dataset.reduce(0, lambda count, _: count + 1).numpy()


def record_dataset(folder: str):
    """The records of all files."""
    import tensorflow as tf

    from tfrecord_tools.shards import info

    return tf.data.TFRecordDataset(info.read_dataset_info(folder, "train").shard_paths(folder))


def training(folder: str) -> Callable[[], object]:
    """Each call is a step."""
    from training_step import ours

    return ours(1.0, "float32")[0]


SIDES = {"batches": batches, "records": records, "counted": counted, "training": training}


def main() -> None:
    options = pairs.parser(__doc__)
    options.add_argument("--clips", type=int, default=8000, help="clips of an epoch (default 8000)")
    options.add_argument("--folder", help="of the shards, made by the script itself")
    arguments = options.parse_args()
    if arguments.serve:
        packages = ("tensorflow", "keras", "numpy")
        pairs.serve(lambda: SIDES[arguments.serve](arguments.folder), packages)
        return
    sys.path.insert(0, str(pairs.ROOT))
    from random_data import write_split

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_split(folder, "train", arguments.clips)
        clips = arguments.clips // BATCH * BATCH  # of an epoch's batches
        for name, clips_of_side, what, bar in (
            (
                "records",
                arguments.clips,
                "share of the rate of iterating over the records alone",
                "0.6",
            ),
            (
                "counted",
                arguments.clips,
                "share of the rate of counting the records within TensorFlow",
                "",
            ),
            ("training", BATCH, "times the clips that full-width training takes", "20"),
        ):
            one, other = (
                pairs.Side(__file__, side, sys.executable, None, (f"--folder={folder}",))
                for side in ("batches", name)
            )
            figures = pairs.compare(one, other, arguments.pairs)
            figures |= {
                each: figures[each] * clips / clips_of_side
                for each in ("ratio", "lowest", "highest")
            }
            rows.append({"what": what, "bar": bar, **figures})
            one.close(), other.close()
    pairs.show(f"shards to batches, {arguments.clips} clips", rows, arguments.json)


if __name__ == "__main__":
    main()
