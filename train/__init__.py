"""Training and evaluation of both streams on UCF101. Imports edge, never export or calibration."""
