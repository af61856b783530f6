// What a kernel's source needs to be compiled by g++. What the kernels of this project use is here,
// and no more. Every read and write that the compiler leaves in a kernel calls one of the functions
// of kernels.cpp, by -fsanitize=thread.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <tuple>

#define __global__
#define __device__
#define __shared__ static __attribute__((section("gpu_shared")))
#define __launch_bounds__(threads)
struct uint3 { unsigned x, y, z; };
struct dim3 { unsigned x, y, z; };
struct alignas(4) uchar4 { unsigned char x, y, z, w; };
struct alignas(16) float4 { float x, y, z, w; };
struct Place { uint3 thread, block; dim3 block_size, grid_size; };
extern "C" Place on_cpu_place;
extern "C" void on_cpu_barrier();
#define threadIdx on_cpu_place.thread
#define blockIdx on_cpu_place.block
#define blockDim on_cpu_place.block_size
#define gridDim on_cpu_place.grid_size
#define __syncthreads on_cpu_barrier
using std::max;
using std::min;
static inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }

// A kernel's parameters lie one after another, each at a multiple of its own size, as the driver wants.
namespace on_cpu {
template <class... A> constexpr size_t parameter_bytes(void (*)(A...)) {
    size_t at = 0;
    ((at = (at + alignof(A) - 1) / alignof(A) * alignof(A) + sizeof(A)), ...);
    return at;
}
template <class T> T take(const char* parameters, size_t& at) {
    T value;
    at = (at + alignof(T) - 1) / alignof(T) * alignof(T);
    memcpy(&value, parameters + at, sizeof(T));
    at += sizeof(T);
    return value;
}
template <class... A> void call(void (*kernel)(A...), const char* parameters) {
    size_t at = 0;
    std::apply(kernel, std::tuple<A...>{take<A>(parameters, at)...});  // braces: from left to right
}
}  // namespace on_cpu

extern char __start_gpu_shared[] __attribute__((weak, visibility("hidden")));
extern char __stop_gpu_shared[] __attribute__((weak, visibility("hidden")));
extern "C" char* shared_begin() { return __start_gpu_shared; }
extern "C" char* shared_end() { return __stop_gpu_shared; }
#define KERNEL(name)                                                                               \
    extern "C" size_t parameter_bytes_##name() { return on_cpu::parameter_bytes(name); }           \
    extern "C" void thread_##name(const char* parameters) { on_cpu::call(name, parameters); }
