"""The built-in corpus: synthesised and converted once, under the user's cache directory."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from absl import logging

from tfrecord_tools.conversion import ConvertConfig, convert_dataset
from tfrecord_tools.corpora.corpus import GENERATOR_VERSION, make_corpus
from tfrecord_tools.corpora.mixing import SoundscapeConfig
from tfrecord_tools.datasets import read_audioset
from tfrecord_tools.shards import has_split


def cache_dir() -> Path:
    """Return `$XDG_CACHE_HOME/secost_tf`, or `~/.cache/secost_tf`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "secost_tf"


def make_builtin_data(config: SoundscapeConfig | None = None, folder: Path | None = None) -> str:
    """Make the corpus and its shards, or keep those there; return the folder of the shards."""
    config = config or SoundscapeConfig()
    digest = hashlib.sha256(repr((GENERATOR_VERSION, config)).encode()).hexdigest()[:12]
    folder = folder or cache_dir() / f"soundscapes-{digest}"
    data_dir = folder / "data"
    if all(has_split(str(data_dir), split) for split in ("train", "eval")):
        logging.info("no --data_dir: the built-in corpus is used, kept in %s", folder)
        return str(data_dir)
    logging.info("no --data_dir: the built-in corpus is made in %s", folder)
    corpus = folder / "corpus"
    make_corpus(config, corpus)
    for split in ("train", "eval"):
        clips, class_map = read_audioset(
            segments_csv=str(corpus / f"{split}_segments.csv"),
            class_labels_csv=str(corpus / "class_labels_indices.csv"),
            audio_dir=str(corpus / split),
            strong_tsv=str(corpus / f"{split}_strong.tsv"),
        )
        convert_dataset(
            clips, class_map, ConvertConfig(split=split, dataset="audioset"), str(data_dir)
        )
    return str(data_dir)
