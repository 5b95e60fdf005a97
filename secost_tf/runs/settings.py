"""Settings of a run: how a stage is trained, a stage, a cascade."""

from __future__ import annotations

import dataclasses

import numpy as np

from secost_tf.models import WelsNetConfig
from tfrecord_tools.config import Config, setting
from tfrecord_tools.shards import DatasetInfo


@dataclasses.dataclass(frozen=True)
class TrainConfig(Config):
    """Settings of the training of each stage.

    Source: Adam as in Kumar, Khadkevich and Fügen (ICASSP 2018, arXiv:1711.01369); the slides of
    SeCoST name no optimizer, learning rate or number of epochs. Augmentations are off by default:
    mixup is of Zhang et al. (arXiv:1710.09412), SpecAugment of Park et al. (arXiv:1904.08779).

    Raises:
        ValueError: if a value is not allowed; says which, and what was expected.

    Example:
        >>> from secost_tf import TrainConfig
        >>> TrainConfig(epochs=10, balanced_sampling=True).batch_size
        32
        >>> TrainConfig(epochs=0)
        Traceback (most recent call last):
            ...
        ValueError: epochs: expected a whole number, at least 1, got 0
    """

    epochs: int = setting(30, "Passes over the training clips, per stage.", minimum=1)
    batch_size: int = setting(
        32,
        "Clips in a step, over all replicas together. Each epoch leaves out fewer clips than one "
        "batch.",
        minimum=1,
    )
    optimizer: str = setting(
        "Adam",
        "An optimizer's name: Keras's own first (Adam, SGD, ...), then TensorFlow Addons' on "
        "Python 3.10 and 3.11 (RectifiedAdam, LAMB, NovoGrad, Lookahead, ...).",
    )
    learning_rate: float = setting(
        1e-3,
        "Peak learning rate, reached after the warm-up; then a half cosine down to 0 at the "
        "stage's last step.",
        above=0,
    )
    warmup_share: float = setting(
        0.1,
        "Share of a stage's steps in which the learning rate rises from 0 to its peak; 0 starts at "
        "the peak.",
        minimum=0,
        below=1,
    )
    validation_share: float = setting(
        0.1,
        "Share of the train split, chosen by a hash of the clip id, that is kept out of training "
        "and picks the best epoch by mAP; 0 takes the last epoch. Not used where there is a "
        "validation split.",
        minimum=0,
        below=1,
    )
    shuffle_clips: int = setting(
        2048,
        "Clips in the shuffle buffer (0.13 MB of memory each on AudioSet); shards are shuffled "
        "besides.",
        minimum=1,
    )
    seed: int = setting(
        0, "Seeds the weights and the order of the clips; the same seed gives the same run."
    )
    precision: str = setting(
        "float32",
        "Arithmetic of the convolutions; weights, loss and pooling stay float32.",
        choices=("float32", "mixed_bfloat16", "mixed_float16"),
        flag=False,
    )
    balanced_sampling: bool = setting(
        False,
        "Draw each class equally often, then one of its clips, so that rare classes are seen more; "
        "clips without a label are not seen. An epoch stays as long.",
    )
    mixup_alpha: float = setting(
        0.0,
        "Mixes each clip with another one of its batch, labels and teacher scores alike, by "
        "weights of Beta(alpha, alpha); 0 does not. 0.3 to 1 are usual: higher mixes more.",
        minimum=0,
    )
    time_masks: int = setting(0, "Stretches masked in each clip (SpecAugment); 0: none.", minimum=0)
    time_mask_frames: int = setting(64, "Most frames of one stretch of --time_masks.", minimum=1)
    frequency_masks: int = setting(
        0, "Bands masked in each clip (SpecAugment); 0: none.", minimum=0
    )
    frequency_mask_bins: int = setting(
        8, "Most mel bins of one band of --frequency_masks.", minimum=1
    )
    time_warp_frames: int = setting(
        0,
        "Most frames by which a random place of each clip is moved, what lies beside it being "
        "stretched (SpecAugment); 0 does not. Slow; needs TensorFlow Addons (Python 3.10 and "
        "3.11).",
        minimum=0,
    )
    steps_per_epoch: int = setting(
        0,
        "Batches in an epoch, for very large sets: the state is saved and the student validated "
        "after each, and the next epoch goes on where it ended. 0: an epoch is a pass over the "
        "training clips.",
        minimum=0,
    )
    clip_norm: float = setting(
        0.0,
        "Shortens gradients whose norm, over the whole batch, is larger than this; 1 to 10 are "
        "usual. 0: none.",
        minimum=0,
    )
    ema: float = setting(
        0.0,
        "Decay of an exponential moving average of the weights, which is then what is validated, "
        "kept, and teaches: 0.999 reaches back about 1,000 steps. 0: the weights themselves.",
        minimum=0,
        below=1,
    )
    input_streams: int = setting(
        1,
        "Equal parts of the shards from which each batch is drawn alike: as many as there are "
        "workers.",
        minimum=1,
        flag=False,
    )
    teacher: str = setting(
        "cached",
        "cached: each stage scores the training clips once when it ends, and the next reads those "
        "scores, at no cost per step. online: the teacher scores each batch in the step; slower.",
        choices=("cached", "online"),
    )

    def __post_init__(self):
        super().__post_init__()
        of_streams = f"a multiple of the {self.input_streams} input streams"
        self._require(self.batch_size % self.input_streams == 0, "batch_size", of_streams)


