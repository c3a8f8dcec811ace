#!/usr/bin/env bash
# NSCLC-Radiogenomics → ct and tumour (no node drawn; the tumor is known not to be one).
# Usage: nsclc-radiogenomics.sh [-f FILE] SOURCE OUT
#
# SOURCE is the collection as DICOM from TCIA or IDC (nsclc_radiogenomics), a folder or an archive.
# -f FILE mirrors masks: one line per case: its name, a tab, axes of x, y, z.
#
# The tumor's segment is NAMED "Heart" or "Tissue": it is neither. Most patients have several CTs;
# the one that the SEG refers to is taken. IDC has networks' segmentations in the same collection
# (AIMI …): they are left out. Run it again: it goes on where it stopped.

# shellcheck source-path=SCRIPTDIR source=lib.sh disable=SC2329  # each_case runs functions
set -euo pipefail
source "$(dirname "$0")/lib.sh"

begin 2 2 dcm2niix segimage2itkimage -- "$@"

convert() { convert_seg "$1" tumour '(heart|tissue|.*(tumou?r|neoplasm|gtv).*)' --one; }

sort_dicom "$source" --annotation SEG --without AIMI
each_case convert
check tumour 144
finish
