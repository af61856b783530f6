#include "gpu.h"

#include <cstring>
#include <sys/mman.h>

static constexpr size_t GAP = 256 << 10, ALIGNMENT = 512;

static void* reserve(size_t size) {
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void* const made = mmap(nullptr, size, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (made == MAP_FAILED) abort();
    return made;
}

uintptr_t arena = reinterpret_cast<uintptr_t>(reserve(ARENA));
unsigned char* states = static_cast<unsigned char*>(reserve(ARENA));
size_t bytes_on_device, bytes_page_locked;
static std::map<uintptr_t, Allocation> allocations;
static size_t used = GAP;

uintptr_t allocate(size_t size, bool device, unsigned flags) {
    if (device && bytes_on_device + size > settings.memory) return 0;
    if (used + size + GAP > ARENA) return 0;
    const uintptr_t address = arena + used;
    used = (used + size + GAP + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    allocations[address] = {size, device, flags};
    (device ? bytes_on_device : bytes_page_locked) += size;
    memset(reinterpret_cast<void*>(address), POISON, size);
    const State host = flags & CU_MEMHOSTALLOC_DEVICEMAP ? HOST_MAPPED : HOST_UNMAPPED;
    memset(states + (address - arena), device ? POISONED : host, size);
    return address;
}

static void forget(std::map<uintptr_t, Allocation>::iterator which) {
    const auto [address, allocation] = *which;
    (allocation.device ? bytes_on_device : bytes_page_locked) -= allocation.size;
    memset(states + (address - arena), UNKNOWN, allocation.size);
    memset(reinterpret_cast<void*>(address), POISON, allocation.size);
    // whole pages are given back; who reads there later finds zeros, but may not
    const uintptr_t first = (address + 4095) / 4096 * 4096, end = (address + allocation.size) / 4096 * 4096;
    if (first < end) madvise(reinterpret_cast<void*>(first), end - first, MADV_DONTNEED);
    allocations.erase(which);
}

bool release(uintptr_t address, bool device) {
    const auto found = allocations.find(address);
    if (found == allocations.end() || found->second.device != device) return false;
    forget(found);
    return true;
}

void release_all() {
    while (!allocations.empty()) forget(allocations.begin());
}

const Allocation* find_allocation(uintptr_t address, uintptr_t* start) {
    auto after = allocations.upper_bound(address);
    if (after == allocations.begin()) return nullptr;
    --after;
    if (address >= after->first + after->second.size) return nullptr;
    if (start) *start = after->first;
    return &after->second;
}

static std::string where(uintptr_t address) {
    auto after = allocations.upper_bound(address);
    if (after == allocations.begin()) return "in memory that the GPU does not have";
    --after;
    const size_t beyond = address - after->first - after->second.size;
    if (beyond > GAP) return "in memory that the GPU does not have";
    return std::to_string(beyond) + " bytes beyond a buffer of " + std::to_string(after->second.size);
}

std::string check_access(uintptr_t address, size_t size, bool write) {
    const std::string what = std::string(write ? "writes " : "reads ") + std::to_string(size) + " bytes ";
    for (size_t k = 0; k < size; ++k) {
        if (address + k - arena >= ARENA) return what + "in memory that the GPU does not have";
        unsigned char& state = states[address + k - arena];
        if (state == UNKNOWN) return what + where(address + k);
        if (!write && state == POISONED) return what + "that nothing has written";
        if (state == HOST_UNMAPPED) return what + "of host memory that is not mapped";
        if (write && state == POISONED) state = WRITTEN;
    }
    return "";
}
