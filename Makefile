# make demo   a real photo, inverted, edited and put back into the picture: look into demo/
# make ui     the editor, in a browser on this machine
# make test   lint and the test suite
# All do their own set-up on a machine with Python >= 3.11; a second run starts at once.

PYTHON ?= python3
VENV   ?= .venv
PHOTO  ?= docs/samples/astronaut.jpg
EDITS  ?= --set smile=2
BUDGET ?= 30
ARGS   ?=
BIN    := $(VENV)/bin

# glibc returns every large activation to the system and pays for it in page faults: see stylegan2/allocator.py.
export MALLOC_MMAP_THRESHOLD_ := 4294967296
export MALLOC_TRIM_THRESHOLD_ := 8589934592
export MALLOC_TOP_PAD_ := 268435456
export MALLOC_ARENA_MAX := 1

.PHONY: demo ui test test-slow lint format setup weights clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed weights
	$(BIN)/python -m editing.invert --img $(PHOTO) --method tune --budget $(BUDGET) --out demo
	$(BIN)/python -m editing.edit --img $(PHOTO) --inversion demo/$(basename $(notdir $(PHOTO))).inversion \
		$(EDITS) --out demo
	$(BIN)/python -m editing.edit --img $(PHOTO) --inversion demo/$(basename $(notdir $(PHOTO))).inversion \
		--strip smile=-2:2:1 --strip yaw=-2:2:1 --out demo
	@echo "Done: the pictures are in demo/."

ui: $(VENV)/.installed-ui weights
	$(BIN)/python -m streamlit run ui/app.py $(ARGS)

test: $(VENV)/.installed-dev weights lint
	$(BIN)/python -m stylegan2.zoo fetch mobilestylegan-ffhq-1024-ir > /dev/null
	$(BIN)/python -m pytest $(ARGS)

test-slow: $(VENV)/.installed-dev weights
	$(BIN)/python -m pytest -m slow $(ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

setup: $(VENV)/.installed

weights: $(VENV)/.installed
	$(BIN)/python -m stylegan2.zoo fetch > /dev/null

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "error: $(PYTHON) is older than Python 3.11; try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.python setup.cfg pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-ui: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[ui,video]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,train]'
	@touch $@

clean:
	rm -rf demo build *.egg-info .pytest_cache .ruff_cache
