#!/usr/bin/env bash
# LNQ2023 → ct and weak (partially annotated CTs, to train on), test/ct and test/truth (fully
# annotated ones, which the challenge kept for validation and test).
# Usage: lnq2023.sh [-f FILE] SOURCE OUT
#
# SOURCE is the collection as DICOM from TCIA or IDC (mediastinal_lymph_node_seg), or the
# challenge's own files, lnq2023-train-NNNN-ct.nrrd and -seg.nrrd; a folder or an archive.
# -f FILE mirrors masks: one line per case: its name, a tab, axes of x, y, z.
#
# In the DICOM collection a SEG's series description says "Partially Annotated" or "Fully
# Annotated". Some of the challenge's masks have another size than their CT: they are put onto the
# CT's grid, nearest neighbor, which lnq-crop says. Run it again: it goes on where it stopped.

# shellcheck source-path=SCRIPTDIR source=lib.sh disable=SC2329  # each_case runs functions
set -euo pipefail
source "$(dirname "$0")/lib.sh"

begin 2 2 -- "$@"

convert_dicom() {
    local kind
    case $(<"$work/$1/description") in
        Partially*) kind=weak ;;
        Fully*) kind=test/truth ;;
        *) refuse "$1: its SEG says neither Partially nor Fully Annotated" ;;
    esac
    convert_seg "$1" "$kind" '.*'
}

convert_nrrd() {
    local kind=test/truth ct mask
    if [[ $1 == *-train-* ]]; then kind=weak; fi
    if is_done "$1" "$kind"; then return; fi
    ct=$(find "$source" -name "$1-ct.nrrd" -print -quit)
    mask=${ct%-ct.nrrd}-seg.nrrd
    [[ -f $mask ]] || refuse "$1: no $mask beside its CT"
    put_ct "$1" "$kind" "$ct"
    put_mask "$1" "$kind" world "$mask"
}

find "$source" -name '*-ct.nrrd' -printf '%f\0' | sed -z 's/-ct\.nrrd$//' | sort -z >"$work/cases"
if [[ -s $work/cases ]]; then
    each_case convert_nrrd
else
    need dcm2niix segimage2itkimage
    sort_dicom "$source" --annotation SEG --without 'AI |nnU-Net'
    each_case convert_dicom
fi
check weak 393
check test/truth 120
finish