@dataclasses.dataclass(frozen=True)
class CascadeConfig(Config):
    """Settings of a cascade: stage after stage, each the teacher of the next.

    Source: Kumar and Ithapu, SeCoST, ICASSP 2020 (arXiv:1910.11789). Several stages as the teacher:
    SUSTAIN, of the same authors (ICML 2020, arXiv:2007.00144).

    Raises:
        ValueError: if a value is not allowed, or `alphas` are neither one number nor one for each
            of stages 1 to `stage`.

    Example:
        >>> from secost_tf import CascadeConfig, TrainConfig
        >>> config = CascadeConfig(
        ...     stage=2,
        ...     alphas=(0.3, 0.5),
        ...     network={"width": 0.25, "pooling": "attention"},
        ...     train=TrainConfig(epochs=10),
        ... )
        >>> CascadeConfig.from_dict(config.to_dict()) == config
        True
    """

    stage: int = setting(
        0,
        "Number of the stage, 0 being the base model. Stages before it that are not done are "
        "trained first, as make would.",
        minimum=0,
    )
    alphas: tuple[float, ...] = setting(
        (0.3,),
        "Weight of the labels in the targets, in [0, 1]; the teacher weighs 1 - alpha. One number "
        "for every stage trained now, or a comma list for stages 1 to --stage. Stage 0 has no "
        "teacher and takes no alpha.",
        minimum=0,
        maximum=1,
        flag="alpha",
    )
    network: dict = setting(
        dict,
        "Settings of the student but for the classes and mel bins, which come from the data.",
        flag=False,
    )
    train: TrainConfig = setting(TrainConfig, "How each stage is trained.", flag=False)
    teacher_stages: tuple[int, ...] = setting(
        (),
        "Stages, separated by commas, whose scores are averaged into the teacher of --stage. "
        "Default: the stage before.",
        minimum=0,
    )
    prerequisites: bool = setting(
        True,
        "Train the stages before --stage that are not done; --noprerequisites makes that an error "
        "instead.",
    )
    class_alphas: tuple[float | None, ...] = setting(
        (),
        "Weight of the labels of each class in every stage after 0, None where that of the stage "
        "holds; none: that of the stage holds for all.",
        minimum=0,
        maximum=1,
        flag=False,
    )

    def __post_init__(self):
        super().__post_init__()
        if len(self.alphas) not in {1, self.stage}:
            alphas = ", ".join(f"{alpha:g}" for alpha in self.alphas)
            raise ValueError(
                f"alpha: expected one number, or one for each of stages 1 to {self.stage} "
                f"({self.stage} numbers), got {len(self.alphas)}: {alphas}"
            )

    def stage_config(self, stage: int, info: DatasetInfo) -> StageConfig:
        """Return the settings of one stage on this data."""
        network = WelsNetConfig(
            num_classes=len(info.class_map), mel_bins=info.log_mel.mel_bins, **self.network
        )
        if stage == 0:
            return StageConfig(0, 1.0, (), network, self.train)
        teachers = self.teacher_stages if stage == self.stage else ()
        return StageConfig(
            stage=stage,
            alpha=self.alphas[0 if len(self.alphas) == 1 else stage - 1],
            teacher_stages=tuple(teachers or [stage - 1]),
            network=network,
            train=self.train,
            class_alphas=self.class_alphas,
        )


