// Logits of both streams to scores: softmax of each, and their weighted mean.
//
// A few hundred bytes and operations: what it saves is a trip to the host between the networks and the
// label. One block of THREADS.

#define THREADS 128

// The sum or the largest of every thread's value, given to all of them.
static __device__ float reduce(float* shared, float value, bool largest) {
    shared[threadIdx.x] = value;
    for (int half = THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if ((int)threadIdx.x < half) {
            const float other = shared[threadIdx.x + half];
            shared[threadIdx.x] = largest ? fmaxf(shared[threadIdx.x], other) : shared[threadIdx.x] + other;
        }
    }
    __syncthreads();
    const float result = shared[0];
    __syncthreads();  // before `shared` serves again
    return result;
}

// spatial, temporal: logits (classes). scores (3, classes): softmax(spatial / spatial_temperature), the
// same of temporal, and spatial_weight, temporal_weight (which sum to 1) times each.
extern "C" __global__ void __launch_bounds__(THREADS) fuse(
    const float* spatial, const float* temporal, int classes, float spatial_temperature,
    float temporal_temperature, float spatial_weight, float temporal_weight, float* scores) {
    __shared__ float shared[THREADS];
    for (int stream = 0; stream < 2; ++stream) {
        const float* logits = stream ? temporal : spatial;
        const float temperature = stream ? temporal_temperature : spatial_temperature;
        float* out = scores + stream * classes;
        float value = -3.4e38f;
        for (int k = threadIdx.x; k < classes; k += THREADS) value = fmaxf(value, logits[k] / temperature);
        const float top = reduce(shared, value, true);
        value = 0.0f;
        for (int k = threadIdx.x; k < classes; k += THREADS) {
            out[k] = expf(logits[k] / temperature - top);
            value += out[k];
        }
        const float total = reduce(shared, value, false);
        for (int k = threadIdx.x; k < classes; k += THREADS) out[k] /= total;
    }
    for (int k = threadIdx.x; k < classes; k += THREADS)  // each thread wrote what it reads
        scores[2 * classes + k] = spatial_weight * scores[k] + temporal_weight * scores[classes + k];
}
