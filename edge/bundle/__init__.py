"""The bundle: the files that are copied from the workstation to the device."""
