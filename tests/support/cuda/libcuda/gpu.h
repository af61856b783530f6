// The GPU behind the stand-in for libcuda.so.1: its memory, its streams, its kernels. There is one, it
// has one context (the primary one), and it runs on the CPU.
#pragma once
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include <cuda.h>

// What tests set. Orders: 0 as numbered, 1 reversed, more: shuffled.
struct Settings {
    bool plugged = false, integrated = true;
    unsigned stream_order = 0, thread_order = 0;
    size_t memory = size_t(1) << 30;
    int capability = 87;
    bool skip_kernels = false;
};
extern Settings settings;
extern std::recursive_mutex gate;  // held by whoever is in the driver

// The first fault that breaks the context, as on a GPU: from then on every call answers it.
extern CUresult broken;
extern std::string broken_why;
CUresult break_context(CUresult fault, const std::string& why);

// Memory ------------------------------------------------------------------------------------------
// Device memory and page-locked memory come from one range of addresses, which has a byte of state for
// each of its bytes. An address is never given twice, and between two allocations is a gap.
// Page-locked memory counts as written, for the host writes it without a word.
enum State : unsigned char { UNKNOWN, POISONED, WRITTEN, HOST_MAPPED, HOST_UNMAPPED };
constexpr unsigned char POISON = 0xAB;
struct Allocation { size_t size; bool device; unsigned flags; };

extern uintptr_t arena;           // its first address
extern unsigned char* states;     // of the bytes from there on
constexpr size_t ARENA = size_t(64) << 30;
extern size_t bytes_on_device, bytes_page_locked;

uintptr_t allocate(size_t size, bool device, unsigned flags);  // 0: no memory left
bool release(uintptr_t address, bool device);
void release_all();
const Allocation* find_allocation(uintptr_t address, uintptr_t* start);
// Empty, or why `size` bytes may not be read or written there by the GPU.
std::string check_access(uintptr_t address, size_t size, bool write);

// Streams -----------------------------------------------------------------------------------------
// Work waits in its stream until the host waits for something; then the streams take turns, in an
// order that only events and the order within a stream bind.
struct Capture;
using Nodes = std::set<size_t>;  // of a capture, by number
struct Job { std::function<bool()> ready; std::function<void()> run; };
struct CUstream_st {
    std::deque<Job> jobs;
    unsigned flags = 0;
    bool busy = false;
    std::shared_ptr<Capture> capture = nullptr;  // what is enqueued goes there instead
    Nodes last = {};                             // what comes next in the stream waits for
};
struct CUevent_st {
    unsigned flags = 0;
    uint64_t recorded = 0, happened = 0, at = 0;
    std::shared_ptr<Capture> capture = nullptr;  // it was recorded there the last time, behind `last`
    Nodes last = {};
};
extern std::vector<std::unique_ptr<CUstream_st>> streams, orphans;
extern std::map<CUevent, std::shared_ptr<CUevent_st>> events;

CUstream_st* find_stream(CUstream handle);  // nullptr: there is none; the null stream is one
// kernel: what is launched, by name.
CUresult enqueue(CUstream_st* stream, std::function<void()> run, const std::string& kernel = "");
CUresult run_until(const std::function<bool()>& done);
CUresult run_all();
void drop_work();
size_t jobs_waiting();
uint64_t now();
size_t pick(size_t count);  // one of them, by the order that the test wants

// Graphs ------------------------------------------------------------------------------------------
struct Node { std::function<void()> run; Nodes after; std::string kernel; };
CUresult add_node(CUstream_st* stream, std::function<void()> run, const std::string& kernel);
// Of a call that this thread must not make while it captures: it breaks the capture, and answers why.
CUresult forbidden_in_capture();
// The same for calls that wait for all streams, whichever thread captures.
CUresult waits_for_captures();
CUresult break_capture(Capture& capture, CUresult fault);
CUresult record_in_capture(CUevent_st* event, CUstream_st* stream, bool as_node);
CUresult wait_in_capture(CUstream_st* stream, const CUevent_st& event);
size_t graphs_there();
void forget_graphs();

// Kernels -----------------------------------------------------------------------------------------
struct Kernel {
    std::string name;
    void (*thread)(const char* parameters);
    size_t parameter_bytes;
    char *shared_begin, *shared_end;
    int ptx_module;  // where `thread` is null: the interpreter's number of it
};
struct Launch { const Kernel* kernel; unsigned grid[2], block[2]; std::vector<char> parameters; };
extern size_t kernel_accesses_to_host;
void run_kernel(const Launch& launch);  // breaks the context where the kernel does what it must not
// PTX, which Python interprets (tests/support/cuda/ptx). -1: no such module or kernel.
int load_ptx(const char* text);
long ptx_parameter_bytes(int module, const char* kernel);
void run_ptx(const Launch& launch);
