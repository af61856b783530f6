#include "tests.h"

#include <cstring>

#include "gpu.h"

struct Wanted { long after; CUresult fault; };
static std::map<std::string, long> calls;
static std::map<std::string, Wanted> wanted;
static std::string launched, answer;
size_t pageable_copies;

// "cuMemAlloc_v2" and "cuMemAlloc" are one function.
static std::string without_version(const char* name) {
    const char* const version = strstr(name, "_v");
    return version ? std::string(name, version) : name;
}

CUresult count_call(const char* function) {
    const std::string name = without_version(function);
    ++calls[name];
    const auto found = wanted.find(name);
    if (found == wanted.end()) return CUDA_SUCCESS;
    return found->second.after-- > 0 ? CUDA_SUCCESS : found->second.fault;
}

void note_launch(const std::string& lines) { launched += lines; }

void forget_everything() {
    drop_work();
    forget_graphs();
    release_all();
    streams.clear();
    events.clear();
    broken = CUDA_SUCCESS;
    broken_why.clear();
}

extern "C" {
void standin_plug(int plugged, int integrated, unsigned stream_order, unsigned thread_order, size_t memory,
                  int capability) {
    const std::lock_guard<std::recursive_mutex> hold(gate);
    forget_everything();
    settings = {plugged != 0, integrated != 0, stream_order, thread_order, memory, capability, false};
    calls.clear();
    wanted.clear();
    launched.clear();
    pageable_copies = kernel_accesses_to_host = 0;
}
void standin_skip_kernels() { settings.skip_kernels = true; }
void standin_thread_order(unsigned order) { settings.thread_order = order; }
// From the call number `after` on, a function of the driver (or "kernel NAME") answers `fault`.
void standin_fail(const char* function, long after, int fault) {
    wanted[function] = {after, static_cast<CUresult>(fault)};
}
void standin_break(const char* why, int fault) {
    const std::lock_guard<std::recursive_mutex> hold(gate);
    break_context(static_cast<CUresult>(fault), why);
}
const char* standin_fault() { return broken_why.c_str(); }
long standin_calls(const char* function) { return calls[function]; }
const char* standin_launched() { return launched.c_str(); }
void standin_forget_launched() { launched.clear(); }
size_t standin_count(const char* what) {
    const std::string name = what;
    if (name == "device bytes") return bytes_on_device;
    if (name == "page-locked bytes") return bytes_page_locked;
    if (name == "streams") return streams.size();
    if (name == "events") return events.size();
    if (name == "graphs") return graphs_there();
    if (name == "modules") return modules_loaded();
    if (name == "contexts") return contexts_of_this_thread();
    if (name == "jobs") return jobs_waiting();
    if (name == "pageable copies") return pageable_copies;
    if (name == "kernel accesses to host") return kernel_accesses_to_host;
    return size_t(-1);
}
// For work of others that reads and writes the GPU's memory. Empty, or what is wrong with it.
const char* standin_access(uintptr_t address, size_t size, int write) {
    const std::lock_guard<std::recursive_mutex> hold(gate);
    answer = check_access(address, size, write);
    return answer.c_str();
}
}
