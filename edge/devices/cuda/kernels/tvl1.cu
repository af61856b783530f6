// TV-L1 optical flow with a fixed amount of work. The algorithm is that of edge/motion/tvl1.py, pixel
// for pixel; see there for its sources. Iterations are fused in on-chip memory, as in Romera et al.,
// JRTIP 2023, and Seznec et al., JRTIP 2022, both on Jetson boards.
//
// Planes are float, (height, width) of a pyramid level. Those of one name follow each other in memory:
//     flow          u, v in px, positive to the right and downwards
//     duals         p11, p12 (of u along x and y), p21, p22 (of v)
//     coefficients  rho, gx, gy, inv: brightness difference, its gradient, 1 / |gradient|^2
//
// Cost for a level of n pixels and k iterations per launch, in machine instructions of sm_87:
//                  bytes              operations    launches
//     upsample     10 n               104 n         1 per level
//     linearise    32 n               700 n         1 per warp (480, and a second round for the margin)
//     iterate      (40 r + 24) n      60 k r n      1 per warp and 10 iterations
// iterate works on tiles of 64 x 64 at a distance of 63 - 2k. r is how often a pixel is computed: 2.04
// for the 5 x 5 tiles of 224 x 224 with k = 10, 2.94 for the 3 x 3 tiles of 112 x 112. Ten iterations
// that each go through memory move 640 n bytes; fused they move 106 n, for twice the operations. At
// 224 x 224 that is 5.3 MB and 61 M operations per launch: 78 us at the 68 GB/s of an Orin Nano, 96 us
// on its 1024 lanes at 625 MHz without any wait. So operations are the limit; 25 tiles on 8
// multiprocessors take four rounds instead of 25 / 8, which makes it 123 us. Half precision for the
// duals would save a fifth of the bytes but no operation (and cost 0.001 px), so it would gain nothing.
// `python -m tests.benchmarks.kernels` computes this for a whole frame.

// Rows and columns of a tile; each thread holds ROWS pixels of one column in registers.
#define TILE 64
#define ROWS 8
#define STRIPS (TILE / ROWS)

// The pixels that a block of linearise needs: its own, and a margin of 2 for the 5 point derivative.
#define BLOCK_W 32
#define BLOCK_H 16
#define REACH 2

// Added to the squared gradient (luma levels^2 / px^2), which may be zero, before dividing by it.
#define FLAT 1e-9f

static __device__ int clamp_index(int value, int last) { return min(max(value, 0), last); }

// Flow of the coarser level (2, coarse_h, coarse_w) -> flow (2, height, width) of this level, in its px:
// bilinear between pixel centres, times 2. One thread per pixel.
extern "C" __global__ void upsample(
    const float* coarse, int coarse_h, int coarse_w, int height, int width, float* flow) {
    const int x = blockIdx.x * blockDim.x + threadIdx.x;
    const int y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= width || y >= height) return;
    const int x0 = x / 2, x1 = clamp_index(x0 + 2 * (x % 2) - 1, coarse_w - 1);
    const int y0 = y / 2, y1 = clamp_index(y0 + 2 * (y % 2) - 1, coarse_h - 1);
    for (int component = 0; component < 2; ++component) {
        const float* plane = coarse + component * coarse_h * coarse_w;
        const float near = 1.5f * plane[y0 * coarse_w + x0] + 0.5f * plane[y0 * coarse_w + x1];
        const float far = 1.5f * plane[y1 * coarse_w + x0] + 0.5f * plane[y1 * coarse_w + x1];
        flow[(component * height + y) * width + x] = 0.75f * near + 0.25f * far;
    }
}

// second at (x + u, y + v), bilinear, coordinates clamped to the picture. fade: 1 inside it, falling to
// 0 one pixel outside.
static __device__ float warp_pixel(
    const float* second, const float* flow, int x, int y, int height, int width, float* fade) {
    const int at = y * width + x;
    const float to_x = x + flow[at], to_y = y + flow[at + height * width];
    const float in_x = fminf(fmaxf(to_x, 0.0f), width - 1.0f);
    const float in_y = fminf(fmaxf(to_y, 0.0f), height - 1.0f);
    *fade = fmaxf(1.0f - fabsf(to_x - in_x) - fabsf(to_y - in_y), 0.0f);
    const int x0 = (int)in_x, x1 = min(x0 + 1, width - 1);
    const int y0 = (int)in_y, y1 = min(y0 + 1, height - 1);
    const float part_x = in_x - x0, part_y = in_y - y0;
    const float* row0 = second + y0 * width;
    const float* row1 = second + y1 * width;
    const float upper = row0[x0] + part_x * (row0[x1] - row0[x0]);
    const float lower = row1[x0] + part_x * (row1[x1] - row1[x0]);
    return upper + part_y * (lower - upper);
}

