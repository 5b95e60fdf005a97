"""Flags of the commands that train, and the settings made of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence

from absl import flags, logging

from secost_tf.models import POOLING_HEADS, WelsNetConfig
from secost_tf.runs import CascadeConfig, RunOptions, TrainConfig
from secost_tf.training import devices, preemption
from secost_tf.training.class_alphas import read_class_alphas
from tfrecord_tools import shards
from tfrecord_tools.corpora import make_builtin_data

FLAGS = flags.FLAGS
flags.disclaim_key_flags()  # they are those of the command that defines them

_CHOSEN_BY_MAIN = ("precision", "input_streams")

_NETWORK_FLAGS = ("width", "pooling", "pooling_k", "block_convolutions")

_NETWORK_LISTS = ("block_channels", "block_pools", "hidden_channels")


def define_train_flags() -> None:
    """Define all flags of `secost_tf.train`."""
    before = set(FLAGS)
    for define in (
        define_cascade_flags,
        define_network_flags,
        define_training_flags,
        define_device_flags,
        define_run_flags,
    ):
        define()
    for name in set(FLAGS) - before:
        FLAGS.register_flag_by_module(__name__, FLAGS[name])  # what `command_flags` keeps


def define_cascade_flags() -> None:
    """Which stages, on which data, where to."""
    flags.DEFINE_string(
        "data_dir",
        None,
        "Folder of converted splits (tfrecord_tools.convert --out): train, eval, and validation if given. "
        "Default: the built-in corpus, made once under the user's cache directory (about 15 "
        "seconds).",
    )
    flags.DEFINE_string(
        "run_dir",
        "runs/secost",
        "Folder of the run: a folder for each stage, summary.csv and summary.json. What is done there is kept, what "
        "was stopped is continued.",
    )
    flags.DEFINE_integer(
        "stage",
        0,
        "The stage to train, 0 being the base model. Stages before it that are not done are trained first, as make "
        "would.",
        lower_bound=0,
    )
    flags.DEFINE_list(
        "alpha",
        ["0.3"],
        "Weight of the labels in the targets, in [0, 1]; the teacher weighs 1 - alpha. One number for every stage "
        "trained now, or a comma list for stages 1 to --stage. Stage 0 has no teacher and takes no alpha. auto: each "
        "stage after 0 is trained once for each of --auto_alphas, and the student with the best validation mAP becomes "
        "the stage. That costs as many stages as there are numbers (by default four times as much; see --dry_run).",
    )
    flags.DEFINE_list(
        "auto_alphas",
        ["0.7", "0.5", "0.3", "0.1"],
        "Weights of the labels, separated by commas, among which --alpha=auto chooses: each one costs a stage.",
    )
    flags.DEFINE_string(
        "alpha_per_class_csv",
        None,
        "A csv with the columns alpha and mid or display_name: weights of the labels of some classes, in every stage after "
        "0; the other classes take --alpha. Default: --alpha for all.",
    )
    flags.DEFINE_bool(
        "estimate_alpha_per_class",
        False,
        "Let each stage after 0 estimate the weight of the labels of each class, --alpha on average: less where the "
        "teacher contradicts them more than its own doubt explains, on the validation share of train. The estimate is "
        "kept in the stage's folder as alpha_per_class.csv.",
    )
    flags.DEFINE_list(
        "teacher_stages",
        [],
        "Stages, separated by commas, whose scores are averaged into the teacher of --stage. Default: the stage before.",
    )
    flags.DEFINE_bool(
        "prerequisites",
        True,
        "Train the stages before --stage that are not done; --noprerequisites makes that an error instead.",
    )


def define_network_flags() -> None:
    """The student."""
    defaults = WelsNetConfig(num_classes=1)
    flags.DEFINE_float(
        "width",
        defaults.width,
        "Multiplies the network's channels; cost goes with its square. 1 is WELS-Net as published (14 M weights), 0.25 "
        "trains on two processor cores.",
        lower_bound=0.01,
    )
    flags.DEFINE_enum(
        "pooling",
        defaults.pooling,
        POOLING_HEADS,
        "Head P, from segment scores to clip scores. average is the method's own; attention costs one convolution more.",
    )
    flags.DEFINE_integer(
        "pooling_k",
        defaults.pooling_k,
        "Number of segments that --pooling=top_k averages.",
        lower_bound=1,
    )
    flags.DEFINE_list(
        "block_channels",
        [str(one) for one in defaults.block_channels],
        "Channels of the blocks of 3x3 convolutions before --width, separated by commas.",
    )
    flags.DEFINE_list(
        "block_pools",
        [str(one) for one in defaults.block_pools],
        "Size of each block's max-pool, in frames and mel bins alike; their product is the frames from one segment to the next.",
    )
    flags.DEFINE_integer(
        "block_convolutions",
        defaults.block_convolutions,
        "3x3 convolutions in each block.",
        lower_bound=1,
    )
    flags.DEFINE_list(
        "hidden_channels",
        [str(one) for one in defaults.hidden_channels],
        "Channels of the 1x1 convolutions behind the blocks before --width, separated by commas.",
    )


def define_training_flags() -> None:
    """How each stage is trained."""
    defaults = TrainConfig()
    flags.DEFINE_integer(
        "epochs", defaults.epochs, "Passes over the training clips, per stage.", lower_bound=1
    )
    flags.DEFINE_integer(
        "batch_size",
        defaults.batch_size,
        "Clips in a step, over all replicas together. Each epoch leaves out fewer clips than one batch.",
        lower_bound=1,
    )
    flags.DEFINE_string(
        "optimizer",
        defaults.optimizer,
        "An optimizer's name: Keras's own first (Adam, SGD, ...), then TensorFlow Addons' on Python 3.10 and 3.11 "
        "(RectifiedAdam, LAMB, NovoGrad, Lookahead, ...).",
    )
    flags.DEFINE_float(
        "learning_rate",
        defaults.learning_rate,
        "Peak learning rate, reached after the warm-up; then a half cosine down to 0 at the stage's last step.",
        lower_bound=0,
    )
    flags.DEFINE_float(
        "warmup_share",
        defaults.warmup_share,
        "Share of a stage's steps in which the learning rate rises from 0 to its peak; 0 starts at the peak.",
    )
    flags.DEFINE_float(
        "validation_share",
        defaults.validation_share,
        "Share of the train split, chosen by a hash of the clip id, that is kept out of training and picks the best "
        "epoch by mAP; 0 takes the last epoch. Not used where there is a validation split.",
    )
    flags.DEFINE_integer(
        "shuffle_clips",
        defaults.shuffle_clips,
        "Clips in the shuffle buffer (0.13 MB of memory each on AudioSet); shards are shuffled besides.",
        lower_bound=1,
    )
    flags.DEFINE_bool(
        "balanced_sampling",
        defaults.balanced_sampling,
        "Draw each class equally often, then one of its clips, so that rare classes are seen more; clips without a label "
        "are not seen. An epoch stays as long.",
    )
    flags.DEFINE_float(
        "mixup_alpha",
        defaults.mixup_alpha,
        "Mixes each clip with another one of its batch, labels and teacher scores alike, by weights of Beta(alpha, "
        "alpha); 0 does not. 0.3 to 1 are usual: higher mixes more.",
        lower_bound=0.0,
    )
    flags.DEFINE_integer(
        "time_masks",
        defaults.time_masks,
        "Stretches masked in each clip (SpecAugment); 0: none.",
        lower_bound=0,
    )
    flags.DEFINE_integer(
        "time_mask_frames",
        defaults.time_mask_frames,
        "Most frames of one stretch of --time_masks.",
        lower_bound=1,
    )
    flags.DEFINE_integer(
        "frequency_masks",
        defaults.frequency_masks,
        "Bands masked in each clip (SpecAugment); 0: none.",
        lower_bound=0,
    )
    flags.DEFINE_integer(
        "frequency_mask_bins",
        defaults.frequency_mask_bins,
        "Most mel bins of one band of --frequency_masks.",
        lower_bound=1,
    )
    flags.DEFINE_integer(
        "time_warp_frames",
        defaults.time_warp_frames,
        "Most frames by which a random place of each clip is moved, what lies beside it being stretched (SpecAugment); 0 "
        "does not. Slow; needs TensorFlow Addons (Python 3.10 and 3.11).",
        lower_bound=0,
    )
    flags.DEFINE_integer(
        "steps_per_epoch",
        defaults.steps_per_epoch,
        "Batches in an epoch, for very large sets: the state is saved and the student validated after each, and the next "
        "epoch goes on where it ended. 0: an epoch is a pass over the training clips.",
        lower_bound=0,
    )
    flags.DEFINE_float(
        "clip_norm",
        defaults.clip_norm,
        "Shortens gradients whose norm, over the whole batch, is larger than this; 1 to 10 are usual. 0: none.",
        lower_bound=0.0,
    )
    flags.DEFINE_float(
        "ema",
        defaults.ema,
        "Decay of an exponential moving average of the weights, which is then what is validated, kept, and teaches: "
        "0.999 reaches back about 1,000 steps. 0: the weights themselves.",
        lower_bound=0.0,
        upper_bound=0.999999,
    )
    flags.DEFINE_integer(
        "input_streams",
        None,
        "Equal parts of the shards from which each batch is drawn alike. Default: as many as there are workers; give it "
        "to make, on fewer workers, the batches of more.",
        lower_bound=1,
    )
    flags.DEFINE_integer(
        "seed",
        defaults.seed,
        "Seeds the weights and the order of the clips; the same seed gives the same run.",
    )
    flags.DEFINE_enum(
        "precision",
        "auto",
        devices.PRECISIONS,
        "Arithmetic of the convolutions; weights, loss and pooling stay float32. auto takes mixed_bfloat16 where the "
        "GPU or processor is fast at it, else float32; a processor is fast at it if --width makes all channels multiples of "
        "16 (1, 0.5, 0.25).",
    )
    flags.DEFINE_enum(
        "teacher",
        defaults.teacher,
        ["cached", "online"],
        "cached: each stage scores the training clips once when it ends, and the next reads those scores, at no cost "
        "per step. online: the teacher scores each batch in the step; slower.",
    )


def define_device_flags() -> None:
    """Where to run."""
    flags.DEFINE_enum(
        "strategy",
        "auto",
        devices.STRATEGIES,
        "auto: mirrored over all GPUs if there are several, else one device. mirrored: MirroredStrategy over all "
        "devices. one_device: the first GPU, or the processor. multi_worker: mirrored over the devices of all machines "
        "in TF_CONFIG, each of which runs the same command (Python 3.10 and 3.11).",
    )
    flags.DEFINE_integer(
        "threads",
        0,
        "Processor threads for an operation. 0: as many as this process may use cores, container limits included.",
        lower_bound=0,
    )
    flags.DEFINE_bool(
        "deterministic",
        False,
        "Let the same command give the same weights to the bit on the same machine; slower on GPUs.",
    )
    flags.DEFINE_integer(
        "logical_cpus",
        0,
        "Splits the processor into this many logical devices, to try replicas on one machine; 0 leaves it whole.",
        lower_bound=0,
    )


def define_run_flags() -> None:
    """What changes no result."""
    defaults = RunOptions()
    flags.DEFINE_float(
        "checkpoint_minutes",
        defaults.checkpoint_minutes,
        "Most minutes between two checkpoints; a killed run loses no more than that. An epoch always ends with one.",
        lower_bound=0.0,
    )
    flags.DEFINE_bool(
        "cache_in_memory",
        False,
        "Hold the training records in memory, decompressed, if they take at most half of what is free: for shards on "
        "slow or remote storage, or compressed.",
    )
    flags.DEFINE_integer(
        "picture_clips",
        defaults.picture_clips,
        "Validation clips that TensorBoard shows with their segment scores; 0: none.",
        lower_bound=0,
    )
    flags.DEFINE_integer(
        "picture_epochs",
        defaults.picture_epochs,
        "Epochs from one set of those pictures, and of precision-recall curves, to the next; a stage's last epoch has one "
        "too.",
        lower_bound=1,
    )
    flags.DEFINE_list(
        "profile_steps",
        [],
        "First and last step of each stage, counted from 1, that are profiled for TensorBoard, such as 10,20: where the "
        "time goes, operation by operation (needs the package tensorboard-plugin-profile to be looked at). Default: none.",
    )
    flags.DEFINE_bool(
        "dry_run",
        False,
        "Train nothing: print what a stage costs (parameters, operations, records, steps, memory) and, from ten timed "
        "steps, how long it takes.",
    )


def cascade_config() -> CascadeConfig:
    """What the flags ask for; what depends on the machine is left to `main`."""
    auto = "auto" in FLAGS.alpha
    given = [text for text in FLAGS.alpha if text != "auto"]
    return CascadeConfig(
        stage=FLAGS.stage,
        alphas=parse_numbers("alpha", given, float),
        network={
            **{name: FLAGS[name].value for name in _NETWORK_FLAGS},
            **{name: parse_numbers(name, FLAGS[name].value, int) for name in _NETWORK_LISTS},
        },
        train=TrainConfig(
            **{
                field.name: FLAGS[field.name].value
                for field in dataclasses.fields(TrainConfig)
                if field.name not in _CHOSEN_BY_MAIN
            }
        ),
        teacher_stages=parse_numbers("teacher_stages", FLAGS.teacher_stages, int),
        prerequisites=FLAGS.prerequisites,
        estimate_class_alphas=FLAGS.estimate_alpha_per_class,
        auto_alphas=parse_numbers("auto_alphas", FLAGS.auto_alphas, float) if auto else (),
    )


def set_up(config: CascadeConfig) -> tuple[CascadeConfig, str, Callable[[], object]]:
    """Readies this process as the flags say; once.

    Returns:
        The settings with what depends on the machine; the folder of the data; what makes the
        strategy.
    """
    preemption.preemption.install()
    count = 1
    if FLAGS.strategy == "multi_worker":
        if not FLAGS.data_dir:
            raise ValueError(
                "data_dir: must be given with --strategy=multi_worker, on storage that all workers share"
            )
        count = sum(map(len, devices.cluster_config()["cluster"].values()))
    data_dir = FLAGS.data_dir or make_builtin_data()
    if FLAGS.alpha_per_class_csv:
        class_map = shards.read_dataset_info(data_dir, "train").class_map
        class_alphas = read_class_alphas(FLAGS.alpha_per_class_csv, class_map)
        config = dataclasses.replace(config, class_alphas=class_alphas)
    threads = devices.set_threads(FLAGS.threads)
    if FLAGS.deterministic:
        devices.make_deterministic()
    network = WelsNetConfig(num_classes=1, **config.network)
    precision, reason = devices.choose_precision(FLAGS.precision, network.convolution_channels)
    train = dataclasses.replace(
        config.train, precision=precision, input_streams=FLAGS.input_streams or count
    )
    config = dataclasses.replace(config, train=train)

    def make_strategy():
        strategy = devices.make_strategy(FLAGS.strategy, FLAGS.logical_cpus)
        preemption.preemption.install()  # again: TensorFlow takes SIGTERM for itself when several workers start
        logging.info("%s", devices.describe(strategy, precision, reason, *threads))
        return strategy

    return config, data_dir, make_strategy


def run_options(leave_out: Collection[str] = ("dry_run",)) -> RunOptions:
    """What changes no result, as the flags ask for it; `leave_out`: flags that are not kept beside
    the stages.
    """
    return RunOptions(
        checkpoint_minutes=FLAGS.checkpoint_minutes,
        cache_in_memory=FLAGS.cache_in_memory,
        flags=command_flags(leave_out),
        picture_clips=FLAGS.picture_clips,
        picture_epochs=FLAGS.picture_epochs,
        profile_steps=parse_numbers("profile_steps", FLAGS.profile_steps, int),
    )


def command_flags(leave_out: Collection[str] = ("dry_run",)) -> str:
    """The flags of this command as they were given, but for some, as a flagfile."""
    names = [flag.name for flag in FLAGS.get_flags_for_module(__name__) if flag.present]
    return "# python -m secost_tf.train --flagfile=flags.txt\n" + "".join(
        f"{FLAGS[name].serialize()}\n" for name in names if name not in leave_out
    )


def parse_numbers(name: str, texts: Sequence[str], kind: type) -> tuple:
    """The numbers of a comma list; a `ValueError` names the flag and the item that is none."""
    numbers = []
    for text in texts:
        try:
            numbers.append(kind(text))
        except ValueError as error:
            raise ValueError(
                f"{name}: expected numbers separated by commas, got {text!r}"
            ) from error
    return tuple(numbers)
