"""Frozen settings with a JSON round trip. Only a command's `main` reads flags; it makes these."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any, TypeVar

T = TypeVar("T", bound="Config")

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
_LONG = 8  # a list with more items is not shown whole


def _require(config: Any, ok: bool, name: str, expected: str) -> None:
    if not ok:
        raise ValueError(f"{name}: expected {expected}, got {getattr(config, name)!r}")


@dataclasses.dataclass(frozen=True)
class Config:
    """A frozen dataclass of plain values that goes to JSON and back."""

    def to_dict(self) -> dict:
        """Plain values, for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls: type[T], values: dict) -> T:
        """The inverse of `to_dict`, also after a trip through JSON; an unknown key is a `ValueError`."""
        hints = typing.get_type_hints(cls)
        unknown = sorted(set(values) - set(hints))
        if unknown:
            raise ValueError(f"{cls.__name__} has no {', '.join(unknown)}")
        return cls(**{name: _restore(hints[name], value) for name, value in values.items()})

    def differences(self: T, other: T) -> str:
        """`name: mine != theirs; ...` for each value that differs, also in nested configs; empty if none does."""
        pairs = [(name, mine, getattr(other, name)) for name, mine in vars(self).items()]
        return "; ".join(
            mine.differences(theirs) if isinstance(mine, Config) else describe_difference(name, mine, theirs)
            for name, mine, theirs in pairs
            if mine != theirs
        )


def describe_difference(name: str, mine: Any, theirs: Any) -> str:
    """`name: mine != theirs`; of long lists the first items that differ, or their lengths."""
    both = (mine, theirs)
    if all(isinstance(one, (list, tuple)) for one in both) and len(mine) == len(theirs) > _LONG:
        place = next(index for index, (one, other) in enumerate(zip(*both, strict=True)) if one != other)
        return describe_difference(f"{name}[{place}]", mine[place], theirs[place])
    shown = [
        f"{len(one)} values" if isinstance(one, (list, tuple)) and len(one) > _LONG else repr(one)
        for one in both
    ]
    return f"{name}: {shown[0]} != {shown[1]}"


def _restore(hint: Any, value: Any) -> Any:
    if isinstance(value, dict) and isinstance(hint, type) and issubclass(hint, Config):
        return hint.from_dict(value)
    if isinstance(value, list):
        return tuple(_restore(None, item) for item in value)
    return value


