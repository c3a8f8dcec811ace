#!/usr/bin/env bash
# What the scripts of this folder share; they source it.
#
# A script lists its cases, makes a CT and a mask of each, and ends with checks. All of them
# write into one folder OUT, as the README's recipe expects it: ct, and weak, full or tumour.
# OUT/work/SET holds what is on the way, and may be removed when a set is done.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
me=$(basename "$0")
set_name=${me%.sh}
flips=
failures=0

say() { printf '%s: %s\n' "$me" "$*" >&2; }
die() {
    say "$@"
    exit 2
}
refuse() { # of one case: the others go on
    say "$@"
    return 1
}

# The comment at the top of a script is its help.
usage() { sed -n '2,/^$/ s/^# \{0,1\}//p' "$0"; }

# Reads a script's options and operands, of which the first is the source and the last is OUT.
begin() { # FEWEST MOST CONVERTER... -- ARGUMENT...
    local fewest=$1 most=$2 converters=() option
    shift 2
    while [[ $1 != -- ]]; do
        converters+=("$1")
        shift
    done
    shift
    OPTIND=1
    while getopts ":hf:${pattern:+p:}" option; do
        case $option in
            h)
                usage
                exit 0
                ;;
            f) flips=$OPTARG ;;
            p) pattern=$OPTARG ;;
            *) die "unknown option, or one without its value: -$OPTARG (see $me -h)" ;;
        esac
    done
    shift "$((OPTIND - 1))"
    (($# >= fewest && $# <= most)) || die "$(usage | sed -n 's/^U/u/p') (see $me -h)"
    if [[ -n $flips && ! -f $flips ]]; then die "$flips: no such file"; fi
    need "${converters[@]}" lnq-plot
    python3 -c 'import lnqtools' 2>/dev/null ||
        die "python3 is not the one that has lnqtools: activate its environment"
    # shellcheck disable=SC2034  # the scripts use it
    operands=("$@")
    out=${!#}
    work=$out/work/$set_name
    mkdir -p "$work" 2>/dev/null || die "$out: no folder can be made there"
    # shellcheck disable=SC2034
    source=$(unpacked "$1" source)
}

need() { # COMMAND...
    local tool package
    for tool; do
        case $tool in
            segimage2itkimage) package=dcmqi ;;
            lnq-*) package="'.[data,plot]' in the checkout of lnqtools" ;;
            *) package=$tool ;;
        esac
        command -v "$tool" >/dev/null || die "$tool is not installed; pip install $package"
    done
}

# Prints a folder: SOURCE itself, or what an archive holds. NAME tells one archive from another.
unpacked() { # SOURCE NAME
    local folder=$work/unpacked-$2
    if [[ -d $1 ]]; then
        printf '%s' "$1"
        return
    fi
    [[ -f $1 ]] || die "$1: no such folder or archive"
    if ! [[ -d $folder ]]; then
        rm -rf "$folder.part"
        mkdir "$folder.part"
        case $1 in
            *.zip) python3 -m zipfile -e "$1" "$folder.part" 2>/dev/null ;;
            *.tar | *.tar.* | *.tgz | *.txz) tar -xf "$1" -C "$folder.part" 2>/dev/null ;;
            *) die "$1: neither a folder nor a .zip or .tar archive" ;;
        esac || die "$1: cannot be unpacked"
        mv "$folder.part" "$folder"
    fi
    printf '%s' "$folder"
}

# Sorts DICOM files into a folder per case, and lists the cases into $work/cases.
sort_dicom() { # FOLDER OPTION...
    local status=0
    python3 "$here/sort_dicom.py" "$1" "$work" "${@:2}" >"$work/cases.part" || status=$?
    ((status <= 1)) || exit "$status"
    mv "$work/cases.part" "$work/cases"
    ((failures += status)) || true
}

# Runs FUNCTION for each case; one that fails is counted, and the others go on.
each_case() { # FUNCTION
    local case status
    while IFS= read -r -d '' -u 3 case; do
        mkdir -p "$work/$case"
        set +e
        (
            set -e
            "$1" "$case" 3<&-
        )
        status=$?
        set -e
        if ((status > 128)); then exit "$status"; fi # a signal
        if ((status)); then ((failures += 1)); fi
    done 3<"$work/cases"
}

