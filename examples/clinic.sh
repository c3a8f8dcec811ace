#!/usr/bin/env bash
# A folder of DICOM in; lymph nodes as DICOM SEG and report, a table, and a page to look at out.
# Usage: clinic.sh [-n patient|series] [-d MM] MODEL DICOM OUT [OPTION OF lnq-infer...]
#
# MODEL is an nnU-Net results folder, DICOM a folder of any nesting, with many patients perhaps.
# -n says what cases are called by: the Patient ID (default), or the UID of their series. -d is the
# least shortest diameter of a node (4 mm, ellipsoid-corrected): smaller ones are dropped as specks.
#
#   OUT/series.tsv   what was found, and why what is not a CT was left
#   OUT/ct           the CTs as NIfTI
#   OUT/predicted    the model's masks; OUT/mask is without specks
#   OUT/seg          DICOM SEG, one segment per node, for the viewer or PACS
#   OUT/sr           structured reports: long axis, short axis and volume of each node
#   OUT/nodes.tsv    the nodes as a table; id N is the segment "Lymph node N"
#   OUT/report       index.html: every case in slices
#
# All but the mask and the CT are as identifying as DICOM is; nothing leaves OUT. A series that is
# refused is named in one line, the others go on, and the script ends with status 1. Run it again
# and it goes on where it was interrupted. What it finds is not a diagnosis.
set -euo pipefail

usage() { sed -n '2,/^set/ s/^# \{0,1\}//p' "$0"; }

by=patient least_mm=4
while getopts ':hn:d:' option; do
    case $option in
        h)
            usage
            exit 0
            ;;
        n) by=$OPTARG ;;
        d) least_mm=$OPTARG ;;
        *)
            printf 'clinic.sh: unknown option, or one without its value: -%s\n' "$OPTARG" >&2
            exit 2
            ;;
    esac
done
shift "$((OPTIND - 1))"
if (($# < 3)); then
    usage | sed -n 's/^U/u/p' >&2
    exit 2
fi
model=$1 dicom=$2 out=$3
shift 3
mkdir -p "$out"
status=0

# Runs a tool whose inputs fail one by one: what is done goes on, the status is told at the end.
each() { # COMMAND...
    local ended=0
    "$@" || ended=$?
    if ((ended == 1)); then status=1; elif ((ended)); then exit "$ended"; fi
}

each lnq-dicom images "$dicom" --name "$by" -s -O "$out/ct" --table "$out/series.tsv" \
    >"$out/images"
[[ -s $out/images ]] || exit 1
each lnq-infer -T "$out/images" -m "$model" "$@" -s -O "$out/predicted" >"$out/predictions"
[[ -s $out/predictions ]] || exit 1
each lnq-filter-diameter -T "$out/predictions" --min "$least_mm" --metric ellipsoid-corrected -s \
    -O "$out/mask" >"$out/masks"
version=$(lnq-infer --version)
for kind in seg sr; do
    each lnq-dicom export -T "$out/masks" --dicom "$dicom" --name "$by" --as "$kind" --per-node \
        --algorithm lnq-infer --algorithm-version "${version##* }" -s -O "$out/$kind" >/dev/null
done
each lnq-filter-diameter -T "$out/masks" --list --ct "$out/ct" >"$out/nodes.tsv"
each lnq-report -T "$out/masks" --ct "$out/ct" --title "Predicted lymph nodes" -f \
    -O "$out/report" >/dev/null
rm "$out/images" "$out/predictions" "$out/masks"
printf '%s\n' "$out/nodes.tsv" "$out/report/index.html"
exit "$status"
