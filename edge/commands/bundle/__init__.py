"""`twostream bundle`: bundles on a device, installed side by side."""
