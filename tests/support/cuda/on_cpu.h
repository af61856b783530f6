// Runs CUDA kernels on a CPU, one block after another, the threads of a block as fibers.
//
// Between two barriers the threads run one after another, in an order that can be chosen: a kernel
// whose result depends on it has a race. Blocks run in an order of the same kind. What the kernels of
// this project use is here, and no more.
#pragma once
#include <algorithm>
#include <cmath>
#include <csetjmp>
#include <cstddef>
#include <cstdlib>
#include <deque>
#include <functional>
#include <numeric>
#include <random>
#include <ucontext.h>
#include <vector>

#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(threads)
struct uint3 { unsigned x, y, z; };
struct dim3 { unsigned x, y, z; };
struct uchar4 { unsigned char x, y, z, w; };
struct float4 { float x, y, z, w; };
static uint3 threadIdx, blockIdx;
static dim3 blockDim, gridDim;
using std::max;
using std::min;
static inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }

namespace on_cpu {
struct Fiber { jmp_buf at; bool done, waits; std::vector<char> stack; };
static std::deque<Fiber> fibers;  // they stay where they are when more come
static jmp_buf scheduler;
static Fiber* current;
static const std::function<void()>* body;

// A fiber lives on and runs one thread after another: to begin one anew takes system calls.
static void enter() {
    Fiber* const self = current;
    for (;;) {
        (*body)();
        self->done = true;
        if (!_setjmp(self->at)) _longjmp(scheduler, 1);
    }
}

static void resume(Fiber& fiber) {
    current = &fiber;
    fiber.waits = false;
    if (_setjmp(scheduler)) return;
    if (!fiber.stack.empty()) _longjmp(fiber.at, 1);
    fiber.stack.resize(64 << 10);
    ucontext_t start;
    getcontext(&start);
    start.uc_stack.ss_sp = fiber.stack.data();
    start.uc_stack.ss_size = fiber.stack.size();
    start.uc_link = nullptr;
    makecontext(&start, enter, 0);
    setcontext(&start);
}

// order 0: as numbered, 1: reversed, more: a shuffle of its own.
static std::vector<unsigned> order(unsigned count, unsigned which) {
    std::vector<unsigned> turns(count);
    std::iota(turns.begin(), turns.end(), 0u);
    if (which == 1) std::reverse(turns.begin(), turns.end());
    if (which > 1) std::shuffle(turns.begin(), turns.end(), std::mt19937(which));
    return turns;
}

// 0: well; 1: some threads ended while others waited at a barrier.
static int run(unsigned grid_x, unsigned grid_y, unsigned block_x, unsigned block_y, unsigned which,
               const std::function<void()>& kernel) {
    const unsigned threads = block_x * block_y;
    body = &kernel;
    gridDim = {grid_x, grid_y, 1};
    blockDim = {block_x, block_y, 1};
    if (fibers.size() < threads) fibers.resize(threads);
    for (unsigned block : order(grid_x * grid_y, which)) {
        blockIdx = {block % grid_x, block / grid_x, 0};
        for (unsigned k = 0; k < threads; ++k) fibers[k].done = false;
        const std::vector<unsigned> turns = order(threads, which);
        for (unsigned waiting = threads; waiting > 0;) {
            waiting = 0;
            for (unsigned k : turns) {
                threadIdx = {k % block_x, k / block_x, 0};
                if (!fibers[k].done) resume(fibers[k]);
                waiting += fibers[k].waits;
            }
            if (waiting != 0 && waiting != threads) return 1;
        }
    }
    return 0;
}
}  // namespace on_cpu

static inline void __syncthreads() {
    const uint3 mine = threadIdx;
    on_cpu::Fiber* fiber = on_cpu::current;
    fiber->waits = true;
    if (!_setjmp(fiber->at)) _longjmp(on_cpu::scheduler, 1);
    threadIdx = mine;
}
