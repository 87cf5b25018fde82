"""Make the environment from the lock; runs with any Python 3.8 or later and imports nothing of ours.

    python3 -I tasks/services/bootstrap.py [interpreter]

Chooses an interpreter, makes `.venv`, installs uv out of the lock with pip (hashes checked), and
with uv the rest. A stamp holds the lock's digest, so that a second call returns at once and an
interrupted one starts over. Ends with 2 and one line where the machine is not one of ours.
"""

import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
VENV = os.path.join(ROOT, ".venv")
LOCK = os.path.join(ROOT, "requirements.lock")
STAMP = os.path.join(VENV, "millrace.json")
PYTHON = os.path.join(VENV, "bin", "python")
OLDEST, NEWEST = (3, 11), (3, 13)
GLIBC = (2, 28)  # what the wheels of pyarrow and xgboost are built for
NEEDED_BYTES = 4 * 1024**3
# A shim of a version manager may exist and not work: each candidate is asked.
CANDIDATES = ("python3", "python3.12", "python3.11", "python3.13")
PROBE = "import sys, venv, ensurepip, ssl, ctypes; print('%d.%d' % sys.version_info[:2], sys.executable, sep='\\n')"
UV_SETTINGS = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
}


def main(arguments):
    """Bring `.venv` to the state that the lock describes; returns the exit status."""
    try:
        check_machine()
        # two calls at once: the second waits, and then finds everything done
        folder = os.open(ROOT, os.O_RDONLY)
        fcntl.flock(folder, fcntl.LOCK_EX)
        # None of the caller's settings for Python: compiled modules halve every import.
        for name in ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV"):
            os.environ.pop(name, None)
        wanted = arguments[0] if arguments and arguments[0] else None
        interpreter = choose_interpreter(wanted) if wanted else None
        if not is_current(interpreter):
            install(interpreter or choose_interpreter(None))
    except Refusal as refusal:
        sys.stderr.write(f"millrace: {refusal}\n")
        return 2
    except subprocess.CalledProcessError as error:
        command = " ".join(str(word) for word in error.cmd[:4])
        sys.stderr.write(f"millrace: the environment can't be made: `{command}` ended with {error.returncode}\n")
        return 1
    return 0


class Refusal(Exception):
    """The machine is not one of ours; the text says what would be."""


def check_machine():
    """Refuse what the wheels don't run on."""
    system, machine = platform.system(), platform.machine()
    if (system, machine) != ("Linux", "x86_64"):
        raise Refusal(f"runs on Linux x86-64, not on {system} {machine}; use such a machine, or a container")
    libc, version = platform.libc_ver()
    if libc != "glibc" or tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < GLIBC:
        raise Refusal(
            f"needs glibc {GLIBC[0]}.{GLIBC[1]} or later, found {libc or 'another C library'} {version}; "
            "use Debian 10, Ubuntu 20.04, RHEL 8 or later"
        )
    # Python's search path is split at colons; MLflow hands its own path to a parser of per cent signs
    if any(sign in ROOT for sign in ":%\n"):
        raise Refusal(f"can't run under the path {ROOT!r}: it holds a colon or a per cent sign; move the project")


