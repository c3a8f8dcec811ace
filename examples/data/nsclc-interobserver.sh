#!/usr/bin/env bash
# NSCLC-Radiomics-Interobserver1 → ct and tumour (no node drawn; the tumor is known not to be one).
# Usage: nsclc-interobserver.sh [-f FILE] SOURCE OUT
#
# SOURCE is the collection as DICOM from TCIA or IDC (nsclc_radiomics_interobserver1), a folder or
# an archive. -f FILE mirrors masks: one line per case: its name, a tab, axes of x, y, z.
#
# Five experts drew each tumor by eye (GTV-1vis-N) and with help (GTV-1auto-N); the ROI of the
# first, GTV-1vis-1, is taken. 21 of the 22 CTs have an RTSTRUCT. Run it again: it goes on where it
# stopped.

# shellcheck source-path=SCRIPTDIR source=lib.sh disable=SC2329  # each_case runs functions
set -euo pipefail
source "$(dirname "$0")/lib.sh"

begin 2 2 dcm2niix plastimatch -- "$@"

convert() { convert_rtstruct "$1" GTV-1vis-1; }

sort_dicom "$source" --annotation RTSTRUCT
each_case convert
check tumour 21
finish
