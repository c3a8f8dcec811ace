"""Training and running nnU-Net v2 models; the only package that touches torch and nnunetv2."""