@dataclasses.dataclass(frozen=True)
class WelsNetConfig(Config):
    """WELS-Net's numbers; the defaults are the layer table in `secost_tf.wels_net`.

    Attributes:
        num_classes: outputs of B8.
        mel_bins: height of the log-mel input.
        width: multiplies every number of channels but the classes'.
        block_channels, block_pools: B1 to B4: channels, and the max-pool's size in frames and mel bins alike.
        block_convolutions: 3x3 convolutions in each of B1 to B4.
        embedding_channels, embedding_frames: B5: channels, and the kernel's length in (pooled) frames; its height is
            whatever mel bins are left.
        hidden_channels: B6 and B7: channels of the 1x1 convolutions.
        pooling: the head P, one of `POOLING_HEADS`.
        pooling_k: segments that `top_k` averages.
        batch_norm_momentum, batch_norm_epsilon: of every batch normalisation.
    """

    num_classes: int
    mel_bins: int = 64
    width: float = 1.0
    block_channels: tuple[int, ...] = (64, 128, 256, 512)
    block_pools: tuple[int, ...] = (4, 2, 2, 2)
    block_convolutions: int = 2
    embedding_channels: int = 2048
    embedding_frames: int = 3
    hidden_channels: tuple[int, ...] = (1024, 1024)
    pooling: str = "average"
    pooling_k: int = 3
    batch_norm_momentum: float = 0.9
    batch_norm_epsilon: float = 1e-3

    def __post_init__(self):
        _require(self, self.num_classes >= 1, "num_classes", "at least 1")
        _require(self, self.width > 0, "width", "a positive number")
        _require(
            self,
            len(self.block_pools) == len(self.block_channels) >= 1,
            "block_pools",
            f"one pool for each of {len(self.block_channels)} blocks",
        )
        for name in ("block_pools", "block_channels", "hidden_channels"):
            _require(self, min(getattr(self, name), default=1) >= 1, name, "at least 1 each")
        _require(self, self.block_convolutions >= 1, "block_convolutions", "at least 1")
        _require(
            self,
            self.mel_bins >= 1 and self.mel_bins % self.stride_frames == 0,
            "mel_bins",
            f"a multiple of {self.stride_frames}, the product of the max-pools (block_pools)",
        )
        _require(self, self.embedding_frames >= 1, "embedding_frames", "at least 1")
        _require(self, self.pooling in POOLING_HEADS, "pooling", f"one of {', '.join(POOLING_HEADS)}")
        _require(self, self.pooling_k >= 1, "pooling_k", "at least 1")

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
    """How each stage is trained.

    Attributes:
        epochs: passes over the training share.
        batch_size: clips a step, over all replicas.
        optimizer: an optimizer's name, Keras's or TensorFlow Addons'.
        learning_rate: the peak, after the warm-up.
        warmup_share: share of all steps in which the learning rate rises from 0 to its peak; then it falls as a
            half cosine to 0.
        validation_share: share of the train split, chosen by a hash of the clip id, that picks the best epoch where
            there is no validation split; 0 takes the last epoch.
        shuffle_clips: size of the shuffle buffer.
        seed: seeds the weights and the order of the clips.
        precision: float32, mixed_bfloat16 or mixed_float16.
        balanced_sampling: draw each class equally often, then one of its clips; an epoch is as long as without.
        mixup_alpha: of Beta(alpha, alpha), from which mixup draws its weights; 0 does not mix.
        time_masks, time_mask_frames: stretches masked in each clip, and the most frames of one.
        frequency_masks, frequency_mask_bins: bands masked in each clip, and the most mel bins of one.
        time_warp_frames: most frames by which a place in each clip is moved; 0 does not warp.
        steps_per_epoch: batches in an epoch; 0 means a pass over the training share.
        clip_norm: the most that the norm of a gradient may be; 0: any.
        ema: decay of the moving average of the weights, which is then what is evaluated and kept; 0 keeps none.
        input_streams: parts of the shards from which each batch is drawn alike: as many as there are workers.
        teacher: `cached` (scores written once by the stage before) or `online` (the teacher scores each batch).
    """

    epochs: int = 30
    batch_size: int = 32
    optimizer: str = "Adam"
    learning_rate: float = 1e-3
    warmup_share: float = 0.1
    validation_share: float = 0.1
    shuffle_clips: int = 2048
    seed: int = 0
    precision: str = "float32"
    balanced_sampling: bool = False
    mixup_alpha: float = 0.0
    time_masks: int = 0
    time_mask_frames: int = 64
    frequency_masks: int = 0
    frequency_mask_bins: int = 8
    time_warp_frames: int = 0
    steps_per_epoch: int = 0
    clip_norm: float = 0.0
    ema: float = 0.0
    input_streams: int = 1
    teacher: str = "cached"

    def __post_init__(self):
        at_least_1 = ("epochs", "batch_size", "shuffle_clips", "time_mask_frames", "frequency_mask_bins")
        for name in (*at_least_1, "input_streams"):
            _require(self, getattr(self, name) >= 1, name, "at least 1")
        may_be_off = ("mixup_alpha", "time_masks", "frequency_masks", "time_warp_frames")
        for name in (*may_be_off, "steps_per_epoch", "clip_norm"):
            _require(self, getattr(self, name) >= 0, name, "0 (off) or more")
        _require(self, 0 <= self.ema < 1, "ema", "0 (off), or a decay below 1, such as 0.999")
        of_streams = f"a multiple of the {self.input_streams} input streams"
        _require(self, self.batch_size % self.input_streams == 0, "batch_size", of_streams)
        _require(self, self.learning_rate > 0, "learning_rate", "a positive number")
        _require(self, 0 <= self.warmup_share < 1, "warmup_share", "a share in [0, 1)")
        _require(self, 0 <= self.validation_share < 1, "validation_share", "a share in [0, 1)")
        _require(self, self.teacher in ("cached", "online"), "teacher", "cached or online")
        precisions = ("float32", "mixed_bfloat16", "mixed_float16")
        _require(self, self.precision in precisions, "precision", ", ".join(precisions))


