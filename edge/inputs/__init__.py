"""What a network is fed: built once, from frames and flow, for training and live video alike."""
