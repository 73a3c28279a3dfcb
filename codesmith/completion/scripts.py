"""The script for each shell that asks `answer.py` what may follow, and where it goes."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from codesmith import paths
from codesmith.errors import BadArgument

HERE = Path(__file__).parent
SHELLS = ("bash", "zsh", "fish")
MARK = "# completion of codesmith and inv"
# A word ends at : and = in bash, so what is before the last of them is taken away again.
BASH = """\
_codesmith() {
    local line="${COMP_LINE:0:COMP_POINT}" found=() cut one last
    [[ $1 == *inv && $(_codesmith_tasks) == no ]] && { _codesmith_invoke; return; }
    mapfile -t found < <(ANSWER bash KNOWN "$line" 2>/dev/null)
    last="${line##*[[:space:]]}"
    if [[ ${found[*]} == *$'\\x01'files* ]]; then
        compopt -o default -o filenames 2>/dev/null
        mapfile -t -O "${#found[@]}" found < <(compgen -f -- "${last##*=}")
    fi
    cut="${last%"${last##*[:=]}"}"
    COMPREPLY=()
    for one in "${found[@]}"; do
        [[ $one == $'\\x01'files ]] || COMPREPLY+=("${one#"$cut"}")
    done
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[./:=] ]] && compopt -o nospace
    return 0
}
_codesmith_tasks() {
    local folder="$PWD"
    while :; do
        [[ -f $folder/tasks.py ]] && { grep -q codesmith "$folder/tasks.py" && echo ours || echo no; return; }
        [[ -z $folder || $folder == / ]] && { echo no; return; }
        folder="${folder%/*}"
    done
}
_codesmith_invoke() {
    local words
    words="$(inv --complete -- "${COMP_WORDS[@]}" 2>/dev/null)"
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}")
}
complete -F _codesmith codesmith inv
"""
ZSH = """\
#compdef codesmith inv
_codesmith() {
    local -a found values texts
    local one
    found=("${(@f)$(ANSWER zsh KNOWN "${(@Q)words[1,CURRENT]}" 2>/dev/null)}")
    for one in "${found[@]}"; do
        if [[ $one == $'\\x01files' ]]; then
            _files
        elif [[ -n $one ]]; then
            values+=("${one%%$'\\t'*}")
            texts+=("${one%%$'\\t'*}${${one#*$'\\t'}:+  -- ${one#*$'\\t'}}")
        fi
    done
    (( $#values )) || return 0
    if (( $#values == 1 )) && [[ $values[1] == *[./:=] ]]; then
        compadd -S '' -l -d texts -a values
    else
        compadd -l -d texts -a values
    fi
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
compdef _codesmith codesmith inv
"""
FISH = """\
function __codesmith
    set -l found (ANSWER fish KNOWN (commandline -opc) (commandline -ct) 2>/dev/null)
    for one in $found
        if test "$one" = \\x01files
            __fish_complete_path (commandline -ct)
        else
            echo $one
        end
    end
end
complete -c codesmith -f -a '(__codesmith)'
complete -c inv -f -a '(__codesmith)'
"""
TEXTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def script(shell: str) -> str:
    """Return the script for a shell."""
    text = TEXTS[shell].replace("ANSWER", shlex.join(program()))
    return f"{MARK}\n{text.replace('KNOWN', shlex.join(known(paths.state_place())))}"


def program() -> list[str]:
    """Return the program that answers at TAB; the shell and what `known` returns follow, then the words typed."""
    return [os.path.realpath(sys.executable), "-IS", str(HERE / "answer.py")]


def known(state: Path) -> list[str]:
    """Return where it finds the tasks, where it keeps what nodes.yaml says, and who reads that."""
    # The interpreter of the environment that has CodeSmith: the real one may not find it.
    return [str(HERE), str(state / "completion"), sys.executable]


def place(shell: str) -> Path:
    """Return where the script is kept once it is installed."""
    return paths.state_place() / "completion" / f"codesmith.{shell}"


def start_file(shell: str) -> Path:
    """Return the file that the shell reads at its start."""
    home = Path.home()
    if shell == "fish":
        config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
        return config / "fish" / "conf.d" / "codesmith.fish"
    if shell == "zsh":
        return Path(os.environ.get("ZDOTDIR") or home) / ".zshrc"
    return home / ".bashrc"


def line(shell: str) -> str:
    """Return the line that belongs into the start file."""
    return f"source {shlex.quote(str(place(shell)))}  {MARK}"


def own_shell() -> str:
    """Return the shell of the person at this terminal; BadArgument for one that has no completion here."""
    name = os.environ.get("SHELL", "").rpartition("/")[2]
    if name in SHELLS:
        return name
    raise BadArgument(f"which shell? SHELL is {name or 'not set'}", hint="inv completion bash")
