"""What crosses from the workstation to the device."""
