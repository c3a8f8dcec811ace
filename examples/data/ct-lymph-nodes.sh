#!/usr/bin/env bash
# CT Lymph Nodes → ct and full (every enlarged node drawn).
# Usage: ct-lymph-nodes.sh [-f FILE] SOURCE [MASKS] OUT
#
# SOURCE is the collection as DICOM from TCIA or IDC (ct_lymph_nodes), MASKS the archive of NIfTI
# masks from TCIA (MED_ABD_LYMPH_MASKS.zip) or its folder. Without MASKS the collection's own
# DICOM SEGs are taken. -f FILE mirrors masks: one line per case: its name, a tab, axes of x, y, z.
#
# Only the mediastinal cases (MED_*) are kept. The masks' values are instances, 1 to n: they become
# 0 and 1. A NIfTI mask that lies better in soft tissue if mirrored is held back and listed in
# OUT/checks/ct-lymph-nodes/flips.tsv, for -f. Run it again: it goes on where it stopped.

# shellcheck source-path=SCRIPTDIR source=lib.sh disable=SC2329  # each_case runs functions
set -euo pipefail
source "$(dirname "$0")/lib.sh"

begin 2 3 dcm2niix -- "$@"

convert_dicom() { convert_seg "$1" full '.*'; }

convert_nifti() {
    local files
    if is_done "$1" full; then return; fi
    convert_ct "$1" full
    mapfile -d '' files < <(find "$masks" -name "$1_mask.nii*" -print0)
    ((${#files[@]} == 1)) || refuse "$1: ${#files[@]} files $1_mask.nii.gz in $masks, not one"
    put_mask "$1" full mirror "${files[0]}"
}

if ((${#operands[@]} == 3)); then
    masks=$(unpacked "${operands[1]}" masks)
    sort_dicom "$source" --annotation none --case '^MED_'
    each_case convert_nifti
else
    need segimage2itkimage
    sort_dicom "$source" --annotation SEG --case '^MED_'
    each_case convert_dicom
fi
check full 90
finish
