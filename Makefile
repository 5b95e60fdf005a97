# make demo: the whole path on the built-in corpus.   make test: lint and tests, but for those of
# make test-slow: whole processes and trainings.   PYTHON=python3.12 make test: on that one.
PYTHONS := $(or $(PYTHON),python3.11 python3.12 python3.10 python3.13)
VENV ?= .venv$(addprefix -,$(notdir $(PYTHON)))
BIN := $(VENV)/bin
DEMO ?= demo
SOUNDSCAPES ?= --num_train=500 --num_eval=200 --label_noise=0.2
DEMO_FLAGS ?=

.PHONY: demo test test-slow lint format wheel clean

$(BIN)/python:
	python=$$(sh .ci/find-python $(PYTHONS)) && "$$python" -m venv $(VENV)

$(VENV)/installed: setup.py | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/installed-test: setup.py | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[test,serving,onnx]"
	touch $@ $(VENV)/installed

demo: $(VENV)/installed
	$(BIN)/python -m tfrecord_tools.soundscapes --out=$(DEMO)/corpus $(SOUNDSCAPES)
	for split in train eval; do \
	    $(BIN)/python -m tfrecord_tools.convert --dataset=audioset --split=$$split --out=$(DEMO)/data \
	        --segments_csv=$(DEMO)/corpus/$${split}_segments.csv --strong_tsv=$(DEMO)/corpus/$${split}_strong.tsv \
	        --class_labels_csv=$(DEMO)/corpus/class_labels_indices.csv --audio_dir=$(DEMO)/corpus/$$split || exit 1; \
	done
	$(BIN)/python -m tfrecord_tools.inspect --plot=$(DEMO)/data.png $(DEMO)/data
	$(BIN)/python -m secost_tf.train --flagfile=flags/demo.flags --data_dir=$(DEMO)/data --run_dir=$(DEMO)/run $(DEMO_FLAGS)
	$(BIN)/python -m secost_tf.report --run_dir=$(DEMO)/run --audio_dir=$(DEMO)/corpus/eval
	$(BIN)/python -m secost_tf.export --run_dir=$(DEMO)/run --export_dir=$(DEMO)/models/secost

# Coverage is counted from Python 3.12 on, where it costs little; before, a fifth of the time.
COVERAGE = $(shell $(BIN)/python -c \
    'import sys; print("--cov --cov-fail-under=95" if sys.version_info >= (3, 12) else "")')
PYTEST = $(BIN)/python -m pytest -n 2 --dist=loadfile --no-loadscope-reorder

test: lint
	$(PYTEST) -m "not slow" $(COVERAGE)

test-slow: $(VENV)/installed-test
	$(PYTEST) -m slow

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy

format: $(VENV)/installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: $(VENV)/installed-test
	rm -rf build/lib  # of an earlier tree
	$(BIN)/python -m build --wheel --outdir dist

clean:
	rm -rf .venv .venv-* build dist demo *.egg-info
