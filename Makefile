# Two commands: `make demo` and `make test`. Only relative paths here: make can't handle blanks in a
# path, and the project may lie under any.

# Compiled modules halve every import; Python's own variables of the caller are not for us.
unexport PYTHONDONTWRITEBYTECODE
unexport PYTHONPATH
unexport PYTHONHOME

# PYTHON=... chooses the interpreter (3.11 to 3.13); without it the first that works is taken.
PYTHON ?=
MILLRACE := .venv/bin/python -m tasks
# any Python will do to make the environment; the shell takes the first one that starts
BOOT := for python in "$(PYTHON)" python3 python3.12 python3.11 python3.13; do \
	[ -n "$$python" ] && "$$python" -I -c "" 2>/dev/null && exec "$$python" -I tasks/services/bootstrap.py "$(PYTHON)"; \
	done; echo "millrace: needs Python 3.11, 3.12 or 3.13, found none; install python3 and python3-venv" >&2; exit 2

.PHONY: help demo test proof proven up down status clean check lock environment

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1	/p' Makefile

demo: environment  ## real flights through the whole platform; ends with the addresses
	@$(MILLRACE) demo

test: environment  ## every test; ends in pytest's closing line
	@.venv/bin/python -m pytest -n 2 $(TESTS)

proof: environment  ## the long proofs, an hour; one that was cut off goes on; writes docs/reliability.md
	@.venv/bin/python -m pytest -n 2 -m proof $(TESTS)

proven: environment  ## fails where the code has changed since it was proved
	@PYTHONPATH=plugins .venv/bin/python -m tests.support.proofs

up: environment  ## start PostgreSQL, MLflow and Airflow
	@$(MILLRACE) up

down:  ## stop them
	@if [ -f .venv/millrace.json ]; then $(MILLRACE) down; else echo "there is no environment: nothing runs"; fi

status: environment  ## what runs where
	@$(MILLRACE) status

clean:  ## stop, and remove everything that was written under MILLRACE_HOME
	@if [ -f .venv/millrace.json ]; then $(MILLRACE) clean; \
	elif [ -e .millrace ]; then echo "make environment first: it knows what .millrace holds" >&2; exit 2; fi

check: environment  ## style, formatting and the direction of imports
	@.venv/bin/python -m ruff check .
	@.venv/bin/python -m ruff format --check .
	@PYTHONPATH=plugins .venv/bin/python -c "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())"

lock: environment  ## resolve the dependencies anew (no download address is written)
	@.venv/bin/python -m uv pip compile --quiet --universal --generate-hashes --all-extras --no-emit-index-url \
		--python-version 3.11 --custom-compile-command "make lock" --output-file requirements.lock $(UPGRADE) pyproject.toml

environment:  ## .venv as requirements.lock says; nothing happens where it is
	@$(BOOT)
