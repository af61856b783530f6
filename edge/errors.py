"""What can go wrong, in one tree. A user error is one line on stderr and exit code 2.

    TwostreamError
    ├── SourceError          a video or camera that cannot be opened or gives no usable frames
    ├── BundleError          a bundle that is missing, damaged, unsafe or of another schema
    ├── DeviceError          a device that is unknown, absent or cannot run the bundle
    ├── OutputError            an output that cannot be written
    ├── ConfigError          a configuration file that cannot be used
    ├── BenchError           a measurement that cannot be made or compared
    ├── DataError            a data set, class list or split that cannot be used
    ├── CheckpointError      a checkpoint that cannot be read or does not fit
    ├── TrainingError        a training run that cannot go on
    └── ExportError          a model that cannot be calibrated or exported as asked

Every message names the thing and says what to do. Anything that is not a TwostreamError is a bug
and keeps its traceback.
"""


class TwostreamError(Exception):
    """The root: a fault in what the user gave, not in the program."""


class SourceError(TwostreamError):
    """A video or camera cannot be opened or gives no usable frames."""


class BundleError(TwostreamError):
    """A bundle is missing, damaged, unsafe or of another schema."""


class DeviceError(TwostreamError):
    """A device is unknown, absent or cannot run the bundle."""


class OutputError(TwostreamError):
    """An output cannot be written."""


class ConfigError(TwostreamError):
    """A configuration file cannot be used."""


class BenchError(TwostreamError):
    """A measurement cannot be made or compared."""


class DataError(TwostreamError):
    """A data set, class list or split cannot be used."""


class CheckpointError(TwostreamError):
    """A checkpoint cannot be read or does not fit the model."""


class TrainingError(TwostreamError):
    """A training run cannot go on as asked."""


class ExportError(TwostreamError):
    """A model cannot be calibrated or exported as asked."""
