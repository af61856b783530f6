// Converts flow to bytes, and stacks of bytes to a network's input.
//
// Bytes for N = H W pixels and L flows: quantise 8 N + 2 N, stack 2 L N + 8 L N (5 MB for 10 flows of
// 224 x 224: 74 us at an Orin Nano's 68 GB/s, and as much for the instructions). The ring holds bytes, as
// training does, so each flow is written once and then only read.

// flow (count values, px) -> bytes: flow * scale + 127.5, clipped and rounded half up. scale:
// 127.5 / bound, times the interval of training divided by that of the two frames.
extern "C" __global__ void quantise(const float* flow, float scale, int count, unsigned char* bytes) {
    const int k = blockIdx.x * blockDim.x + threadIdx.x;
    if (k >= count) return;
    const float level = fminf(fmaxf(flow[k] * scale + 127.5f, 0.0f), 255.0f);
    bytes[k] = (unsigned char)(level + 0.5f);
}

// ring (slots, 2, pixels) bytes, of which `length` flows from slot `oldest` on -> out (2 length, pixels)
// float, byte * scale + shift. Channels: u0 u1 ... v0 v1 ..., oldest first.
// pixels is a multiple of 4. Grid (pixels / 4, 2 length): one thread per four pixels of a channel.
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
