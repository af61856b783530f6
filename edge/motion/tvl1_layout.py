"""Where the workspace of TV-L1 has what, in floats (see edge.motion.tvl1 for why)."""

from __future__ import annotations

GUARD = 2  # rows above and below a plane, read by the 5 point derivative
PLANES = 11
PITCH = 1264  # 79 cache lines, so that neighbouring planes do not compete for the same cache sets
ROW = PLANES * PITCH
