"""Opens a data set in any of the supported layouts.

    ROOT/UCF-101/<Class>/v_<Class>_gNN_cNN.avi  with  ROOT/ucfTrainTestlist/    UCF101 as it comes
    ROOT/jpegs_256/v_<Class>_gNN_cNN/frame000001.jpg  with  ROOT/ucfTrainTestlist/    its frames
    ROOT/<Class>/[<group>/]<clip>.mp4                                           class folders
    ROOT.csv                                                                    a list of clips

The first two have official splits; the others are split by group (see folders.py). Flow images
beside the frames (tvl1_flow/) are not read: they were computed by another method.
"""

from __future__ import annotations

from pathlib import Path

from edge.errors import DataError
from train.data.clips import Split
from train.data.folders import load_csv, load_folders
from train.data.ucf101 import LISTS, load_split


def open_dataset(root: Path, split: int) -> Split:
    """The training and test clips of the data set at `root`.

    split: number of the official split, from 1; for class folders and CSVs, of the split by group.
    Raises DataError if there is no data set, or its lists are invalid.
    """
    if root.suffix.lower() == ".csv":
        return load_csv(root, split)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; give a data set")
    if (root / LISTS).is_dir() or (root / "UCF-101").is_dir() or (root / "jpegs_256").is_dir():
        return load_split(root, split)
    return load_folders(root, split)
