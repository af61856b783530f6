// From a decoded frame to the inputs of flow and networks: luma at the model's size, its pyramid, RGB.
//
// Frames are resized as in training, by OpenCV's INTER_AREA: each output pixel is a weighted mean of a
// rectangle of source pixels in the field of view. A weight is the product of one for the row and one
// for the column (edge/video/area_weights.py).
//
// Bytes for S source pixels in view and N = H W at the model's size (1920 x 1080 -> 224 x 224, S = 1.56 M):
//     resize_luma   S + 4 N               1.8 MB
//     rgb            S / 2 + 4 N + 12 N     1.6 MB
//     halve          all levels: 16/3 N     0.3 MB
// 3.7 MB take 54 us at the 68 GB/s of an Orin Nano. From 320 x 240 the limit is instructions, about 500
// per thread of resize_luma and 1500 of rgb: 0.12 ms there, by `python -m tests.benchmarks.kernels`.

// The source pixels of one output row or column. The first has the weight head, the last has tail,
// those between have body. If first == last, only head is used.
struct AreaWeights {
    int first, last;
    float head, body, tail;
};

// Weighted mean of a plane's pixels, in the plane's levels. pitch: bytes per row.
static __device__ float area_mean(
    const unsigned char* plane, int pitch, AreaWeights row, AreaWeights column) {
    float total = 0.0f;
    for (int y = row.first; y <= row.last; ++y) {
        const unsigned char* line = plane + (size_t)y * pitch;
        float sum = column.head * line[column.first];
        for (int x = column.first + 1; x < column.last; ++x) sum += column.body * line[x];
        if (column.last > column.first) sum += column.tail * line[column.last];
        const float weight = y == row.first ? row.head : y == row.last ? row.tail : row.body;
        total += weight * sum;
    }
    return total;
}

// luma (rows of `pitch` bytes, uint8) -> out (height, width), whole levels 16..235 as float.
// full_range: the source's luma is 0..255.  One thread per pixel.
extern "C" __global__ void resize_luma(
    const unsigned char* luma, int pitch, const AreaWeights* rows, const AreaWeights* columns,
    int full_range, int height, int width, float* out) {
    const int x = blockIdx.x * blockDim.x + threadIdx.x;
    const int y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= width || y >= height) return;
    float level = rintf(area_mean(luma, pitch, rows[y], columns[x]));
    if (full_range) level = rintf(16.0f + level * (219.0f / 255.0f));
    out[y * width + x] = level;
}

// YUV to RGB, for luma levels minus 16 and chroma levels minus 128. scale, shift: the normalisation of
// each channel.
struct Colour {
    float red_v, green_u, green_v, blue_u;
    float scale[3], shift[3];
};

static __device__ float clip_level(float level) { return fminf(fmaxf(level, 0.0f), 255.0f); }

// Chroma planes (see area_mean) and resized luma (height, width) -> out (3, height, width), normalised
// RGB.  One thread per chroma sample, which covers 2 x 2 pixels.
extern "C" __global__ void rgb(
    const unsigned char* u, const unsigned char* v, int pitch, const AreaWeights* rows,
    const AreaWeights* columns, int full_range, const float* luma, const Colour* colour, int height,
    int width, float* out) {
    const int x = blockIdx.x * blockDim.x + threadIdx.x;
    const int y = blockIdx.y * blockDim.y + threadIdx.y;
    if (2 * x >= width || 2 * y >= height) return;
    float cb = rintf(area_mean(u, pitch, rows[y], columns[x])) - 128.0f;
    float cr = rintf(area_mean(v, pitch, rows[y], columns[x])) - 128.0f;
    if (full_range) {
        cb = rintf(cb * (224.0f / 255.0f));
        cr = rintf(cr * (224.0f / 255.0f));
    }
    const int plane = height * width;
    for (int corner = 0; corner < 4; ++corner) {
        const int at = (2 * y + corner / 2) * width + 2 * x + corner % 2;
        const float grey = (luma[at] - 16.0f) * (255.0f / 219.0f);
        const float red = clip_level(grey + colour->red_v * cr);
        const float green = clip_level(grey - colour->green_u * cb - colour->green_v * cr);
        const float blue = clip_level(grey + colour->blue_u * cb);
        out[at] = red * colour->scale[0] + colour->shift[0];
        out[at + plane] = green * colour->scale[1] + colour->shift[1];
        out[at + 2 * plane] = blue * colour->scale[2] + colour->shift[2];
    }
}

// 2 x 2 mean of fine (height, width) -> coarse (ceil(height / 2), ceil(width / 2)); an odd edge is
// repeated.  One thread per coarse pixel.
extern "C" __global__ void halve(const float* fine, int height, int width, float* coarse) {
    const int x = blockIdx.x * blockDim.x + threadIdx.x;
    const int y = blockIdx.y * blockDim.y + threadIdx.y;
    const int coarse_h = (height + 1) / 2, coarse_w = (width + 1) / 2;
    if (x >= coarse_w || y >= coarse_h) return;
    const int right = min(2 * x + 1, width - 1);
    const float* upper = fine + 2 * y * width;
    const float* lower = fine + min(2 * y + 1, height - 1) * width;
    coarse[y * coarse_w + x] = 0.25f * (upper[2 * x] + upper[right] + lower[2 * x] + lower[right]);
}
