#!/usr/bin/env bash
# NSCLC-Radiomics → ct and tumour (no node drawn; the tumor is known not to be one).
# Usage: nsclc-radiomics.sh [-f FILE] SOURCE OUT
#
# SOURCE is the collection as DICOM from TCIA or IDC (nsclc_radiomics), a folder or an archive.
# -f FILE mirrors masks: one line per case: its name, a tab, axes of x, y, z.
#
# The tumor is the RTSTRUCT's ROI GTV-1. Other GTVs are left out: some are lymph nodes. Patient
# 128 has no GTV-1, which is not a failure. IDC has networks' segmentations in the same collection:
# the RTSTRUCTs are the experts'. Run it again: it goes on where it stopped.

# shellcheck source-path=SCRIPTDIR source=lib.sh disable=SC2329  # each_case runs functions
set -euo pipefail
source "$(dirname "$0")/lib.sh"

begin 2 2 dcm2niix plastimatch -- "$@"

convert() {
    if [[ $1 == LUNG1-128 ]]; then
        say "$1: left out, it has no GTV-1"
        return
    fi
    convert_rtstruct "$1" GTV-1
}

sort_dicom "$source" --annotation RTSTRUCT
each_case convert
check tumour 421
finish
