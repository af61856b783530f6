// The driver's functions, under the names and with the types of cuda.h. Those that nobody here needs are
// missing: the build adds them, and they answer CUDA_ERROR_NOT_SUPPORTED.
#include "call.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <dlfcn.h>

#include "tests.h"

Settings settings;
std::recursive_mutex gate;
CUresult broken;
std::string broken_why;

struct CUctx_st { int retained = 0; };
struct CUmod_st { void* library; int ptx_module; };
struct CUfunc_st : Kernel {};
static CUctx_st primary;
static thread_local std::vector<CUcontext> current_contexts;
static std::set<CUmodule> modules;
static std::map<std::string, CUfunc_st> functions;

CUresult break_context(CUresult fault, const std::string& why) {
    if (!broken) {
        broken = fault, broken_why = why;
        fprintf(stderr, "the GPU: %s\n", why.c_str());
    }
    drop_work();
    return broken;
}

size_t contexts_of_this_thread() { return current_contexts.size(); }
size_t modules_loaded() { return modules.size(); }

static CUcontext current_context() { return current_contexts.empty() ? nullptr : current_contexts.back(); }

CUresult may(const char* name, Need need) {
    if (const CUresult fault = count_call(name)) return fault;
    if (need >= DRIVER && !settings.plugged) return CUDA_ERROR_NO_DEVICE;
    if (need >= CONTEXT && (!current_context() || !primary.retained)) return CUDA_ERROR_INVALID_CONTEXT;
    return need == WHOLE_CONTEXT ? broken : CUDA_SUCCESS;
}

