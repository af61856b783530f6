// Flow to bytes, bytes to the input of a network that sees motion.
//
// Cost for N = H W pixels and L flows: quantise 8 N + 2 N bytes; stack 2 L N + 8 L N bytes (5 MB for
// 10 flows of 224 x 224: 74 us of an Orin Nano's 68 GB/s, and as much for its instructions). The ring is
// kept in bytes, so that old flows are read, not written again, and equal those of training.

// flow (count values, px) -> bytes: flow * scale + 127.5, rounded half up and saturating: it never
// wraps. scale: 127.5 / bound, times the interval that the network knows over the one measured.
extern "C" __global__ void quantise(const float* flow, float scale, int count, unsigned char* bytes) {
    const int k = blockIdx.x * blockDim.x + threadIdx.x;
    if (k >= count) return;
    const float level = fminf(fmaxf(flow[k] * scale + 127.5f, 0.0f), 255.0f);
    bytes[k] = (unsigned char)(level + 0.5f);
}

// ring (slots, 2, pixels) bytes, of which `length` flows from slot `oldest` on -> out (2 length, pixels)
// float, byte * scale + shift. Channels: u0 u1 ... v0 v1 ..., oldest first.
// pixels is a multiple of 4. Grid (pixels / 4, 2 length): one thread four pixels of a channel.
extern "C" __global__ void stack(
    const uchar4* ring, int slots, int oldest, int length, int pixels, float scale, float shift,
    float4* out) {
    const int k = blockIdx.x * blockDim.x + threadIdx.x, channel = blockIdx.y;
    if (4 * k >= pixels) return;
    const int flow = channel % length, component = channel / length;
    const int slot = (oldest + flow) % slots;
    const uchar4 bytes = ring[(slot * 2 + component) * (pixels / 4) + k];
    float4 values;
    values.x = bytes.x * scale + shift;
    values.y = bytes.y * scale + shift;
    values.z = bytes.z * scale + shift;
    values.w = bytes.w * scale + shift;
    out[channel * (pixels / 4) + k] = values;
}