@dataclasses.dataclass(frozen=True)
class StageConfig(Config):
    """Settings of one stage of a cascade, as kept in its `config.json`.

    `CascadeConfig` makes them from the data; make one to describe a stage by itself.

    Source: Kumar and Ithapu, SeCoST, ICASSP 2020 (arXiv:1910.11789).

    Raises:
        ValueError: if a value is not allowed, or does not go with the number of the stage: stage 0
            has alpha 1 and no teacher, later stages have teachers among the stages before.

    Example:
        >>> from secost_tf import StageConfig, TrainConfig, WelsNetConfig
        >>> student = WelsNetConfig(num_classes=50)
        >>> stage = StageConfig(1, 0.3, (0,), student, TrainConfig())
        >>> stage.needs_teacher
        True
        >>> StageConfig(0, 0.3, (), student, TrainConfig())
        Traceback (most recent call last):
            ...
        ValueError: alpha: expected 1 for stage 0, which has no teacher, got 0.3
    """

    stage: int = setting(help="Its number; 0 is the base model, Teacher-0.", minimum=0)
    alpha: float = setting(
        help="Weight of the labels in the targets; 1 for stage 0.", minimum=0, maximum=1
    )
    teacher_stages: tuple[int, ...] = setting(
        help="The stages whose scores are averaged into the teacher; none for stage 0.", minimum=0
    )
    network: WelsNetConfig = setting(help="The student.")
    train: TrainConfig = setting(help="How it is trained.")
    class_alphas: tuple[float | None, ...] = setting(
        (),
        "Weight of the labels of each class, None where `alpha` holds; none: `alpha` holds for "
        "all.",
        minimum=0,
        maximum=1,
    )

    def __post_init__(self):
        super().__post_init__()
        self._require(
            len(self.class_alphas) in (0, self.network.num_classes),
            "class_alphas",
            f"a number from 0 to 1, or none, for each of {self.network.num_classes} classes",
        )
        if self.stage == 0:
            self._require(self.alpha == 1, "alpha", "1 for stage 0, which has no teacher")
            self._require(not self.teacher_stages, "teacher_stages", "none for stage 0")
            self._require(not self.class_alphas, "class_alphas", "none for stage 0")
        else:
            self._require(
                bool(self.teacher_stages) and all(0 <= t < self.stage for t in self.teacher_stages),
                "teacher_stages",
                f"stages before stage {self.stage}",
            )

    @property
    def loss_alpha(self) -> float | tuple[float, ...]:
        """The weight of the labels as the loss takes it: one number, or one for each class."""
        alphas = (self.alpha if alpha is None else alpha for alpha in self.class_alphas)
        return tuple(alphas) or self.alpha

    @property
    def needs_teacher(self) -> bool:
        """True if the teacher's scores are read."""
        return bool(self.teacher_stages) and bool(np.min(self.loss_alpha) < 1)

    @property
    def alpha_note(self) -> str:
        """The words beside `alpha` in tables: `per class`, or none."""
        return "per class" if self.class_alphas else ""

    @classmethod
    def from_dict(cls, values: dict) -> StageConfig:
        """Return the settings that `to_dict` gave, also that of a version before.

        Alphas that such a version estimated stand in `alpha` and `class_alphas`.
        """
        retired = ("estimate_class_alphas", "auto_alphas")
        return super().from_dict({name: values[name] for name in values if name not in retired})


@dataclasses.dataclass(frozen=True)
class RunOptions(Config):
    """Settings of a run that change no result."""

    checkpoint_minutes: float = setting(
        10.0,
        "Most minutes between two checkpoints; a killed run loses no more than that. An epoch "
        "always ends with one.",
        minimum=0,
    )
    cache_in_memory: bool = setting(
        False,
        "Hold the training records in memory, decompressed, if they take at most half of what is "
        "free: for shards on slow or remote storage, or compressed.",
    )
    flags: str = setting(
        "",
        "The command's flags as a flagfile, kept beside the settings of each stage; empty: not "
        "kept.",
        flag=False,
    )
    picture_clips: int = setting(
        4, "Validation clips that TensorBoard shows with their segment scores; 0: none.", minimum=0
    )
    picture_epochs: int = setting(
        5,
        "Epochs from one set of those pictures, and of precision-recall curves, to the next; a "
        "stage's last epoch has one too.",
        minimum=1,
    )
    profile_steps: tuple[int, ...] = setting(
        (),
        "First and last step of each stage, counted from 1, that are profiled for TensorBoard, "
        "such as 10,20: where the time goes, operation by operation (needs the package "
        "tensorboard-plugin-profile to be looked at). Default: none.",
    )

    def __post_init__(self):
        super().__post_init__()
        steps = self.profile_steps
        self._require(
            not steps or (len(steps) == 2 and 1 <= steps[0] <= steps[1]),
            "profile_steps",
            "a first and a last step, counted from 1, such as 10,20",
        )
