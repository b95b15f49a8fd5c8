# Shared by the lints. Each is `LINT [ROOT]`: it looks at the tree under ROOT (this repository by default), prints
# what it finds as `file:line: what`, and fails when it found something.
# shellcheck shell=bash
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "${1:-$here/../..}" && pwd)
cd "$root"

# The files to look at, one a line, optionally only those matching the given patterns: what git tracks or would add;
# outside a repository (samples of the self-test) all there are.
files() {
    if [[ -e .git ]]; then
        git -c safe.directory="$root" ls-files --cached --others --exclude-standard -- "$@"
    else
        find . -type f -printf '%P\n' | while read -r file; do
            (($#)) || echo "$file"
            for pattern in "$@"; do
                # shellcheck disable=SC2053  # patterns are meant as patterns
                [[ $file == $pattern ]] && echo "$file"
            done
        done
    fi | sort -u | while read -r file; do [[ ! -f $file ]] || echo "$file"; done
}

c_files() {
    files 'shared/*.[ch]' 'runner/*.[ch]' 'tests/*.[ch]'
}

# Fails when the lint (its output in $1) had something to say.
verdict() {
    [[ -z $1 ]] || {
        printf '%s\n' "$1"
        exit 1
    }
}
