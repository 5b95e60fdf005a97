"""What `--help` of each command shows: every flag, in words, without waiting for TensorFlow."""

from __future__ import annotations

import importlib
from collections import defaultdict

import pytest
from absl import flags

from tfrecord_tools.config_flags import define_flags

LOG_MEL = (
    *("sample_rate_hz", "window_seconds", "hop_seconds", "fft_length"),
    *("mel_bins", "mel_min_hz", "mel_max_hz", "log_offset"),
)
THRESHOLDS = ("threshold", "thresholds_csv")
POST_PROCESSING = ("hop_scale", "median_filter_seconds", "hysteresis", "min_event_seconds")
TRAIN = (
    *("run_dir", "data_dir", "stage", "alpha", "alpha_per_class_csv", "dry_run"),
    *(
        "teacher_stages",
        "prerequisites",
        "width",
        "pooling",
        "pooling_k",
    ),
    *("block_channels", "block_pools", "block_convolutions", "hidden_channels", "epochs"),
    *("batch_size", "optimizer", "learning_rate", "warmup_share", "validation_share"),
    *("shuffle_clips", "seed", "precision", "balanced_sampling", "mixup_alpha", "time_masks"),
    *("time_mask_frames", "frequency_masks", "frequency_mask_bins", "time_warp_frames"),
    *("steps_per_epoch", "clip_norm", "ema", "input_streams", "teacher", "strategy", "threads"),
    *("deterministic", "logical_cpus", "checkpoint_minutes", "cache_in_memory", "picture_clips"),
    *("picture_epochs", "profile_steps"),
)
# The flags of each command, which people have in their scripts.
FLAGS_OF = {
    "tfrecord_tools.convert": (
        *(
            "dataset",
            "split",
            "audio_dir",
            "segments_csv",
            "class_labels_csv",
            "weak_tsv",
            "strong_tsv",
        ),
        *(
            "manifest",
            "folds",
            "esc10_only",
            "out",
            "runner",
            "workers",
            "clip_timeout",
            "shard_range",
        ),
        *("clips_per_shard", "feature_dtype", "compression", "overwrite", *LOG_MEL),
    ),
    "tfrecord_tools.inspect": ("split", "verify", "plot", "all"),
    "tfrecord_tools.soundscapes": (
        *("out", "num_train", "num_eval", "seed", "min_seconds", "max_seconds", "max_events"),
        *(
            "min_snr_db",
            "max_snr_db",
            "label_noise",
            "missing_rate",
            "missing_labels",
            "wrong_rate",
        ),
        *("wrong_labels", "label_precision_csv", "workers", "overwrite"),
        *("source", "eval_folds", "eval_share", "max_event_seconds", "class_labels_csv"),
    ),
    "secost_tf.train": TRAIN,
    "secost_tf.experiment": (
        *("name", "seeds", "experiments_dir", "sweep_alphas", "epochs_factor", "controls"),
        *("only_seeds", "processes", "table_only", *TRAIN),
    ),
    "secost_tf.evaluate": (
        *("run_dir", "stage", "data_dir", "split", "batch_size", "events"),
        *(*THRESHOLDS, *POST_PROCESSING),
    ),
    "secost_tf.analyze": (
        *("run_dir", "base", "stage", "base_run_dir", "data_dir", "split", "clean_labels_csv"),
        *("label_errors", "resamples", "out", "batch_size"),
    ),
    "secost_tf.localize": (
        *("run_dir", "stage", "saved_model", "classes", "top", "pictures", "out"),
        *(*THRESHOLDS, *POST_PROCESSING),
    ),
    "secost_tf.report": (
        *("run_dir", "out", "data_dir", "examples", "analysis", "audio_dir", "experiment_dirs"),
        "batch_size",
    ),
    "secost_tf.export": (
        *("run_dir", "stage", "export_dir", "format", "top_k", "max_seconds", "model_input"),
        *("tflite_precision", "precision", "seconds", "data_dir", "calibration_dir"),
        "calibration_clips",
    ),
    "secost_tf.client": (
        *("server", "model", "model_version", "signature", "classes_csv", "top", "sample_rate_hz"),
        *("timeout", "retries", "json"),
    ),
    "secost_tf.monitor": (
        *("saved_model", "input", "input_rate_hz", "device", "real_time", "top"),
        *(*THRESHOLDS, *POST_PROCESSING),
    ),
}
# Flags of which each command has its own to say: what it writes or shows, whose rate it is, or that
# it makes the run that the others read.
OWN_WORDS = {
    *("out", "split", "class_labels_csv", "audio_dir", "saved_model", "top", "max_seconds"),
    *("sample_rate_hz", "stage", "data_dir", "batch_size", "seed"),
}


def flags_of(command: str) -> dict[str, flags.Flag]:
    """The flags of a command, defined apart from all others."""
    values = flags.FlagValues()
    absl_s_own = set(values)
    define_flags(*importlib.import_module(command).SETTINGS, flag_values=values)
    return {name: values[name] for name in values if name not in absl_s_own}


@pytest.mark.parametrize("command", FLAGS_OF)
def test_every_flag_is_there_and_says_what_it_does(command):
    defined = flags_of(command)
    assert sorted(defined) == sorted(FLAGS_OF[command])
    texts = [flag.help for flag in defined.values()]
    assert len(set(texts)) == len(texts)
    for flag in defined.values():
        is_alias = flag.help.startswith("Alias for --")
        assert is_alias or (len(flag.help.split()) >= 4 and flag.help.endswith(".")), flag.name


def test_a_flag_of_several_commands_is_the_same_in_all():
    texts, kinds = defaultdict(set), defaultdict(set)
    for command in FLAGS_OF:
        for name, flag in flags_of(command).items():
            if flag.help.startswith("Alias for --"):
                continue
            texts[name].add(flag.help)
            kinds[name].add((flag.flag_type(), flag.default_as_str))
    assert {name for name, of_name in texts.items() if len(of_name) > 1} == OWN_WORDS
    differ = {name for name, of_name in kinds.items() if len(of_name) > 1}
    assert differ <= OWN_WORDS
