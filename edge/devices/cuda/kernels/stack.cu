// Converts flow to bytes, and stacks of bytes to a network's input.
//
// Bytes for N = H W pixels and L flows: quantise 8 N + 2 N, stack 2 L N + 8 L N (5 MB for 10 flows of
// 224 x 224: 74 us at an Orin Nano's 68 GB/s, and as much for the instructions). The ring holds bytes, as
// training does, so each flow is written once and then only read.

// What differs from frame to frame, so that the arguments of all launches stay as they are: the scale
// of the newest flow, and its slot in the ring.
struct FlowPlace {
    float scale;
    int slot;
};

// flow (count values, px) -> its slot of the ring (slots, count) bytes: flow * scale + 127.5, clipped and
// rounded half up. scale: 127.5 / bound, times the interval of training divided by that of the two
// frames.
extern "C" __global__ void quantise(
    const float* flow, const FlowPlace* place, int count, unsigned char* ring) {
    const int k = blockIdx.x * blockDim.x + threadIdx.x;
    if (k >= count) return;
    const float level = fminf(fmaxf(flow[k] * place->scale + 127.5f, 0.0f), 255.0f);
    ring[place->slot * count + k] = (unsigned char)(level + 0.5f);
}

// ring (slots, 2, pixels) bytes, of which the newest `length` flows -> out (2 length, pixels) float,
// byte * scale + shift. place: of the newest; length <= slots. Channels: u0 u1 ... v0 v1 ..., oldest first.
// pixels is a multiple of 4. Grid (pixels / 4, 2 length): one thread per four pixels of a channel.
extern "C" __global__ void stack(
    const uchar4* ring, const FlowPlace* place, int slots, int length, int pixels, float scale, float shift,
    float4* out) {
    const int k = blockIdx.x * blockDim.x + threadIdx.x, channel = blockIdx.y;
    if (4 * k >= pixels) return;
    const int flow = channel % length, component = channel / length;
    const int slot = (place->slot + 1 + slots - length + flow) % slots;
    const uchar4 bytes = ring[(slot * 2 + component) * (pixels / 4) + k];
    float4 values;
    values.x = bytes.x * scale + shift;
    values.y = bytes.y * scale + shift;
    values.z = bytes.z * scale + shift;
    values.w = bytes.w * scale + shift;
    out[channel * (pixels / 4) + k] = values;
}
