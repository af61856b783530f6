"""Motion between frames: methods of optical flow, flow as bytes, and stacks of flows."""
