"""The bundle: the files that go from the workstation to the device."""