extern "C" {
// Driver, device, context -------------------------------------------------------------------------
CUresult cuInit(unsigned) {
    BEGIN(DRIVER);
    return CUDA_SUCCESS;
}
CUresult cuGetErrorString(CUresult error, const char** text) {
    static const std::map<int, const char*> texts = {
        {CUDA_ERROR_INVALID_VALUE, "invalid argument"},
        {CUDA_ERROR_OUT_OF_MEMORY, "out of memory"},
        {CUDA_ERROR_NO_DEVICE, "no CUDA-capable device is detected"},
        {CUDA_ERROR_INVALID_IMAGE, "device kernel image is invalid"},
        {CUDA_ERROR_INVALID_CONTEXT, "invalid device context"},
        {CUDA_ERROR_NO_BINARY_FOR_GPU, "no kernel image is available for execution on the device"},
        {CUDA_ERROR_INVALID_HANDLE, "invalid resource handle"},
        {CUDA_ERROR_NOT_READY, "device not ready"},
        {CUDA_ERROR_ILLEGAL_ADDRESS, "an illegal memory access was encountered"},
        {CUDA_ERROR_LAUNCH_FAILED, "unspecified launch failure"},
        {CUDA_ERROR_NOT_SUPPORTED, "operation not supported"},
        {CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "operation not permitted when stream is capturing"},
        {CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "operation failed due to a previous error during capture"},
        {CUDA_ERROR_STREAM_CAPTURE_UNJOINED, "capturing stream has unjoined work"},
        {CUDA_ERROR_STREAM_CAPTURE_ISOLATION, "dependency created on uncaptured work in another stream"},
        {CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, "operation would make the legacy stream depend on a capturing blocking stream"},
        {CUDA_ERROR_CAPTURED_EVENT, "operation not permitted on an event last recorded in a capturing stream"},
        {CUDA_ERROR_UNKNOWN, "unknown error"},
    };
    const auto found = texts.find(error);
    *text = found == texts.end() ? "an error that the stand-in has no text for" : found->second;
    return CUDA_SUCCESS;
}
CUresult cuDriverGetVersion(int* version) {
    BEGIN(NOTHING);
    *version = CUDA_VERSION;
    return CUDA_SUCCESS;
}
CUresult cuGetExportTable(const void** table, const CUuuid*) {  // NVRTC asks for some
    BEGIN(NOTHING);
    *table = nullptr;
    return CUDA_ERROR_NOT_FOUND;
}
CUresult cuDeviceGetCount(int* count) {
    BEGIN(DRIVER);
    *count = 1;
    return CUDA_SUCCESS;
}
CUresult cuDeviceGet(CUdevice* device, int ordinal) {
    BEGIN(DRIVER);
    *device = 0;
    return ordinal == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}
CUresult cuDeviceGetName(char* name, int size, CUdevice) {
    BEGIN(DRIVER);
    snprintf(name, size, "Stand-in");
    return CUDA_SUCCESS;
}
CUresult cuDeviceTotalMem(size_t* bytes, CUdevice) {
    BEGIN(DRIVER);
    *bytes = settings.memory;
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice) {
    BEGIN(DRIVER);
    switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *value = settings.capability / 10; break;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *value = settings.capability % 10; break;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: *value = 8; break;
    case CU_DEVICE_ATTRIBUTE_INTEGRATED: *value = settings.integrated; break;
    default: return CUDA_ERROR_INVALID_VALUE;
    }
    return CUDA_SUCCESS;
}
CUresult cuDeviceComputeCapability(int* major, int* minor, CUdevice) {
    BEGIN(DRIVER);
    *major = settings.capability / 10, *minor = settings.capability % 10;
    return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice) {
    BEGIN(DRIVER);
    ++primary.retained;
    *context = &primary;
    return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRelease(CUdevice) {
    BEGIN(NOTHING);
    if (!primary.retained) return CUDA_ERROR_INVALID_CONTEXT;
    if (--primary.retained == 0) forget_everything();
    return CUDA_SUCCESS;
}
CUresult cuCtxPushCurrent(CUcontext context) {
    BEGIN(NOTHING);
    if (context != &primary || !primary.retained) return CUDA_ERROR_INVALID_CONTEXT;
    current_contexts.push_back(context);
    return CUDA_SUCCESS;
}
CUresult cuCtxPopCurrent(CUcontext* context) {
    BEGIN(NOTHING);
    if (current_contexts.empty()) return CUDA_ERROR_INVALID_CONTEXT;
    if (context) *context = current_contexts.back();
    current_contexts.pop_back();
    return CUDA_SUCCESS;
}
CUresult cuCtxGetCurrent(CUcontext* context) {
    BEGIN(DRIVER);
    *context = current_context();
    return CUDA_SUCCESS;
}
CUresult cuCtxGetDevice(CUdevice* device) {
    BEGIN(CONTEXT);
    *device = 0;
    return CUDA_SUCCESS;
}
CUresult cuCtxSynchronize() {
    BEGIN(WHOLE_CONTEXT);
    FORBIDDEN_IN_CAPTURE;
    return run_all();
}

// Memory ------------------------------------------------------------------------------------------
CUresult cuMemGetInfo(size_t* free, size_t* total) {
    BEGIN(CONTEXT);
    *free = settings.memory - bytes_on_device, *total = settings.memory;
    return CUDA_SUCCESS;
}
CUresult cuMemAlloc(CUdeviceptr* address, size_t size) {
    BEGIN(WHOLE_CONTEXT);
    FORBIDDEN_IN_CAPTURE;
    if (size == 0) return CUDA_ERROR_INVALID_VALUE;
    *address = allocate(size, true, 0);
    return *address ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}
CUresult cuMemFree(CUdeviceptr address) {
    BEGIN(CONTEXT);
    FORBIDDEN_IN_CAPTURE;
    return release(address, true) ? broken : CUDA_ERROR_INVALID_VALUE;
}
CUresult cuMemHostAlloc(void** address, size_t size, unsigned flags) {
    BEGIN(WHOLE_CONTEXT);
    FORBIDDEN_IN_CAPTURE;
    if (size == 0) return CUDA_ERROR_INVALID_VALUE;
    *address = reinterpret_cast<void*>(allocate(size, false, flags));
    return *address ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}
CUresult cuMemAllocHost(void** address, size_t size) { return cuMemHostAlloc(address, size, 0); }
CUresult cuMemFreeHost(void* address) {
    BEGIN(CONTEXT);
    FORBIDDEN_IN_CAPTURE;
    return release(reinterpret_cast<uintptr_t>(address), false) ? broken : CUDA_ERROR_INVALID_VALUE;
}
CUresult cuMemHostGetDevicePointer(CUdeviceptr* device, void* host, unsigned) {
    BEGIN(WHOLE_CONTEXT);
    *device = reinterpret_cast<uintptr_t>(host);
    const Allocation* const found = find_allocation(*device, nullptr);
    const bool mapped = found && !found->device && found->flags & CU_MEMHOSTALLOC_DEVICEMAP;
    return mapped ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

static CUresult copy_now(void* to, const void* from, size_t size, const std::string& why) {
    if (!why.empty()) return break_context(CUDA_ERROR_ILLEGAL_ADDRESS, "a copy " + why);
    memcpy(to, from, size);
    return CUDA_SUCCESS;
}
// The host's side of a copy: any memory of the process, but page-locked memory within its bounds.
static std::string check_host(uintptr_t address, size_t size) {
    if (address - arena >= ARENA) return "";
    const Allocation* const found = find_allocation(address, nullptr);
    uintptr_t start = 0;
    const bool fits = find_allocation(address, &start) && address + size <= start + found->size;
    return fits ? "" : "leaves page-locked memory";
}
static CUresult to_device(CUdeviceptr to, const void* from, size_t size) {
    const std::string host = check_host(reinterpret_cast<uintptr_t>(from), size);
    return copy_now(reinterpret_cast<void*>(to), from, size, host + check_access(to, size, true));
}
static CUresult to_host(void* to, CUdeviceptr from, size_t size) {
    const std::string host = check_host(reinterpret_cast<uintptr_t>(to), size);
    return copy_now(to, reinterpret_cast<void*>(from), size, host + check_access(from, size, false));
}
CUresult cuMemcpyHtoD(CUdeviceptr to, const void* from, size_t size) {
    BEGIN(WHOLE_CONTEXT);
    WAITS_FOR_CAPTURES;
    if (const CUresult fault = run_all()) return fault;
    return to_device(to, from, size);
}
CUresult cuMemcpyDtoH(void* to, CUdeviceptr from, size_t size) {
    BEGIN(WHOLE_CONTEXT);
    WAITS_FOR_CAPTURES;
    if (const CUresult fault = run_all()) return fault;
    return to_host(to, from, size);
}
CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void* from, size_t size, CUstream handle) {
    BEGIN(WHOLE_CONTEXT);
    CUstream_st* const stream = find_stream(handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    pageable_copies += reinterpret_cast<uintptr_t>(from) - arena >= ARENA;
    return enqueue(stream, [=] { to_device(to, from, size); });
}
CUresult cuMemcpyDtoHAsync(void* to, CUdeviceptr from, size_t size, CUstream handle) {
    BEGIN(WHOLE_CONTEXT);
    CUstream_st* const stream = find_stream(handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    pageable_copies += reinterpret_cast<uintptr_t>(to) - arena >= ARENA;
    return enqueue(stream, [=] { to_host(to, from, size); });
}
CUresult cuMemsetD8(CUdeviceptr to, unsigned char value, size_t size) {
    BEGIN(WHOLE_CONTEXT);
    WAITS_FOR_CAPTURES;
    if (const CUresult fault = run_all()) return fault;
    const std::string why = check_access(to, size, true);
    if (!why.empty()) return break_context(CUDA_ERROR_ILLEGAL_ADDRESS, "a memset " + why);
    memset(reinterpret_cast<void*>(to), value, size);
    return CUDA_SUCCESS;
}

// Streams and events ------------------------------------------------------------------------------
CUresult cuStreamCreate(CUstream* stream, unsigned flags) {
    BEGIN(WHOLE_CONTEXT);
    streams.push_back(std::make_unique<CUstream_st>());
    streams.back()->flags = flags;
    *stream = streams.back().get();
    return CUDA_SUCCESS;
}
CUresult cuStreamDestroy(CUstream handle) {
    BEGIN(CONTEXT);
    const auto found = std::find_if(streams.begin(), streams.end(), [&](auto& s) { return s.get() == handle; });
    if (found == streams.end()) return CUDA_ERROR_INVALID_HANDLE;
    orphans.push_back(std::move(*found));  // what is in it still runs
    streams.erase(found);
    return broken;
}
CUresult cuStreamSynchronize(CUstream handle) {
    BEGIN(WHOLE_CONTEXT);
    CUstream_st* const stream = find_stream(handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    if (stream->capture) return break_capture(*stream->capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    return run_until([=] { return stream->jobs.empty() && !stream->busy; });
}
CUresult cuStreamQuery(CUstream handle) {
    BEGIN(WHOLE_CONTEXT);
    CUstream_st* const stream = find_stream(handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    if (stream->capture) return break_capture(*stream->capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    return stream->jobs.empty() ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}
CUresult cuStreamWaitEvent(CUstream handle, CUevent event, unsigned) {
    BEGIN(WHOLE_CONTEXT);
    CUstream_st* const stream = find_stream(handle);
    const auto found = events.find(event);
    if (!stream || found == events.end()) return CUDA_ERROR_INVALID_HANDLE;
    const auto kept = found->second;
    if (stream->capture || kept->capture) return wait_in_capture(stream, *kept);
    const uint64_t awaited = kept->recorded;
    stream->jobs.push_back({[=] { return kept->happened >= awaited; }, [] {}});
    return CUDA_SUCCESS;
}
CUresult cuLaunchHostFunc(CUstream handle, CUhostFn call, void* data) {
    BEGIN(WHOLE_CONTEXT);
    CUstream_st* const stream = find_stream(handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    return enqueue(stream, [=] {
        gate.unlock();  // it may wait for Python's lock, whose holder may wait for this one
        call(data);
        gate.lock();
    });
}
CUresult cuEventCreate(CUevent* event, unsigned flags) {
    BEGIN(WHOLE_CONTEXT);
    auto made = std::make_shared<CUevent_st>();
    made->flags = flags;
    *event = made.get();
    events[*event] = made;
    return CUDA_SUCCESS;
}
CUresult cuEventDestroy(CUevent event) {
    BEGIN(CONTEXT);
    return events.erase(event) ? broken : CUDA_ERROR_INVALID_HANDLE;
}
static CUresult record(CUevent event, CUstream handle, bool external) {
    CUstream_st* const stream = find_stream(handle);
    const auto found = events.find(event);
    if (!stream || found == events.end()) return CUDA_ERROR_INVALID_HANDLE;
    const auto kept = found->second;
    if (stream->capture) return record_in_capture(kept.get(), stream, external);
    if (external) return CUDA_ERROR_INVALID_VALUE;
    kept->capture = nullptr;
    const uint64_t number = ++kept->recorded;
    return enqueue(stream, [=] { kept->happened = number, kept->at = now(); });
}
CUresult cuEventRecord(CUevent event, CUstream handle) {
    BEGIN(WHOLE_CONTEXT);
    return record(event, handle, false);
}
CUresult cuEventRecordWithFlags(CUevent event, CUstream handle, unsigned flags) {
    BEGIN(WHOLE_CONTEXT);
    return record(event, handle, flags & CU_EVENT_RECORD_EXTERNAL);
}
CUresult cuEventQuery(CUevent event) {
    BEGIN(WHOLE_CONTEXT);
    const auto found = events.find(event);
    if (found == events.end()) return CUDA_ERROR_INVALID_HANDLE;
    if (found->second->capture) return CUDA_ERROR_CAPTURED_EVENT;
    return found->second->happened == found->second->recorded ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}
CUresult cuEventSynchronize(CUevent event) {
    BEGIN(WHOLE_CONTEXT);
    const auto found = events.find(event);
    if (found == events.end()) return CUDA_ERROR_INVALID_HANDLE;
    const auto kept = found->second;
    if (kept->capture) return CUDA_ERROR_CAPTURED_EVENT;
    const uint64_t awaited = kept->recorded;
    return run_until([=] { return kept->happened >= awaited; });
}
CUresult cuEventElapsedTime(float* ms, CUevent begin, CUevent end) {
    BEGIN(WHOLE_CONTEXT);
    for (CUevent event : {begin, end}) {
        const auto found = events.find(event);
        const bool timed = found != events.end() && !(event->flags & CU_EVENT_DISABLE_TIMING) && event->recorded;
        if (!timed) return CUDA_ERROR_INVALID_HANDLE;
        if (event->capture) return CUDA_ERROR_CAPTURED_EVENT;
        if (event->happened != event->recorded) return CUDA_ERROR_NOT_READY;
    }
    *ms = static_cast<float>(end->at) - static_cast<float>(begin->at);
    return CUDA_SUCCESS;
}

// Kernels -----------------------------------------------------------------------------------------
// An image is what the stand-in for nvcc writes: a line of its own, the architecture, the path of a
// library, and a line that ends it. Or it is PTX, with a closing zero, for this chip or an older one.
static CUresult load_text(CUmodule* module, const char* text) {
    const char* const target = strstr(text, ".target sm_");
    int capability;
    if (!target || sscanf(target, ".target sm_%d", &capability) != 1) return CUDA_ERROR_INVALID_PTX;
    if (capability > settings.capability) return CUDA_ERROR_NO_BINARY_FOR_GPU;
    const int number = load_ptx(text);
    if (number < 0) return CUDA_ERROR_INVALID_PTX;
    *module = *modules.insert(new CUmod_st{nullptr, number}).first;
    return CUDA_SUCCESS;
}
CUresult cuModuleLoadDataEx(CUmodule* module, const void* image, unsigned, CUjit_option*, void**) {
    BEGIN(WHOLE_CONTEXT);
    FORBIDDEN_IN_CAPTURE;
    char architecture[16], path[512], end[8];
    const std::string ptx_begins = "//\n// Generated by NVIDIA NVVM";
    if (!strncmp(static_cast<const char*>(image), ptx_begins.c_str(), ptx_begins.size()))
        return load_text(module, static_cast<const char*>(image));
    const char* const form = "kernels by g++\n%15s\n%511s\n%7s";
    if (sscanf(static_cast<const char*>(image), form, architecture, path, end) != 3 || strcmp(end, "end"))
        return CUDA_ERROR_INVALID_IMAGE;
    if (architecture != "sm_" + std::to_string(settings.capability)) return CUDA_ERROR_NO_BINARY_FOR_GPU;
    void* const library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        fprintf(stderr, "stand-in for libcuda: %s\n", dlerror());
        return CUDA_ERROR_INVALID_IMAGE;
    }
    *module = *modules.insert(new CUmod_st{library, -1}).first;
    return CUDA_SUCCESS;
}
CUresult cuModuleLoadData(CUmodule* module, const void* image) {
    return cuModuleLoadDataEx(module, image, 0, nullptr, nullptr);
}
CUresult cuModuleUnload(CUmodule module) {
    BEGIN(CONTEXT);
    if (!modules.erase(module)) return CUDA_ERROR_INVALID_HANDLE;
    delete module;  // the library stays: other modules may be of it
    return broken;
}
static CUresult function_of_ptx(CUfunction* function, int module, const char* name) {
    const long bytes = ptx_parameter_bytes(module, name);
    if (bytes < 0) return CUDA_ERROR_NOT_FOUND;
    CUfunc_st& made = functions["ptx " + std::to_string(module) + name];
    made.name = name;
    made.parameter_bytes = bytes;
    made.ptx_module = module;
    *function = &made;
    return CUDA_SUCCESS;
}
CUresult cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
    BEGIN(WHOLE_CONTEXT);
    if (!modules.count(module)) return CUDA_ERROR_INVALID_HANDLE;
    if (!module->library) return function_of_ptx(function, module->ptx_module, name);
    const auto find = [&](const std::string& symbol) { return dlsym(module->library, symbol.c_str()); };
    void* const thread = find(std::string("thread_") + name);
    if (!thread) return CUDA_ERROR_NOT_FOUND;  // the rest is there with it
    CUfunc_st& made = functions[std::to_string(reinterpret_cast<uintptr_t>(module->library)) + name];
    made.name = name;
    made.thread = reinterpret_cast<void (*)(const char*)>(thread);
    made.parameter_bytes = reinterpret_cast<size_t (*)()>(find(std::string("parameter_bytes_") + name))();
    made.shared_begin = reinterpret_cast<char* (*)()>(find("shared_begin"))();
    made.shared_end = reinterpret_cast<char* (*)()>(find("shared_end"))();
    *function = &made;
    return CUDA_SUCCESS;
}
// Deprecated, and for nothing here: pycuda's prepared calls make it.
CUresult cuFuncSetBlockShape(CUfunction, int, int, int) {
    BEGIN(WHOLE_CONTEXT);
    return CUDA_SUCCESS;
}
CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                        unsigned block_y, unsigned block_z, unsigned, CUstream handle, void**, void** extra) {
    BEGIN(WHOLE_CONTEXT);
    CUstream_st* const stream = find_stream(handle);
    if (!stream || !function) return CUDA_ERROR_INVALID_HANDLE;
    const bool too_large = block_x * block_y * block_z > 1024 || grid_x > 0x7fffffff || grid_y > 65535;
    const bool empty = !grid_x || !grid_y || !block_x || !block_y;
    if (too_large || empty) return CUDA_ERROR_INVALID_VALUE;
    if (grid_z != 1 || block_z != 1) return CUDA_ERROR_NOT_SUPPORTED;
    const char* data = nullptr;
    size_t size = 0;
    for (void** item = extra; item && *item != CU_LAUNCH_PARAM_END; item += 2) {
        if (*item == CU_LAUNCH_PARAM_BUFFER_POINTER) data = static_cast<const char*>(item[1]);
        if (*item == CU_LAUNCH_PARAM_BUFFER_SIZE) size = *static_cast<size_t*>(item[1]);
    }
    if (!data || size != function->parameter_bytes) return CUDA_ERROR_INVALID_VALUE;
    Launch launch{function, {grid_x, grid_y}, {block_x, block_y}, {data, data + size}};
    const auto run = [launch] {
        if (const CUresult fault = count_call(("kernel " + launch.kernel->name).c_str())) {
            break_context(fault, "kernel " + launch.kernel->name + ": as the test asked for");
        } else if (!settings.skip_kernels) {
            run_kernel(launch);
        }
    };
    return enqueue(stream, run, function->name);
}
#ifdef cuEventElapsedTime  // drivers have it under both names, later cuda.h under the new one alone
#undef cuEventElapsedTime
CUresult cuEventElapsedTime(float* ms, CUevent begin, CUevent end) { return cuEventElapsedTime_v2(ms, begin, end); }
#endif
}