@dataclasses.dataclass(frozen=True)
class StageConfig(Config):
    """One stage of the cascade, as kept in its `config.json`.

    Attributes:
        stage: its number; 0 is the base model, Teacher-0.
        alpha: weight of the labels in the targets, in [0, 1]; 1 for stage 0.
        teacher_stages: the stages whose scores are averaged into the teacher; none for stage 0.
        network: the student.
        train: how it is trained.
        class_alphas: weight of the labels of each class, None where `alpha` holds; none: `alpha` holds for all.
        estimate_class_alphas: the stage estimates `class_alphas` itself, when it starts; until then there are none.
        auto_alphas: `alpha` is the one of these that serves best, tried in training; until then the first. None: it is given.
    """

    stage: int
    alpha: float
    teacher_stages: tuple[int, ...]
    network: WelsNetConfig
    train: TrainConfig
    class_alphas: tuple[float | None, ...] = ()
    estimate_class_alphas: bool = False
    auto_alphas: tuple[float, ...] = ()

    def __post_init__(self):
        _require(self, self.stage >= 0, "stage", "0 or more")
        _require(self, 0 <= self.alpha <= 1, "alpha", "a number in [0, 1], the weight of the labels")
        of_classes = all(alpha is None or 0 <= alpha <= 1 for alpha in self.class_alphas)
        _require(
            self,
            of_classes and len(self.class_alphas) in (0, self.network.num_classes),
            "class_alphas",
            f"a number in [0, 1], or none, for each of {self.network.num_classes} classes",
        )
        if self.stage == 0:
            _require(self, self.alpha == 1, "alpha", "1 for stage 0, which has no teacher")
            _require(self, not self.teacher_stages, "teacher_stages", "none for stage 0")
            for name in ("class_alphas", "estimate_class_alphas", "auto_alphas"):
                _require(self, not getattr(self, name), name, "none for stage 0")
        else:
            _require(
                self,
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
    """What changes no result.

    Attributes:
        checkpoint_minutes: most time between two checkpoints.
        cache_in_memory: hold the training records in memory, if they take at most half of what is free.
        flags: the command's flags as a flagfile, kept beside the settings of each stage; empty: not kept.
        picture_clips: validation clips that TensorBoard shows with their segment scores; 0: none.
        picture_epochs: epochs from one set of pictures and precision-recall curves to the next; the last has one too.
        profile_steps: first and last step of each stage (from 1) that TensorBoard's profile covers; empty: none.
    """

    checkpoint_minutes: float = 10.0
    cache_in_memory: bool = False
    flags: str = ""
    picture_clips: int = 4
    picture_epochs: int = 5
    profile_steps: tuple[int, ...] = ()

    def __post_init__(self):
        _require(self, self.picture_clips >= 0, "picture_clips", "0 (none) or more")
        _require(self, self.picture_epochs >= 1, "picture_epochs", "at least 1")
        steps = self.profile_steps
        is_range = not steps or (len(steps) == 2 and 1 <= steps[0] <= steps[1])
        _require(self, is_range, "profile_steps", "a first and a last step, counted from 1, such as 10,20")


@dataclasses.dataclass(frozen=True)
class ServingConfig(Config):
    """What of an exported model can be chosen.

    Attributes:
        top_k: classes that the signature `top_k` gives; at most all.
        max_seconds: most sound in one request, over all its clips.
    """

    top_k: int = 10
    max_seconds: float = 1200.0

    def __post_init__(self):
        _require(self, self.top_k >= 1, "top_k", "at least 1")
        _require(self, self.max_seconds > 0, "max_seconds", "a positive number of seconds")


PORTABLE_INPUTS = ("waveform", "log_mel")
PORTABLE_PRECISIONS = ("float32", "float16", "int8")


@dataclasses.dataclass(frozen=True)
class PortableConfig(Config):
    """What of a model for the TFLite and ONNX runtimes can be chosen.

    Attributes:
        model_input: `waveform`, with the log-mel in the graph, or `log_mel`.
        seconds: length of the clips that a TFLite model takes; ONNX takes any.
        precision: of a TFLite model: float32; float16 weights; or int8 convolutions, which need clips to calibrate.
        calibration_clips: how many of those are used, at most.
    """

    model_input: str = "waveform"
    seconds: float = 10.0
    precision: str = "float32"
    calibration_clips: int = 200

    def __post_init__(self):
        _require(self, self.model_input in PORTABLE_INPUTS, "model_input", " or ".join(PORTABLE_INPUTS))
        _require(self, self.seconds > 0, "seconds", "a positive number of seconds")
        _require(self, self.precision in PORTABLE_PRECISIONS, "precision", ", ".join(PORTABLE_PRECISIONS))
        _require(self, self.calibration_clips >= 1, "calibration_clips", "at least 1")
