#!/usr/bin/env bash
# Bouget's refinements of CT Lymph Nodes → refined (every visible node drawn), for the CTs that
# ct-lymph-nodes.sh has made in the same OUT.
# Usage: bouget.sh [-f FILE] [-p PATTERN] MASKS OUT
#
# MASKS is the archive of NIfTI masks or its folder; a file is the case whose number is the first
# in its name, in one, two or three digits. PATTERN (*.nii.gz) picks the files with nodes where
# there are others. -f FILE mirrors masks: one line per case: its name, a tab, axes of x, y, z.
#
# There are 89 masks: none for case 043. A mask that lies better in soft tissue if mirrored is held
# back and listed in OUT/checks/bouget/flips.tsv, for -f. To train on the refinements, give
# refined in place of full. Run it again: it goes on where it stopped.

# shellcheck source-path=SCRIPTDIR source=lib.sh disable=SC2329  # each_case runs functions
set -euo pipefail
source "$(dirname "$0")/lib.sh"

pattern='*.nii.gz'
begin 2 2 -- "$@"

# Prints the files of a case, NUL-ended.
masks_of_case() { # CASE
    local file name
    while IFS= read -r -d '' file; do
        name=${file##*/}
        if [[ $name =~ [0-9]+ ]] && ((10#${BASH_REMATCH[0]} == 10#${1#MED_LYMPH_})); then
            printf '%s\0' "$file"
        fi
    done < <(find "$source" -name "$pattern" -print0)
}

convert() {
    local files
    if is_done "$1" refined; then return; fi
    mapfile -d '' files < <(masks_of_case "$1")
    if ((${#files[@]} == 0)) && [[ $1 == MED_LYMPH_043 ]]; then
        say "$1: has no refined mask, as published"
        return
    fi
    ((${#files[@]} == 1)) ||
        refuse "$1: ${#files[@]} of the masks have its number, not one (-p PATTERN picks): ${files[*]}"
    put_mask "$1" refined mirror "${files[0]}"
}

find "$out/ct" -name 'MED_LYMPH_[0-9][0-9][0-9].nii.gz' -printf '%f\0' 2>/dev/null |
    sed -z 's/\.nii\.gz$//' | sort -z >"$work/cases" || true
[[ -s $work/cases ]] || die "$out/ct: no MED_LYMPH_*.nii.gz in it; ct-lymph-nodes.sh makes them"
each_case convert
check refined 89
finish
