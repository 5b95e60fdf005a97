"""Package secost_tf: one source, two TensorFlow stacks, picked by the Python version (see
BUILD.md).
"""

import re
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent
REFERENCE = "python_version < '3.12'"  # Python 3.10 and 3.11: TensorFlow 2.15, Keras 2.15
CURRENT = "python_version >= '3.12'"  # Python 3.12 and 3.13: TensorFlow 2.18 and later, Keras 3
LINUX_X86 = "sys_platform == 'linux' and platform_machine == 'x86_64'"
# What sed_scores_eval needs besides: it fails with pandas 3, and what it imports with a setuptools
# without pkg_resources.
DETECTION = ["pandas<3", "sed_scores_eval==0.0.4", "setuptools<81"]
COMMANDS = {
    "secost_tf": (
        *("train", "evaluate", "experiment", "analyze", "localize", "report"),
        *("export", "client", "monitor"),
    ),
    "tfrecord_tools": ("convert", "inspect", "soundscapes"),
}


class BuildWithFlagfiles(build_py):
    """Build the packages, with the flagfiles of flags/ as data of secost_tf."""

    def run(self):
        super().run()
        if not self.editable_mode:
            self.copy_tree("flags", str(Path(self.build_lib, "secost_tf", "flagfiles")))


setup(
    name="secost_tf",
    version=re.search(r'__version__ = "(.+)"', (HERE / "secost_tf/version.py").read_text())[1],
    description="SeCoST: sequential co-supervision for weakly labelled audio event detection, on "
    "TensorFlow and Keras",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(
        include=["secost_tf", "secost_tf.*", "tfrecord_tools", "tfrecord_tools.*"]
    ),
    cmdclass={"build_py": BuildWithFlagfiles},
    package_data={
        "secost_tf": [
            "py.typed",
            "reporting/assets/*.css",
            "reporting/assets/*.js",
            "reporting/templates/**/*.html.j2",
            "serving/templates/*.md.j2",
        ],
        "tfrecord_tools": ["py.typed"],
    },
    python_requires=">=3.10,<3.14",
    install_requires=[
        f"tensorflow==2.15.1; {REFERENCE}",
        f"tensorflow>=2.18,<2.22; {CURRENT}",
        f"keras==2.15.0; {REFERENCE}",
        f"keras>=3.8,<4; {CURRENT}",
        # Object storage: registers s3://, az:// and hdfs:// with tf.io.gfile.
        f"tensorflow-io==0.36.0; {REFERENCE} and {LINUX_X86}",
        # Optimizers that Keras lacks.
        f"tensorflow-addons==0.23.0; {REFERENCE} and {LINUX_X86}",
        f"numpy>=1.24,<2; {REFERENCE}",
        f"numpy>=2; {CURRENT}",
        "absl-py>=1.4",
        "av>=13",
        "google-crc32c>=1.5",
        "jinja2>=3.1",
        "matplotlib>=3.7",
        "protobuf>=4.22",
        "rich>=13",
        "scipy>=1.10",
        "soundfile>=0.12.1",
        "soxr>=0.3.7",
        "tensorboard>=2.15",
        "tqdm>=4.64",
    ],
    extras_require={
        "beam": ["apache-beam>=2.60"],
        "detection": DETECTION,
        "test": [
            *DETECTION,
            "apache-beam>=2.60",
            "build",
            "import-linter>=2.17",
            "mypy==2.4.1",
            f"moto[server]>=5; {REFERENCE}",
            "pytest>=8",
            "pytest-cov>=5",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.7",
            "ruff==0.17.6",
            "scikit-learn>=1.3",
            "selenium>=4.20",
        ],
        # The client; tensorflow-serving-api must match TensorFlow.
        "serving": [
            f"tensorflow-serving-api==2.15.1; {REFERENCE}",
            f"tensorflow-serving-api>=2.18,<2.22; {CURRENT}",
            "requests>=2.30",
            "urllib3>=2",
        ],
        # tf2onnx works with these; later onnx needs a protobuf that TensorFlow 2.15 does not take.
        "onnx": [
            "tf2onnx>=1.17",
            f"onnx>=1.17,<1.19; {REFERENCE}",
            f"onnx>=1.17; {CURRENT}",
            "onnxruntime>=1.17",
        ],
        "microphone": ["sounddevice>=0.4.6"],
        "gpu": [
            f"tensorflow[and-cuda]==2.15.1; {REFERENCE}",
            f"tensorflow[and-cuda]>=2.18,<2.22; {CURRENT}",
        ],
    },
    entry_points={
        "console_scripts": [
            f"{'secost' if package == 'secost_tf' else package.replace('_tools', '')}-{name} = "
            f"{package}.{name}:run"
            for package, names in COMMANDS.items()
            for name in names
        ]
    },
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Multimedia :: Sound/Audio :: Analysis",
    ],
)
