// Runs kernels on the CPU, one block after another, the threads of a block as fibers.
//
// Between two barriers the threads run one after another, in an order that can be chosen, as blocks do.
// Each read and write is checked: bounds, alignment, whether anything has written what is read, and in
// shared memory (which is poisoned instead) whether another thread touches it without a barrier between.
#include "gpu.h"

#include <algorithm>
#include <csetjmp>
#include <cstring>
#include <numeric>
#include <random>
#include <ucontext.h>

struct uint3 { unsigned x, y, z; };
struct Place { uint3 thread, block, block_size, grid_size; };
extern "C" Place on_cpu_place;
Place on_cpu_place;

struct Fiber { jmp_buf at; bool done, waits; std::vector<char> stack; };
static std::deque<Fiber> fibers;  // they stay where they are when more come
static jmp_buf scheduler;
static Fiber* current;
static const Launch* launch;
static std::string fault;  // of the kernel that runs
size_t kernel_accesses_to_host;

// Who touched a word of shared memory last. A phase lasts from barrier to barrier.
struct Word { uint32_t written_in, read_in; uint16_t writer, reader; bool readers; };
static std::vector<Word> words;
static uint32_t phase;
static unsigned thread_number;

// A fiber lives on and runs one thread after another: to begin one anew takes system calls.
static void enter() {
    Fiber* const self = current;
    for (;;) {
        launch->kernel->thread(launch->parameters.data());
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

extern "C" void on_cpu_barrier() {
    current->waits = true;
    if (!_setjmp(current->at)) _longjmp(scheduler, 1);
}

static std::vector<unsigned> turns(unsigned count) {
    std::vector<unsigned> order(count);
    std::iota(order.begin(), order.end(), 0u);
    if (settings.thread_order == 1) std::reverse(order.begin(), order.end());
    if (settings.thread_order > 1) std::shuffle(order.begin(), order.end(), std::mt19937(settings.thread_order));
    return order;
}

static void run_block(const std::vector<unsigned>& order, unsigned block_w) {
    const unsigned threads = order.size();
    const Kernel& kernel = *launch->kernel;
    // Not a number: to read what nothing has written is no fault where it is then not used.
    if (kernel.shared_end > kernel.shared_begin)
        memset(kernel.shared_begin, 0xFF, kernel.shared_end - kernel.shared_begin);
    for (unsigned k = 0; k < threads; ++k) fibers[k].done = false;
    for (unsigned waiting = threads; waiting > 0;) {
        ++phase;
        waiting = 0;
        for (unsigned k : order) {
            thread_number = k;
            on_cpu_place.thread = {k % block_w, k / block_w, 0};
            if (!fibers[k].done) resume(fibers[k]);
            if (!fault.empty()) return;
            waiting += fibers[k].waits;
        }
        if (waiting != 0 && waiting != threads) {
            fault = "some threads ended before a barrier";
            return;
        }
    }
}

void run_kernel(const Launch& what) {
    if (!what.kernel->thread) return run_ptx(what);
    launch = &what;
    fault.clear();
    const auto& [grid, block] = std::tie(what.grid, what.block);
    on_cpu_place.grid_size = {grid[0], grid[1], 1};
    on_cpu_place.block_size = {block[0], block[1], 1};
    const unsigned threads = block[0] * block[1];
    if (fibers.size() < threads) fibers.resize(threads);
    words.assign((what.kernel->shared_end - what.kernel->shared_begin + 3) / 4, Word{});
    const std::vector<unsigned> order = turns(threads);
    for (unsigned number : turns(grid[0] * grid[1])) {
        on_cpu_place.block = {number % grid[0], number / grid[0], 0};
        run_block(order, block[0]);
        if (fault.empty()) continue;
        fibers.clear();  // they are in the middle of what they did
        const uint3 t = on_cpu_place.thread, b = on_cpu_place.block;
        const std::string at = "block (" + std::to_string(b.x) + ", " + std::to_string(b.y) + "), thread (" +
                               std::to_string(t.x) + ", " + std::to_string(t.y) + ")";
        break_context(CUDA_ERROR_ILLEGAL_ADDRESS, "kernel " + what.kernel->name + ", " + at + ": " + fault);
        return;
    }
}

// Accesses ----------------------------------------------------------------------------------------
static void fail(const std::string& why) {
    fault = why;
    _longjmp(scheduler, 1);
}

static void check_shared(size_t at, size_t size, bool write) {
    for (size_t k = at / 4; k <= (at + size - 1) / 4; ++k) {
        Word& word = words[k];
        const bool others_wrote = word.written_in == phase && word.writer != thread_number;
        const bool others_read = word.read_in == phase && (word.readers || word.reader != thread_number);
        if (others_wrote || (write && others_read)) fail("shares memory with a thread without a barrier between");
        if (write) {
            word.written_in = phase;
            word.writer = thread_number;
        } else {
            word.readers = word.read_in == phase && (word.readers || word.reader != thread_number);
            word.read_in = phase;
            word.reader = thread_number;
        }
    }
}

static bool is_between(uintptr_t address, const void* begin, size_t size) {
    return address - reinterpret_cast<uintptr_t>(begin) < size;
}

static void check_slowly(uintptr_t address, size_t size, bool write) {
    const Kernel& kernel = *launch->kernel;
    const size_t shared = kernel.shared_end - kernel.shared_begin;
    if (is_between(address, kernel.shared_begin, shared))
        return check_shared(address - reinterpret_cast<uintptr_t>(kernel.shared_begin), size, write);
    if (is_between(address, current->stack.data(), current->stack.size())) return;
    if (!write && is_between(address, launch->parameters.data(), launch->parameters.size())) return;
    if (!write && is_between(address, &on_cpu_place, sizeof on_cpu_place)) return;
    const std::string why = check_access(address, size, write);
    if (!why.empty()) fail(why);
    kernel_accesses_to_host += states[address - arena] == HOST_MAPPED;
}

template <size_t N> static inline bool all_are(uintptr_t address, State state) {
    unsigned char wanted[N];
    memset(wanted, state, N);
    return memcmp(states + (address - arena), wanted, N) == 0;
}

// Memory that may be read and written, as nearly all is, is left to a look at its states.
template <size_t N> static inline void check(void* where, bool write) {
    const uintptr_t address = reinterpret_cast<uintptr_t>(where);
    if (address % N) fail("an address that is no multiple of " + std::to_string(N));
    if (address - arena < ARENA) {
        if (all_are<N>(address, WRITTEN)) return;
        if (all_are<N>(address, HOST_MAPPED)) {
            ++kernel_accesses_to_host;
            return;
        }
    }
    check_slowly(address, N, write);
}

extern "C" {
#define HOOKS(size)                                                          \
    void __tsan_read##size(void* where) { check<size>(where, false); }       \
    void __tsan_write##size(void* where) { check<size>(where, true); }       \
    void __tsan_unaligned_read##size(void* where) { check_slowly(reinterpret_cast<uintptr_t>(where), size, false); } \
    void __tsan_unaligned_write##size(void* where) { check_slowly(reinterpret_cast<uintptr_t>(where), size, true); }
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)
void __tsan_read_range(void* where, size_t size) { check_slowly(reinterpret_cast<uintptr_t>(where), size, false); }
void __tsan_write_range(void* where, size_t size) { check_slowly(reinterpret_cast<uintptr_t>(where), size, true); }
void __tsan_init() {}
}