def choose_interpreter(wanted):
    """An interpreter that works, of a version that the lock holds for."""
    found = []
    for name in (wanted,) if wanted else CANDIDATES:
        path = shutil.which(name)
        if path is None:
            continue
        done = subprocess.run([path, "-I", "-c", PROBE], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        lines = done.stdout.decode().split("\n")
        if done.returncode:
            found.append(f"{name} (no venv module, or does not start)")
            continue
        if OLDEST <= tuple(int(part) for part in lines[0].split(".")) <= NEWEST:
            return os.path.realpath(lines[1])
        found.append(f"{name} ({lines[0]})")
    raise Refusal(
        f"needs Python 3.11, 3.12 or 3.13 with its venv module, found {', '.join(found) or wanted or 'none'}; install one "
        "(Debian, Ubuntu: apt-get install python3 python3-venv) or name it: make PYTHON=/path/to/python3.11"
    )


def wanted_state():
    """What the stamp of a complete environment holds; a moved environment is not the same."""
    digest = hashlib.sha256()
    for path in (LOCK, os.path.abspath(__file__)):
        with open(path, "rb") as file:
            digest.update(file.read())
    return {"lock": digest.hexdigest(), "root": ROOT}


def is_current(interpreter):
    """Whether `.venv` is complete (and made from this interpreter, where one was named)."""
    try:
        with open(STAMP) as file:
            state = json.load(file)
    except (OSError, ValueError):
        return False
    if interpreter is not None and state.get("interpreter") != interpreter:
        return False
    return {key: state.get(key) for key in ("lock", "root")} == wanted_state() and works()


def works():
    """Whether the environment's interpreter starts: its base may have been removed since."""
    return (
        os.path.exists(PYTHON) and subprocess.run([PYTHON, "-I", "-c", ""], stderr=subprocess.DEVNULL).returncode == 0
    )


def install(interpreter):
    """Make the environment, or complete it."""
    free = shutil.disk_usage(ROOT).free
    if free < NEEDED_BYTES and not os.path.exists(VENV):
        raise Refusal(f"needs 4 GB of disk for the environment, {free / 1024**3:.1f} GB are free in {ROOT}")
    say(f"making the environment in .venv with {interpreter} (some minutes at first)")
    if os.path.exists(STAMP):
        os.unlink(STAMP)
    if not (works() and base_of() == interpreter):
        shutil.rmtree(VENV, ignore_errors=True)
        subprocess.run([interpreter, "-m", "venv", VENV], check=True)
    uv = uv_lines()
    if uv:
        only_uv = os.path.join(VENV, "uv.lock.txt")
        with open(only_uv, "w") as file:
            file.write(uv)
        pip("--require-hashes", "--requirement", only_uv)
        say("installing what requirements.lock names")
        subprocess.run(
            [PYTHON, "-I", "-m", "uv", "pip", "install", "--python", PYTHON, "--require-hashes", "--compile-bytecode",
             "--requirement", LOCK, *([] if sys.stderr.isatty() else ["--quiet"])],
            env=uv_environment(), check=True,
        )  # fmt: skip
    else:
        say("installing what requirements.lock names (with pip, as the lock has no uv: slow)")
        pip("--require-hashes", "--requirement", LOCK)
    make_importable()
    with open(STAMP + ".part", "w") as file:
        json.dump(dict(wanted_state(), interpreter=interpreter), file)
    os.replace(STAMP + ".part", STAMP)


def uv_lines():
    """The lock's lines on uv, or nothing."""
    with open(LOCK) as file:
        match = re.search(r"^uv==(?:.*\\\n)*.*\n", file.read(), re.MULTILINE)
    return match.group(0) if match else ""


def pip(*arguments):
    """Install with the environment's own pip."""
    subprocess.run([PYTHON, "-I", "-m", "pip", "install", "-qq", "--disable-pip-version-check", *arguments], check=True)


def uv_environment():
    """uv does not read pip's configuration: hand on the indexes and certificates found there.

    Nor does it start where its cache can't be written: it is told to do without.
    """
    done = subprocess.run([PYTHON, "-I", "-m", "pip", "config", "list"], stdout=subprocess.PIPE)
    environment, found = dict(os.environ), {}
    for line in done.stdout.decode().splitlines():
        match = re.match(r"(\w+|:env:)\.([\w-]+)='(.*)'$", line)
        # as pip does: the install section over the global one, the environment over both
        if match and match.group(1) in ("global", "install", ":env:"):
            found.setdefault(match.group(2), {})[match.group(1)] = match.group(3)
    for name, variable in UV_SETTINGS.items():
        values = found.get(name, {})
        value = values.get(":env:") or values.get("install") or values.get("global")
        if value and not os.environ.get(variable):
            parts = value.replace("\\n", " ").split()
            environment[variable] = ("," if name == "find-links" else " ").join(parts)
    # pip takes the best of all indexes; the hashes make sure that it is the right one
    environment.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    # a user without a home, or with another's: without a cache uv works in the system's temporary folder
    if not is_writable(uv_cache()):
        environment["UV_NO_CACHE"] = "1"
    return environment


def uv_cache():
    """The folder that uv caches downloads in."""
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.environ.get("UV_CACHE_DIR") or os.path.join(caches, "uv")


def is_writable(folder):
    """Whether a folder is there, or can be made, and files can be made in it."""
    try:
        os.makedirs(folder, exist_ok=True)
        # asked by trying: permission bits say nothing of root's, nor of a read-only mount
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def base_of():
    """The interpreter that the environment was made from."""
    done = subprocess.run([PYTHON, "-I", "-c", "import sys; print(sys._base_executable)"], stdout=subprocess.PIPE)
    return os.path.realpath(done.stdout.decode().strip()) if done.returncode == 0 else ""


def make_importable():
    """Put the project on the environment's path, and the command `millrace` into its bin."""
    done = subprocess.run(
        [PYTHON, "-I", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    with open(os.path.join(done.stdout.decode().strip(), "millrace.pth"), "w") as file:
        file.write(ROOT + "\n")
    command = os.path.join(VENV, "bin", "millrace")
    # not a Python script: the path in such a script's first line may hold no blank
    with open(command, "w") as file:
        file.write('#!/bin/sh\nexec "$(dirname "$(readlink -f "$0")")/python" -P -m tasks "$@"\n')
    os.chmod(command, 0o755)


def say(text):
    """One line of progress."""
    sys.stderr.write(f"millrace: {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