// Warp `second` by the flow and linearise its difference from `first` about it: coefficients of
// rho(u, v) = rho + gx u + gy v. Block (BLOCK_W, BLOCK_H), one thread per pixel.
extern "C" __global__ void __launch_bounds__(BLOCK_W * BLOCK_H) linearise(
    const float* first, const float* second, const float* flow, int height, int width,
    float* coefficients) {
    __shared__ float mean[BLOCK_H + 2 * REACH][BLOCK_W + 2 * REACH];
    const int left = blockIdx.x * BLOCK_W - REACH, top = blockIdx.y * BLOCK_H - REACH;
    const int frame_w = BLOCK_W + 2 * REACH, frame = frame_w * (BLOCK_H + 2 * REACH);
    float unused;
    for (int k = threadIdx.y * BLOCK_W + threadIdx.x; k < frame; k += BLOCK_W * BLOCK_H) {
        const int x = clamp_index(left + k % frame_w, width - 1);
        const int y = clamp_index(top + k / frame_w, height - 1);
        const float warped = warp_pixel(second, flow, x, y, height, width, &unused);
        mean[k / frame_w][k % frame_w] = 0.5f * (warped + first[y * width + x]);
    }
    __syncthreads();
    const int x = blockIdx.x * BLOCK_W + threadIdx.x, y = blockIdx.y * BLOCK_H + threadIdx.y;
    if (x >= width || y >= height) return;
    const int c = threadIdx.x + REACH, r = threadIdx.y + REACH;
    const int at = y * width + x, plane = height * width;
    float fade;
    const float warped = warp_pixel(second, flow, x, y, height, width, &fade);
    const float near = 8.0f / 12.0f, far = 1.0f / 12.0f;
    const float dx = near * (mean[r][c + 1] - mean[r][c - 1]) - far * (mean[r][c + 2] - mean[r][c - 2]);
    const float dy = near * (mean[r + 1][c] - mean[r - 1][c]) - far * (mean[r + 2][c] - mean[r - 2][c]);
    const float gx = fade * dx, gy = fade * dy;
    coefficients[at] = fade * (warped - first[at]) - gx * flow[at] - gy * flow[at + plane];
    coefficients[at + plane] = gx;
    coefficients[at + 2 * plane] = gy;
    coefficients[at + 3 * plane] = 1.0f / (gx * gx + gy * gy + FLAT);
}

static __device__ void sort3(float* a, float* b, float* c) {
    const float low = fminf(*a, *b), high = fmaxf(*a, *b);
    const float middle = fmaxf(low, fminf(high, *c));
    *a = fminf(low, *c);
    *c = fmaxf(high, *c);
    *b = middle;
}

// Median of the 3 x 3 pixels in columns x[] and rows y[]. With each column sorted, it is the median of
// the largest minimum, the median middle and the smallest maximum.
static __device__ float median9(const float (*plane)[TILE], const int* x, const int* y) {
    float low[3], middle[3], top[3];
#pragma unroll
    for (int k = 0; k < 3; ++k) {
        low[k] = plane[y[0]][x[k]];
        middle[k] = plane[y[1]][x[k]];
        top[k] = plane[y[2]][x[k]];
        sort3(&low[k], &middle[k], &top[k]);
    }
    sort3(&middle[0], &middle[1], &middle[2]);
    float largest_low = fmaxf(fmaxf(low[0], low[1]), low[2]);
    float centre = middle[1];
    float smallest_top = fminf(fminf(top[0], top[1]), top[2]);
    sort3(&largest_low, &centre, &smallest_top);
    return centre;
}

