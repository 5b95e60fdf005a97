"""Records, shard files and `dataset.json`: the format on disk."""

from typing import TYPE_CHECKING

from tfrecord_tools._lazy import lazy_names

if TYPE_CHECKING:
    from tfrecord_tools.shards.files import (
        COMPRESSIONS,
        frame,
        read_records,
        write_frames,
        write_records,
    )
    from tfrecord_tools.shards.info import (
        CLASSES_CSV,
        CLIPS_COLUMNS,
        CLIPS_CSV,
        DATASET_JSON,
        FAILURES_CSV,
        PROGRESS_DIR,
        WARNINGS_CSV,
        DatasetInfo,
        Shard,
        check_same_input,
        has_split,
        list_splits,
        read_clips_csv,
        read_dataset_info,
        shard_name,
        shard_problems,
    )
    from tfrecord_tools.shards.records import (
        FEATURE_DTYPES,
        LABELS,
        LOG_MEL,
        NUM_FRAMES,
        VIDEO_ID,
        ClipRecord,
        decode,
        decode_teacher_scores,
        dequantize,
        encode,
        encode_teacher_scores,
        feature_range,
        parse,
        parse_teacher_scores,
        quantize,
    )
else:
    __all__, __getattr__, __dir__ = lazy_names(__name__)
