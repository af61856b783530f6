"""Opens a data set in any of the supported layouts.

    ROOT/UCF-101/<Class>/v_<Class>_gNN_cNN.avi  with  ROOT/ucfTrainTestlist/    UCF101 as it comes
    ROOT/jpegs_256/v_<Class>_gNN_cNN/frame000001.jpg  with  ROOT/ucfTrainTestlist/    its frames
    ROOT/<Class>/[<group>/]<clip>.mp4                                           your own actions
    ROOT.csv                                                                    a list of your own

The first and the second have the official splits; the others are cut by group (see folders.py).
Flow that was extracted beside the frames (tvl1_flow/) is not used: it is flow of another kind.
"""

from __future__ import annotations

from pathlib import Path

from edge.errors import DataError
from train.data.clips import Split
from train.data.folders import load_csv, load_folders
from train.data.ucf101 import LISTS, load_split


def open_dataset(root: Path, split: int) -> Split:
    """The clips at `root`, in training and test.

    Raises DataError if there is no data set or its lists cannot be used.
    """
    if root.suffix.lower() == ".csv":
        return load_csv(root, split)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; give a data set")
    if (root / LISTS).is_dir() or (root / "UCF-101").is_dir() or (root / "jpegs_256").is_dir():
        return load_split(root, split)
    return load_folders(root, split)
