"""The folder of a soundscape corpus: its files, the check of what is there, the move into place."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from tfrecord_tools.config import describe_differences
from tfrecord_tools.corpora.mixing import SPLITS
from tfrecord_tools.text import join_some

SETTINGS_FILE = "soundscapes.json"

CLASSES_FILE = "class_labels_indices.csv"

TRAIN_CLEAN_FILE = "train_clean_segments.csv"

_CORPUS_NAMES = {SETTINGS_FILE, CLASSES_FILE, TRAIN_CLEAN_FILE} | {
    split + end for split in SPLITS for end in ("", "_segments.csv", "_strong.tsv")
}


def corpus_is_made(
    out_dir: Path,
    settings: Mapping[str, object],
    num_clips: Mapping[str, int],
    overwrite: bool = False,
) -> bool:
    """Return True if `out_dir` holds a whole corpus, False if it may be made there.

    Args:
        out_dir: the folder, which may be missing.
        settings: `generator_version` and the settings of the corpus that is asked for, as its
            settings file has them.
        num_clips: its clips in each split.
        overwrite: another corpus, or a damaged one, may be replaced.

    Raises:
        ValueError: it may not be made there: `out_dir` holds a damaged corpus or one with other
            settings and `overwrite` is not set, or overwriting would delete what is not the
            corpus's own.
    """
    if out_dir.exists() and not out_dir.is_dir():
        raise ValueError(f"{out_dir} is a file, not a folder")
    names = {path.name for path in out_dir.iterdir()} if out_dir.is_dir() else set()
    if not names:
        return False
    if SETTINGS_FILE not in names:
        raise ValueError(f"{out_dir} is not empty and no soundscape corpus: name another folder")
    try:
        problem = _difference(out_dir, settings, num_clips)
    except (ValueError, KeyError, TypeError):
        problem = f"its {SETTINGS_FILE} is damaged"
    if not problem:
        return True
    if not overwrite:
        raise ValueError(
            f"{out_dir} holds another corpus: {problem}. Name another folder, or set overwrite"
        )
    if foreign := sorted(names - _CORPUS_NAMES):
        raise ValueError(
            f"{out_dir} is not overwritten: it also holds {join_some(foreign, most=3)}, "
            "which is not its own"
        )
    return False


def _difference(
    corpus_dir: Path, settings: Mapping[str, object], num_clips: Mapping[str, int]
) -> str:
    """Return in words how the corpus differs from what is asked for; empty if it does not."""
    made = json.loads((corpus_dir / SETTINGS_FILE).read_text(encoding="utf-8"))
    then = {"generator_version": made["generator_version"], **made["settings"]}
    if differing := describe_differences(then, settings):
        return f"its settings differ (there != asked): {differing}"
    for name in sorted(_CORPUS_NAMES - {TRAIN_CLEAN_FILE}):
        if not (corpus_dir / name).exists():
            return f"its {name} is missing"
    for split in SPLITS:
        count = sum(1 for _ in (corpus_dir / split).glob("*.wav"))
        if count != num_clips[split]:
            return f"{split}/ holds {count} wav files instead of {num_clips[split]}"
    return ""


def move_into_place(
    partial_dir: Path,
    out_dir: Path,
    settings: Mapping[str, object],
    num_clips: Mapping[str, int],
    overwrite: bool = False,
) -> bool:
    """Rename a finished corpus to `out_dir`; return False if another process was faster."""
    replaced_dir = partial_dir.with_name(partial_dir.name.replace(".partial-", ".replaced-"))
    if overwrite and out_dir.exists():
        out_dir.rename(replaced_dir)
    try:
        partial_dir.rename(out_dir)
    except OSError:
        if replaced_dir.exists() and not out_dir.exists():
            replaced_dir.rename(out_dir)
        if corpus_is_made(out_dir, settings, num_clips):
            return False
        raise
    shutil.rmtree(replaced_dir, ignore_errors=True)
    return True
