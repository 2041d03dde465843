# Sourced by the other scripts: an environment in .venv with the extras that they name. Made once, kept up to date.
set -euo pipefail
unset PYTHONDONTWRITEBYTECODE  # what is imported is compiled once
cd "$(dirname "${BASH_SOURCE[0]}")/.."

prepare() {  # prepare EXTRAS
  local python=${PYTHON:-python3}
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    { echo "expected Python 3.11 or newer, found $("$python" --version); set PYTHON=/path/to/python3.11" >&2; exit 2; }
  [ -x .venv/bin/python ] || "$python" -m venv .venv
  # pip runs again only when what it would install may have changed.
  local stamp=.venv/installed-$1 wanted
  wanted=$(cksum pyproject.toml)
  if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    echo "installing hf_smalldata[$1] into .venv (a few minutes the first time)"
    .venv/bin/python -m pip install --quiet --upgrade pip
    .venv/bin/python -m pip install --quiet --no-compile --editable ".[$1]"
    echo "$wanted" > "$stamp"
  fi
  export PATH="$PWD/.venv/bin:$PATH"
}
