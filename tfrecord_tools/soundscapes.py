"""Corpora of short soundscapes with weak labels, exact event times and optional label noise.

    python -m tfrecord_tools.soundscapes --out=DIR \\
        [--num_train=600 --num_eval=200 --seed=0 --label_noise=0.3]
    python -m tfrecord_tools.soundscapes --out=DIR --source=FOLDER_OR_MANIFEST \\
        [--eval_folds=4,5 --missing_labels=0.3 ...]

A clip is a synthesised background with one to three overlapping events over it. The events are
synthesised, in the built-in corpus, or cut from recordings (`--source`), those of train and of eval
from different ones. What is written looks like AudioSet:

    DIR/class_labels_indices.csv                        index, mid, display_name
    DIR/train_segments.csv     DIR/eval_segments.csv    weak labels
    DIR/train_strong.tsv       DIR/eval_strong.tsv      every event's onset and offset (never noisy)
    DIR/train_clean_segments.csv                        train's true weak labels, if some are wrong
    DIR/train/ID.wav ...       DIR/eval/ID.wav ...      16 kHz, mono, 16 bit
    DIR/soundscapes.json                                the settings; how often each class occurs

Clip i of a split is drawn from a generator seeded with (seed, split, i) alone: the same settings
give the same bytes with any number of processes, a larger corpus begins with the smaller one, and
label noise changes labels but not sound. A clip all of whose labels are left out keeps its row,
without labels.
"""

from __future__ import annotations

import dataclasses

from tfrecord_tools.commands import WritingSettings, run_command
from tfrecord_tools.config import Config, setting
from tfrecord_tools.config_flags import read_flags
from tfrecord_tools.corpora import (
    CLASS_MAP,
    DEFAULT_EVAL_SHARE,
    RecordedEvents,
    SoundscapeConfig,
    make_corpus,
    rates_for_precisions,
    read_label_precisions,
    read_sources,
)
from tfrecord_tools.datasets import ClassMap
from tfrecord_tools.flagfiles import find_file


# === Command ===
@dataclasses.dataclass(frozen=True, kw_only=True)
class SoundscapesSettings(WritingSettings):
    """The folder to write to, and the noise of the train labels."""

    out: str = setting(help="Folder to write the corpus to; made if missing.")
    label_noise: float = setting(
        0.0,
        "Noise of the train labels, 0 to 1: sets --missing_rate and --wrong_rate together.",
        minimum=0,
        maximum=1,
    )
    missing_rate: float | None = setting(
        None,
        "Probability, 0 to 1, that a true train label is left out. Default: --label_noise.",
        minimum=0,
        maximum=1,
        aliases=("missing_labels",),
    )
    wrong_rate: float | None = setting(
        None,
        "Probability, 0 to 1, that a train clip gets one wrong label more. Default: --label_noise.",
        minimum=0,
        maximum=1,
    )
    wrong_labels: float | None = setting(
        None,
        "Probability, 0 to 1, that each class that a train clip does not hold is among its "
        "labels. Default: 0.",
        minimum=0,
        maximum=1,
    )
    label_precision_csv: str | None = setting(
        None,
        "Table (label_id, num_rated, num_true; label_id is a class's mid or name), as AudioSet's "
        "qa_true_counts.csv: wrong train labels of a class are added so that num_true / num_rated "
        "of its labels are right on average. Classes that are not rated there take the mean of the "
        "others.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.wrong_labels is not None and self.label_precision_csv:
            raise ValueError(
                "--wrong_labels, --label_precision_csv: two ways to add wrong labels; "
                "give one of them"
            )

    def wrong_label_rates(self, config: SoundscapeConfig, class_map: ClassMap) -> tuple[float, ...]:
        """Return the probability of a wrong label of each class; none if no label is wrong."""
        if self.label_precision_csv:
            path = str(find_file(self.label_precision_csv))
            precisions = read_label_precisions(path, class_map)
            return rates_for_precisions(config, precisions, class_map.display_names)
        return (self.wrong_labels,) * len(class_map) if self.wrong_labels else ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceSettings(Config):
    """The recordings that events are cut from."""

    source: str | None = setting(
        None,
        "Recordings to cut events from: a folder with a sub-folder for each class, or a csv of "
        "path,labels[,start,end,split,fold], of which the rows with one label are used. Default: "
        "events are synthesised.",
    )
    eval_folds: tuple[int, ...] = setting(
        (),
        "Folds of --source, such as 4,5, whose recordings eval clips are made of; train clips are "
        "made of the others.",
    )
    eval_share: float | None = setting(
        None,
        "Share, 0 to 1, of each class's recordings for eval, picked by a hash of their names, "
        f"where neither folds nor a column 'split' say which. Default: {DEFAULT_EVAL_SHARE:g}.",
    )
    max_event_seconds: float | None = setting(
        None,
        "Longest event of --source, in seconds; a part of a longer recording is taken, at a "
        f"random place around its loudest moment. Default: {RecordedEvents.max_event_seconds:g}.",
    )
    class_labels_csv: str | None = setting(
        None,
        "Classes of --source (index, mid, display_name), if its labels are AudioSet's mids. "
        "Default: its labels, sorted.",
    )

    def read(self) -> RecordedEvents | None:
        """Read the list of the recordings; None without a source."""
        if not self.source:
            values = self.to_dict().items()
            if given := [f"--{name}" for name, value in values if value not in (None, ())]:
                raise ValueError(
                    f"{', '.join(given)}: of use with --source only, the recordings to cut events "
                    "from"
                )
            return None
        sources = read_sources(self.source, self.eval_folds, self.eval_share, self.class_labels_csv)
        longest = self.max_event_seconds
        return RecordedEvents(sources) if longest is None else RecordedEvents(sources, longest)


SETTINGS = (SoundscapesSettings, SoundscapeConfig, SourceSettings)


def soundscape_config(settings: SoundscapesSettings) -> SoundscapeConfig:
    """Return the settings of the clips that the flags give."""
    noise = settings.label_noise
    return read_flags(
        SoundscapeConfig,
        missing_rate=noise if settings.missing_rate is None else settings.missing_rate,
        wrong_rate=noise if settings.wrong_rate is None else settings.wrong_rate,
    )


def main(argv: list[str]) -> None:
    """Make the corpus that the flags describe, or say that it stands there already."""
    del argv
    settings = read_flags(SoundscapesSettings)
    config = soundscape_config(settings)
    events = read_flags(SourceSettings).read()
    class_map = events.sources.class_map if events else CLASS_MAP
    made = make_corpus(
        config,
        settings.out,
        settings.workers or None,
        settings.overwrite,
        events=events,
        wrong_label_rates=settings.wrong_label_rates(config, class_map),
    )
    clips = f"{config.num_train} train and {config.num_eval} eval clips of {len(class_map)} classes"
    out = settings.out
    print(f"wrote {clips} to {out}" if made else f"kept {out}: it holds these {clips} already")


def run() -> None:
    """The console script."""
    run_command(main, *SETTINGS)


if __name__ == "__main__":
    run()
