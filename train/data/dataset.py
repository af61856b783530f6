"""Opens a data set in any of the supported layouts.

    ROOT/UCF-101/<Class>/v_<Class>_gNN_cNN.avi  with  ROOT/ucfTrainTestlist/    UCF101 as it comes
    ROOT/jpegs_256/v_<Class>_gNN_cNN/frame000001.jpg  with  ROOT/ucfTrainTestlist/    its frames
    ROOT/<Class>/[<group>/.../]<clip>.mp4                                       class folders
    ROOT.csv                                                                    a list of clips

The first two have official splits; the others are split by group (see folders.py). Flow images
beside the frames (tvl1_flow/) were computed by another method, and are read only for networks of
published flow (see published_flow.py).
"""

from __future__ import annotations

import logging
from pathlib import Path

from edge.errors import DataError
from edge.video.find import left_out_line
from train.data.clips import Split
from train.data.folders import load_csv, load_folders
from train.data.ucf101 import FRAMES, LISTS, VIDEOS, load_split

logger = logging.getLogger(__name__)


def open_dataset(root: Path, split: int) -> Split:
    """The training and test clips of the data set at `root`; what is left out is logged.

    split: number of the official split, from 1; for class folders and CSVs, of the split by group.
    Raises DataError if there is no data set, or its lists are invalid.
    """
    found = read_dataset(root, split)
    if found.left_out:
        line = left_out_line(folder_of(root), found.left_out)
        logger.warning("%s; see: twostream data check", line)
    return found


def read_dataset(root: Path, split: int) -> Split:
    """As `open_dataset`, but logs nothing."""
    if root.suffix.lower() == ".csv":
        return load_csv(root, split)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; give a data set")
    if is_official(root):
        return load_split(root, split)
    return load_folders(root, split)


def is_official(root: Path) -> bool:
    """Whether a folder is UCF101, or a part of it."""
    return any((root / name).is_dir() for name in (LISTS, VIDEOS, FRAMES))


def folder_of(root: Path) -> Path:
    """The folder that a data set's names are relative to."""
    return root.parent if root.suffix.lower() == ".csv" else root
