//! Shell completions: options and commands by clap; the names of what runs are asked of the daemon
//! (`vipctl complete`), in bash.

use clap::Command;
use clap_complete::{Shell, generate};

/// The shells, and the file of a program there.
pub const SHELLS: [(Shell, &str); 3] = [
    (Shell::Bash, "bash/NAME"),
    (Shell::Zsh, "zsh/_NAME"),
    (Shell::Fish, "fish/NAME.fish"),
];

/// Names where clap completes none. A daemon that does not answer has none.
const NAMES: &str = r#"
# The names of what runs, asked of the daemon.
_vipctl_with_names() {
    local current=${COMP_WORDS[COMP_CWORD]} word what="" socket=() words=() i
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        case $word in
            --socket) socket=(--socket "${COMP_WORDS[i + 1]}"); ((i++)) ;;
            -*) ;;
            *) words+=("$word") ;;
        esac
    done
    if [[ $current != -* ]]; then
        case ${words[0]} in
            switchover) ((${#words[@]} == 1)) && what="vrrp" ;;
            drain | disable | enable | weight | check)
                ((${#words[@]} == 1)) && what="virtual-servers"
                ((${#words[@]} == 2)) && what="real-servers" ;;
        esac
    fi
    if [[ -z $what ]]; then
        _vipctl "$@"
        return
    fi
    COMPREPLY=()
    # The names may hold anything that can be printed.
    local name
    while IFS= read -r name; do
        [[ $name == "$current"* ]] && COMPREPLY+=("$(printf %q "$name")")
    done < <("$1" "${socket[@]}" complete "$what" "${words[@]:1}" 2>/dev/null)
    # A colon parts words in bash, and addresses have some.
    if declare -F __ltrim_colon_completions >/dev/null; then
        __ltrim_colon_completions "$current"
    fi
}
complete -F _vipctl_with_names -o nosort vipctl
"#;

/// The completion script of a program.
#[must_use]
pub fn completion(mut program: Command, shell: Shell) -> String {
    let name = program.get_name().to_owned();
    let mut script = Vec::new();
    generate(shell, &mut program, name.clone(), &mut script);
    let mut script = String::from_utf8_lossy(&script).into_owned();
    if shell == Shell::Bash && name == "vipctl" {
        script.push_str(NAMES);
    }
    script
}
