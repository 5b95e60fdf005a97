"""Settings of networks, trainings, runs and exports. Only a command's face reads flags; it makes these."""

from __future__ import annotations

import dataclasses

from tfrecord_tools.config import Config, setting

POOLING_HEADS = (
    "average",
    "max",
    "linear_softmax",
    "exp_softmax",
    "attention",
    "auto",
    "noisy_or",
    "top_k",
)  # the heads P of `secost_tf.pooling`


@dataclasses.dataclass(frozen=True)
class WelsNetConfig(Config):
    """Settings of WELS-Net; the defaults are the layer table in `secost_tf.wels_net`."""

    num_classes: int = setting(help="Outputs of B8, a score for each class.", minimum=1, flag=False)
    mel_bins: int = setting(
        64,
        "Height of the log-mel input; a multiple of the product of the max-pools (`block_pools`).",
        minimum=1,
        flag=False,
    )
    width: float = setting(
        1.0,
        "Multiplies the network's channels but not the classes; cost goes with its square. 1 is "
        "WELS-Net as published (14 M weights), 0.25 trains on two processor cores.",
        above=0,
    )
    block_channels: tuple[int, ...] = setting(
        (64, 128, 256, 512),
        "Channels of the blocks of 3x3 convolutions, B1 to B4, before --width, separated by commas.",
        minimum=1,
    )
    block_pools: tuple[int, ...] = setting(
        (4, 2, 2, 2),
        "Size of each block's max-pool, in frames and mel bins alike; their product is the frames "
        "from one segment to the next.",
        minimum=1,
    )
    block_convolutions: int = setting(2, "3x3 convolutions in each block.", minimum=1)
    embedding_channels: int = setting(
        2048, "Channels of B5, the convolution behind the blocks.", minimum=1, flag=False
    )
    embedding_frames: int = setting(
        3,
        "Length of the kernel of B5 in (pooled) frames; its height is whatever mel bins are left.",
        minimum=1,
        flag=False,
    )
    hidden_channels: tuple[int, ...] = setting(
        (1024, 1024),
        "Channels of the 1x1 convolutions behind the blocks, B6 and B7, before --width, separated by commas.",
        minimum=1,
    )
    pooling: str = setting(
        "average",
        "Head P, from segment scores to clip scores. average is the method's own; attention costs "
        "one convolution more.",
        choices=POOLING_HEADS,
    )
    pooling_k: int = setting(3, "Number of segments that --pooling=top_k averages.", minimum=1)
    batch_norm_momentum: float = setting(0.9, "Momentum of every batch normalisation.", flag=False)
    batch_norm_epsilon: float = setting(
        1e-3, "Added to the variance in every batch normalisation.", flag=False
    )

    def __post_init__(self):
        super().__post_init__()
        self._require(
            len(self.block_pools) == len(self.block_channels) >= 1,
            "block_pools",
            f"one pool for each of {len(self.block_channels)} blocks",
        )
        self._require(
            self.mel_bins % self.stride_frames == 0,
            "mel_bins",
            f"a multiple of {self.stride_frames}, the product of the max-pools (block_pools)",
        )

    @property
    def stride_frames(self) -> int:
        """Frames from one segment to the next: 32 at the defaults, 0.32 s."""
        stride = 1
        for pool in self.block_pools:
            stride *= pool
        return stride

    @property
    def window_frames(self) -> int:
        """Frames that B5 sees for one segment, context of the 3x3 convolutions aside: 96 at the defaults."""
        return self.stride_frames * self.embedding_frames

    def channels(self, number: int) -> int:
        """A number of channels after `width`; at least 1."""
        return max(1, round(number * self.width))

    @property
    def convolution_channels(self) -> tuple[int, ...]:
        """Channels of the 3x3 convolutions of B1 to B4, after `width`."""
        return tuple(map(self.channels, self.block_channels))

    def num_segments(self, num_frames: int) -> int:
        """K for a clip of `num_frames` frames: whole and begun strides, less the kernel's overhang; at least 1."""
        cells = -(-num_frames // self.stride_frames)
        return max(1, cells - self.embedding_frames + 1)


@dataclasses.dataclass(frozen=True)
class TrainConfig(Config):
    """Settings of the training of each stage."""

    epochs: int = setting(30, "Passes over the training clips, per stage.", minimum=1)
    batch_size: int = setting(
        32,
        "Clips in a step, over all replicas together. Each epoch leaves out fewer clips than one batch.",
        minimum=1,
    )
    optimizer: str = setting(
        "Adam",
        "An optimizer's name: Keras's own first (Adam, SGD, ...), then TensorFlow Addons' on Python "
        "3.10 and 3.11 (RectifiedAdam, LAMB, NovoGrad, Lookahead, ...).",
    )
    learning_rate: float = setting(
        1e-3,
        "Peak learning rate, reached after the warm-up; then a half cosine down to 0 at the stage's "
        "last step.",
        above=0,
    )
    warmup_share: float = setting(
        0.1,
        "Share of a stage's steps in which the learning rate rises from 0 to its peak; 0 starts at the peak.",
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
        "Clips in the shuffle buffer (0.13 MB of memory each on AudioSet); shards are shuffled besides.",
        minimum=1,
    )
    seed: int = setting(0, "Seeds the weights and the order of the clips; the same seed gives the same run.")
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
        "Mixes each clip with another one of its batch, labels and teacher scores alike, by weights "
        "of Beta(alpha, alpha); 0 does not. 0.3 to 1 are usual: higher mixes more.",
        minimum=0,
    )
    time_masks: int = setting(0, "Stretches masked in each clip (SpecAugment); 0: none.", minimum=0)
    time_mask_frames: int = setting(64, "Most frames of one stretch of --time_masks.", minimum=1)
    frequency_masks: int = setting(0, "Bands masked in each clip (SpecAugment); 0: none.", minimum=0)
    frequency_mask_bins: int = setting(8, "Most mel bins of one band of --frequency_masks.", minimum=1)
    time_warp_frames: int = setting(
        0,
        "Most frames by which a random place of each clip is moved, what lies beside it being "
        "stretched (SpecAugment); 0 does not. Slow; needs TensorFlow Addons (Python 3.10 and 3.11).",
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
        "Equal parts of the shards from which each batch is drawn alike: as many as there are workers.",
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
class StageConfig(Config):
    """One stage of the cascade, as kept in its `config.json`."""

    stage: int = setting(help="Its number; 0 is the base model, Teacher-0.", minimum=0)
    alpha: float = setting(help="Weight of the labels in the targets; 1 for stage 0.", minimum=0, maximum=1)
    teacher_stages: tuple[int, ...] = setting(
        help="The stages whose scores are averaged into the teacher; none for stage 0.", minimum=0
    )
    network: WelsNetConfig = setting(help="The student.")
    train: TrainConfig = setting(help="How it is trained.")
    class_alphas: tuple[float | None, ...] = setting(
        (),
        "Weight of the labels of each class, None where `alpha` holds; none: `alpha` holds for all.",
        minimum=0,
        maximum=1,
    )
    estimate_class_alphas: bool = setting(
        False,
        "The stage estimates `class_alphas` itself, when it starts; until then there are none.",
    )
    auto_alphas: tuple[float, ...] = setting(
        (),
        "`alpha` is the one of these that serves best, tried in training; until then the first. "
        "None: it is given.",
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
            for name in ("class_alphas", "estimate_class_alphas", "auto_alphas"):
                self._require(not getattr(self, name), name, "none for stage 0")
        else:
            self._require(
                bool(self.teacher_stages) and all(0 <= t < self.stage for t in self.teacher_stages),
                "teacher_stages",
                f"stages before stage {self.stage}",
            )

    @property
    def loss_alpha(self) -> float | tuple[float, ...]:
        """The weight of the labels as the loss takes it: one number, or one for each class."""
        return tuple(self.alpha if one is None else one for one in self.class_alphas) or self.alpha

    @property
    def needs_teacher(self) -> bool:
        """Whether the teacher's scores are read."""
        alphas = self.loss_alpha if self.class_alphas else (self.alpha,)
        return bool(self.teacher_stages) and (self.estimate_class_alphas or min(alphas) < 1)

    @property
    def alpha_note(self) -> str:
        """What tables say beside `alpha`: `auto`, `per class`, both, or nothing."""
        per_class = self.class_alphas or self.estimate_class_alphas
        return ", ".join(["auto"] * bool(self.auto_alphas) + ["per class"] * bool(per_class))

    @property
    def trainings(self) -> int:
        """How often a student is trained for this stage: once for each of `auto_alphas`."""
        return len(self.auto_alphas) or 1

    def aligned_to(self, other: StageConfig) -> StageConfig:
        """These settings, but for the alphas that both stages find out themselves, in the same way: those are `other`'s."""
        same_search = self.auto_alphas and self.auto_alphas == other.auto_alphas
        both_estimate = self.estimate_class_alphas and other.estimate_class_alphas
        return dataclasses.replace(
            self,
            alpha=other.alpha if same_search else self.alpha,
            class_alphas=other.class_alphas if both_estimate else self.class_alphas,
        )


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
        "The command's flags as a flagfile, kept beside the settings of each stage; empty: not kept.",
        flag=False,
    )
    picture_clips: int = setting(
        4,
        "Validation clips that TensorBoard shows with their segment scores; 0: none.",
        minimum=0,
    )
    picture_epochs: int = setting(
        5,
        "Epochs from one set of those pictures, and of precision-recall curves, to the next; a "
        "stage's last epoch has one too.",
        minimum=1,
    )
    profile_steps: tuple[int, ...] = setting(
        (),
        "First and last step of each stage, counted from 1, that are profiled for TensorBoard, such "
        "as 10,20: where the time goes, operation by operation (needs the package "
        "tensorboard-plugin-profile to be looked at). Default: none.",
    )

    def __post_init__(self):
        super().__post_init__()
        steps = self.profile_steps
        is_range = not steps or (len(steps) == 2 and 1 <= steps[0] <= steps[1])
        expected = "a first and a last step, counted from 1, such as 10,20"
        self._require(is_range, "profile_steps", expected)


@dataclasses.dataclass(frozen=True)
class ServingConfig(Config):
    """Settings of a model exported for TensorFlow Serving."""

    top_k: int = setting(
        10,
        "SavedModel: classes that the signature top_k gives for a clip, the highest scores first; "
        "at most all.",
        minimum=1,
    )
    max_seconds: float = setting(
        1200.0,
        "SavedModel: most sound in one request, over all its clips, in seconds; more is an error. "
        "Bounds the memory that a request takes: 5 MB a second at width 1.",
        above=0,
    )


PORTABLE_INPUTS = ("waveform", "log_mel")
PORTABLE_PRECISIONS = ("float32", "float16", "int8")


@dataclasses.dataclass(frozen=True)
class PortableConfig(Config):
    """Settings of a model exported for the TFLite and ONNX runtimes."""

    model_input: str = setting(
        "waveform",
        "TFLite, ONNX: whether the model takes waveforms, or log-mels that the application computes "
        "as tfrecord_tools.log_mel does.",
        choices=PORTABLE_INPUTS,
    )
    seconds: float = setting(
        10.0,
        "TFLite: length of the clips that the model takes, in seconds; shorter ones are to be "
        "followed by silence. ONNX takes any.",
        above=0,
    )
    precision: str = setting(
        "float32",
        "TFLite: float32; float16 weights, half the size; or int8 weights and convolutions, a "
        "quarter of the size, calibrated on clips (the log-mel and the pooling stay float32).",
        choices=PORTABLE_PRECISIONS,
        flag="tflite_precision",
        aliases=("precision",),
    )
    calibration_clips: int = setting(
        200, "TFLite in int8: clips that it is calibrated on, at most.", minimum=1
    )
