"""``boxship completion SHELL``: the script that has a shell ask ``boxship __complete`` what could come next."""

from __future__ import annotations

from boxship.cli.command import Command, Context
from boxship.cli.flags import Options
from boxship.errors import CommandError

# In each: the lines of ``__complete`` are candidates, with a description behind a tab; the last is a colon and directives.
_BASH = r"""# bash completion for boxship: eval "$(boxship completion bash)"
_boxship_complete() {
    local line words out current="${COMP_LINE:0:COMP_POINT}"
    # Bash breaks words at ':' and '=' as well, which image names and flags are full of: take them as the shell would run them.
    read -ra words <<<"$current"
    [[ $current == *[[:space:]] ]] && words+=("")
    out=$(boxship __complete "${words[@]:1}" 2>/dev/null) || return
    local directive="${out##*$'\n'}" last="${words[-1]}"
    COMPREPLY=()
    while IFS= read -r line; do
        [[ $line == :* ]] && continue
        COMPREPLY+=("${line%%$'\t'*}")
    done <<<"$out"
    local word="${COMP_WORDS[COMP_CWORD]}"
    [[ $word == [:=] ]] && word=""
    local prefix="${last%"$word"}"
    if [[ -n $prefix ]]; then
        local i
        for i in "${!COMPREPLY[@]}"; do COMPREPLY[i]="${COMPREPLY[i]#"$prefix"}"; done
    fi
    if [[ $directive == *files* ]]; then
        local file
        while IFS= read -r file; do COMPREPLY+=("$file"); done < <(compgen -f -- "$word")
        compopt -o filenames 2>/dev/null
    fi
    [[ $directive == *nospace* ]] && compopt -o nospace 2>/dev/null
    return 0
}
complete -F _boxship_complete boxship
"""

_ZSH = r"""#compdef boxship
# zsh completion for boxship: boxship completion zsh > "${fpath[1]}/_boxship"
_boxship() {
    local out line directive value
    local -a values shown
    out=$(boxship __complete "${(@)words[2,CURRENT]}" 2>/dev/null) || return 1
    for line in "${(@f)out}"; do
        if [[ $line == :* ]]; then
            directive=$line
        else
            value=${line%%$'\t'*}
            values+=("$value")
            if [[ $line == *$'\t'* ]]; then
                shown+=("$value -- ${line#*$'\t'}")
            else
                shown+=("$value")
            fi
        fi
    done
    local -a options
    [[ $directive == *nospace* ]] && options+=(-S '')
    (( ${#values} )) && compadd "${options[@]}" -l -d shown -a values
    [[ $directive == *files* ]] && _files
    return 0
}
if [[ $funcstack[1] == _boxship ]]; then
    _boxship "$@"
else
    compdef _boxship boxship
fi
"""

_FISH = r"""# fish completion for boxship: boxship completion fish > ~/.config/fish/completions/boxship.fish
function __boxship_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l out (boxship __complete $words[2..-1] 2>/dev/null)
    for line in $out
        switch $line
            case ':*files*'
                __fish_complete_path (commandline -ct)
            case ':*'
            case '*'
                printf '%s\n' $line
        end
    end
end
complete -c boxship -f -a '(__boxship_complete)'
"""

_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


class CompletionOptions(Options):
    """No flags."""


def _run(context: Context, _options: CompletionOptions, arguments: list[str]) -> int:
    script = _SCRIPTS.get(arguments[0])
    if script is None:
        raise CommandError(f"no completion for {arguments[0]}: bash, zsh and fish have one", 1)
    context.print(script, end="")
    return 0


COMPLETION: Command[CompletionOptions] = Command(
    "SHELL",
    "Print the completion script for bash, zsh or fish",
    CompletionOptions,
    _run,
    minimum=1,
    maximum=1,
    description='Try it with: eval "$(boxship completion bash)"',
)