cts_of() { # KIND
    if [[ $1 == */* ]]; then printf '%s/ct' "${1%/*}"; else printf 'ct'; fi
}

# Prints the axes (of x, y, z) that -f gives for a case; fails if it gives none.
mirror_of() { # CASE
    [[ -n $flips ]] && awk -F '\t' -v name="$1" '
        $1 == name { print $2; found = 1 } END { exit !found }' "$flips"
}

# Tells, and prints the path, if a mask is there, with its row of checks, and -f asks for no other.
is_done() { # CASE KIND
    [[ -s $out/$2/$1.nii.gz && -s $work/$1/check.tsv ]] || return 1
    [[ -s $out/$(cts_of "$2")/$1.nii.gz ]] || return 1
    ! mirror_of "$1" >/dev/null || return 1
    printf '%s\n' "$out/$2/$1.nii.gz"
}

# Writes any image as a CT: one that lnq-crop cannot read whole is refused.
put_ct() { # CASE KIND IMAGE
    local target
    target=$out/$(cts_of "$2")/$1.nii.gz
    mkdir -p "${target%/*}"
    lnq-crop "$3" --like "$3" -q -f -o "$target" >/dev/null
}

# Makes the CT of a case from its DICOM slices.
convert_ct() { # CASE KIND
    local room=$work/$1 images corrected
    if [[ -s $out/$(cts_of "$2")/$1.nii.gz ]]; then return; fi
    rm -rf "$room/made"
    mkdir "$room/made"
    dcm2niix -z n -b n -f ct -o "$room/made" "$room/ct" >"$room/dcm2niix.log" 2>&1 || true
    # Missing or tilted slices: dcm2niix writes the slices as they come and, beside them, an image
    # whose voxels lie where they were taken (_Eq, _Tilt). Its status does not tell.
    shopt -s nullglob
    images=("$room"/made/*.nii)
    corrected=("$room"/made/*_{Eq,Tilt}_*.nii)
    shopt -u nullglob
    if ((${#images[@]} == 2 && ${#corrected[@]} == 1)); then
        say "$1: its slices are not evenly spaced or are tilted; dcm2niix resampled them"
        images=("${corrected[@]}")
    elif ((${#images[@]} != 1)); then
        refuse "$1: dcm2niix made ${#images[@]} images of its CT, not one (see $room/dcm2niix.log)"
    fi
    put_ct "$1" "$2" "${images[0]}"
    rm -r "$room/made"
}

# Joins masks into one of 0 and 1, puts it onto the CT's grid, and looks whether it fits there.
# CHECK is "mirror" where a wrong header may have turned the mask, "world" where DICOM says where
# it lies.
put_mask() { # CASE KIND CHECK FILE...
    local case=$1 kind=$2 check=$3 room=$work/$1 ct target axes
    ct=$out/$(cts_of "$kind")/$case.nii.gz
    target=$out/$kind/$case.nii.gz
    if axes=$(mirror_of "$case"); then check=given; else axes=; fi
    rm -f "$room/check.tsv"
    mkdir -p "${target%/*}"
    python3 "$here/mask.py" union "${@:4}" --mirror "$axes" -o "$room/drawn.nii.gz"
    lnq-crop "$room/drawn.nii.gz" --label --like "$ct" -f -o "$room/placed.nii.gz" >/dev/null
    python3 "$here/mask.py" fit "$room/placed.nii.gz" --drawn "$room/drawn.nii.gz" --ct "$ct" \
        --case "$case" --check "$check" --mirrored "$axes" --row "$room/check.tsv" -o "$target"
    rm -f "$room/drawn.nii.gz" "$room/placed.nii.gz"
    printf '%s\n' "$target"
}

# Turns a DICOM SEG into a mask of each segment, and prints those whose name matches.
segments() { # CASE REGEX [--one]
    local room=$work/$1/segments
    rm -rf "$room"
    mkdir "$room"
    segimage2itkimage --inputDICOM "$work/$1/annotation.dcm" --outputDirectory "$room" -t nii \
        -p segment >"$work/$1/segimage2itkimage.log" 2>&1 ||
        refuse "$1: segimage2itkimage failed (see $work/$1/segimage2itkimage.log)"
    python3 "$here/mask.py" segments "$room/segment-meta.json" --case "$1" --name "${@:2}"
}

# Turns an RTSTRUCT into a mask of each ROI, and prints the one of that name, in any case.
roi() { # CASE NAME
    local room=$work/$1/rois found
    rm -rf "$room"
    plastimatch convert --input "$work/$1/annotation.dcm" --referenced-ct "$work/$1/ct" \
        --output-prefix "$room" --prefix-format nii.gz >"$work/$1/plastimatch.log" 2>&1 ||
        refuse "$1: plastimatch failed (see $work/$1/plastimatch.log)"
    mapfile -d '' found < <(find "$room" -iname "$2.nii.gz" -print0)
    if ((${#found[@]} != 1)); then
        refuse "$1: ${#found[@]} ROIs are named $2; there are $(find "$room" -name '*.nii.gz' \
            -printf '%f\n' | sed 's/\.nii\.gz$//' | sort | paste -sd, -)"
    fi
    printf '%s\0' "${found[@]}"
}

# A case whose CT and SEG are DICOM; the segments of a matching name are its mask.
convert_seg() { # CASE KIND REGEX [--one]
    local files
    if is_done "$1" "$2"; then return; fi
    convert_ct "$1" "$2"
    segments "$1" "${@:3}" >"$work/$1/files"
    mapfile -d '' files <"$work/$1/files"
    put_mask "$1" "$2" world "${files[@]}"
    rm -r "$work/$1/segments"
}

# A case whose CT and RTSTRUCT are DICOM; the ROI of that name is the tumor.
convert_rtstruct() { # CASE NAME
    local files
    if is_done "$1" tumour; then return; fi
    convert_ct "$1" tumour
    roi "$@" >"$work/$1/files"
    mapfile -d '' files <"$work/$1/files"
    put_mask "$1" tumour world "${files[@]}"
    rm -r "$work/$1/rois"
}

# The cases of this set that have a mask of a kind, NUL-ended.
masks_of() { # KIND
    local case
    while IFS= read -r -d '' case; do
        if [[ -s $out/$1/$case.nii.gz ]]; then printf '%s\0' "$out/$1/$case.nii.gz"; fi
    done <"$work/cases"
}

# Draws at most eight cases, evenly spread, in three views, each through its largest component.
draw_sheet() { # KIND FILE
    local drawn rows=() n i mask
    mapfile -d '' drawn < <(masks_of "$1")
    n=$((${#drawn[@]} < 8 ? ${#drawn[@]} : 8))
    for ((i = 0; i < n; i++)); do
        mask=${drawn[i * ${#drawn[@]} / n]}
        rows+=(--row "$(basename "$mask" .nii.gz)" "$out/$(cts_of "$1")/$(basename "$mask")" "$mask")
    done
    lnq-plot preprocess "${rows[@]}" --own-places --dpi 150 -f -o "$2"
}

# Writes the checks of a kind of masks, and counts what is there against the published number.
check() { # KIND EXPECTED
    local folder=$out/checks/$set_name/${1//\//-} count zero=--full
    if [[ $1 == weak ]]; then zero=--weak; fi # 0 is unknown
    count=$(masks_of "$1" | tr -cd '\0' | wc -c)
    say "$1: $count cases; the whole set has $2"
    if ((count == 0)); then return; fi
    mkdir -p "$folder"
    masks_of "$1" | while IFS= read -r -d '' mask; do
        cat "$work/$(basename "$mask" .nii.gz)/check.tsv"
    done | awk 'NR == 1 || !/^case\t/' >"$folder/fit.tsv"
    masks_of "$1" | lnq-filter-diameter -0 -T - --list >"$folder/components.tsv"
    masks_of "$1" | lnq-stats -0 -T - --name "$set_name" "$zero" "$set_name" -f \
        -o "$folder/data-set.tsv" >/dev/null
    draw_sheet "$1" "$folder/sheet.png" >/dev/null
    say "$1: look at $folder/sheet.png; tables are beside it"
}

# Lists what seems to be mirrored, and ends the script.
finish() {
    local suspects=$out/checks/$set_name/flips.tsv
    mkdir -p "$out/checks/$set_name"
    find "$work" -name check.tsv -exec awk -F '\t' '
        $2 == "suspect" { print $1 "\t" $6 }' {} + | sort >"$suspects"
    if [[ -s $suspects ]]; then
        say "$(wc -l <"$suspects") masks seem to be mirrored: $suspects; look at them" \
            "($work/CASE/placed.nii.gz), strike out those that are not, and give the rest with -f"
    else
        rm "$suspects"
    fi
    if ((failures)); then say "$failures cases failed; run it again when they are mended"; fi
    exit "$((failures > 0))"
}