// `iterations` Jacobi iterations (primal step, then dual step) and, if `smooth`, the 3 x 3 median of u
// and v, in one launch. flow, duals -> flow_out, duals_out, which must not overlap the inputs.
//
// A block computes a tile of the picture without the pixels around it, so the outer `iterations` pixels
// on each side become wrong (one more at the left and top, for the median). They are written by the
// neighbouring tiles; the picture's own edges are exact. Tiles are therefore TILE - 2 iterations - 1
// apart. Block (TILE, STRIPS): thread (x, s) holds rows 8 s to 8 s + 7 of column x. Neighbours along y
// are mostly in its own registers, those along x are exchanged in shared memory: `a` and `b` hold p11,
// p21 before the primal step, and u, v before the dual step.
extern "C" __global__ void __launch_bounds__(TILE * STRIPS) iterate(
    const float* coefficients, const float* flow, const float* duals, int height, int width,
    int iterations, int smooth, float theta, float limit, float sigma, float* flow_out,
    float* duals_out) {
    __shared__ float a[TILE][TILE], b[TILE][TILE];
    __shared__ float last_p12[STRIPS][TILE], last_p22[STRIPS][TILE];
    const int apart = TILE - 2 * iterations - 1;
    const int column = threadIdx.x, strip = threadIdx.y;
    const int x = blockIdx.x * apart + column, top = blockIdx.y * apart + strip * ROWS;
    const int plane = height * width;
    const bool inside = x < width && top < height;
    const bool has_left = column > 0, has_right = column < TILE - 1 && x < width - 1;
    const bool has_next = strip < STRIPS - 1 && top + ROWS < height;  // the next strip has u, v

    float u[ROWS], v[ROWS], p11[ROWS], p12[ROWS], p21[ROWS], p22[ROWS];
    float rho[ROWS], gx[ROWS], gy[ROWS], inv[ROWS];
    // Pixels outside the picture take the values of its edge; no pixel inside ever reads them.
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
        const int at = min(top + r, height - 1) * width + min(x, width - 1);
        u[r] = flow[at];
        v[r] = flow[at + plane];
        p11[r] = duals[at];
        p12[r] = duals[at + plane];
        p21[r] = duals[at + 2 * plane];
        p22[r] = duals[at + 3 * plane];
        rho[r] = coefficients[at];
        gx[r] = coefficients[at + plane];
        gy[r] = coefficients[at + 2 * plane];
        inv[r] = coefficients[at + 3 * plane];
    }

    for (int iteration = 0; iteration < iterations; ++iteration) {
        if (inside) {
#pragma unroll
            for (int r = 0; r < ROWS; ++r) {
                a[strip * ROWS + r][column] = p11[r];
                b[strip * ROWS + r][column] = p21[r];
            }
            last_p12[strip][column] = p12[ROWS - 1];
            last_p22[strip][column] = p22[ROWS - 1];
        }
        __syncthreads();
        if (inside) {
            float up12 = strip > 0 ? last_p12[strip - 1][column] : 0.0f;
            float up22 = strip > 0 ? last_p22[strip - 1][column] : 0.0f;
#pragma unroll
            for (int r = 0; r < ROWS; ++r) {
                const float left11 = has_left ? a[strip * ROWS + r][column - 1] : 0.0f;
                const float left21 = has_left ? b[strip * ROWS + r][column - 1] : 0.0f;
                const float residual = rho[r] + gx[r] * u[r] + gy[r] * v[r];
                const float step = fminf(fmaxf(-residual * inv[r], -limit), limit);
                u[r] += step * gx[r] + theta * (p11[r] - left11 + p12[r] - up12);
                v[r] += step * gy[r] + theta * (p21[r] - left21 + p22[r] - up22);
                up12 = p12[r];
                up22 = p22[r];
            }
        }
        __syncthreads();  // all threads have read p11, p21
        if (inside) {
#pragma unroll
            for (int r = 0; r < ROWS; ++r) {
                a[strip * ROWS + r][column] = u[r];
                b[strip * ROWS + r][column] = v[r];
            }
        }
        __syncthreads();
        if (inside) {
            const float next_u = has_next ? a[(strip + 1) * ROWS][column] : u[ROWS - 1];
            const float next_v = has_next ? b[(strip + 1) * ROWS][column] : v[ROWS - 1];
#pragma unroll
            for (int r = 0; r < ROWS; ++r) {
                const bool has_below = top + r < height - 1;
                const float below_u = r < ROWS - 1 ? u[r + 1] : next_u;
                const float below_v = r < ROWS - 1 ? v[r + 1] : next_v;
                const float right_u = has_right ? a[strip * ROWS + r][column + 1] : u[r];
                const float right_v = has_right ? b[strip * ROWS + r][column + 1] : v[r];
                const float q11 = p11[r] + sigma * (right_u - u[r]);
                const float q12 = p12[r] + sigma * (has_below ? below_u - u[r] : 0.0f);
                const float q21 = p21[r] + sigma * (right_v - v[r]);
                const float q22 = p22[r] + sigma * (has_below ? below_v - v[r] : 0.0f);
                const float squared = q11 * q11 + q12 * q12 + q21 * q21 + q22 * q22;
                const float scale = rsqrtf(fmaxf(squared, 1.0f));
                p11[r] = scale * q11;
                p12[r] = scale * q12;
                p21[r] = scale * q21;
                p22[r] = scale * q22;
            }
        }
        __syncthreads();  // all threads have read u, v
    }

    // After the last barrier `a` and `b` still hold u and v.
    const int before = iterations + 1, after = iterations;
    const bool last_x = blockIdx.x == gridDim.x - 1, last_y = blockIdx.y == gridDim.y - 1;
    const bool mine_x = (column >= before || blockIdx.x == 0) && (column < TILE - after || last_x);
    if (!inside || !mine_x) return;
    const int columns[3] = {x > 0 ? column - 1 : column, column, x < width - 1 ? column + 1 : column};
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
        const int row = strip * ROWS + r, y = top + r;
        const bool mine_y = (row >= before || blockIdx.y == 0) && (row < TILE - after || last_y);
        if (!mine_y || y >= height) continue;
        const int rows[3] = {y > 0 ? row - 1 : row, row, y < height - 1 ? row + 1 : row};
        const int at = y * width + x;
        flow_out[at] = smooth ? median9(a, columns, rows) : u[r];
        flow_out[at + plane] = smooth ? median9(b, columns, rows) : v[r];
        duals_out[at] = p11[r];
        duals_out[at + plane] = p12[r];
        duals_out[at + 2 * plane] = p21[r];
        duals_out[at + 3 * plane] = p22[r];
    }
}
